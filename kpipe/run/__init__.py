"""What stands beside a run while records move: who is told how it goes.

It moves no record, and costs nothing a record: observers look at counters that are there anyway.
"""

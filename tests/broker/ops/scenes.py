"""What the tests of looking and changing commands set up: groups of all kinds, and the answers of Kafka's own tools."""

from __future__ import annotations

import json
import subprocess
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition

from tests.broker.lab.cluster import until
from tests.broker.lab.jvm import tool
from tests.broker.lab.leash import leashed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe, Result


def name(prefix: str = "g") -> str:
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def commit(kafka: Cluster, group: str, offsets: Mapping[tuple[str, int], int], metadata: str = "") -> None:
    """Commit for a group without members."""

    def done() -> bool:
        entries = [TopicPartition(*place, offset, metadata) for place, offset in offsets.items()]
        wanted = ConsumerGroupTopicPartitions(group, entries)
        asked = kafka.admin.alter_consumer_group_offsets([wanted], request_timeout=20)
        return all(entry.error is None for entry in asked[group].result(25).topic_partitions)

    until(done, f"{group}: offsets are taken (a coordinator may not know a topic of now)")


@contextmanager
def member(kafka: Cluster, group: str, topic: str, protocol: str = "classic", **more: Any) -> Iterator[Consumer]:
    """A member that has joined, and has all partitions of the topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": group,
            "group.protocol": protocol,
            "client.id": "a-member",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "log_level": 0,
            **more,
        }
    )
    consumer.subscribe([topic])

    def joined() -> bool:
        consumer.poll(0.05)
        return bool(consumer.assignment())

    until(joined, f"{group}: a member with partitions", timeout=40)
    yield consumer
    consumer.close()


@contextmanager
def open_transaction(kafka: Cluster, topic: str, values: list[bytes], partition: int = 0) -> Iterator[Producer]:
    """Records of a transaction that nobody has ended; it is aborted afterwards."""
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": name("open"), "log_level": 0, "linger.ms": 0}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(20) == 0
    yield producer
    producer.abort_transaction(20)


def java_tool(main: str, *arguments: str) -> str:
    """What one of Kafka's own tools prints."""
    done = subprocess.run(
        leashed(tool(main, arguments)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    return done.stdout


def java_lags(kafka: Cluster, group: str) -> dict[tuple[str, int], tuple[int | None, int | None, int | None]]:
    """(topic, partition) → (committed, end, lag) as kafka-consumer-groups --describe says."""

    def count(word: str) -> int | None:
        return None if word == "-" else int(word)

    printed = java_tool(
        "consumer.group.ConsumerGroupCommand", "--bootstrap-server", kafka.bootstrap, "--describe", "--group", group
    )
    rows = [line.split() for line in printed.splitlines() if line.startswith(group)]
    return {(row[1], int(row[2])): (count(row[3]), count(row[4]), count(row[5])) for row in rows}


def java_offsets(kafka: Cluster, topic: str, time: str) -> dict[int, int | None]:
    """Partition → offset as kafka-get-offsets says for `earliest`, `latest` or a time in ms."""
    printed = java_tool("GetOffsetShell", "--bootstrap-server", kafka.bootstrap, "--topic", topic, "--time", time)
    rows = [line.split(":") for line in printed.splitlines() if line.startswith(f"{topic}:")]
    return {int(row[1]): int(row[2]) if row[2].strip() else None for row in rows}


def rows(result: Result) -> list[dict[str, Any]]:
    """The objects of --json."""
    return [json.loads(line) for line in result.out.decode().splitlines()]


def looked(kpipe: Kpipe, *words: str, code: int = 0, **more: Any) -> list[dict[str, Any]]:
    """The objects that a looking command prints with --json, when it ends as expected."""
    result = kpipe(*words, "--json", **more)
    assert result.code == code, (result.code, result.err, result.out[:2000])
    return rows(result)

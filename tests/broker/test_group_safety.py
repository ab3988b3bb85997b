"""A member of a consumer group keeps its place while its reader sleeps, and lets partitions go without losing a record."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer

from tests.broker.lab.cluster import Rec, until
from tests.broker.test_shutdown import drained, ending, lines, slow_pipe, start_piped, wait_until_full

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

__all__ = ["slow_pipe"]  # a fixture

IMPATIENT = ("-X", "max.poll.interval.ms=6000", "-X", "session.timeout.ms=6000")
SHORT_SESSION = ("-X", "session.timeout.ms=1000")  # the dead member's partitions are free after a second


def members(cluster: Cluster, group: str) -> list[str]:
    """Give the client ids of a group's members, with how many partitions each has."""
    described = cluster.admin.describe_consumer_groups([group], request_timeout=10)[group].result(15)
    return sorted(f"{each.member_id}:{len(each.assignment.topic_partitions)}" for each in described.members)


def test_a_reader_that_sleeps_longer_than_the_poll_interval_keeps_the_membership(
    kafka: Cluster, kpipe: Kpipe, slow_pipe: tuple[int, int]
) -> None:
    topic = kafka.topic()
    written = lines(20_000)
    kafka.write(topic, written)
    group = f"g-{topic}"
    running = start_piped(
        kpipe.at(kafka.bootstrap), slow_pipe, "consume", topic, "-G", group, *IMPATIENT, "-c", "20000"
    )
    wait_until_full(slow_pipe[0])
    before = members(kafka, group)
    assert len(before) == 1
    time.sleep(8)  # two seconds longer than both limits: the time itself is what is tested
    assert members(kafka, group) == before
    assert drained(slow_pipe[0]) == b"".join(line + b"\n" for line in written)
    assert running.wait(10) == ending(0)
    assert kafka.committed(group, topic) == {0: 20_000}


def test_a_member_whose_reader_sleeps_lets_a_partition_go(
    kafka: Cluster, kpipe: Kpipe, slow_pipe: tuple[int, int]
) -> None:
    """The block that is being written cannot settle during the rebalance: waiting for it would stop the whole group."""
    topic = kafka.topic(2)
    kafka.write(topic, [Rec(b"%07d" % number, partition=number % 2) for number in range(40_000)])
    group = f"g-{topic}"
    sleeper = start_piped(kpipe.at(kafka.bootstrap), slow_pipe, "consume", topic, "-G", group)
    wait_until_full(slow_pipe[0])
    other = kpipe.at(kafka.bootstrap).start("consume", topic, "-G", group)
    until(lambda: [each[-2:] for each in members(kafka, group)] == [":1", ":1"], "each has a partition", timeout=30)
    other.wait_for(lambda: other.out.count(b"\n") > 0, timeout=30)
    sleeper.signal(signal.SIGTERM)
    kept = drained(slow_pipe[0])
    assert sleeper.wait(15) == ending(-signal.SIGTERM)
    seen = set(kept.split()) | set(other.out.split())
    other.wait_for(lambda: len(seen | set(other.out.split())) == 40_000, timeout=30, what="every record was written")
    other.signal(signal.SIGTERM)
    assert other.wait(15).code == -signal.SIGTERM
    assert sum(kafka.committed(group, topic).values()) == 40_000


def test_a_member_that_dies_with_a_full_pipe_repeats_but_never_skips(
    kafka: Cluster, kpipe: Kpipe, slow_pipe: tuple[int, int]
) -> None:
    topic = kafka.topic()
    written = lines(100_000)
    kafka.write(topic, written)
    group = f"g-{topic}"
    at = kpipe.at(kafka.bootstrap)
    killed = start_piped(at, slow_pipe, "consume", topic, "-G", group, *SHORT_SESSION)
    first = bytearray()

    def read_on() -> bool:
        first.extend(os.read(slow_pipe[0], 2000))
        return kafka.committed(group, topic).get(0, 0) > 0

    until(read_on, "something is committed")
    killed.signal(signal.SIGKILL)
    first += drained(slow_pipe[0])
    again = at("consume", topic, "-G", group, "-e", *SHORT_SESSION)
    assert again.code == 0, again.err
    lost = set(written) - set(bytes(first).split()) - set(again.out.split())
    assert not lost
    assert again.out.endswith(b"0099999\n")


def test_records_behind_a_limit_stay_uncommitted(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, lines(1000))
    at = kpipe.at(kafka.bootstrap)
    for turn in range(3):
        found = at("consume", topic, "-G", f"g-{topic}", "-c", "7")
        assert found.out.split() == lines(7, turn * 7)
        assert kafka.committed(f"g-{topic}", topic) == {0: (turn + 1) * 7}


def test_another_client_takes_over_where_kpipe_stopped(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, lines(10))
    group = f"g-{topic}"
    assert kpipe.at(kafka.bootstrap)("consume", topic, "-G", group, "-c", "4").code == 0
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "auto.offset.reset": "error"})
    try:
        consumer.subscribe([topic])
        message = consumer.poll(20)
        assert message is not None
        assert message.value() == b"0000004"
    finally:
        consumer.close()

"""A member of a consumer group keeps its place while its reader sleeps, and lets partitions go without losing a record."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, KafkaException

from tests.broker.lab.cluster import Rec, dense, until
from tests.broker.test_shutdown import drained, ending, lines, slow_pipe, start_piped, wait_until_full

if TYPE_CHECKING:
    from tests.broker.conftest import NewKafka
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

__all__ = ["slow_pipe"]  # a fixture

IMPATIENT = ("-X", "max.poll.interval.ms=6000", "-X", "session.timeout.ms=6000")
SHORT_SESSION = ("-X", "session.timeout.ms=1000")  # the dead member's partitions are free after a second


def members(cluster: Cluster, group: str) -> list[str]:
    """Give the client ids of a group's members, with how many partitions each has."""
    try:
        described = cluster.admin.describe_consumer_groups([group], request_timeout=10)[group].result(15)
    except KafkaException as error:
        if error.args[0].name() != "GROUP_ID_NOT_FOUND":
            raise
        return []
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


@pytest.mark.parametrize("way", [(), ("--exactly-once",), ("--resume-by-trace",), ("--workers", "2")])
def test_what_comes_while_a_group_is_away_that_began_at_the_end_is_read(
    kafka: Cluster, kpipe: Kpipe, way: tuple[str, ...]
) -> None:
    """Where it began is committed before its first record: the next run does not begin at a later end."""
    source, target = kafka.topic(2), kafka.topic()
    kafka.write(source, [Rec(b"before", partition=0)])
    command = ("forward", "-G", f"g-{source}", *way, "-o", "end", source, target)
    running = kpipe.at(kafka.bootstrap).start(*command)
    running.wait_for(lambda: kafka.committed(f"g-{source}", source) == {0: 1, 1: 0}, 30, "the start is committed")
    running.signal(signal.SIGTERM)  # not SIGKILL: the group would wait for the dead member's session to end
    running.wait(30)
    kafka.write(source, [Rec(b"meanwhile", partition=0), Rec(b"meanwhile", partition=1)])
    again = kpipe.at(kafka.bootstrap).start(*command)
    again.wait_for(lambda: len(kafka.read(target)) == 2, 30, "both are there")
    again.signal(signal.SIGTERM)
    assert again.wait(30).code == -signal.SIGTERM
    assert [record.value for record in kafka.read(target)] == [b"meanwhile"] * 2


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


PROTOCOL = pytest.mark.parametrize("protocol", ["classic", "consumer"])


@PROTOCOL
def test_a_signal_while_the_group_is_joined_leaves_it(kafka: Cluster, kpipe: Kpipe, protocol: str) -> None:
    """The join came to its end while the client was closed: it asked for offsets then, hung, and stayed a member."""
    topic = kafka.topic(2)
    kafka.write(topic, lines(10))
    for turn in range(12):  # the moment lies a few tenths of a second after the start, and lasts some 50 ms
        group = f"g-{topic}-{turn}"
        running = kpipe.at(kafka.bootstrap).start("consume", topic, "-G", group, "--group-protocol", protocol)
        time.sleep(0.15 + turn * 0.03)
        asked = time.monotonic()
        running.signal(signal.SIGTERM)
        assert running.wait(15).code == -signal.SIGTERM
        assert time.monotonic() - asked < 4
        assert members(kafka, group) == []


ENDINGS = {
    "a filter that fails at once": (1, "forward", "--through", "false"),
    "a filter that dies": (1, "forward", "--through", "sed -u 300q3"),
    "a filter that is not there": (1, "forward", "--through", "no-such-command"),
    "a bad record": (3, "forward", "--map", ".n"),
    "a bad record to stdout": (3, "consume", "--map", ".n"),
    "a refused record": (1, "forward", "--set-header", "pad=" + dense(1000).hex()),
    "a limit": (0, "consume", "-c", "10"),
    "the end": (0, "consume", "-e"),
}


@PROTOCOL
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_leaves_the_group(kafka: Cluster, kpipe: Kpipe, ending: str, protocol: str) -> None:
    """Who stays a member keeps its partitions from the next start, up to the session timeout (45 s) and a heartbeat."""
    topic, target = kafka.topic(2), kafka.topic(max_message_bytes=1500)
    kafka.write(topic, [Rec(b"{bad" if n == 700 else b'{"n":%d}' % n, partition=n % 2) for n in range(1000)])
    code, command, *options = ENDINGS[ending]
    places = [topic, target] if command == "forward" else [topic]
    group = ("-G", f"g-{topic}", "--group-protocol", protocol)

    ended = kpipe.at(kafka.bootstrap)(command, *group, *options, *places)

    assert ended.code == code, ended.err
    assert members(kafka, group[1]) == []
    kafka.write(topic, [b"{}", b"{}"])
    again = kpipe.at(kafka.bootstrap).start("consume", *group, topic)
    again.wait_for(lambda: again.out, 5, "the next start has its partitions")


@PROTOCOL
@pytest.mark.parametrize("number", [1, 2], ids=["a signal", "two signals"])
def test_a_filter_that_holds_back_does_not_keep_the_membership(
    kafka: Cluster, kpipe: Kpipe, number: int, protocol: str
) -> None:
    topic, target = kafka.topic(), kafka.topic()
    kafka.write(topic, lines(10))
    group = f"g-{topic}"
    slow = ("--drain-timeout", "2", "--through", "read -r line; echo has one >&2; sleep 30")
    running = kpipe.at(kafka.bootstrap).start(
        "forward", "-G", group, "--group-protocol", protocol, *slow, topic, target
    )
    running.wait_for_stderr("through: has one")
    for _ in range(number):
        running.signal(signal.SIGTERM)
        time.sleep(0.7)  # the same signal within half a second is the same wish
    assert running.wait(15).code == 1
    assert members(kafka, group) == []


@pytest.mark.parametrize(
    ("policy", "assignor"),
    [("bidirectional", "range"), ("disabled", "cooperative-sticky"), ("disabled", "range")],
)
def test_a_start_joins_what_a_dead_classic_member_left(
    new_kafka: NewKafka, kpipe: Kpipe, policy: str, assignor: str
) -> None:
    """To a member of the newer protocol the broker says that a group does not exist which it cannot convert (KIP-848)."""
    kafka = new_kafka({"group.consumer.migration.policy": policy})
    topic = kafka.topic()
    kafka.write(topic, lines(10))
    at, group = kpipe.at(kafka.bootstrap), f"g-{topic}"
    classic = ("--group-protocol", "classic", "-X", f"partition.assignment.strategy={assignor}")
    killed = at.start("consume", "-G", group, *classic, "-X", "session.timeout.ms=6000", topic)
    killed.wait_for_stdout(b"0000009")
    until(lambda: kafka.committed(group, topic) == {0: 10}, "all is committed")
    killed.signal(signal.SIGKILL)
    killed.wait()
    kafka.write(topic, lines(10, 10))

    if policy == "disabled":
        refused = at("consume", "-G", group, "-e", "--group-protocol", "consumer", topic)
        assert refused.code == 1
        assert refused.err == (
            f"kpipe: read: group {group}: it has classic members, and the cluster does not convert it; "
            "join with --group-protocol classic, or stop them first\n"
        )
    again = at("consume", "-G", group, "-e", topic)
    assert again.code == 0, again.err
    assert again.out.split() == lines(10, 10)
    assert at("consume", "-G", group, "-e", topic) == ending(0)


def test_a_member_without_partitions_says_why(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, lines(10))
    at = kpipe.at(kafka.bootstrap)
    first = at.start("consume", topic, "-G", f"g-{topic}")
    first.wait_for_stdout(b"0000009")
    second = at.start("consume", topic, "-G", f"g-{topic}")
    second.wait_for_stderr(f"read: group g-{topic}: no partition came yet: other members have them", 20)
    second.signal(signal.SIGTERM)
    assert second.wait().code == -signal.SIGTERM
    assert first.err == ""

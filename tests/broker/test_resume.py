"""`forward --resume-by-trace`: across clusters each record is in the target once, killed at random points; real Kafka."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from tests.broker.lab.cluster import Rec, until

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

SEED = int(os.environ.get("KPIPE_SEED", "0")) or random.randrange(1 << 30)


@pytest.fixture
def config(kafka: Cluster, kafka_b: Cluster) -> str:
    return f'[clusters.a]\nbootstrap.servers = "{kafka.bootstrap}"\n[clusters.b]\nbootstrap.servers = "{kafka_b.bootstrap}"\n'


def trace(record: Rec) -> tuple[int, int]:
    headers = dict(record.headers)
    return int(headers["source_partition"] or b""), int(headers["source_offset"] or b"")


def fill(kafka: Cluster, topic: str, count: int, partitions: int) -> None:
    kafka.write(topic, [Rec(b"%06d" % n, key=b"%d" % n, partition=n % partitions) for n in range(count)])


def written(kafka: Cluster, topic: str, partitions: int) -> int:
    """How many records a topic has, without reading them."""
    places = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(partitions)}
    return sum(found.result(10).offset for found in kafka.admin.list_offsets(places, request_timeout=5).values())


def test_killed_at_random_points_each_record_is_there_once(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str
) -> None:
    print(f"KPIPE_SEED={SEED}")
    chance = random.Random(SEED)
    source, target = kafka.topic(partitions=3), kafka_b.topic(partitions=2)
    fill(kafka, source, 40_000, 3)
    slow = ("-X", "target.queue.buffering.max.messages=500", "-X", "target.linger.ms=20")
    member = ("-G", "rt-kill", "--instance", "one", "--group-protocol", "classic")
    command = ("forward", *member, "--resume-by-trace", *slow, f"a:{source}", f"b:{target}")
    for _ in range(5):
        running = kpipe.start(*command, config=config)
        goal = min(39_000, written(kafka_b, target, 2) + chance.randrange(1, 6000))
        running.wait_for(lambda g=goal: written(kafka_b, target, 2) >= g, 30, "records")
        running.signal(signal.SIGKILL)
        running.wait()
    done = kpipe(*command[:1], "-e", "-v", *command[1:], config=config, timeout=90)

    assert done.code == 0, done.err
    found = Counter(map(trace, kafka_b.read(target)))
    assert found == Counter((record.partition, record.offset) for record in kafka.read(source))
    assert "records were there already, and left out" in done.err


def test_a_hole_below_the_highest_is_filled(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str) -> None:
    """A lost record between delivered ones, as after a failure in one of several target partitions."""
    source, target = kafka.topic(), kafka_b.topic(partitions=2)
    fill(kafka, source, 10, 1)
    first = kpipe("forward", "-e", "--grep-not", "00000[35]", f"a:{source}", f"b:{target}", config=config)
    assert first.code == 0, first.err

    done = kpipe("forward", "-e", "-v", "--resume-by-trace", f"a:{source}", f"b:{target}", config=config)

    assert done.code == 0, done.err
    assert "10 read, 2 delivered, 8 filtered" in done.err
    assert "8 records were there already" in done.err
    assert Counter(map(trace, kafka_b.read(target))) == Counter((0, n) for n in range(10))


def test_other_sources_and_clusters_are_told_apart(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str) -> None:
    one, two, target = kafka.topic(), kafka.topic(), kafka_b.topic()
    fill(kafka, one, 5, 1)
    fill(kafka, two, 5, 1)
    foreign = [
        Rec(b"x", headers=(("source_topic", one.encode()), ("source_partition", b"0"), ("source_offset", b"0"), *more))
        for more in ((), (("source_cluster", b"another"),))
    ]
    kafka_b.write(target, foreign)
    assert kpipe("forward", "-e", f"a:{two}", f"b:{target}", config=config).code == 0

    done = kpipe("forward", "-e", "-v", "--resume-by-trace", f"a:{one}", f"b:{target}", config=config)

    assert "5 read, 5 delivered" in done.err, done.err


def test_a_restart_reads_only_the_tail_that_the_commit_names(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str
) -> None:
    """100 records are in the target; with a commit that names its end a limit of 10 is enough, without it is not."""
    source, target = kafka.topic(), kafka_b.topic()
    kafka_b.write(target, [b"old"] * 100)
    fill(kafka, source, 3, 1)
    run = ("forward", "-G", "rt-tail", "--instance", "t", "--resume-by-trace", "--resume-limit")
    refused = kpipe(*run, "10", "-e", f"a:{source}", f"b:{target}", config=config)
    assert refused.code == 1
    assert "raise --resume-limit (10)" in refused.err
    assert kpipe(*run, "100", "-e", f"a:{source}", f"b:{target}", config=config).code == 0

    done = kpipe(*run, "10", "-e", "-v", f"a:{source}", f"b:{target}", config=config)

    assert (done.code, "0 read" in done.err) == (0, True), done.err


def test_an_aborted_transaction_of_the_target_does_not_count(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str
) -> None:
    source, target = kafka.topic(), kafka_b.topic()
    fill(kafka, source, 2, 1)
    names = {"source_cluster": kafka.cluster_id, "source_topic": source, "source_partition": "0", "source_offset": "1"}
    ghost = Rec(b"ghost", headers=tuple((name, value.encode()) for name, value in names.items()))
    kafka_b.write(target, [ghost], transaction="abort")

    done = kpipe("forward", "-e", "-v", "--resume-by-trace", f"a:{source}", f"b:{target}", config=config)

    assert "2 read, 2 delivered" in done.err, done.err


def test_a_member_that_takes_over_looks_at_what_the_other_sent(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str
) -> None:
    source, target = kafka.topic(partitions=2), kafka_b.topic(partitions=2)
    fill(kafka, source, 2000, 2)
    session = ("--group-protocol", "classic", "-X", "source.session.timeout.ms=6000")
    command = ("forward", "-G", "rt-two", *session, "--resume-by-trace", f"a:{source}", f"b:{target}")
    first = kpipe.start(*command, config=config)
    first.wait_for(lambda: len(kafka_b.read(target)) > 0, 20, "records")
    second = kpipe.start(*command, config=config)
    first.signal(signal.SIGKILL)
    first.wait()
    fill(kafka, source, 2000, 2)
    wanted = Counter((record.partition, record.offset) for record in kafka.read(source))
    until(lambda: len(kafka_b.read(target)) >= 4000, "all of them", 40)
    second.signal(signal.SIGTERM)
    assert second.wait().code == -signal.SIGTERM, second.err

    assert Counter(map(trace, kafka_b.read(target))) == wanted


@pytest.mark.parametrize(
    ("more", "advice"),
    [
        (("--trace", "none"), "drop --trace none"),
        (("--split", ".[]"), "drop --split"),
        (("--to-origin",), "--to-origin"),
    ],
)
def test_what_the_trace_cannot_tell_is_a_usage_error(kpipe: Kpipe, more: tuple[str, ...], advice: str) -> None:
    done = kpipe("forward", "-b", "127.0.0.1:1", "--resume-by-trace", *more, "a", "b")

    assert done.code == 2
    assert advice in done.err

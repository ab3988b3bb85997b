"""What the source or the other members do to a reader: open transactions, a second member with resume, shared ids."""

from __future__ import annotations

import json
import signal
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from tests.broker.lab.cluster import Rec, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.broker.conftest import NewKafka
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe
    from tests.faults.conftest import Note
    from tests.faults.proxy import Proxy


@pytest.fixture
def half_open(lab: tuple[Cluster, Proxy]) -> Iterator[tuple[Cluster, str, Producer]]:
    """A topic with five records, and behind them a transaction of three that is open, in each of two partitions."""
    cluster, _ = lab
    topic = cluster.topic(2)
    cluster.write(topic, [Rec(b"done %d" % n, partition=0) for n in range(5)])
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "transactional.id": topic})
    producer.init_transactions(20)
    producer.begin_transaction()
    for partition in (0, 1):
        for n in range(3):
            producer.produce(topic, b"open %d" % n, partition=partition)
    producer.flush(20)
    yield cluster, topic, producer
    producer.abort_transaction(20)


@pytest.mark.parametrize("command", ["consume", "consume -G", "forward", "forward -G"])
def test_an_open_transaction_before_the_end_is_told(
    half_open: tuple[Cluster, str, Producer], kpipe: Kpipe, note: Note, command: str
) -> None:
    """With its place, how much is held back, and since when; also of a partition that holds nothing else."""
    cluster, topic, _ = half_open
    verb, *member = command.split()
    words = [*member, *([f"g-{uuid.uuid4().hex[:8]}"] if member else [])]
    target = [cluster.topic(2)] if verb == "forward" else []
    done = kpipe(verb, "-b", cluster.bootstrap, "-e", *words, topic, *target)
    assert done.code == 0, done.err
    year = time.strftime("%Y-")
    for place in (f"{topic}[0]@5", f"{topic}[1]@0"):
        assert f"{place}: 3 offsets are held back by a transaction open since {year}" in done.err, done.err
    note(verb, f"open transaction at the source ({command} -e)", "told, exit 0", "told where, how many, since when")


def test_verify_is_not_complete_before_an_open_transaction(
    half_open: tuple[Cluster, str, Producer], kpipe: Kpipe, note: Note
) -> None:
    cluster, topic, producer = half_open
    target = cluster.topic(2)
    assert kpipe("forward", "-b", cluster.bootstrap, "-e", topic, target).code == 0
    done = kpipe("verify", "-b", cluster.bootstrap, topic, target)
    assert done.code == 5, done.err
    assert "6 offsets held back by open transactions, which were not compared" in done.err
    told = kpipe("verify", "-b", cluster.bootstrap, "--json", topic, target)
    assert (json.loads(told.out)["equal"], json.loads(told.out)["held_back"]) == (False, 6)
    producer.abort_transaction(20)
    producer.begin_transaction()
    assert kpipe("verify", "-b", cluster.bootstrap, topic, target).code == 0
    note("consume", "open transaction under verify", "exit 5, and 0 once it has ended", "not complete: exit 5")


def test_a_wait_for_a_transaction_is_told_once(half_open: tuple[Cluster, str, Producer], kpipe: Kpipe) -> None:
    cluster, topic, _ = half_open
    running = kpipe.start("consume", "-b", cluster.bootstrap, topic)
    running.wait_for_stderr("waiting for its end", 60)
    running.signal(signal.SIGTERM)
    assert running.wait(20).code == -signal.SIGTERM
    assert running.err.count(f"{topic}[0]@5: 3 offsets are held back") == 1


def test_topics_without_transactions_tell_nothing(lab: tuple[Cluster, Proxy], kpipe: Kpipe) -> None:
    cluster, _ = lab
    topic = cluster.topic(2)
    cluster.write(topic, [Rec(b"a", partition=0)])
    cluster.write(topic, [Rec(b"b", partition=0)], transaction="commit")
    cluster.write(topic, [Rec(b"c", partition=0)], transaction="abort")
    done = kpipe("consume", "-b", cluster.bootstrap, "-e", topic)
    assert (done.code, done.out, done.err) == (0, b"a\nb\n", "")


def test_a_second_member_with_resume_reads_nothing_for_its_empty_share(
    lab: tuple[Cluster, Proxy], kpipe: Kpipe, note: Note
) -> None:
    """Its assignment is empty: it read the whole target in the rebalance, and ended over --resume-limit."""
    cluster, _ = lab
    source, target, group = cluster.topic(1), cluster.topic(1), f"g-{uuid.uuid4().hex[:8]}"
    cluster.write(source, [b"%d" % n for n in range(2000)])
    words = (
        "forward",
        "-b",
        cluster.bootstrap,
        "-G",
        group,
        "--resume-by-trace",
        "--resume-limit",
        "1500",
        source,
        target,
    )
    first = kpipe.start(*words)
    first.wait_for(lambda: cluster.committed(group, source) == {0: 2000}, 30, "all is copied")
    second = kpipe.start(*words)
    second.wait_for_stderr("no partition came yet", 30)
    cluster.write(source, [b"more"])
    first.wait_for(lambda: len(cluster.read(target)) == 2001, 30, "the first member goes on")
    first.signal(signal.SIGTERM)
    assert first.wait(30).code == -signal.SIGTERM, first.err
    cluster.write(source, [b"last"])
    second.wait_for(lambda: len(cluster.read(target)) == 2002, 60, "the second member takes over")
    second.signal(signal.SIGTERM)
    assert second.wait(30).code == -signal.SIGTERM, second.err
    note(
        "forward",
        "a second member with --resume-by-trace",
        "it waits, and takes over",
        "nothing read for an empty share",
    )


def test_two_clusters_with_one_id_are_told_apart_by_their_topics(
    lab: tuple[Cluster, Proxy],
    new_kafka: NewKafka,
    kpipe: Kpipe,
    note: Note,
) -> None:
    cluster, _ = lab
    twin = new_kafka(cluster_id=cluster.cluster_id)
    topic = cluster.topic(1)
    twin.topic(1, name=topic)
    cluster.write(topic, [b"one", b"two"])
    config = f'[clusters.a]\nbootstrap.servers = "{cluster.bootstrap}"\n[clusters.b]\nbootstrap.servers = "{twin.bootstrap}"\n'
    for words in ([], ["-G", f"g-{topic}", "--resume-by-trace"]):
        done = kpipe("forward", "-e", *words, f"a:{topic}", f"b:{topic}", config=config)
        assert done.code == 0, done.err
    until(lambda: len(twin.read(topic)) == 2, "resume finds the first copy: nothing comes twice")
    done = kpipe("verify", f"a:{topic}", f"b:{topic}", config=config)
    assert done.code == 0, done.err
    back = kpipe("forward", "-e", f"b:{topic}", f"a:{topic}", config=config)
    assert back.code == 1, back.err
    assert "would loop" in back.err
    assert len(cluster.read(topic)) == 2
    same = kpipe("forward", "-e", f"a:{topic}", f"a:{topic}", config=config)
    assert same.code == 2
    assert "same topic" in same.err
    also = kpipe("forward", "-e", "--also", f"a:{topic}", f"a:{topic}", f"b:{topic}", config=config)
    assert also.code == 2, also.err
    assert "same topic" in also.err
    other = twin.topic(1)
    once = kpipe("forward", "-e", "-G", f"x-{topic}", "--exactly-once", f"a:{topic}", f"b:{other}", config=config)
    assert once.code == 2, once.err
    assert "different clusters" in once.err
    note("forward", "two clusters with one id", "a:t goes to b:t, and not back", "topic ids decide")

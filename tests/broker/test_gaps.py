"""Where the log is not what it was - records deleted unread, topics created again - kpipe stops or says what is missing."""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from kpipe.kafka.topic_ids import TopicIds
from tests.broker.lab.cluster import Cluster, until
from tests.broker.lab.runs import group

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Kpipe, Running


def numbers(first: int, last: int, text: str = "") -> list[bytes]:
    return [b"%s%d" % (text.encode(), n) for n in range(first, last)]


def delete_before(kafka: Cluster, topic: str, offset: int) -> None:
    asked = kafka.admin.delete_records([TopicPartition(topic, 0, offset)])
    for future in asked.values():
        future.result(10)


def create_again(kafka: Cluster, topic: str) -> None:
    kafka.admin.delete_topics([topic], operation_timeout=10)[topic].result(15)
    until(lambda: topic not in kafka.topics(), f"{topic}: deleted")
    kafka.topic(name=topic)


@pytest.mark.parametrize(
    ("policy", "code", "then", "missing"),
    [("stop", 1, 0, 0), ("warn", 0, 40, 20), ("earliest", 0, 40, 20), ("latest", 0, 0, 60)],
)
def test_records_deleted_while_the_group_was_away(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path, policy: str, code: int, then: int, missing: int
) -> None:
    topic, name, summary = kafka.topic(), group(), tmp_path / "summary.json"
    kafka.write(topic, numbers(0, 100))
    assert kpipe.at(kafka.bootstrap)("consume", "-G", name, "-c", "40", topic).code == 0
    delete_before(kafka, topic, 60)

    run = kpipe.at(kafka.bootstrap)("consume", "-G", name, "-e", "--on-gap", policy, "--summary", summary, topic)

    assert run.code == code, run.err
    assert f"{topic}[0]@40: 20 offsets (40 to 59) were deleted before they were read" in run.err
    assert run.out.split() == numbers(100 - then, 100)
    assert json.loads(summary.read_text()).get("missing", 0) == missing
    assert kafka.committed(name, topic) == {0: 40 if policy == "stop" else 100}


@pytest.mark.parametrize(("policy", "code", "out"), [("warn", 1, 0), ("earliest", 0, 5), ("latest", 0, 0)])
def test_an_offset_past_the_end_is_not_passed_by_warn(
    kafka: Cluster, kpipe: Kpipe, policy: str, code: int, out: int
) -> None:
    topic, name = kafka.topic(), group()
    kafka.write(topic, numbers(0, 5))
    future = kafka.admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(name, [TopicPartition(topic, 0, 1000)])]
    )
    future[name].result(10)

    run = kpipe.at(kafka.bootstrap)("consume", "-G", name, "-e", "--on-gap", policy, topic)

    assert run.code == code, run.err
    assert "past the end (5): the topic was truncated or created again" in run.err
    assert len(run.out.split()) == out


@pytest.mark.parametrize("kind", ["alone", "cooperative", "eager", "consumer"])
@pytest.mark.parametrize("policy", ["stop", "warn"])
def test_records_deleted_under_a_reader(kafka: Cluster, kpipe: Kpipe, kind: str, policy: str) -> None:
    """The reader stands still while retention overtakes it."""
    topic, name = kafka.topic(), group()
    kafka.write(topic, numbers(0, 10))
    strategy = {"cooperative": "cooperative-sticky", "eager": "range"}.get(kind)
    arguments = ["-G", name] if kind != "alone" else []
    arguments += ["-X", f"partition.assignment.strategy={strategy}"] if strategy else []
    run = kpipe.at(kafka.bootstrap).start(
        "consume", *arguments, "-X", "fetch.wait.max.ms=10", "--on-gap", policy, topic
    )
    run.wait_for_stdout(b"9\n")
    run.signal(signal.SIGSTOP)
    time.sleep(0.5)  # no fetch may wait at the broker, it would be given the first of the new records
    kafka.write(topic, numbers(10, 20))
    delete_before(kafka, topic, 15)
    run.signal(signal.SIGCONT)

    if policy == "stop":
        assert run.wait().code == 1
        assert run.out.split() == numbers(0, 10)
    else:
        run.wait_for_stdout(b"19\n")
        assert run.out.split() == [*numbers(0, 10), *numbers(15, 20)]
        run.signal(signal.SIGTERM)
        assert run.wait().code == -15
    assert f"{topic}[0]@10: 5 offsets (10 to 14) were deleted before they were read" in run.err
    if kind != "alone":
        assert kafka.committed(name, topic) == {0: 10 if policy == "stop" else 20}


@pytest.mark.parametrize(("policy", "code"), [("stop", 1), ("earliest", 0)])
def test_a_topic_created_again_between_two_runs_is_told_by_its_id(
    kafka: Cluster, kpipe: Kpipe, policy: str, code: int
) -> None:
    """A late commit of the old topic's reader would otherwise make the next run start in the middle of the new topic."""
    topic, name = kafka.topic(), group()
    kafka.write(topic, numbers(0, 10))
    assert kpipe.at(kafka.bootstrap)("consume", "-G", name, "-e", topic).code == 0
    asked = (
        kafka.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result(10).topic_partitions
    )
    create_again(kafka, topic)
    kafka.write(topic, numbers(0, 20, "new"))
    kafka.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(name, asked)])[name].result(10)

    run = kpipe.at(kafka.bootstrap)("consume", "-G", name, "-e", "--on-gap", policy, topic)

    assert run.code == code, run.err
    assert "the topic was deleted and created again" in run.err
    assert run.out.split() == ([] if policy == "stop" else numbers(0, 20, "new"))


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "in a group"])
@pytest.mark.parametrize("policy", ["stop", "earliest"])
def test_a_topic_created_again_under_a_reader(kafka: Cluster, kpipe: Kpipe, grouped: bool, policy: str) -> None:
    """The client would read on at offset 10 of the new topic, silently."""
    topic, name = kafka.topic(), group()
    kafka.write(topic, numbers(0, 10))
    run = kpipe.at(kafka.bootstrap).start("consume", *(["-G", name] if grouped else []), "--on-gap", policy, topic)
    run.wait_for_stdout(b"9\n")
    ids_are_known(run)

    create_again(kafka, topic)
    kafka.write(topic, numbers(0, 20, "new"))

    if policy == "stop":
        result = run.wait(40)
        assert result.code == 1
        assert "the topic was deleted" in result.err
    else:
        run.wait_for_stderr("the topic was deleted and created again", 40)
        run.wait_for_stdout(b"new0\nnew1\n", 20)
        run.wait_for_stdout(b"new19\n", 20)
        run.signal(signal.SIGTERM)
        result = run.wait()
        assert result.code == -15
        if grouped:
            assert kafka.committed(name, topic) == {0: 20}


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "in a group"])
def test_a_topic_deleted_under_a_reader_ends_the_run(kafka: Cluster, kpipe: Kpipe, grouped: bool) -> None:
    """The group takes the partitions away first, and a member without one would wait for ever."""
    topic, name = kafka.topic(), group()
    kafka.write(topic, numbers(0, 10))
    run = kpipe.at(kafka.bootstrap).start("consume", *(["-G", name] if grouped else []), topic)
    run.wait_for_stdout(b"9\n")
    ids_are_known(run)

    kafka.admin.delete_topics([topic])[topic].result(10)

    result = run.wait(40)
    assert result.code == 1
    assert result.err.startswith(f"kpipe: read: {topic}: the topic was deleted")
    assert result.out.split() == numbers(0, 10)


@pytest.mark.parametrize("policy", ["stop", "earliest"])
def test_a_topic_created_again_in_the_first_second_of_a_follow(kafka: Cluster, kpipe: Kpipe, policy: str) -> None:
    """Without a group nobody had asked for its id by then, and the first records of the new one were never read."""
    topic = kafka.topic()
    kafka.write(topic, numbers(0, 10))
    run = kpipe.at(kafka.bootstrap).start("consume", "--on-gap", policy, topic)
    run.wait_for_stdout(b"9\n")

    create_again(kafka, topic)
    kafka.write(topic, numbers(0, 20, "new"))

    if policy == "stop":
        result = run.wait(20)
        assert result.code == 1
        assert result.err.startswith(f"kpipe: read: {topic}[0]@")
        assert "the topic was deleted and created again" in result.err
    else:
        run.wait_for_stdout(b"new0\nnew1\n", 20)
        run.wait_for_stdout(b"new9\n", 20)
        assert "the topic was deleted and created again" in run.err


def ids_are_known(run: Running) -> None:
    """The first look at the topic's id is made a second after the start."""
    started = time.monotonic()
    run.wait_for(lambda: time.monotonic() - started > 2.5, 5, "the first look")


def test_a_look_at_topics_leaves_nothing_behind(kafka: Cluster) -> None:
    """The client kept each topic's id for good, at every look: 2.6 GB a day for a thousand topics."""
    topics = [kafka.topic() for _ in range(10)]
    ids = TopicIds(lambda: kafka.admin)
    ids.learn(topics)

    def look() -> int:
        for _ in range(30):
            assert ids.check(topics) == (set(), set())
        gc.collect()
        return sys.getallocatedblocks()

    look()
    assert look() - look() > -100, "300 ids were let go"
    assert len(ids.known) == 10

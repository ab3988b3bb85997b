"""One of two brokers is away while a cluster is looked at: its rows are marked, the rest is shown, in time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.broker import Broker
from tests.broker.lab.cluster import Cluster, Rec, until
from tests.broker.ops.scenes import commit, name, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.broker.conftest import NewKafka
    from tests.conftest import Kpipe, Result

TIMEOUT = 2
SLACK = 6
"""Seconds for the start of a process on a busy machine, and for what is asked behind the first silence."""


@pytest.fixture
def pair(new_kafka: NewKafka, tmp_path: Path) -> Iterator[tuple[Cluster, Broker]]:
    """A cluster of two, and its second broker, which is no controller."""
    # A frozen broker keeps its partitions: what is asked of it gets no answer, not another leader.
    settings = {"broker.session.timeout.ms": "120000"}
    first = new_kafka(settings)
    second = Broker(tmp_path / "second", cluster_id=first.cluster_id, properties=settings)
    properties = {
        "process.roles": "broker",
        "node.id": "2",
        "controller.quorum.voters": f"1@{first.broker.address('CONTROLLER')}",
        "listeners": f"PLAINTEXT://{second.bootstrap}",
    }
    second.start(properties)
    until(lambda: len(first.admin.list_topics(timeout=5).brokers) == 2, "both brokers are there")
    yield first, second
    second.kill()


@pytest.mark.long
def test_what_a_frozen_broker_has_is_marked_and_the_rest_is_shown(pair: tuple[Cluster, Broker], kpipe: Kpipe) -> None:
    """Each looking command answers in about --timeout, however many questions it asks, with exit code 1."""
    cluster, second = pair
    topic, group = cluster.topic(4), name()
    cluster.write(topic, [Rec(b"%d" % n, b"k%d" % n, partition=n % 4) for n in range(40)])
    commit(cluster, group, {(topic, number): 1 for number in range(4)})
    at = kpipe.at(cluster.bootstrap)
    leaders = {p.id: p.leader for p in cluster.admin.list_topics(timeout=5).topics[topic].partitions.values()}
    frozen = {number for number, leader in leaders.items() if leader == 2}
    assert len(frozen) == 2
    offsets = cluster.admin.list_topics(timeout=5).topics["__consumer_offsets"].partitions[0]
    second.pause()

    def looked(*words: str, code: int = 1) -> Result:
        began = time.monotonic()
        done = at(*words, "--timeout", f"{TIMEOUT}s")
        assert done.code == code, (words, done.code, done.err)
        assert time.monotonic() - began < TIMEOUT + SLACK, words
        return done

    shown = {each["partition"]: each for each in rows(looked("topics", "--partitions", "--json", topic))[0]["details"]}
    assert {number for number, each in shown.items() if each["end"] is None} == frozen
    assert "-1001" not in looked("topics", "--partitions", topic).out.decode()
    done = looked("topics", "--at", "-1h", "--json", topic)
    assert {row["partition"] for row in rows(done) if row["offset"] is None} == frozen

    if offsets.leader == 1:  # its coordinator answers
        (row,) = rows(looked("groups", "--json", group))
        assert row["problems"] == ["no answer in time"]
        assert {each["partition"] for each in row["partitions"] if each["lag"] == 9} == set(leaders) - frozen
        assert {each["partition"] for each in row["partitions"] if each["problem"]} == frozen
        done = looked("groups", "--json")
        assert [row["group"] for row in rows(done)] == [group]
        assert "groups of one broker are missing: no answer in time" in done.err
    else:
        assert looked("groups", "--json", group).err.count("no answer in time") == 1

    found = looked("find", "--all", "--grep", ".", "--json", topic)
    assert {row["partition"] for row in rows(found)} == set(leaders) - frozen
    assert len(rows(found)) == 20
    assert found.err.count("not searched:") == 2
    assert "stopped: searched 20 of 20 offsets" in found.err
    assert len(rows(looked("find", "--grep", ".", "--json", topic))) == 1
    (row,) = rows(looked("stat", "--all", "--json", topic))
    assert (row["records"], len(row["problems"])) == (20, 2)
    there = min(set(leaders) - frozen)
    onward = looked("trace", "--onward", "--to", topic, topic, f"{there}@0")
    assert onward.err.count("not searched:") == 2
    looked("trace", topic, f"{min(frozen)}@0", code=4)

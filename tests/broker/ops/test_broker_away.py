"""One of two brokers is away while a cluster is looked at: its rows are marked, the rest is shown, in time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.broker import Broker
from tests.broker.lab.cluster import Cluster, until
from tests.broker.ops.scenes import rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.broker.conftest import NewKafka
    from tests.conftest import Kpipe

TIMEOUT = 3


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


def test_what_a_frozen_broker_has_is_marked_and_the_rest_is_shown(pair: tuple[Cluster, Broker], kpipe: Kpipe) -> None:
    cluster, second = pair
    topic = cluster.topic(2)
    cluster.write(topic, [b"1", b"2", b"3"])
    at = kpipe.at(cluster.bootstrap)
    leaders = {p.id: p.leader for p in cluster.admin.list_topics(timeout=5).topics[topic].partitions.values()}
    assert sorted(leaders.values()) == [1, 2]
    second.pause()

    began = time.monotonic()
    done = at("topics", "--partitions", "--json", "--timeout", f"{TIMEOUT}s", topic)
    took = time.monotonic() - began
    shown = {each["partition"]: each for each in rows(done)[0]["details"]}
    assert done.code == 1, done.err
    assert set(shown) == {0, 1}
    for number, leader in leaders.items():
        assert (shown[number]["end"] is None) == (leader == 2), shown[number]
    assert took < 3 * TIMEOUT + 5
    table = at("topics", "--partitions", "--timeout", f"{TIMEOUT}s", topic)
    assert (table.code, "-1001" in table.out.decode()) == (1, False), table.out

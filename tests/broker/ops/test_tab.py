"""TAB offers the groups of the cluster, and no name that a shell could take for more than a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.broker.ops.scenes import commit, name

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe


def offered(kafka: Cluster, kpipe: Kpipe, *words: str) -> list[str]:
    config = f'[clusters.here]\n"bootstrap.servers" = "{kafka.bootstrap}"\n'
    done = kpipe(*words, config=config, env={"_KPIPE_COMPLETE": "fish", "KPIPE_BROKERS": kafka.bootstrap})
    assert done.code == 0
    return [line.split("\t")[0] for line in done.out.decode().splitlines()[1:]]


@pytest.mark.parametrize(
    "words", [("groups",), ("consume", "-G"), ("admin", "reset-offsets", "-G"), ("check", "--group")]
)
def test_groups_are_offered_and_hostile_names_are_not(kafka: Cluster, kpipe: Kpipe, words: tuple[str, ...]) -> None:
    topic, group = kafka.topic(), name("tab")
    kafka.write(topic, [b"1"])
    commit(kafka, group, {(topic, 0): 0})
    commit(kafka, f"{group}$(touch x)", {(topic, 0): 0})
    assert offered(kafka, kpipe, *words, group[:8]) == [group]


def test_groups_of_a_named_cluster(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group = kafka.topic(), name("tab")
    kafka.write(topic, [b"1"])
    commit(kafka, group, {(topic, 0): 0})
    assert offered(kafka, kpipe, "groups", f"here:{group[:8]}") == [f"here:{group}"]
    assert "here:" in offered(kafka, kpipe, "groups", "he")

"""Tells two clusters apart that share a cluster id, as images with a fixed one do: topic ids decide (KIP-516).

It asks only where a guard would refuse a run because the cluster ids are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kpipe.kafka.client import admin_of
from kpipe.kafka.topic_ids import TopicIds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpipe.clusters.profiles import Cluster
    from kpipe.plan.source import OpenSource


class Far(Protocol):
    """A topic on the other side: a target, or the copy that verify reads."""

    cluster_id: str
    topic: str
    cluster: Cluster


def tell_apart(opened: OpenSource, far: Far) -> None:
    """If both have a topic of that name with different ids, the clusters are two: each gets its topic's id in its name.

    What is written into a trace and compared with one is that longer name then: `CLUSTER/TOPIC_ID`.
    """
    shared = opened.cluster_id
    if not shared or far.cluster_id.partition("/")[0] != shared.partition("/")[0]:
        return
    here, there = _ids(opened, far, [far.topic])
    if here and there and here != there:
        bare = shared.partition("/")[0]
        opened.cluster_id, far.cluster_id = f"{bare}/{here[far.topic]}", f"{bare}/{there[far.topic]}"
    elif here == there:  # the very topic: it bears the longer name, too, if another target gave the source one
        far.cluster_id = opened.cluster_id


def knows_topics(opened: OpenSource, far: Far, topics: Iterable[str]) -> bool:
    """Whether the cluster on the other side has the very topics that are read; so says one that has no topic ids."""
    here, there = _ids(opened, far, topics)
    return here == there


def _ids(opened: OpenSource, far: Far, topics: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    names = [topic for topic in topics if topic in opened.metadata.topics]
    mine, theirs = opened.source.ids, TopicIds(lambda: admin_of(far.cluster))
    mine.learn(names)
    theirs.learn(names)
    return (
        {name: mine.known[name] for name in names if name in mine.known},
        {name: theirs.known[name] for name in names if name in theirs.known},
    )

"""`forward DLQ --to-origin`: which cluster is home, and the client that sends there.

It only wires; the records move in `kpipe.pipeline`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kpipe.clusters.address import check_cluster_name
from kpipe.errors import UsageError
from kpipe.kafka.client import check_topic, fetch_metadata, label
from kpipe.plan.partitions import keep_partitions
from kpipe.plan.target import Target, open_cluster
from kpipe.sinks.to_origin import HomesSink
from kpipe.sinks.topic import TopicSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.options import TargetOptions
    from kpipe.plan.outlet import Away


def split_home(places: Sequence[str]) -> tuple[list[str], str | None]:
    """The dead-letter topics and the home cluster's name: `DLQ… [CLUSTER:]`, else the cluster of the dead letters."""
    if places[-1].endswith(":") and len(places[-1]) > 1:
        if len(places) < 2:
            raise UsageError("--to-origin: the dead-letter topic is missing: kpipe forward DLQ CLUSTER: --to-origin")
        return list(places[:-1]), check_cluster_name(places[-1][:-1], where=repr(places[-1]))
    return list(places), None


def open_home(
    cluster: Cluster, options: TargetOptions, timeout: float, stopped: Callable[[], bool], own: dict[str, Any]
) -> Target:
    """A producer for a cluster; which topics are home is known only from the records."""
    return replace(open_cluster(cluster, options, timeout, stopped, own), topic="its home")


def home_sink(ready: Target, timeout: float, away: Away) -> HomesSink:
    """Sends to each record's own topic and partition; `away` waits for a cluster that does not answer."""

    def open_topic(topic: str) -> TopicSink:
        def look_up() -> Any:
            return fetch_metadata(ready.producer, ready.troubles, timeout, topic, away.given_up)

        metadata = away.wait_for(ready, topic, look_up)
        partitions = check_topic(metadata, topic, label(ready.cluster))
        where = label(ready.cluster)
        sink = TopicSink(ready.producing, topic, where, partition_of=keep_partitions, partitions=partitions)
        sink.epoch = ready.epoch
        sink.trace = ready.trace
        return sink

    return HomesSink(ready.sink(None), open_topic)

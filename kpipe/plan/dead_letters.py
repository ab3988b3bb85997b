"""`--on-error dlq:[cluster:]topic`: the topic made ready to take records that failed.

It sends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpipe.errors import UsageError
from kpipe.plan.partitions import stick_keyless
from kpipe.plan.target import Target, prepare_target
from kpipe.sinks.dead_letters import DeadLetterTopic
from kpipe.trace import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from kpipe.clusters.address import Place
    from kpipe.clusters.profiles import Cluster
    from kpipe.options import TargetOptions
    from kpipe.shutdown import Stop
    from kpipe.trace import Hop

UNGUARDED = 1 << 30
"""Hops: a record that looped is a record that failed, and a dead-letter topic takes it."""


def open_letters(
    place: Place,
    cluster: Cluster,
    options: TargetOptions,
    timeout: float,
    stopped: Callable[[], bool],
    own: dict[str, Any],
) -> Target:
    """The dead-letter topic, looked up (or made, with --create) before the first record is read."""
    own = {name: value for name, value in own.items() if name not in cluster.properties}
    return prepare_target(place.topic, cluster, options, timeout, stopped, own)


def refuse_same(ready: Target, cluster_id: str, topics: Collection[str], role: str) -> None:
    """Dead letters that are read or written again by the very run that made them would never end."""
    if ready.cluster_id and ready.cluster_id == cluster_id and ready.topic in topics:
        raise UsageError(f"--on-error: the dead-letter topic is {role}; name another topic", where=ready.where)


def make_letters(ready: Target, hop: Hop, stop: Stop) -> DeadLetterTopic:
    """The sink for dead letters: every letter says which hop it failed on, whatever --trace says."""
    return DeadLetterTopic(
        ready.topic,
        ready.where,
        lambda: ready.producer,
        lambda timeout: ready.troubles.serve(ready.producer.poll, timeout),
        explain=lambda report: ready.sink(None).explain(report, ""),
        stamp=Tracer(hop._replace(target_cluster="", target_topic="", max_hops=UNGUARDED, times=not ready.keeps_time)),
        partition_of=stick_keyless(ready.partitions),
        prefix=hop.prefix,
        forced=lambda: stop.forced,
    )

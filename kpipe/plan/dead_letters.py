"""`--on-error dlq:[cluster:]topic`: the topic made ready to take records that failed.

It sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpipe.errors import UsageError
from kpipe.plan.target import Target, TargetOptions, prepare_target, stick_keyless
from kpipe.sinks.dead_letters import DeadLetterTopic
from kpipe.trace import Hop, Tracer

if TYPE_CHECKING:
    from collections.abc import Collection

    from kpipe.clusters.address import Place
    from kpipe.clusters.profiles import Cluster
    from kpipe.shutdown import Stop

UNGUARDED = 1 << 30
"""Hops: a record that looped is a record that failed, and a dead-letter topic takes it."""


@dataclass(slots=True)
class LetterOptions:
    """How dead letters are sent where a command has no options for sending."""

    create: bool = False
    compression: str = ""
    partitioner: str = "murmur2_random"
    keyless: str = "sticky"
    buffer: str = "8M"
    spill: str = ""


def open_letters(
    place: Place,
    cluster: Cluster,
    options: TargetOptions,
    timeout: float,
    stop: Stop,
    own: dict[str, Any],
) -> Target:
    """The dead-letter topic, looked up (or made, with --create) before the first record is read."""
    own = {name: value for name, value in own.items() if name not in cluster.properties}
    return prepare_target(place.topic, cluster, options, timeout, lambda: stop.requested, own)


def refuse_same(ready: Target, cluster_id: str, topics: Collection[str], role: str) -> None:
    """Dead letters that are read or written again by the very run that made them would never end."""
    if ready.cluster_id and ready.cluster_id == cluster_id and ready.topic in topics:
        raise UsageError(f"--on-error: the dead-letter topic is the {role}; name another topic", where=ready.where)


def make_letters(
    ready: Target,
    stop: Stop,
    *,
    cluster_id: str = "",
    group: str | None = None,
    prefix: str = "",
    host: str = "",
) -> DeadLetterTopic:
    """The sink for dead letters: every letter says which hop it failed on, whatever --trace says."""
    hop = Hop(cluster=cluster_id, group=group, max_hops=UNGUARDED, prefix=prefix, host=host)
    return DeadLetterTopic(
        ready.topic,
        ready.where,
        lambda: ready.producer,
        lambda timeout: ready.troubles.serve(ready.producer.poll, timeout),
        stamp=Tracer(hop),
        partition_of=stick_keyless(ready.partitions),
        prefix=prefix,
        forced=lambda: stop.forced,
    )

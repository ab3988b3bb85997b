"""`--on-error dlq:[cluster:]topic`: the topic made ready to take records that failed.

It sends nothing.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kpipe.errors import UsageError
from kpipe.plan.target import Target, prepare_target
from kpipe.sinks.dead_letters import DeadLetterTopic
from kpipe.sinks.partitions import stick_keyless
from kpipe.trace import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from kpipe.clusters.address import Place
    from kpipe.clusters.profiles import Cluster
    from kpipe.options import TargetOptions
    from kpipe.shutdown import Stop
    from kpipe.trace import Hop

MARGIN = 60_000
"""Milliseconds by which clocks may differ: a letter whose time is that near to its topic's limit goes as of now."""
DEFAULT_AFTER_MS = 3_600_000
"""message.timestamp.after.max.ms of Kafka 4."""
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
    """The dead-letter topic, looked up (or made, with --create) before the first record is read.

    What --create=… and --like say of the target is not for it: a compacted one would take no letter without a key.
    """
    options = replace(options, create_as="", like="")
    own = {name: value for name, value in own.items() if name not in cluster.properties}
    own["enable.gapless.guarantee"] = False  # a letter that is refused ends the run anyway
    return prepare_target(place.topic, cluster, options, timeout, stopped, own)


def takes_time(ready: Target, clock: Callable[[], float] = time.time) -> Callable[[int], bool]:
    """Whether the topic takes a record of that time; where nobody says so, whether a default one of Kafka 4 would."""
    after = DEFAULT_AFTER_MS if ready.after_ms is None else ready.after_ms
    before = ready.before_ms

    def takes(ms: int) -> bool:
        now = int(clock() * 1000)
        return ms <= now + after - MARGIN and (before is None or ms >= now - before + MARGIN)

    return takes


def size_warning(letters: Target, targets: Sequence[Target]) -> list[str]:
    """A letter is larger than its record: a topic that takes no more than the target takes none that was too large."""
    limit = letters.limit_bytes
    for target in targets:
        if limit is not None and target.limit_bytes is not None and limit <= target.limit_bytes:
            what = f"takes records of {limit:,} bytes, and {target.where} of {target.limit_bytes:,}"
            advice = "one that is too large for the target is too large for it, and ends the run; raise its"
            return [f"send: {letters.where}: {what}: {advice} max.message.bytes"]
    return []


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
        takes_time=takes_time(ready),
    )

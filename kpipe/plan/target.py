"""What is written to: what the options ask of a producer and of a topic that is made; the topic of dead letters.

It sends nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kpipe.errors import UsageError
from kpipe.kafka.blueprints import Blueprint, parse_blueprint
from kpipe.kafka.client import PRODUCER_DEFAULTS
from kpipe.sinks.opening import prepare_target
from kpipe.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.options import TargetOptions
    from kpipe.shutdown import Stop
    from kpipe.sinks.dead_letters import DeadLetterTopic
    from kpipe.sinks.opening import Opening
    from kpipe.sinks.target import Target
    from kpipe.trace import Hop

UNGUARDED = 1 << 30
"""Hops: a record that looped is a record that failed, and a dead-letter topic takes it."""


def asked_blueprint(options: TargetOptions) -> Blueprint | None:
    """What --create asks of a topic that is missing; None where none is made."""
    if not options.create:
        return None
    asked = parse_blueprint(options.create_as) if options.create_as else Blueprint(-1, {})
    return asked._replace(partitions=options.create_partitions or asked.partitions)


def producer_properties(options: TargetOptions, cluster: Cluster, own: dict[str, Any]) -> dict[str, Any]:
    """What the options ask of the producer; a property given by -X wins over an option that was left at its default."""
    properties: dict[str, Any] = {
        "queue.buffering.max.kbytes": max(1, parse_size(options.buffer, "--buffer") >> 10),
        **own,
    }
    if options.compression:
        properties["compression.type"] = options.compression
    if "partitioner" not in cluster.properties:
        properties["partitioner"] = options.partitioner
    if _keeps_order({**PRODUCER_DEFAULTS, **cluster.properties, **own}):
        properties.setdefault("enable.gapless.guarantee", True)
    return {name: value for name, value in properties.items() if name in own or name not in cluster.properties}


def _keeps_order(properties: Mapping[str, Any]) -> bool:
    """Whether nothing may overtake a refused batch.

    librdkafka can promise it of an idempotent producer only, and a transaction is aborted as a whole anyway.
    """
    return str(properties["enable.idempotence"]).lower() == "true" and "transactional.id" not in properties


# --- dead letters ------------------------------------------------------------------------------------------------


def open_letters(topic: str, cluster: Cluster, options: TargetOptions, opening: Opening, timeout_ms: int) -> Target:
    """The dead-letter topic, looked up (or made, with --create) before the first record is read.

    What --create=… and --like say of the target is not for it: a compacted one would take no letter without a key.
    """
    if opening.asked is not None:
        opening = replace(opening, asked=Blueprint(options.create_partitions or -1, {}))
    own = {} if "delivery.timeout.ms" in cluster.properties else {"delivery.timeout.ms": timeout_ms}
    own["enable.gapless.guarantee"] = False  # a letter that is refused ends the run anyway
    return prepare_target(topic, cluster, producer_properties(options, cluster, own), opening)


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
    from kpipe.sinks.dead_letters import DeadLetterTopic, takes_time
    from kpipe.sinks.partitions import stick_keyless
    from kpipe.trace import Tracer

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

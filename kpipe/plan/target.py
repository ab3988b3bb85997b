"""A target topic made ready: looked up or created, its limits known, its producer tuned to them.

It sends no record.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from kpipe.clusters.client import (
    check_topic,
    fetch_metadata,
    label,
    open_admin,
    open_producer,
    unknown_topic,
)
from kpipe.clusters.diagnosis import denied
from kpipe.errors import BadRecord, Exit, KpipeError, Stage, UsageError
from kpipe.plan.places import check_choice, parse_size
from kpipe.sinks.topic import TopicSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Producer

    from kpipe.clusters.client import Troubles
    from kpipe.clusters.profiles import Cluster
    from kpipe.pipeline import Stage as PipelineStage
    from kpipe.record import Batch
    from kpipe.sinks.reports import DeliveryLines

CODECS = ("none", "lz4", "zstd", "snappy", "gzip")
PARTITIONERS = (
    "murmur2_random", "consistent_random", "murmur2", "consistent", "random", "fnv1a", "fnv1a_random",
)  # fmt: skip
DEFAULT_BATCH = 1_000_000  # librdkafka's batch.size, below the broker's default max.message.bytes of 1,048,588
EMBEDDED = "mockCluster"  # what the embedded broker's cluster id begins with
BATCH_OVERHEAD = 1024  # a record batch's header, and room for what the client does not count


class TargetOptions(Protocol):
    """What the command line says about sending."""

    create: bool
    compression: str
    partitioner: str
    keyless: str
    buffer: str
    spill: str


@dataclass(slots=True)
class Target:
    """A topic that exists, and the producer for it."""

    topic: str
    cluster: Cluster
    cluster_id: str
    producer: Producer
    troubles: Troubles
    partitions: int
    limit_bytes: int | None
    compacted: bool
    properties: dict[str, Any] = field(default_factory=dict)
    """What the producer was opened with on top of the cluster's own, to open another one like it."""

    @property
    def where(self) -> str:
        """`prod:orders`, for messages."""
        return f"{label(self.cluster)}:{self.topic}"

    def sink(
        self, partition_of: Callable[[Batch], Iterable[int]] | None, lines: DeliveryLines | None = None
    ) -> TopicSink:
        """The sink for this topic."""
        return TopicSink(
            self.producer,
            self.topic,
            label(self.cluster),
            self.troubles,
            partition_of=partition_of,
            limit_bytes=self.limit_bytes,
            lines=lines,
        )


def producer_properties(options: TargetOptions, cluster: Cluster, own: dict[str, Any]) -> dict[str, Any]:
    """What the options ask of the producer; a property given by -X wins over an option that was left at its default."""
    properties: dict[str, Any] = {
        "queue.buffering.max.kbytes": max(1, parse_size(options.buffer, "--buffer") >> 10),
        **own,
    }
    if options.compression:
        properties["compression.type"] = check_choice("--compression", options.compression, CODECS)
    check_choice("--partitioner", options.partitioner, PARTITIONERS)
    if "partitioner" not in cluster.properties:
        properties["partitioner"] = options.partitioner
    return {name: value for name, value in properties.items() if name in own or name not in cluster.properties}


def prepare_target(
    topic: str,
    cluster: Cluster,
    options: TargetOptions,
    timeout: float,
    stopped: Callable[[], bool],
    own: dict[str, Any],
    partitions_if_created: Callable[[], int] = lambda: -1,
    *,
    limits: bool = True,
) -> Target:
    """Open the producer and find out all that would otherwise fail in mid-stream.

    `limits` asks for the topic's configuration, too: an admin client of its own, which a one-line input does not need.
    The producer is opened first: an idempotent one needs 500 ms before its first record (librdkafka asks for a
    producer id, finds no connection yet, and asks again on a fixed timer), which the look-ups overlap.
    """
    properties = producer_properties(options, cluster, own)
    producer, troubles = open_producer(cluster, properties)
    admin = open_admin(cluster) if limits else None  # kept until it has answered: one that is let go answers nothing
    wanted = _ask_configs(admin, topic) if limits else None
    metadata = fetch_metadata(producer, troubles, timeout, topic, stopped)
    entry = metadata.topics.get(topic)
    if _is_unknown(entry):
        if not options.create:
            everything = fetch_metadata(producer, troubles, timeout, None, stopped)
            advice = "--create makes it" if _is_unknown(everything.topics.get(topic)) else ""
            raise unknown_topic(topic, label(cluster), list(everything.topics), advice)
        if str(metadata.cluster_id).startswith(EMBEDDED):
            _create_by_asking(cluster, properties, topic, timeout, stopped)
        else:
            admin = admin or open_admin(cluster)
            _create(admin, topic, partitions_if_created(), timeout, label(cluster))
            wanted = _ask_configs(admin, topic) if limits else None
        metadata = fetch_metadata(producer, troubles, timeout, topic, stopped)
    partitions = check_topic(metadata, topic, label(cluster))
    embedded = str(metadata.cluster_id).startswith(EMBEDDED)
    configs = {} if wanted is None or embedded else _answer(wanted)
    limit = int(configs["max.message.bytes"]) if configs.get("max.message.bytes", "").isdigit() else None
    if limit is not None and limit - BATCH_OVERHEAD < DEFAULT_BATCH and "batch.size" not in cluster.properties:
        # A batch of small records above the topic's limit is refused as a whole, and librdkafka does not split it.
        smaller = {**properties, "batch.size": max(1, limit - BATCH_OVERHEAD)}
        properties = smaller
        producer, troubles = open_producer(cluster, properties)
        metadata = fetch_metadata(producer, troubles, timeout, topic, stopped)
    compacted = "compact" in configs.get("cleanup.policy", "")
    cluster_id = str(metadata.cluster_id or "")
    return Target(topic, cluster, cluster_id, producer, troubles, partitions, limit, compacted, properties)


def add_topic(ready: Target, topic: str, options: TargetOptions, timeout: float, stopped: Callable[[], bool]) -> Target:
    """One more topic for the producer that is open: looked up once, created only with --create."""
    where = label(ready.cluster)
    metadata = fetch_metadata(ready.producer, ready.troubles, timeout, topic, stopped)
    admin = open_admin(ready.cluster)
    if _is_unknown(metadata.topics.get(topic)):
        if not options.create:
            raise unknown_topic(topic, where, [], "create it, or use --create")
        if ready.cluster_id.startswith(EMBEDDED):
            _create_by_asking(ready.cluster, ready.properties, topic, timeout, stopped)
        else:
            _create(admin, topic, ready.partitions, timeout, where)
        metadata = fetch_metadata(ready.producer, ready.troubles, timeout, topic, stopped)
    configs = {} if ready.cluster_id.startswith(EMBEDDED) else _answer(_ask_configs(admin, topic))
    limit = int(configs["max.message.bytes"]) if configs.get("max.message.bytes", "").isdigit() else None
    return replace(
        ready,
        topic=topic,
        partitions=check_topic(metadata, topic, where),
        limit_bytes=limit,
        compacted="compact" in configs.get("cleanup.policy", ""),
    )


def _is_unknown(entry: Any) -> bool:
    if entry is None:
        return True
    return entry.error is not None and entry.error.name() in ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC")


def _ask_configs(admin: Any, topic: str) -> Any:
    """Ask for the topic's configuration without waiting for it."""
    from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

    resource = ConfigResource(ResourceType.TOPIC, topic)
    return next(iter(admin.describe_configs([resource], request_timeout=3).values()))


def _answer(future: Any) -> dict[str, str]:
    """The configuration, or nothing where it may not be read (ACL, embedded broker): the broker still decides."""
    from confluent_kafka import KafkaException

    try:
        return {name: str(entry.value) for name, entry in future.result(timeout=4).items()}
    except (KafkaException, TimeoutError):
        return {}


def _create_by_asking(
    cluster: Cluster, properties: dict[str, Any], topic: str, timeout: float, stopped: Callable[[], bool]
) -> None:
    """The embedded broker has no topic administration, but makes a topic that a client asks for."""
    asking, troubles = open_producer(cluster, {**properties, "allow.auto.create.topics": True})
    fetch_metadata(asking, troubles, timeout, topic, stopped)


def _create(admin: Any, topic: str, partitions: int, timeout: float, where: str) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

    new = NewTopic(topic, num_partitions=partitions, replication_factor=-1)
    try:
        admin.create_topics([new], request_timeout=timeout, operation_timeout=timeout)[topic].result(timeout + 1)
    except KafkaException as error:
        name, text = error.args[0].name(), error.args[0].str()
        if name == "TOPIC_ALREADY_EXISTS":
            return
        if "AUTHORIZATION" in name:
            raise denied(f"topic {topic} or the cluster", "CREATE").error(f"{where}:{topic}", Stage.CONFIG) from None
        raise KpipeError(f"cannot create the topic: {text}", where=f"{where}:{topic}", stage=Stage.CONFIG) from None


def check_partition_word(text: str, option: str) -> None:
    """What can be said of a target partition before any cluster is asked."""
    if text not in ("", "same") and not (text.isascii() and text.isdigit()):
        raise UsageError(f"{option} {text!r}: not a partition; write a number or `same`")


def check_partition(text: str, partitions: int, where: str) -> int:
    """A fixed target partition that exists."""
    if int(text) >= partitions:
        raise KpipeError(
            f"no partition {text}; the topic has {partitions} (0 to {partitions - 1})", where=where, stage=Stage.CONFIG
        )
    return int(text)


def keep_partitions(partitions: int) -> Callable[[Batch], Iterable[int]]:
    """The same number as at the source; a record without one, or with one the target lacks, goes by its key."""

    def choose(batch: Batch) -> Iterable[int]:
        if batch.partitions is None:
            return [-1] * len(batch)
        return [number if number is not None and number < partitions else -1 for number in batch.partitions]

    return choose


def stick_keyless(partitions: int) -> Callable[[Batch], Iterable[int]]:
    """By key; all records without a key of one source partition go to one target partition, so their order is kept."""

    def choose(batch: Batch) -> Iterable[int]:
        keys, numbers = batch.keys, batch.partitions
        if numbers is None or (keys is not None and None not in keys):
            return [-1] * len(batch)
        if keys is None:
            return [-1 if number is None else number % partitions for number in numbers]
        return [
            -1 if key is not None or number is None else number % partitions
            for key, number in zip(keys, numbers, strict=True)
        ]

    return choose


class KeylessRecord(BadRecord):
    """A record that its compacted target would refuse; nothing is wrong with its data."""

    exit_code = Exit.UNDELIVERED
    stage = Stage.SEND


def refuse_keyless(target: Target) -> list[PipelineStage]:
    """Take records without a key out before a compacted topic sees them.

    The broker refuses the whole batch for one of them, so its neighbours would be lost with it.
    """
    if not target.compacted:
        return []

    def refuse(batch: Batch) -> None:
        keys = batch.keys if batch.keys is not None else [None] * len(batch)
        what = f"has no key, and {target.where} is compacted; use --keyless key, --key-field or --on-error skip"
        batch.reject({place: KeylessRecord(what) for place, key in enumerate(keys) if key is None})

    return [refuse]


def key_keyless(batch: Batch) -> None:
    """`--keyless key`: the source partition's number becomes the key of a record that has none (as Karafka pipes)."""
    if batch.partitions is None:
        return
    keys = batch.keys if batch.keys is not None else [None] * len(batch)
    batch.keys = [
        key if key is not None or number is None else b"%d" % number
        for key, number in zip(keys, batch.partitions, strict=True)
    ]

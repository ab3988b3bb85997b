"""A target topic made ready: looked up or created, its limits known, its producer tuned to them.

It sends no record.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kpipe.clusters.address import place_name
from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.kafka.blueprints import Blueprint
from kpipe.kafka.changes import ask_to_create
from kpipe.kafka.client import EMBEDDED, admin_of, label, open_column_producer, open_producer
from kpipe.kafka.diagnosis import denied
from kpipe.kafka.errors import Cause, cause_of, is_unauthorised
from kpipe.kafka.metadata import check_topic, fetch_metadata, unknown_topic
from kpipe.kafka.questions import Failure, ask_configurations, collect, fail
from kpipe.sinks.producing import Producing
from kpipe.sinks.target import Target, read_limits
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Producer

    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.librdkafka import ColumnProducer
    from kpipe.kafka.troubles import Troubles

DEFAULT_BATCH = 1_000_000  # librdkafka's batch.size, below the broker's default max.message.bytes of 1,048,588
CONFIGS = 3.0  # seconds for the configuration of a topic
HASTE = 0.5  # seconds that a new producer in mid-run may wait for metadata
APPEARING = 0.02  # seconds between two looks for a topic that was just made
BATCH_OVERHEAD = 1024  # a record batch's header, and room for what the client does not count


@dataclass(slots=True, frozen=True)
class Opening:
    """How topics are opened: for how many seconds a cluster is waited for, and whether nobody waits any more.

    `asked` is how a topic that is missing is made; None: it is an error.
    """

    timeout: float
    stopped: Callable[[], bool]
    asked: Blueprint | None = None


BY_ITSELF = Blueprint(-1, {})
"""A topic as its cluster makes it without being told more."""


def as_by_itself(_cluster_id: str) -> Blueprint:
    """The model of a topic that has none."""
    return BY_ITSELF


def prepare_target(
    topic: str,
    cluster: Cluster,
    properties: Mapping[str, Any],
    opening: Opening,
    model: Callable[[str], Blueprint] = as_by_itself,
    *,
    limits: bool = True,
    columns: bool = False,
) -> Target:
    """Open the producer and find out all that would otherwise fail in mid-stream.

    `model` is what a topic that is made is like where nothing else was asked for.
    `limits` asks for the topic's configuration, too: an admin client of its own, which a one-line input does not need.
    `columns`: the records carry values and keys only, so a producer that takes them by the column will do.
    The look-ups also bring an idempotent producer its id: librdkafka asks for one when metadata comes in, else only
    500 ms after the start.
    """
    properties, timeout, stopped, asked = dict(properties), opening.timeout, opening.stopped, opening.asked

    def open_one(changed: Mapping[str, Any] | None = None) -> tuple[Producer | ColumnProducer, Troubles]:
        if columns and changed is None:
            return open_column_producer(cluster, properties, topic)
        return open_producer(cluster, {**properties, **(changed or {})})

    def open_another(changed: Mapping[str, Any] | None) -> tuple[Producer | ColumnProducer, Troubles]:
        another, its_troubles = open_one(changed)
        with suppress(KpipeError):  # it waits longer for its id then
            _hasten_producer_id(another, its_troubles, HASTE, topic, stopped)
        return another, its_troubles

    producer, troubles = open_one()
    wanted = _ask_configs(cluster, topic) if limits else None
    metadata = fetch_metadata(producer, troubles, timeout, topic, stopped)
    entry = metadata.topics.get(topic)
    made = False
    if _is_unknown(entry):
        if asked is None:
            everything = fetch_metadata(producer, troubles, timeout, None, stopped)
            advice = "--create makes it" if _is_unknown(everything.topics.get(topic)) else ""
            raise unknown_topic(topic, label(cluster), list(everything.topics), advice)
        if str(metadata.cluster_id).startswith(EMBEDDED):
            _create_by_asking(cluster, properties, topic, timeout, stopped)
        else:
            plan = _merge(asked, model(str(metadata.cluster_id or "")))
            made = _create(cluster, topic, plan, timeout)
            wanted = _ask_configs(cluster, topic) if limits else None
        metadata = _wait_until_there(producer, troubles, topic, timeout, stopped)
    partitions = check_topic(metadata, topic, label(cluster))
    embedded = str(metadata.cluster_id).startswith(EMBEDDED)
    if _is_unknown(entry) and embedded and asked is not None and asked.partitions not in {-1, partitions}:
        given = counted(partitions, "partition")
        what = f"the embedded broker gives a new topic {given}; name it in `kpipe broker --topics`"
        raise KpipeError(what, where=place_name(label(cluster), topic), stage=Stage.CONFIG)
    configs = {} if wanted is None or embedded else _answer(wanted)
    limits_of = read_limits(configs)
    limit = limits_of["limit_bytes"]
    if limit is not None and limit - BATCH_OVERHEAD < DEFAULT_BATCH and "batch.size" not in cluster.properties:
        # A batch of small records above the topic's limit is refused as a whole, and librdkafka does not split it.
        properties["batch.size"] = max(1, limit - BATCH_OVERHEAD)
        producer, troubles = open_one()
        metadata = fetch_metadata(producer, troubles, timeout, topic, stopped)
    _hasten_producer_id(producer, troubles, timeout, topic, stopped)
    producing = Producing(
        producer, troubles, open_another, stopped, keeps_order=bool(properties.get("enable.gapless.guarantee"))
    )
    cluster_id = str(metadata.cluster_id or "")
    limits_of |= {"keeps_time": embedded or _keeps_time(configs), "made": made}
    return Target(topic, cluster, cluster_id, producing, partitions, properties=properties, **limits_of)


def add_topic(ready: Target, topic: str, opening: Opening, model: Callable[[], Blueprint] | None = None) -> Target:
    """One more topic for the producer that is open: looked up once, created only with --create."""
    timeout, stopped, asked = opening.timeout, opening.stopped, opening.asked
    where = label(ready.cluster)
    metadata = fetch_metadata(ready.producer, ready.troubles, timeout, topic, stopped)
    made = False
    if _is_unknown(metadata.topics.get(topic)):
        if asked is None:
            raise unknown_topic(topic, where, [], "create it, or use --create")
        if ready.cluster_id.startswith(EMBEDDED):
            _create_by_asking(ready.cluster, ready.properties, topic, timeout, stopped)
        else:
            plan = _merge(asked, Blueprint(ready.partitions, {}) if model is None else model())
            made = _create(ready.cluster, topic, plan, timeout)
        metadata = _wait_until_there(ready.producer, ready.troubles, topic, timeout, stopped)
    embedded = ready.cluster_id.startswith(EMBEDDED)
    configs = {} if embedded else _answer(_ask_configs(ready.cluster, topic))
    return replace(
        ready,
        topic=topic,
        partitions=check_topic(metadata, topic, where),
        keeps_time=embedded or _keeps_time(configs),
        made=made,
        **read_limits(configs),
    )


def open_cluster(cluster: Cluster, properties: dict[str, Any], opening: Opening, topic: str = "") -> Target:
    """A producer for a cluster; which topics it sends to is known only from the records. `topic` is for messages."""
    producing = open_producing(cluster, properties, opening.stopped)
    metadata = fetch_metadata(producing.producer, producing.troubles, opening.timeout, None, opening.stopped)
    return Target(topic, cluster, str(metadata.cluster_id or ""), producing, 0, properties=properties)


def open_producing(
    cluster: Cluster, properties: Mapping[str, Any], stopped: Callable[[], bool] = lambda: False
) -> Producing:
    """A producer of this kind, and the way to another one like it."""

    def open_one(changed: Mapping[str, Any] | None) -> tuple[Any, Troubles]:
        return open_producer(cluster, {**properties, **(changed or {})})

    return Producing(*open_one(None), open_one, stopped, keeps_order=bool(properties.get("enable.gapless.guarantee")))


def needs_own_batches(target: Target) -> bool:
    """Whether the producer makes batches that are too large for this topic.

    Such a batch of small records is refused as a whole, and librdkafka does not split it. In transactions all records
    must go through one producer.
    """
    size, limit = target.properties.get("batch.size", DEFAULT_BATCH), target.limit_bytes
    if limit is None or "batch.size" in target.cluster.properties or "transactional.id" in target.properties:
        return False
    return limit - BATCH_OVERHEAD < int(size)


def fit_batches(target: Target) -> Target:
    """The same topic, with a producer of its own where that of its neighbours makes batches too large for it."""
    if not needs_own_batches(target) or target.limit_bytes is None:
        return target
    properties = {**target.properties, "batch.size": max(1, target.limit_bytes - BATCH_OVERHEAD)}
    producing = open_producing(target.cluster, properties, target.producing.stopped)
    producing.troubles.listener = target.troubles.listener
    return replace(target, producing=producing, properties=properties)


def _wait_until_there(
    producer: Any, troubles: Troubles, topic: str, timeout: float, stopped: Callable[[], bool]
) -> Any:
    """Metadata with a topic that was just made: the controller has it at once, brokers hear of it a moment later."""
    deadline = time.monotonic() + timeout
    while True:
        metadata = fetch_metadata(producer, troubles, timeout, topic, stopped)
        entry = metadata.topics.get(topic)
        if not _is_unknown(entry) and entry.error is None and _has_leaders(entry):
            return metadata
        if time.monotonic() >= deadline or stopped():
            what = f"the topic was made, and is not there for clients after {timeout:g} s; try again"
            raise UnreachableError(what, where=place_name(troubles.cluster, topic), stage=Stage.CONFIG)
        time.sleep(APPEARING)


def _has_leaders(entry: Any) -> bool:
    led = getattr(entry, "led", None)
    if led is not None:
        return len(led) == len(entry.partitions) > 0
    return bool(entry.partitions) and all(partition.leader >= 0 for partition in entry.partitions.values())


def _hasten_producer_id(
    producer: Any, troubles: Troubles, timeout: float, topic: str, stopped: Callable[[], bool]
) -> None:
    """Ask for metadata once more, over the connection that records will take.

    librdkafka asks for an idempotent producer's id when metadata comes in and a broker is up, else after 500 ms. The
    first answer comes over the bootstrap connection, which it gives up just then, so every other start would wait.
    """
    fetch_metadata(producer, troubles, timeout, topic, stopped)


def _is_unknown(entry: Any) -> bool:
    return entry is None or cause_of(entry.error) is Cause.NO_TOPIC


def _ask_configs(cluster: Cluster, topic: str) -> Any:
    """Ask for the topic's configuration without waiting for it."""
    return ask_configurations(admin_of(cluster), [topic], CONFIGS)[topic]


def _answer(future: Any) -> dict[str, str]:
    """The configuration, or nothing where it may not be read (ACL, embedded broker): the broker still decides."""
    answer = collect({"": future}, time.monotonic() + CONFIGS + 1, str)[""]
    return {} if isinstance(answer, Failure) else {name: str(entry.value) for name, entry in answer.items()}


def _keeps_time(configs: dict[str, str]) -> bool:
    return configs.get("message.timestamp.type") == "CreateTime"


def _create_by_asking(
    cluster: Cluster, properties: dict[str, Any], topic: str, timeout: float, stopped: Callable[[], bool]
) -> None:
    """The embedded broker has no topic administration, but makes a topic that a client asks for."""
    asking, troubles = open_producer(cluster, {**properties, "allow.auto.create.topics": True})
    fetch_metadata(asking, troubles, timeout, topic, stopped)


def _merge(asked: Blueprint, model: Blueprint) -> Blueprint:
    """What a new topic is: as its model, but for what was asked for."""
    partitions = asked.partitions if asked.partitions > 0 else model.partitions
    return Blueprint(partitions, {**model.config, **asked.config})


def _create(cluster: Cluster, topic: str, plan: Blueprint, timeout: float) -> bool:
    """Make a topic; False when somebody else was quicker."""
    error = ask_to_create(admin_of(cluster), topic, plan.partitions, -1, plan.config, timeout)
    if error is None:
        return True
    if cause_of(error) is Cause.EXISTS:
        return False
    place = place_name(label(cluster), topic)
    if is_unauthorised(error):
        raise denied(f"topic {topic} or the cluster", "CREATE").error(place, Stage.CONFIG)
    failure = fail(error, f"topic {topic}", "CREATE")
    raise failure._replace(text=f"cannot create the topic: {failure.text}").error(place, Stage.CONFIG)

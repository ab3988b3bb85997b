"""`kpipe forward`: topics -> transform -> trace -> topic, on the same or another cluster.

It only wires; the records move in `kpipe.pipeline`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kpipe.clusters.address import Place, check_cluster_name
from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.kafka.client import admin_of, label
from kpipe.ledger import Ledger
from kpipe.plan.consume import ALL_COLUMNS
from kpipe.plan.delivery import Ends, choose_way
from kpipe.plan.places import also_places, source_places, split_home, target_place
from kpipe.plan.rules import ROUTES, check_forward, first_step, translated_sides
from kpipe.plan.schemas import around
from kpipe.plan.selection import make_selection
from kpipe.plan.source import OpenSource, prepare_source
from kpipe.plan.stages import build_stages, hop_to
from kpipe.plan.translation import check_registries, notes_of, translating
from kpipe.plan.wiring import Wiring, read_topics
from kpipe.run_state import RunState
from kpipe.sinks.opening import open_cluster, prepare_target
from kpipe.sinks.partition_growth import PartitionGrowth
from kpipe.sinks.partitions import by_key_as_it_was, check_partition_word, choose_partition, key_keyless, refuse_missing
from kpipe.transform.fixed import fixed_timestamp
from kpipe.transform.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.blueprints import Blueprint
    from kpipe.options import (
        ConnectionOptions,
        ForwardOptions,
        RunOptions,
        SchemaOptions,
        SelectionOptions,
        TargetOptions,
        TraceOptions,
    )
    from kpipe.parts import Sink
    from kpipe.pipeline import Stage as PipelineStage
    from kpipe.plan import Planned
    from kpipe.record import Batch
    from kpipe.shutdown import Stop
    from kpipe.sinks.homes import Homes
    from kpipe.sinks.outlet import Outlet
    from kpipe.sinks.target import Target
    from kpipe.sources.topic import Selection


KEEP_NAMES = Step("rename-topic", r"^(.*)$=\1")
"""`dr:` alone is a mirror: each record goes to the topic that is called like its source."""
END_TIMEOUT = 120.0
"""Seconds the target may be silent once the sources have ended: while running forward waits for it without limit."""


def plan_forward(
    places: Sequence[str],
    connection: ConnectionOptions,
    selection: SelectionOptions,
    forward: ForwardOptions,
    sending: TargetOptions,
    trace: TraceOptions,
    schemas: SchemaOptions,
    run: RunOptions,
    steps: Sequence[Step],
    stop: Stop,
    say: Callable[[str], None],
) -> Planned:
    """Wire a run; UsageError before anything is opened, then what the clusters say."""
    origins, target, mirrors = _read_places(places, forward)
    check_forward(forward, selection, sending, trace, schemas, steps, mirror=mirrors)
    check_partition_word(forward.to_partition, "--to-partition")
    name, topics = source_places(origins)
    also = also_places([*sending.also, *forward.tee], target)
    if mirrors:
        steps = [*steps, KEEP_NAMES]
    wiring = Wiring(connection, run, steps, stop, say, sending, selection.count)
    sending = wiring.sending
    stages, stamping = build_stages(steps, wiring.patience), fixed_timestamp(forward.timestamp, keeps=False)
    home = name if target.cluster is None and forward.to_origin else target.cluster
    source_cluster, target_cluster = wiring.resolve((name, "source"), (home, "target"), also=also)
    _refuse_clusters(forward, wiring, source_cluster, target_cluster)
    chosen = _choose(selection, forward, topics, source_cluster, joins=not sending.dry_run)
    opened = prepare_source(source_cluster, chosen, say, connection.timeout, wiring.stopped, wiring.pace)
    opened.watched_by(wiring.watch, topics[0])
    stages = around(stages, schemas, source_cluster, wiring, opened.source.keep_alive)
    own = _producer_properties(forward, selection, target_cluster)
    ready = _open_target(target.topic, target_cluster, forward, wiring, own, opened, topics)
    to_partition = "same" if "same" in selection.partitions else forward.to_partition
    if not (forward.to_origin or to_partition):
        stages.append(PartitionGrowth(lambda: admin_of(ready.cluster), ready.topic, ready.partitions, ready.where, say))
    outlet = wiring.open_outlet(
        ready,
        lambda topic: _choose_partition(to_partition, sending, opened, topic, topics, forward),
        own,
        END_TIMEOUT if selection.exit else None,
    )
    outlet.model = _namesake(target, opened, ready, wiring)
    for further in outlet.targets[1:]:
        _keep_apart(opened, further, topics, wiring)
    cluster, times = opened.cluster_id, forward.timestamp == "now" or outlet.forgets_time
    hop = hop_to(None if forward.to_origin else ready, trace, cluster=cluster, group=chosen.group, times=times)
    wiring.open_letters(hop, 0, opened, topics, outlet)
    # The timestamp changes behind the trace, which tells the one at the source.
    stages += [key_keyless] if sending.keyless == "key" else []
    stages += outlet.open_routes() if first_step(steps, ROUTES) else []
    guards = outlet.guards(None if trace.trace == "none" else hop)
    stamps: list[PipelineStage] = [] if trace.trace == "none" else [outlet.tracer(hop)]
    homes = _homes(outlet) if forward.to_origin else None
    stamps = _go_home(homes, stamps, forward, trace, opened, ready, topics)
    stages += translating(forward, source_cluster, target_cluster, ready.topic, wiring, opened)
    stages += [*guards, *stamps, *stamping, *outlet.limits()]
    stages += [] if forward.to_origin else refuse_missing(to_partition, outlet.targets_of)
    keeps_records = bool(sending.spill) or sending.dry_run
    state = RunState(Ledger(keeps_offsets=chosen.group is not None, keeps_records=keeps_records))
    ends = Ends(opened, ready, chosen)
    way = choose_way(wiring, ends, state, forward, trace.trace_prefix, stages, _sink_maker(outlet, homes))
    planned = wiring.plan(way, state, read_topics(opened), notes=lambda: notes_of(stages), flush_timeout=END_TIMEOUT)
    wiring.warn(*_compaction_warning(ready, steps, sending.keyless))
    opened.start(way.group)
    return planned


def _choose(
    selection: SelectionOptions, forward: ForwardOptions, topics: Sequence[str], cluster: Cluster, *, joins: bool
) -> Selection:
    """What to read; a preview does not join the group it reads the offsets of."""
    chosen = make_selection(selection, topics, cluster, set(ALL_COLUMNS))
    if forward.exactly_once and chosen.instance:
        from kpipe.plan.delivery import membership

        chosen = membership(chosen)
    return replace(chosen, joins=joins)


def _open_target(
    topic: str,
    cluster: Cluster,
    forward: ForwardOptions,
    wiring: Wiring,
    own: dict[str, Any],
    opened: OpenSource,
    topics: Sequence[str],
) -> Target:
    """The topic to write to, which is not one of the sources; with --to-origin the cluster the records came from."""
    properties = wiring.properties(cluster, own)
    if forward.to_origin:
        return open_cluster(cluster, properties, wiring.opening, topic="its home")
    if not topic:
        topic = _first_of(opened, topics)
        topics = [topic]
    model = partial(_model, opened, topics, wiring)
    ready = prepare_target(topic, cluster, properties, wiring.opening, model)
    _keep_apart(opened, ready, topics, wiring)
    return ready


def _model(opened: OpenSource, topics: Sequence[str], wiring: Wiring, cluster_id: str) -> Blueprint:
    """What a target that is made is like: as many partitions as the source, on another cluster its settings, too."""
    from kpipe.kafka.blueprints import Blueprint, like
    from kpipe.kafka.connection import Connection

    names = opened.names(topics)
    partitions = opened.partitions(topics)
    source = Connection(opened.cluster, wiring.connection.timeout, wiring.stopped)
    if cluster_id == opened.cluster_id or len(names) != 1 or source.is_embedded:
        return Blueprint(partitions, {})
    try:
        return like(source, names[0])
    except KpipeError as error:
        wiring.say(f"config: {names[0]}: its settings cannot be copied: {error.what}; the new topic has the defaults")
        return Blueprint(partitions, {})


def _homes(outlet: Outlet) -> Homes:
    from kpipe.sinks.homes import Homes

    return Homes(outlet)


def _sink_maker(outlet: Outlet, homes: Homes | None) -> Callable[[], Sink]:
    """Makes the sink for the producer that the target has at that moment."""
    if homes is not None:
        return homes.sink
    outlet.choose(outlet.ready)  # a partition that is not there is found before anything is read
    return outlet.sink


def _first_of(opened: OpenSource, topics: Sequence[str]) -> str:
    """The topic that a mirror begins with; the others are looked up when their first record comes."""
    names = opened.names(topics)
    if not names:
        raise KpipeError("no topic matches", where=f"{opened.cluster.name}:{' '.join(topics)}", stage=Stage.CONFIG)
    return names[0]


def _namesake(target: Place, opened: OpenSource, ready: Target, wiring: Wiring) -> Callable[[str], Blueprint] | None:
    """What a topic that a mirror makes is like: the source of that name."""
    if target.topic or not ready.topic:
        return None
    return lambda topic: _model(opened, [topic], wiring, ready.cluster_id)


def _read_places(places: Sequence[str], forward: ForwardOptions) -> tuple[list[str], Place, str]:
    """The sources, the target and the cluster of a mirror; home and a mirror are targets without a topic."""
    if forward.to_origin:
        origins, cluster = split_home(places)
        return origins, Place(cluster, ""), ""
    if len(places) < 2:
        raise UsageError("forward needs SOURCE… and TARGET, as in: kpipe forward prod:orders staging:orders")
    if places[-1].endswith(":") and places[-1] != ":":
        cluster = check_cluster_name(places[-1][:-1], where=repr(places[-1]))
        return list(places[:-1]), Place(cluster, ""), cluster
    return list(places[:-1]), target_place(places[-1]), ""


def _producer_properties(forward: ForwardOptions, selection: SelectionOptions, cluster: Cluster) -> dict[str, Any]:
    """While running forward waits for its target without limit; in a transaction as long as that may last.

    A trace adds some 110 bytes of much the same to each record, which LZ4 takes away again.
    """
    own: dict[str, Any] = {} if "compression.type" in cluster.properties else {"compression.type": "lz4"}
    if forward.exactly_once:
        from kpipe.plan.delivery import transaction_properties

        return own | transaction_properties(selection.group, selection.instance, cluster)
    return own if "delivery.timeout.ms" in cluster.properties else {**own, "delivery.timeout.ms": 0}


def _go_home(
    homes: Homes | None,
    stamps: list[PipelineStage],
    forward: ForwardOptions,
    trace: TraceOptions,
    opened: OpenSource,
    ready: Target,
    topics: Sequence[str],
) -> list[PipelineStage]:
    """On the way home the count of attempts guards against a loop, and the trace is written behind it."""
    if homes is None:
        return stamps
    from kpipe.sinks.to_origin import ToOrigin

    return [
        ToOrigin(
            ready.cluster_id,
            opened.names(topics),
            stamps[0] if stamps else lambda _batch: None,
            max_attempts=forward.max_attempts,
            same_cluster=opened.cluster_id == ready.cluster_id,
            prefix=trace.trace_prefix,
            look_up=homes.find,
        )
    ]


def _refuse_clusters(forward: ForwardOptions, wiring: Wiring, source: Cluster, target: Cluster) -> None:
    """Schemas are translated between two registries; a transaction spans one cluster, and so do routes in it."""
    check_registries(forward, source, target)
    for name, cluster in zip(wiring.routed, wiring.routed_clusters, strict=True):
        if forward.exactly_once and label(cluster) != label(target):
            what = f"--exactly-once: a transaction spans one cluster, and --route-allow names another one, {name}"
            raise UsageError(f"{what}; drop it, or forward without --exactly-once")


def _keep_apart(opened: OpenSource, ready: Target, topics: Sequence[str], wiring: Wiring) -> None:
    """A target is no source: named as both it is refused, and a pattern does not mean it."""
    if ready.topic in opened.names(topics):
        opened.tell_apart(ready)
    if opened.cluster_id and opened.cluster_id == ready.cluster_id and ready.topic in topics:
        raise UsageError("source and target are the same topic; forward to another one", where=ready.where)
    wiring.leave_out(opened, topics, ready)


def _choose_partition(
    word: str,
    sending: TargetOptions,
    opened: OpenSource,
    ready: Target,
    topics: Sequence[str],
    forward: ForwardOptions,
) -> Callable[[Batch], Iterable[int]] | None:
    """As for any target; `same` needs as many partitions as the source has."""
    if word == "same" and ready.partitions < (wanted := opened.partitions(topics)):
        what = f"has {ready.partitions} partitions, the source has {wanted}; add some or drop `same`"
        raise KpipeError(what, where=ready.where, stage=Stage.CONFIG)
    choice = choose_partition(word, sending.keyless, ready)
    if word or "key" not in translated_sides(forward):
        return choice
    return by_key_as_it_was(choice, ready.partitions, ready.partitioner)


def _compaction_warning(ready: Target, steps: Sequence[Step], keyless: str) -> list[str]:
    """A compacted topic refuses records without a key; whether the source has such records shows only later."""
    keyed = keyless == "key" or any(step.name in ("set-key", "key-field", "map-key") for step in steps)
    if not ready.compacted or keyed:
        return []
    advice = "a keyless record will stop the run; use --keyless key, --key-field or --on-error skip for such records"
    return [f"send: {ready.where}: the topic is compacted and takes no record without a key; {advice}"]

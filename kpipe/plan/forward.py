"""`kpipe forward`: topics -> transform -> trace -> topic, on the same or another cluster.

It only wires; the records move in `kpipe.pipeline`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kpipe.clusters.address import Place, check_cluster_name
from kpipe.errors import UsageError
from kpipe.kafka.client import admin_of
from kpipe.ledger import Ledger
from kpipe.plan.assembly import assemble, read_topics
from kpipe.plan.consume import ALL_COLUMNS
from kpipe.plan.copying import Copying
from kpipe.plan.decoding import around, decoding
from kpipe.plan.delivery import Ends, check_routed_clusters, choose_way, delivery_properties
from kpipe.plan.encoding import check_registries, decoded_by, notes_of, reencoders, translating
from kpipe.plan.places import also_places, source_places, split_home, target_place
from kpipe.plan.rules import check_forward, check_reencode, translated_sides
from kpipe.plan.selection import make_selection
from kpipe.plan.stages import build_stages, hop_to
from kpipe.plan.wiring import Wiring
from kpipe.run_state import RunState
from kpipe.sinks.partition_growth import PartitionGrowth
from kpipe.sinks.partitions import check_partition_word, key_keyless, refuse_missing
from kpipe.sources.opening import prepare_source
from kpipe.transform.fixed import fixed_timestamp
from kpipe.transform.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.options import (
        ConnectionOptions,
        ForwardOptions,
        ReencodeOptions,
        RunOptions,
        SchemaOptions,
        SelectionOptions,
        TargetOptions,
        TraceOptions,
    )
    from kpipe.pipeline import PipelineStage
    from kpipe.plan import Planned
    from kpipe.shutdown import Stop
    from kpipe.sinks.homes import Homes
    from kpipe.sinks.outlet import Outlet
    from kpipe.sinks.target import Target
    from kpipe.sources.topic import Selection
    from kpipe.trace import Hop


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
    writing: ReencodeOptions,
    run: RunOptions,
    steps: Sequence[Step],
    stop: Stop,
    say: Callable[[str], None],
) -> Planned:
    """Wire a run; UsageError before anything is opened, then what the clusters say."""
    # What was typed.
    origins, target, mirror = _read_places(places, forward)
    check_reencode(writing, forward, mirror=mirror)
    read_as = decoded_by(schemas, writing)
    check_forward(forward, selection, sending, trace, read_as, steps, mirror=mirror)
    check_partition_word(forward.to_partition, "--to-partition")
    to_partition = "same" if "same" in selection.partitions else forward.to_partition
    steps = [*steps, KEEP_NAMES] if mirror else steps
    (name, topics), also = source_places(origins), also_places([*sending.also, *forward.tee], target)
    wiring = Wiring(connection, run, steps, stop, say, sending, selection.count)
    sending = wiring.sending
    transforms = build_stages(steps, wiring.patience)

    # The clusters, and what is read.
    home = name if target.cluster is None and forward.to_origin else target.cluster
    source_cluster, target_cluster = wiring.resolve((name, "source"), (home, "target"), also=also)
    _check_clusters(forward, wiring, source_cluster, target_cluster)
    chosen = _choose(selection, forward, topics, source_cluster, joins=not sending.dry_run)
    opened = prepare_source(source_cluster, chosen, say, connection.timeout, wiring.stopped, wiring.pace)
    opened.watched_by(wiring.watch, topics[0])
    keep_alive = opened.source.keep_alive  # called while a registry is waited for
    decode = decoding(read_as, source_cluster, wiring.stopped, say, keep_alive, keys=read_as.decode_key, refuses=True)

    # Where it goes: targets that are no sources, made like these where they are missing.
    translated = translated_sides(forward)
    own = delivery_properties(forward, selection, target_cluster)
    copying = Copying(opened, topics, wiring, to_partition, old_keys="key" in translated)
    ready = (copying.open_home if forward.to_origin else copying.open_target)(target, target_cluster, own)
    patience = END_TIMEOUT if selection.exit else None
    model = partial(copying.namesake, ready.cluster_id) if mirror else None
    outlet = wiring.open_outlet(ready, copying.choose_partition, own, trace, patience, model)
    for further in outlet.targets[1:]:
        copying.keep_apart(further)
    homes = _homes(outlet) if forward.to_origin else None
    times = forward.timestamp == "now" or outlet.forgets_time
    hop = hop_to(None if homes else ready, trace, cluster=opened.cluster_id, group=chosen.group, times=times)
    wiring.open_letters(hop, 0, opened, topics, outlet)
    copying.make_namesakes(outlet)

    # What is done to a record, in this order.
    written = reencoders(schemas, writing, target_cluster, ready.topic, wiring, keep_alive)
    stages: list[PipelineStage] = [
        *around(transforms, decode, written, marks=bool(translated)),
        *([] if homes or to_partition else [_growth(ready, say)]),
        *([key_keyless] if sending.keyless == "key" else []),
        *outlet.route_stages(),
        *translating(forward, source_cluster, target_cluster, ready, wiring, opened, trace),
        *_traced(outlet, homes, hop, opened.names(topics), trace, forward.max_attempts),
        *fixed_timestamp(forward.timestamp, keeps=False),  # behind the trace, which tells the one at the source
        *outlet.limits(),
        *([] if homes else refuse_missing(to_partition, outlet.targets_of)),
    ]

    # How it is made to count.
    state = RunState(Ledger(keeps_offsets=chosen.group is not None, keeps_records=wiring.keeps_records))
    make_sink = outlet.sink if homes is None else homes.sink
    way = choose_way(wiring, Ends(opened, ready, chosen), state, forward, trace.trace_prefix, stages, make_sink)
    planned = assemble(wiring, way, state, read_topics(opened), partial(notes_of, stages), flush_timeout=END_TIMEOUT)
    wiring.warn(*_compaction_warning(ready, steps, sending.keyless))
    opened.start(way.group)
    return planned


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


def _check_clusters(forward: ForwardOptions, wiring: Wiring, source: Cluster, target: Cluster) -> None:
    """Schemas are translated between two registries; a transaction spans one cluster, and so do routes in it."""
    check_registries(forward, source, target)
    if forward.exactly_once:
        check_routed_clusters(target, dict(zip(wiring.routed, wiring.routed_clusters, strict=True)))


def _choose(
    selection: SelectionOptions, forward: ForwardOptions, topics: Sequence[str], cluster: Cluster, *, joins: bool
) -> Selection:
    """What to read; a preview does not join the group it reads the offsets of."""
    chosen = make_selection(selection, topics, cluster, set(ALL_COLUMNS))
    if forward.exactly_once and chosen.instance:
        from kpipe.plan.delivery import membership

        chosen = membership(chosen)
    return replace(chosen, joins=joins, keeps_records=True)


def _homes(outlet: Outlet) -> Homes:
    from kpipe.sinks.homes import Homes

    return Homes(outlet)


def _growth(ready: Target, say: Callable[[str], None]) -> PipelineStage:
    return PartitionGrowth(lambda: admin_of(ready.cluster), ready.topic, ready.partitions, ready.where, say)


def _traced(
    outlet: Outlet, homes: Homes | None, hop: Hop, letters: list[str], trace: TraceOptions, max_attempts: int
) -> list[PipelineStage]:
    """The guards against a loop, and the trace; on the way home the count of attempts is the guard, and comes first."""
    traced: list[PipelineStage] = [] if trace.trace == "none" else [*outlet.guards(hop), outlet.tracer(hop)]
    if homes is None:
        return traced
    return [homes.stage(letters, traced[0] if traced else None, hop.cluster, max_attempts, trace.trace_prefix)]


def _compaction_warning(ready: Target, steps: Sequence[Step], keyless: str) -> list[str]:
    """A compacted topic refuses records without a key; whether the source has such records shows only later."""
    keyed = keyless == "key" or any(step.name in ("set-key", "key-field", "map-key") for step in steps)
    if not ready.compacted or keyed:
        return []
    advice = "a keyless record will stop the run; use --keyless key, --key-field or --on-error skip for such records"
    return [f"send: {ready.where}: the topic is compacted and takes no record without a key; {advice}"]

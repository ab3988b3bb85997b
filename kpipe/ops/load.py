"""`kpipe load`: a dump becomes a topic again, every record once, each with a trace to where it was.

The dump is checked file by file before anything is sent; the target is read for what an earlier load has brought.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kpipe.archive.manifest import Contents, check_segments, read_manifest
from kpipe.archive.reading import ArchiveSource
from kpipe.clusters.address import place_name
from kpipe.delivery.resume import OffsetSet
from kpipe.delivery.tail import TargetTail
from kpipe.delivery.way import Way
from kpipe.errors import Interrupted, KpipeError, Stage, UsageError
from kpipe.formats.header_names import read_headers
from kpipe.kafka import questions
from kpipe.kafka.blueprints import Blueprint
from kpipe.kafka.client import label, open_consumer
from kpipe.kafka.connection import Connection
from kpipe.kafka.questions import Failure
from kpipe.kafka.ranges import RangeReader, headers_of, to_batch
from kpipe.ledger import Ledger
from kpipe.ops.load_groups import chosen_groups, stood_at
from kpipe.ops.load_retention import warn_of_retention
from kpipe.ops.reset import refuse_members
from kpipe.options import TargetOptions, TraceOptions
from kpipe.plan.assembly import Reading, assemble
from kpipe.plan.places import target_place
from kpipe.plan.wiring import Wiring
from kpipe.run_state import RunState
from kpipe.sinks.opening import prepare_target
from kpipe.sinks.partitions import choose_partition, refuse_missing
from kpipe.trace import Hop
from kpipe.transform.fixed import refuse_cut_names
from kpipe.units import counted
from kpipe.verify.compare import Comparison
from kpipe.verify.digest import Digester, Tracing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kpipe.clusters.profiles import Cluster
    from kpipe.ops.options import LoadOptions
    from kpipe.options import ConnectionOptions, RunOptions
    from kpipe.plan import Planned
    from kpipe.record import Batch
    from kpipe.shutdown import Stop
    from kpipe.sinks.target import Target
    from kpipe.verify.compare import Verdict

DELIVERY_TIMEOUT_MS = 120_000
MEMORY = 256 << 20
"""Bytes that the comparison afterwards may take before it goes to TMPDIR."""
NO_LIMIT = 1 << 62
UNGUARDED = 1 << 30
"""Hops: what is brought back by hand does not run in a circle."""


class Present:
    """Which records of a dump the target has, by their trace, and how many it has of others.

    `thinned`: the target may have lost some of them since (compaction, retention). Records of a partition are sent in
    order, so all up to the last one that is there were there once: they are not sent again, behind newer ones.
    """

    def __init__(self, contents: Contents) -> None:
        self.others = self.skipped = 0
        self.thinned = False
        self.there: dict[int, OffsetSet] = {number: OffsetSet() for number in contents.ends}
        self._counts = dict.fromkeys(contents.ends, 0)
        self._origin_of = Tracing(contents.topic, contents.cluster_id)

    @property
    def count(self) -> int:
        """Copies in the target, further copies of one record included."""
        return sum(self._counts.values())

    def take(self, messages: list[Any]) -> None:
        """Records of the target."""
        for headers in read_headers(lambda: headers_of(messages)):
            origin = self._origin_of(headers)
            if origin is None or origin[0] not in self.there:
                self.others += 1
            else:
                self.there[origin[0]].add(origin[1])
                self._counts[origin[0]] += 1

    def has(self, partition: int, offset: int) -> bool:
        """Whether a record is not to be sent."""
        there = self.there[partition]
        return offset <= there.highest if self.thinned else offset in there

    def leave_out(self, batch: Batch) -> None:
        """The first stage: what is there is filtered."""
        has = self.has
        keep = [
            not has(number, offset)  # type: ignore[arg-type]
            for number, offset in zip(batch.partitions or (), batch.offsets or (), strict=True)
        ]
        self.skipped += keep.count(False)
        if not all(keep):
            batch.keep(keep)


@dataclass(slots=True)
class Load:
    """A load that is planned: what for, where to, and the comparison afterwards."""

    folder: Path
    contents: Contents
    where: str
    topic: str
    connection: Connection
    present: Present
    exists: bool
    groups: list[str]
    """The consumer groups that are to go on there."""
    planned: Planned | None = None
    keeps_time: bool = True

    def preview(self) -> list[str]:
        """What would be done, in lines."""
        contents = self.contents
        made = ""
        if not self.exists:
            settings = "".join(f", {name}={value}" for name, value in sorted((contents.config or {}).items()))
            made = f"create {self.where}: {counted(len(contents.ends), 'partition')}{settings}; "
        rest = max(0, contents.records - self.present.count)
        there = f"; {self.present.count:,} are there already" if self.present.count else ""
        origin = place_name(contents.cluster, contents.topic)
        sent = f"send up to {rest:,} of {counted(contents.records, 'record')} of {origin} to {self.where}{there}"
        stood = stood_at(contents, self.groups)
        then = [
            f"put group {group} at the records that it had to read next, in {counted(len(stood[group]), 'partition')}"
            for group in self.groups
        ]
        return [f"{made}{sent}", *then, "nothing was changed: --dry-run"]

    def compare(self, stopped: Callable[[], bool]) -> Verdict:
        """Read the files and the target once more, and compare record by record; Interrupted when a signal comes."""
        contents = self.contents
        comparison = Comparison(
            contents.starts,
            contents.ends,
            Digester(timestamps=self.keeps_time),
            Tracing(contents.topic, contents.cluster_id),
            MEMORY,
            10,
        )
        source = ArchiveSource(self.folder, contents)
        with comparison.buckets:
            while (batch := source.read()) is not None:
                comparison.add_source(batch)
                _look(stopped)
            numbers = self.connection.metadata(fresh=True).topics[self.topic].partitions
            places = [(self.topic, number) for number in numbers]
            reader = RangeReader(self.connection)
            try:
                lows, ends = questions.earliest(self.connection, places), questions.latest(self.connection, places)
                ranges = {place: (_known(lows[place], place), _known(ends[place], place)) for place in places}
                self.present.thinned = self.present.thinned or any(start for start, _ in ranges.values())
                for messages in reader.records(ranges):
                    comparison.add_target(to_batch(messages, self.connection.name))
                    _look(stopped)
            finally:
                reader.close()
            return comparison.conclude()


def _look(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise Interrupted("stopped")


def _known(answer: questions.Listed | Failure, place: tuple[str, int]) -> int:
    if isinstance(answer, Failure):
        raise answer.error(f"{place[0]}[{place[1]}]")
    return answer.offset


def plan_load(
    target: str,
    path: Path,
    given: tuple[ConnectionOptions, LoadOptions, RunOptions],
    stop: Stop,
    say: Callable[[str], None],
) -> Load:
    """Check the dump and the target; what is wrong is told before anything is sent or made."""
    connection, options, run = given
    place = target_place(target)
    sending = TargetOptions(create=options.create, compression=options.compression, rate=options.rate)
    wiring = Wiring(connection, run, [], stop, say, sending)
    (cluster,) = wiring.resolve((place.cluster, "target"))
    _refuse_read_only(cluster)
    contents = read_manifest(path)
    check_segments(path, contents.segments, wiring.stopped)
    _look(wiring.stopped)
    groups = chosen_groups(contents, options.group) if options.groups or options.group else []
    target_of = Connection(cluster, connection.timeout, wiring.stopped)
    where = place_name(label(cluster), place.topic)
    entry = target_of.metadata().topics.get(place.topic)
    present = Present(contents)
    load = Load(path, contents, where, place.topic, target_of, present, entry is not None, groups)
    if entry is None:
        if not (options.create or options.dry_run):
            partitions = counted(len(contents.ends), "partition")
            what = f"no such topic; --create makes it as it was: {partitions}, and its settings"
            raise KpipeError(what, where=where, stage=Stage.CONFIG)
    else:
        _look_at_target(load, entry, cluster, append=options.append, stop=stop)
    refuse_members(target_of, groups)
    if not options.dry_run:
        _plan(load, cluster, wiring, sending)
    warn_of_retention(load.connection, load.topic, contents, say)
    return load


def _refuse_read_only(cluster: Cluster) -> None:
    if cluster.read_only:
        raise UsageError(f"cluster {label(cluster)} is read_only; remove read_only from its profile to load into it")


def _look_at_target(load: Load, entry: Any, cluster: Cluster, *, append: bool, stop: Stop) -> None:
    """Refuse a topic that would not become what was dumped; else find out what is there."""
    contents, present = load.contents, load.present
    if len(entry.partitions) != len(contents.ends):
        partitions = counted(len(entry.partitions), "partition")
        what = f"it has {partitions}, and the dump has {len(contents.ends)}: keys would stand"
        raise KpipeError(f"{what} elsewhere; load into a topic that has as many", where=load.where, stage=Stage.CONFIG)

    def consumer(isolation: str) -> Any:
        return open_consumer(cluster, {"group.id": "kpipe-without-group", "isolation.level": isolation})[0]

    places = [(load.topic, number) for number in entry.partitions]
    lows = {place: _known(low, place) for place, low in questions.earliest(load.connection, places).items()}
    tail = TargetTail(load.topic, load.where, consumer, NO_LIMIT, lambda: stop.requested, stop.remaining)
    try:
        for _ in tail.search({}, present.take):
            _look(lambda: stop.requested)
    finally:
        tail.close()
    if present.others and not append:
        others = counted(present.others, "record that is", "records that are")
        what = f"it holds {others} not of this dump; --append loads behind them"
        raise KpipeError(what, where=load.where, stage=Stage.CONFIG)
    config = {} if load.connection.is_embedded else questions.configurations(load.connection, [load.topic])[load.topic]
    policy = "" if isinstance(config, Failure) or not config else str(config["cleanup.policy"].value)
    present.thinned = "compact" in policy or any(lows.values())


def _plan(load: Load, cluster: Cluster, wiring: Wiring, sending: TargetOptions) -> None:
    contents = load.contents
    model = Blueprint(len(contents.ends), contents.config or {})
    own = {"delivery.timeout.ms": DELIVERY_TIMEOUT_MS}
    own = {name: value for name, value in own.items() if name not in cluster.properties}
    properties = wiring.properties(cluster, own)
    ready = prepare_target(load.topic, cluster, properties, wiring.opening, lambda _cluster_id: model)
    outlet = wiring.open_outlet(
        ready,
        lambda topic: choose_partition("same", sending.keyless, topic),
        own,
        TraceOptions(),
        DELIVERY_TIMEOUT_MS / 1000,
    )
    load.present.thinned = load.present.thinned or ready.compacted
    load.keeps_time = ready.keeps_time
    # Without a target the trace guards no circle: a dump may go back to where it was made.
    hop = Hop(contents.cluster_id, max_hops=UNGUARDED, times=outlet.forgets_time)
    source = ArchiveSource(load.folder, contents)
    stages = [
        load.present.leave_out,
        refuse_cut_names,
        outlet.tracer(hop),
        *outlet.limits(),
        *refuse_missing("same", outlet.targets_of),
    ]
    state = RunState(Ledger())
    stages, sink = wiring.through_filters(stages, outlet.sink(), state)
    load.planned = assemble(
        wiring,
        Way(source, sink, stages),
        state,
        Reading(lambda: float(source.count), lambda: float(contents.records) or None),
        notes=partial(_notes, load, ready),
    )


def _notes(load: Load, ready: Target) -> list[str]:
    notes = []
    if load.present.skipped:
        notes.append(f"{load.where}: {counted(load.present.skipped, 'record was', 'records were')} there already")
    if not ready.keeps_time:
        notes.append(f"{load.where}: it gives records its own time; theirs is in source_timestamp")
    return notes

"""`kpipe produce`: stdin or files -> decode -> transform -> trace -> topic.

It only wires; the records move in `kpipe.pipeline`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kpipe.delivery.way import Way
from kpipe.errors import UsageError
from kpipe.ledger import Ledger
from kpipe.plan.assembly import Reading, assemble
from kpipe.plan.encoding import encoding
from kpipe.plan.formats import make_decoder
from kpipe.plan.places import also_places, target_place
from kpipe.plan.rules import check_produce, encoded_sides
from kpipe.plan.stages import build_stages, hop_to
from kpipe.plan.wiring import Wiring
from kpipe.run_state import RunState
from kpipe.sinks.opening import as_by_itself, prepare_target
from kpipe.sinks.partitions import check_partition_word, choose_partition, refuse_missing
from kpipe.sources.stdin import FileSource, is_complete
from kpipe.trace import Hop
from kpipe.transform.fixed import fixed_fields, fixed_timestamp, refuse_cut_names
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.delivery.backchannel.sender import AckSender
    from kpipe.delivery.restore import SpillRest
    from kpipe.formats import Decoder
    from kpipe.options import (
        ConnectionOptions,
        EncodeOptions,
        InputOptions,
        RecordOptions,
        RunOptions,
        TargetOptions,
        TraceOptions,
    )
    from kpipe.parts import Source
    from kpipe.pipeline import PipelineStage
    from kpipe.plan import Planned
    from kpipe.shutdown import Stop
    from kpipe.sinks.outlet import Outlet
    from kpipe.sinks.reports import DeliveryLines
    from kpipe.sinks.target import Target
    from kpipe.sources.given import GivenSource
    from kpipe.transform.patterns import Patience
    from kpipe.transform.step import Step

ONE_SHOT = 65536  # bytes; what a pipe can hold
ONE_SHOT_PRODUCER = {
    "enable.idempotence": False,
    "max.in.flight.requests.per.connection": 1,
    "linger.ms": 1000,  # all leave when they are flushed, in one batch for each partition: none overtakes a refused one
    "batch.num.messages": 1_000_000,
}
"""For an input that is complete and small: an idempotent producer's first record waits 500 ms. One request in flight
keeps the order; after a lost acknowledgement a retry may write a record twice."""
DELIVERY_TIMEOUT_MS = 120_000  # at the end of the input nobody waits longer than this for one record


def plan_produce(
    target: str,
    files: Sequence[str],
    connection: ConnectionOptions,
    options: InputOptions,
    record: RecordOptions,
    sending: TargetOptions,
    trace: TraceOptions,
    schemas: EncodeOptions,
    run: RunOptions,
    steps: Sequence[Step],
    stop: Stop,
    say: Callable[[str], None],
    given: GivenSource | None = None,
) -> Planned:
    """Wire a run; UsageError before anything is opened, then what the cluster says.

    `given` are records of a program, in place of files.
    """
    check_produce(options, record, sending, schemas, steps, files)
    check_partition_word(record.partition, "--partition")
    if record.restore:  # as they are, and traced already
        options, trace = replace(options, input="json"), replace(trace, trace="none")
    encoded = encoded_sides(schemas)
    paths = [record.restore] if record.restore else list(files) or ["-"]
    place = target_place(target)
    make = make_decoder(options, encoded)
    wiring = Wiring(connection, run, steps, stop, say, sending, record.count)
    sending = wiring.sending
    stages = _first_stages(options, record, steps, wiring.patience)
    stamping = fixed_timestamp(record.timestamp, keeps=True)
    (cluster,) = wiring.resolve((place.cluster, "target"), also=also_places(sending.also, place))
    rest = _open_rest(record.restore, make) if record.restore else None
    opened = {record.restore: rest.reopen()} if rest else {}
    tee = _tee(stop, shown=not record.raw) if record.tee else None
    source = given or FileSource(paths, make, stop.fd, tee=tee, opened=opened)
    # What is restored is sent once, also when an answer is lost.
    one_shot = not (rest or given) and is_complete(paths, ONE_SHOT)
    own = _producer_properties(cluster, one_shot=one_shot)
    acks = _open_acks(record.ack, source, connection.timeout, stop) if record.ack else None
    columns = not (given or wiring.policy.letters or encoded) and _fits_columns(options, record, sending, trace, steps)
    # Records with times or keys, and what has a trace, need to know what the topic takes and whether it keeps times.
    limits = not one_shot or _may_be_refused(options)
    properties = wiring.properties(cluster, own)
    model = wiring.blueprint() or as_by_itself
    ready = prepare_target(place.topic, cluster, properties, wiring.opening, model, limits=limits, columns=columns)
    _check_keys(ready, options, record, steps)
    outlet = wiring.open_outlet(
        ready,
        lambda topic: choose_partition(record.partition, sending.keyless, topic),
        own,
        trace,
        DELIVERY_TIMEOUT_MS / 1000,
    )
    wiring.open_letters(Hop(prefix=trace.trace_prefix, host=os.uname().nodename), DELIVERY_TIMEOUT_MS, None, (), outlet)
    times = record.timestamp != "keep" or outlet.forgets_time
    missing = refuse_missing(record.partition, outlet.targets_of)
    encode = encoding(schemas, cluster, ready.topic, wiring.stopped, say)
    traced = _traced(outlet, ready, trace, times=times)
    # Routes look at JSON. The timestamp changes behind the trace, which tells the one at the source.
    stages += [*outlet.route_stages(), *encode, *traced, *stamping, *outlet.limits(), *missing]
    state = RunState(Ledger(keeps_records=wiring.keeps_records, on_settled=acks.note if acks is not None else None))
    if sending.dry_run:
        stages, sink = wiring.preview(stages, ready.topic, state)
    else:
        by_column = ready.column_sink(record.partition, state.ledger) if columns else None
        target_sink = by_column or outlet.sink(_delivery_lines(stop) if record.report else None)
        stages, sink = wiring.through_filters(stages, target_sink, state)
    planned = assemble(
        wiring,
        Way(source, sink, stages, committer=acks or rest),
        state,
        Reading(lambda: float(source.read_bytes), lambda: source.total_bytes),
        notes=lambda: _notes(source, rest, acks, stop),
        spill=rest,
        prints=record.tee or record.report,
    )
    planned.typed, planned.prints = source.is_typed, record.tee or record.report
    return planned


def _first_stages(
    options: InputOptions, record: RecordOptions, steps: Sequence[Step], patience: Patience
) -> list[PipelineStage]:
    """Header names that the client would cut are found first; -k and -H come before the transforms."""
    guard: list[PipelineStage] = [refuse_cut_names] if options.input != "lines" else []
    return [*guard, *fixed_fields(record.key, record.headers), *build_stages(steps, patience)]


def _fits_columns(
    options: InputOptions, record: RecordOptions, sending: TargetOptions, trace: TraceOptions, steps: Sequence[Step]
) -> bool:
    """Whether all that a record will carry is a value and a key, and all that is asked of it is that it arrives."""
    plain = options.input == "lines" and not options.format and not record.headers and record.timestamp == "keep"
    alone = not (steps or sending.also or sending.spill or sending.dry_run or record.report or record.ack)
    return plain and alone and not record.restore and trace.trace != "full"


def _producer_properties(cluster: Cluster, *, one_shot: bool) -> dict[str, Any]:
    """What this run asks of the producer, unless the cluster's properties say otherwise."""
    own: dict[str, Any] = {"delivery.timeout.ms": DELIVERY_TIMEOUT_MS, **(ONE_SHOT_PRODUCER if one_shot else {})}
    return {name: value for name, value in own.items() if name not in cluster.properties}


def _may_be_refused(options: InputOptions) -> bool:
    """Whether records may have times or keys, so that it matters what the topic takes."""
    return options.input != "lines" or bool(options.format or options.key_delimiter)


def _traced(outlet: Outlet, ready: Target, trace: TraceOptions, *, times: bool) -> list[PipelineStage]:
    """The guards of the further targets, and the trace."""
    if trace.trace == "none":
        return []
    hop = hop_to(ready, trace, host=os.uname().nodename if trace.trace == "full" else "", times=times)
    return [*outlet.guards(hop), outlet.tracer(hop)]


def _open_acks(path: str, source: Source, timeout: float, stop: Stop) -> AckSender:
    from kpipe.delivery.backchannel.sender import AckSender

    acks = AckSender(path, lambda: source.finished)
    acks.connect(timeout, lambda: stop.requested)
    return acks


def _open_rest(path: str, make: Callable[[str], Decoder]) -> SpillRest:
    from kpipe.delivery.restore import SpillRest, check_spill

    rest = SpillRest(path)
    check_spill(rest, make)
    return rest


def _notes(source: FileSource | GivenSource, rest: SpillRest | None, acks: AckSender | None, stop: Stop) -> list[str]:
    """What a person should know at the end."""
    notes = [rest.note] if rest is not None and rest.note else []
    if source.fragment and stop.signal is not None:
        what = f"{counted(source.fragment, 'byte')} of an unfinished record, read before the signal, not sent"
        notes.insert(0, f"read: {what}")
    return [*notes, *(acks.notes() if acks is not None else [])]


def _delivery_lines(stop: Stop) -> DeliveryLines:
    from kpipe.sinks.reports import DeliveryLines

    return DeliveryLines(_tee(stop))


def _tee(stop: Stop, *, shown: bool = False) -> Callable[[bytes], None]:
    """Writes to stdout as its reader takes it, until a second signal or the drain deadline; b"" is the end.

    `shown`: no byte of the input drives a terminal.
    """
    from kpipe.sinks.outputs import check_stdout
    from kpipe.sinks.stdout import Stdout

    check_stdout("--tee and --report")
    stdout = Stdout()
    show: Callable[[bytes], bytes] | None = None
    if shown and os.isatty(1):
        from kpipe.formats.shown import ShownBlocks

        show = ShownBlocks()

    def write(block: bytes) -> None:
        stdout.write(block if show is None else show(block), lambda: not stop.forced)

    return write


def _check_keys(ready: Target, options: InputOptions, record: RecordOptions, steps: Sequence[Step]) -> None:
    """A compacted topic refuses records without a key: say so before the first one, not in mid-stream."""
    if not ready.compacted or record.key is not None or options.key_delimiter or options.format:
        return
    if options.input != "lines" or any(step.name in ("set-key", "key-field", "map-key") for step in steps):
        return
    raise UsageError(
        "the topic is compacted and takes no record without a key; add -k, -K or --key-field", where=ready.where
    )

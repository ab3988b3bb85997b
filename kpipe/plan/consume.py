"""`kpipe consume`: topics -> transform -> encode -> stdout.

It only wires; the records move in `kpipe.pipeline`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kpipe import sinks
from kpipe.ledger import Ledger
from kpipe.plan.assembly import assemble, read_topics
from kpipe.plan.decoding import decoding, internal_topics, keys_with, looks_at_values
from kpipe.plan.delivery import acknowledged, at_least_once
from kpipe.plan.formats import make_encoder
from kpipe.plan.places import source_places
from kpipe.plan.rules import check_consume
from kpipe.plan.selection import make_selection
from kpipe.plan.stages import build_stages
from kpipe.plan.wiring import Wiring
from kpipe.run_state import RunState
from kpipe.sinks.stdout import StdoutSink
from kpipe.sources.opening import prepare_source
from kpipe.trace import Hop
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.codecs.stages import Decode
    from kpipe.options import ConnectionOptions, OutputOptions, RunOptions, SchemaOptions, SelectionOptions
    from kpipe.parts import Sink
    from kpipe.plan import Planned
    from kpipe.shutdown import Stop
    from kpipe.sources.opening import OpenSource
    from kpipe.transform.step import Step

ALL_COLUMNS = {"keys", "headers", "timestamps", "positions"}


def plan_consume(
    sources: Sequence[str],
    connection: ConnectionOptions,
    selection: SelectionOptions,
    options: OutputOptions,
    schemas: SchemaOptions,
    run: RunOptions,
    steps: Sequence[Step],
    stop: Stop,
    say: Callable[[str], None],
    hand: Sink | None = None,
) -> Planned:
    """Wire a run; UsageError before anything is opened, then what the cluster says. `hand` is in stdout's place."""
    check_consume(options, selection, schemas, steps)
    name, topics = source_places(sources)
    encode = make_encoder(options, shown=os.isatty(1) and not options.raw)
    internal = [internal_topics(topics)] if schemas.decode == "internal" else []
    wiring = Wiring(connection, run, steps, stop, say, limit=selection.count)
    stages = build_stages(steps, wiring.patience)
    (cluster,) = wiring.resolve((name, "source"))
    plain = hand is None and options.output == "lines" and not (
        stages or wiring.policy.letters or selection.group or options.json or options.format or options.json_value
        or schemas.decode or schemas.decode_key
    )  # fmt: skip
    chosen = make_selection(selection, topics, cluster, {"keys"} if plain else ALL_COLUMNS)
    opened = prepare_source(cluster, chosen, say, connection.timeout, wiring.stopped)
    opened.watched_by(wiring.watch, topics[0])
    decode = None if internal else _decoding(schemas, cluster, wiring, opened, steps)
    stages = [*internal, *([] if decode is None else [decode]), *stages]
    state = RunState(Ledger(keeps_offsets=chosen.group is not None))
    wiring.open_letters(Hop(opened.cluster_id, chosen.group), 0, opened, chosen.topics)
    if options.commit_acked:
        way = acknowledged(wiring, opened, state, selection.group, stages, encode, options)
    else:
        out = hand or sinks.open_sink(options.output, encode)
        if not chosen.group and isinstance(out, StdoutSink):
            out.hold_more()
        stages, sink = wiring.through_filters(stages, out, state)
        way = at_least_once(wiring, opened, state, chosen.group, stages, sink)
    planned = assemble(
        wiring,
        way,
        state,
        read_topics(opened),
        prints=hand is None and options.output not in sinks.OUTPUTS,
        notes=lambda: [note for part in (encode, decode) for note in _notes(part)],
    )
    if decode is not None:
        before = planned.fell_short
        planned.fell_short = lambda: decode.undecoded > 0 or before()
    if not options.commit_acked:
        planned.outcome = "written"
    opened.start(way.group)
    return planned


def _decoding(
    schemas: SchemaOptions, cluster: Cluster, wiring: Wiring, opened: OpenSource, steps: Sequence[Step]
) -> Decode | None:
    refuses, keep_alive = looks_at_values(steps), opened.source.keep_alive
    return decoding(schemas, cluster, wiring.stopped, wiring.say, keep_alive, keys=keys_with(schemas), refuses=refuses)


def _notes(part: Any) -> list[str]:
    """What one part of the run has to say at its end."""
    return list(part.notes()) if hasattr(part, "notes") else _format_notes(part)


def _format_notes(encode: object) -> list[str]:
    """What a plain output could not tell apart; the reader of the lines would never know."""
    notes = []
    encode = getattr(encode, "inner", encode)
    ambiguous, nulls = getattr(encode, "ambiguous", 0), getattr(encode, "nulls", 0)
    if ambiguous:
        notes.append(
            f"encode: {counted(ambiguous, 'time')} a value held the delimiter itself; "
            f"use {getattr(encode, 'keeps_apart', '-J')} to keep records apart"
        )
    if keys := getattr(encode, "ambiguous_keys", 0):
        notes.append(f"encode: {counted(keys, 'time')} a key held a delimiter itself; use -J, or another key delimiter")
    if nulls:
        notes.append(
            f"encode: {counted(nulls, 'null value was', 'null values were')} printed as empty; "
            "use -Z TEXT or -J to tell them apart"
        )
    return notes

"""`kpipe consume`: topics -> transform -> encode -> stdout.

It only wires; the records move in `kpipe.pipeline`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from kpipe.commit import GroupCommitter, NoCommit
from kpipe.errors import UsageError
from kpipe.ledger import Ledger
from kpipe.pipeline import Pipeline
from kpipe.plan import Planned
from kpipe.plan.codecs import OutputOptions, make_encoder
from kpipe.plan.groups import BothFlushed, wire_group
from kpipe.plan.outlet import routes_in
from kpipe.plan.places import check_choice, read_profiles, resolve, source_places
from kpipe.plan.policy import parse_policy
from kpipe.plan.source import SelectionOptions, make_selection, prepare_source
from kpipe.plan.stages import build_stages
from kpipe.plan.ways import bind_detours, build_detours, filter_in, refuse_together
from kpipe.sinks.stdout import StdoutSink
from kpipe.sources.topic import Hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.backchannel import Channel
    from kpipe.clusters.address import Place
    from kpipe.clusters.profiles import Cluster
    from kpipe.pipeline import Sink
    from kpipe.plan.places import ConnectionOptions
    from kpipe.plan.produce import RunOptions
    from kpipe.plan.source import OpenSource
    from kpipe.record import Batch
    from kpipe.shutdown import Stop
    from kpipe.sinks.dead_letters import DeadLetterTopic
    from kpipe.sources.topic import Selection
    from kpipe.transform.step import Step

MODES = ("in-order", "each")
ALL_COLUMNS = {"keys", "headers", "timestamps", "positions"}


class AckOptions(Protocol):
    """What proves that a record arrived at the far end of a pipe."""

    commit_acked: str
    acks: str
    trust_end: bool


class ConsumeOptions(OutputOptions, AckOptions, Protocol):
    """How records become bytes, and when they count as handed over."""


def plan_consume(
    sources: Sequence[str],
    connection: ConnectionOptions,
    selection: SelectionOptions,
    options: ConsumeOptions,
    run: RunOptions,
    steps: Sequence[Step],
    stop: Stop,
    say: Callable[[str], None],
) -> Planned:
    """Wire a run; UsageError before anything is opened, then what the cluster says."""
    name, topics = source_places(sources)
    encode = make_encoder(options)
    _check_acks(options, selection)
    policy = parse_policy(run.on_error)
    if routes_in(steps):
        raise UsageError(f"--{routes_in(steps)}: consume has no target; use kpipe forward")
    if options.commit_acked:
        refuse_together("--commit-acked", ((f"--{filter_in(steps)}", filter_in(steps)),))
    stages = build_stages(steps)
    profiles = read_profiles(connection)
    cluster, *letter_clusters = resolve(profiles, [(name, "source"), *policy.places])
    if "same" in selection.partitions:
        raise UsageError("-p same: consume has no target; name partitions by number")
    plain = not (stages or policy.letters or selection.group or options.json or options.format or options.json_value)
    columns = {"keys"} if plain and options.output == "lines" else ALL_COLUMNS
    chosen = make_selection(selection, topics, cluster, columns)
    hooks = Hooks(say=say)
    opened = prepare_source(cluster, chosen, hooks, connection.timeout, lambda: stop.requested)
    channel = _open_channel(encode, options) if options.commit_acked else None
    sink: Sink = channel.sink if channel is not None else StdoutSink(encode)
    stages, sink = build_detours(steps, stages, sink, say)
    letters = None
    if policy.letters is not None:
        letters = _open_letters(policy.letters, letter_clusters[0], connection.timeout, stop, opened, chosen)
    ledger = Ledger(keeps_offsets=chosen.group is not None)
    committer: Any = NoCommit()
    if chosen.group is not None:
        where = f"{cluster.name or cluster.brokers}:group {chosen.group}"
        committer = GroupCommitter(opened.consumer, where, opened.source.at_eof, note=opened.source.ids.metadata)
        if channel is None:
            wire_group(hooks, ledger, BothFlushed(sink, letters), committer, stop)
        else:
            gated: Any = channel.gated(ledger)
            wire_group(hooks, gated, BothFlushed(channel, letters), committer, stop)
            committer = channel.committer(committer, stop, opened.source.keep_alive, trust_end=options.trust_end)
    opened.source.open(opened.metadata)
    pipeline = Pipeline(
        opened.source,
        stages,
        sink,
        committer,
        ledger,
        stop,
        on_error=policy.name,
        limit=selection.count,
        dead_letters=letters,
        say=say,
    )
    bind_detours(pipeline)
    progress = opened.source.progress
    return Planned(
        pipeline,
        done=lambda: float(progress.count),
        total=lambda: float(progress.expected()) or None,
        facts=opened.source.gaps.facts,
        notes=lambda: [*_format_notes(encode), *(channel.notes() if channel is not None else [])],
        warnings=profiles.warnings,
    )


def _open_letters(
    place: Place, cluster: Cluster, timeout: float, stop: Stop, opened: OpenSource, chosen: Selection
) -> DeadLetterTopic:
    """The dead-letter topic, which is not one of the sources."""
    from kpipe.plan.dead_letters import LetterOptions, make_letters, open_letters, refuse_same

    topic = open_letters(place, cluster, LetterOptions(), timeout, stop, {"delivery.timeout.ms": 0})
    refuse_same(topic, opened.cluster_id, opened.names(chosen.topics), "source")
    return make_letters(topic, stop, cluster_id=opened.cluster_id, group=chosen.group)


def _check_acks(options: ConsumeOptions, selection: SelectionOptions) -> None:
    check_choice("--acks", options.acks, MODES)
    if not options.commit_acked:
        if options.trust_end or options.acks != MODES[0]:
            raise UsageError("--acks and --trust-end belong to --commit-acked PATH; add it")
    elif not selection.group:
        raise UsageError("--commit-acked needs a group to commit to; add -G GROUP")
    elif not (options.json or options.json_value or options.output == "json"):
        raise UsageError("--commit-acked needs envelopes, which carry topic, partition and offset; add -J")


def _open_channel(encode: Callable[[Batch], bytes], options: ConsumeOptions) -> Channel:
    from kpipe.backchannel import Channel

    return Channel(options.commit_acked, encode, each=options.acks == "each")


def _format_notes(encode: object) -> list[str]:
    """What a plain output could not tell apart; the reader of the lines would never know."""
    notes = []
    ambiguous, nulls = getattr(encode, "ambiguous", 0), getattr(encode, "nulls", 0)
    if ambiguous:
        notes.append(
            f"encode: {ambiguous:,} times a value held the delimiter itself; use -0 or -J to keep records apart"
        )
    if nulls:
        notes.append(f"encode: {nulls:,} null values were printed as empty ones; use -Z TEXT or -J to tell them apart")
    return notes

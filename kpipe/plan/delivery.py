"""Which way forward delivers: at least once, `--resume-by-trace`, `--exactly-once`, or not at all (`--dry-run`).

It builds one `Way`; the records move in `kpipe.pipeline`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kpipe.clusters.address import place_name
from kpipe.delivery.at_least_once import AtLeastOnceGroup, both, group_committer
from kpipe.delivery.way import Way
from kpipe.errors import UsageError
from kpipe.kafka.client import EMBEDDED, label, open_consumer
from kpipe.kafka.metadata import find_all_partitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from confluent_kafka import Consumer

    from kpipe.clusters.profiles import Cluster
    from kpipe.delivery.resume import Resume
    from kpipe.flight import TopicPartition
    from kpipe.options import ForwardOptions, OutputOptions, SelectionOptions
    from kpipe.parts import Sink
    from kpipe.pipeline import PipelineStage
    from kpipe.plan.wiring import Wiring
    from kpipe.record import Batch
    from kpipe.run_state import RunState
    from kpipe.shutdown import Stop
    from kpipe.sinks.target import Target
    from kpipe.sources.opening import OpenSource
    from kpipe.sources.selection import Selection

METADATA_TIMEOUT = 30.0
"""Seconds for the list of the source's partitions."""


ANSWERED = 0.5
"""Seconds for the answer to a producer that waits."""


@dataclass(slots=True, frozen=True)
class Ends:
    """The two ends of a forward, opened, and what is read: what every way of delivering stands between."""

    opened: OpenSource
    ready: Target
    chosen: Selection


def choose_way(
    wiring: Wiring,
    ends: Ends,
    state: RunState,
    options: ForwardOptions,
    prefix: str,
    stages: Sequence[PipelineStage],
    make_sink: Callable[[], Sink],
) -> Way:
    """One way; `make_sink` takes the producer of that moment, `prefix` is that of the trace headers."""
    if options.exactly_once:
        return _exactly_once(wiring, ends, state, options, stages, make_sink)
    source = ends.opened.source
    if wiring.sending.dry_run:
        stages, sink = wiring.preview(stages, ends.ready.topic, state)
        return Way(source, sink, stages)
    stages, sink = wiring.through_filters(stages, make_sink(), state, waits=False)
    if options.resume_by_trace:
        resume = open_resume(ends, options.resume_limit, prefix, wiring.stop)
        return _resuming(
            at_least_once(wiring, ends.opened, state, ends.chosen.group, stages, sink, resume), resume, ends
        )
    return at_least_once(wiring, ends.opened, state, ends.chosen.group, stages, sink)


def delivery_properties(forward: ForwardOptions, selection: SelectionOptions, cluster: Cluster) -> dict[str, Any]:
    """While running forward waits for its target without limit; in a transaction as long as that may last.

    A trace adds some 110 bytes of much the same to each record, which LZ4 takes away again.
    """
    own: dict[str, Any] = {} if "compression.type" in cluster.properties else {"compression.type": "lz4"}
    if forward.exactly_once:
        from kpipe.delivery.transactional import transaction_properties

        return own | transaction_properties(selection.group, selection.instance, cluster)
    return own if "delivery.timeout.ms" in cluster.properties else {**own, "delivery.timeout.ms": 0}


def at_least_once(
    wiring: Wiring,
    opened: OpenSource,
    state: RunState,
    group: str | None,
    stages: Sequence[PipelineStage],
    sink: Sink,
    resume: Resume | None = None,
) -> Way:
    """What is delivered is committed, if there is a group; with `resume` beside how far the target has come."""
    source = opened.source
    if group is None:
        return Way(source, sink, stages)
    where = place_name(label(opened.cluster), f"group {group}")
    tail = {} if resume is None else {"tail": resume.note}
    committer = group_committer(opened.consumer, source, where, wiring.commits, **tail)
    listener = AtLeastOnceGroup(state.ledger, both(sink, wiring.letters), committer, wiring.stop, wiring.say)
    return Way(source, sink, stages, committer=committer, group=listener)


def acknowledged(
    wiring: Wiring,
    opened: OpenSource,
    state: RunState,
    group: str,
    stages: Sequence[PipelineStage],
    encode: Callable[[Batch], bytes],
    options: OutputOptions,
) -> Way:
    """Consume --commit-acked: what the far end of the pipe has delivered is committed."""
    from kpipe.delivery.backchannel.channel import Channel

    source, stop = opened.source, wiring.stop
    where = place_name(label(opened.cluster), f"group {group}")
    committer = group_committer(opened.consumer, source, where, wiring.commits)
    channel = Channel(
        options.commit_acked,
        encode,
        state.ledger,
        committer,
        stop,
        each=options.acks == "each",
        keep_alive=source.keep_alive,
        say=wiring.say,
        trust_end=options.trust_end,
    )
    listener = AtLeastOnceGroup(channel.ledger, both(channel, wiring.letters), committer, stop, wiring.say)
    acked = channel.committer
    return Way(source, channel.sink, stages, committer=acked, group=listener, notes=acked.notes)


# --- resume by trace ---------------------------------------------------------------------------------------------


def _resuming(way: Way, resume: Resume, ends: Ends) -> Way:
    """That way, but what is in the target already is left out, and nothing is read before that is known."""
    from kpipe.delivery.resuming import ResumingCommitter, ResumingGroup, ResumingSource

    return replace(
        way,
        source=ResumingSource(ends.opened.source, resume),
        before=[resume.leave_out],
        committer=ResumingCommitter(resume, way.committer),
        group=ResumingGroup(resume, way.group),
        notes=lambda: resume.told(ends.ready.where),
    )


def open_resume(ends: Ends, limit: int, prefix: str, stop: Stop) -> Resume:
    """The reader of the target's tail; UsageError where the trace cannot tell sources apart."""
    from kpipe.delivery.member import GroupMember
    from kpipe.delivery.resume import Resume
    from kpipe.delivery.tail import TargetTail

    opened, ready, selection = ends.opened, ends.ready, ends.chosen
    if not (opened.cluster_id and ready.cluster_id):
        raise UsageError("--resume-by-trace needs the clusters' ids, and one of them has none", where=ready.where)

    def consumer(isolation: str) -> Consumer:
        own = {"group.id": "kpipe-without-group", "isolation.level": isolation}
        return open_consumer(ready.cluster, own)[0]

    tail = TargetTail(ready.topic, ready.where, consumer, limit, lambda: stop.requested, stop.remaining)
    grouped = GroupMember(opened.consumer, f"group {selection.group}", stop)
    notes = grouped.notes if selection.group is not None else _no_notes
    ends_now = tail.ends()  # first: a partition that is not there afterwards is younger than these
    places = find_all_partitions(opened.consumer, METADATA_TIMEOUT)
    there = (places, ends_now)
    return Resume(tail, opened.cluster_id, _word(ready.cluster_id), notes, prefix=prefix, there_at_start=there)


def _no_notes(_places: Iterable[TopicPartition]) -> Mapping[TopicPartition, str]:
    return {}


def _word(text: str) -> str:
    """Cluster ids are base64 words; anything else must not break the metadata's syntax."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)


# --- exactly once ------------------------------------------------------------------------------------------------


def _exactly_once(
    wiring: Wiring,
    ends: Ends,
    state: RunState,
    options: ForwardOptions,
    stages: Sequence[PipelineStage],
    make_sink: Callable[[], Sink],
) -> Way:
    """Transactions; dead letters of the same cluster go into them."""
    from kpipe.delivery.exactly_once import ExactlyOnce
    from kpipe.delivery.member import GroupMember
    from kpipe.delivery.transactional import open_line
    from kpipe.kafka.metadata import is_answered
    from kpipe.kafka.outdone import Outdone
    from kpipe.kafka.watch import asking_anew

    opened, ready, stop, topic = ends.opened, ends.ready, wiring.stop, wiring.letter_topic
    check_one_cluster(opened, ready, ends.chosen.topics)
    line = open_line(ready, stop)

    def sink_now() -> Sink:
        ready.producing.producer, ready.producing.troubles = line.producer, line.troubles
        return make_sink()

    once = ExactlyOnce(
        line,
        sink_now,
        opened.source,
        GroupMember(opened.consumer, place_name(label(ready.cluster), f"group {ends.chosen.group}"), stop),
        state,
        records=options.txn_records,
        interval=options.txn_interval,
        on_error=wiring.policy.name,
        stopped=wiring.stopped,
        forced=lambda: stop.forced,
        letters=wiring.letters,
        takes_letters=topic is not None and topic.cluster_id == ready.cluster_id,
        note=opened.source.note,
        commits=wiring.commits,
        outdone=Outdone(lambda: is_answered(line.producer, ANSWERED, ready.topic), asking_anew(ready.cluster)),
    )
    return Way(
        opened.source, once, stages, behind=[once.leave_out_refused], committer=once, group=once, transaction=once
    )


def membership(selection: Selection) -> Selection:
    """How a named instance is in its group: so that it can come back at once after a kill -9.

    A static member of a classic group takes over from itself. One of a KIP-848 group is refused until the session of
    the process that died has ended (UNRELEASED_INSTANCE_ID), so there the name is only that of the transactions.
    """
    if selection.protocol == "consumer":
        return replace(selection, instance="")
    return replace(selection, protocol="classic")


def check_one_cluster(opened: OpenSource, ready: Target, topics: Sequence[str]) -> None:
    """A transaction cannot span two clusters; the live cluster ids decide, and that the target knows the topics."""
    if ready.cluster_id.startswith(EMBEDDED):
        raise UsageError("--exactly-once: the embedded broker does not isolate transactions", where=ready.where)
    one = bool(ready.cluster_id) and opened.cluster_id == ready.cluster_id
    if not (one and opened.has_same_topics(ready, opened.names(topics))):
        what = "--exactly-once: source and target are different clusters, which no transaction spans"
        raise UsageError(f"{what}; use --resume-by-trace", where=ready.where)


def check_routed_clusters(target: Cluster, routed: Mapping[str, Cluster]) -> None:
    """A transaction spans one cluster, and so do routes in it; `routed` are those that --route-allow names."""
    for name, cluster in routed.items():
        if label(cluster) != label(target):
            what = f"--exactly-once: a transaction spans one cluster, and --route-allow names another one, {name}"
            raise UsageError(f"{what}; drop it, or forward without --exactly-once")

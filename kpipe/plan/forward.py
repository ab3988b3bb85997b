"""`kpipe forward`: topics -> transform -> trace -> topic, on the same or another cluster.

It only wires; the records move in `kpipe.pipeline`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol

from kpipe.clusters.address import Place
from kpipe.clusters.client import label, open_admin
from kpipe.commit import GroupCommitter, NoCommit
from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.ledger import Ledger
from kpipe.pipeline import Pipeline
from kpipe.plan import Planned
from kpipe.plan.consume import ALL_COLUMNS
from kpipe.plan.groups import BothFlushed, wire_group
from kpipe.plan.outlet import Outlet, OutletOptions, also_places, also_sides, routes_in
from kpipe.plan.places import check_choice, read_profiles, resolve, source_places, target_place
from kpipe.plan.policy import Policy, parse_policy
from kpipe.plan.source import OpenSource, SelectionOptions, make_selection, prepare_source
from kpipe.plan.stages import TraceOptions, build_stages, fixed_timestamp, make_spill
from kpipe.plan.target import (
    Target,
    TargetOptions,
    check_partition,
    check_partition_word,
    keep_partitions,
    key_keyless,
    prepare_target,
    refuse_keyless,
    stick_keyless,
)
from kpipe.plan.ways import (
    UNSENT,
    bind_detours,
    build_detours,
    build_preview,
    check_rates,
    dry_warning,
    filter_in,
    refuse_together,
    throttle,
    unsent,
)
from kpipe.sinks.growth import GrowthWatch
from kpipe.sources.topic import Hooks
from kpipe.trace import Hop, Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.exactly_once import ExactlyOnce
    from kpipe.ledger import TopicPartition
    from kpipe.pipeline import Committer, Sink
    from kpipe.pipeline import Stage as PipelineStage
    from kpipe.plan.places import ConnectionOptions
    from kpipe.plan.produce import RunOptions
    from kpipe.record import Batch
    from kpipe.resume import Resume
    from kpipe.shutdown import Stop
    from kpipe.sinks.dead_letters import DeadLetterTopic
    from kpipe.sources.topic import Selection
    from kpipe.transform.step import Step


END_TIMEOUT = 120.0
"""Seconds the target may be silent once the sources have ended: while running forward waits for it without limit."""


class ForwardOptions(Protocol):
    """What forward may change on the way."""

    to_partition: str
    timestamp: str
    tee: list[str]
    exactly_once: bool
    txn_records: int
    txn_interval: float
    resume_by_trace: bool
    resume_limit: int
    to_origin: bool
    max_attempts: int


def plan_forward(
    places: Sequence[str],
    connection: ConnectionOptions,
    selection: SelectionOptions,
    forward: ForwardOptions,
    sending: OutletOptions,
    trace: TraceOptions,
    run: RunOptions,
    steps: Sequence[Step],
    stop: Stop,
    say: Callable[[str], None],
) -> Planned:
    """Wire a run; UsageError before anything is opened, then what the clusters say."""
    origins, target = _read_places(places, forward)
    (name, topics), policy = source_places(origins), parse_policy(run.on_error)
    also = _check_ways(forward, sending, steps, target)
    if sending.dry_run:
        policy, sending = Policy(policy.name), unsent(sending)
    _check_words(selection, forward, sending, trace, steps)
    stages, stamping = build_stages(steps), fixed_timestamp(forward.timestamp, keeps=False)
    profiles = read_profiles(connection)
    home = name if target.cluster is None and forward.to_origin else target.cluster
    source_cluster, target_cluster, *letter_clusters = resolve(
        profiles, [(name, "source"), (home, "target"), *policy.places, *also_sides(also)]
    )
    chosen = _choose(selection, forward, topics, source_cluster, joins=not sending.dry_run)
    hooks = Hooks(say=say)
    opened = prepare_source(source_cluster, chosen, hooks, connection.timeout, lambda: stop.requested)
    own = _producer_properties(forward, selection, target_cluster) | (UNSENT if sending.dry_run else {})
    to_partition = "same" if "same" in selection.partitions else forward.to_partition
    ready = _open_target(target.topic, target_cluster, forward, sending, connection.timeout, stop, own, opened, topics)
    if not (forward.to_origin or to_partition):
        stages.append(GrowthWatch(lambda: open_admin(target_cluster), ready.topic, ready.partitions, ready.where, say))
    wired = _Wiring(opened, ready, hooks, stop, chosen.group, trace, chosen.topics, label(source_cluster))
    if policy.letters is not None:
        wired.open_letters(policy.letters, letter_clusters[0], sending, connection.timeout)
    outlet = Outlet(
        ready,
        lambda topic: _partition_choice(to_partition, sending.keyless, opened, topic, topics),
        sending,
        connection.timeout,
        lambda: stop.requested,
    )
    further = wired.open_outlet(outlet, also, letter_clusters[len(policy.places) :], own, routes_in(steps))
    # The timestamp changes behind the trace, which tells the one at the source.
    keying = [key_keyless] if sending.keyless == "key" else []
    stages += [*keying, *further, *wired.trace_stages(forward), *stamping, *refuse_keyless(ready)]
    make_sink = _sink_maker(forward, outlet, connection.timeout)
    ledger = Ledger(keeps_offsets=chosen.group is not None, keeps_records=bool(sending.spill))
    stages, sink, committer, transaction = wired.deliver(
        stages, steps, make_sink, forward, sending, policy.name, chosen, ledger, say
    )
    pipeline = Pipeline(
        opened.source,
        stages,
        sink,
        committer,
        ledger,
        stop,
        on_error=policy.name,
        limit=selection.count,
        dead_letters=wired.letters,
        transaction=transaction,
        say=say,
        spill=make_spill(sending.spill),
        flush_timeout=END_TIMEOUT,
    )
    if transaction is not None:
        transaction.books, transaction.ledger = pipeline, ledger
    return wired.planned(
        pipeline, [*profiles.warnings, *dry_warning(sending), *_compaction_warning(ready, steps, sending.keyless)]
    )


def _check_words(
    selection: SelectionOptions,
    forward: ForwardOptions,
    sending: TargetOptions,
    trace: TraceOptions,
    steps: Sequence[Step],
) -> None:
    """Words that an option does not take, and options that contradict each other, before anything is opened."""
    check_choice("--trace", trace.trace, ("none", "source", "full"))
    check_choice("--keyless", sending.keyless, ("sticky", "spread", "key"))
    check_partition_word(forward.to_partition, "--to-partition")
    if forward.exactly_once or forward.resume_by_trace:
        from kpipe.plan.modes import check_modes

        check_modes(forward, selection, trace.trace, sending.spill, steps)


def _choose(
    selection: SelectionOptions, forward: ForwardOptions, topics: Sequence[str], cluster: Cluster, *, joins: bool
) -> Selection:
    """What to read; a preview does not join the group it reads the offsets of."""
    chosen = make_selection(selection, topics, cluster, set(ALL_COLUMNS))
    if forward.exactly_once and chosen.instance:
        from kpipe.plan.modes import membership

        chosen = membership(chosen)
    return replace(chosen, joins=joins)


def _open_target(
    topic: str,
    cluster: Cluster,
    forward: ForwardOptions,
    sending: TargetOptions,
    timeout: float,
    stop: Stop,
    own: dict[str, Any],
    opened: OpenSource,
    topics: Sequence[str],
) -> Target:
    """The topic to write to, which is not one of the sources; with --to-origin the cluster the records came from."""
    if forward.to_origin:
        from kpipe.plan.homes import open_home

        return open_home(cluster, sending, timeout, lambda: stop.requested, own)
    ready = prepare_target(
        topic,
        cluster,
        sending,
        timeout,
        lambda: stop.requested,
        own,
        partitions_if_created=lambda: opened.partitions(topics),
    )
    _refuse_circle(opened, ready, topics)
    return ready


def _sink_maker(forward: ForwardOptions, outlet: Outlet, timeout: float) -> Callable[[], Sink]:
    """Makes the sink for the producer that the target has at that moment."""
    if forward.to_origin:
        from kpipe.plan.homes import home_sink

        return lambda: home_sink(outlet.ready, timeout)
    outlet.choose(outlet.ready)  # a partition that is not there is found before anything is read
    return outlet.sink


def _check_ways(forward: ForwardOptions, sending: OutletOptions, steps: Sequence[Step], target: Place) -> list[Place]:
    """The further targets; what they, filters, a throttle or a preview cannot go together with is refused."""
    check_rates(sending.rate)
    filtering, routing = filter_in(steps), routes_in(steps)
    also = [*sending.also, *forward.tee]
    extras = (("--also", also), ("--dry-run", sending.dry_run))
    if forward.exactly_once:
        refuse_together("--exactly-once", (*extras, (f"--{filtering}", filtering), ("--rate", sending.rate)))
    if forward.resume_by_trace:
        refuse_together("--resume-by-trace", (*extras, (f"--{filtering}", filtering)))
    if forward.to_origin:
        refuse_together("--to-origin", (*extras, (f"--{routing}", routing)))
    return also_places(also, target)


def _read_places(places: Sequence[str], forward: ForwardOptions) -> tuple[list[str], Place]:
    """The sources and the target; with --to-origin the target is a cluster only."""
    if forward.to_origin:
        from kpipe.plan.homes import split_home

        if forward.to_partition:
            raise UsageError("--to-origin: a record goes to the partition it came from; drop --to-partition")
        origins, cluster = split_home(places)
        return origins, Place(cluster, "")
    if len(places) < 2:
        raise UsageError("forward needs SOURCE… and TARGET, as in: kpipe forward prod:orders staging:orders")
    return list(places[:-1]), target_place(places[-1])


def _producer_properties(forward: ForwardOptions, selection: SelectionOptions, cluster: Cluster) -> dict[str, Any]:
    """While running forward waits for its target without limit; in a transaction as long as that may last."""
    if forward.exactly_once:
        from kpipe.plan.modes import transaction_properties

        return transaction_properties(selection.group, selection.instance, cluster)
    return {} if "delivery.timeout.ms" in cluster.properties else {"delivery.timeout.ms": 0}


@dataclass(slots=True)
class _Wiring:
    """What the ways of delivering have in common; each method adds one part to the run."""

    opened: OpenSource
    ready: Target
    hooks: Hooks
    stop: Stop
    group: str | None
    trace: TraceOptions
    topics: Sequence[str]
    source_label: str
    letters: DeadLetterTopic | None = None
    letter_topic: Target | None = None
    resume: Resume | None = None

    def open_letters(self, place: Place, cluster: Cluster, sending: TargetOptions, timeout: float) -> None:
        """Look the dead-letter topic up; it is neither a source nor the target."""
        from kpipe.plan.dead_letters import make_letters, open_letters, refuse_same

        ready = open_letters(place, cluster, sending, timeout, self.stop, {"delivery.timeout.ms": 0})
        refuse_same(ready, self.opened.cluster_id, self.opened.names(self.topics), "source")
        refuse_same(ready, self.ready.cluster_id, [self.ready.topic], "target")
        self.letter_topic = ready
        self.letters = make_letters(
            ready,
            self.stop,
            cluster_id=self.opened.cluster_id,
            group=self.group,
            prefix=self.trace.trace_prefix,
        )

    def _hop(self, *, to_origin: bool) -> Hop:
        return Hop(
            cluster=self.opened.cluster_id,
            group=self.group,
            target_cluster="" if to_origin else self.ready.cluster_id,
            target_topic="" if to_origin else self.ready.topic,
            max_hops=self.trace.max_hops,
            prefix=self.trace.trace_prefix,
        )

    def trace_stages(self, forward: ForwardOptions) -> list[PipelineStage]:
        """The trace; on the way home the loop guard gives way to the count of attempts."""
        tracer = Tracer(self._hop(to_origin=forward.to_origin))
        if not forward.to_origin:
            return [] if self.trace.trace == "none" else [tracer]
        from kpipe.sinks.homes import HomewardBound

        return [
            HomewardBound(
                self.ready.cluster_id,
                self.opened.names(self.topics),
                (lambda _batch: None) if self.trace.trace == "none" else tracer,
                max_attempts=forward.max_attempts,
                same_cluster=self.opened.cluster_id == self.ready.cluster_id,
                prefix=self.trace.trace_prefix,
            )
        ]

    def open_outlet(
        self, outlet: Outlet, also: Sequence[Place], clusters: Sequence[Cluster], own: dict[str, Any], routing: str
    ) -> list[PipelineStage]:
        """The further topics, and the stages that guard them."""
        outlet.open_others(also, clusters, own)
        for target, _ in outlet.others:
            _refuse_circle(self.opened, target, self.topics)
        routes = outlet.open_routes() if routing else []
        return [*routes, *outlet.guards(None if self.trace.trace == "none" else self._hop(to_origin=False))]

    def planned(self, pipeline: Pipeline, warnings: list[str]) -> Planned:
        """The run, its source opened, with what the live line and the end have to tell."""
        bind_detours(pipeline)
        source = self.opened.source
        source.open(self.opened.metadata)
        return Planned(
            pipeline,
            done=lambda: float(source.progress.count),
            total=lambda: float(source.progress.expected()) or None,
            facts=source.gaps.facts,
            notes=self.notes,
            warnings=warnings,
        )

    def deliver(
        self,
        stages: list[PipelineStage],
        steps: Sequence[Step],
        make_sink: Callable[[], Sink],
        forward: ForwardOptions,
        sending: OutletOptions,
        on_error: str,
        chosen: Selection,
        ledger: Ledger,
        say: Callable[[str], None],
    ) -> tuple[list[PipelineStage], Sink, Committer, ExactlyOnce | None]:
        """The last stages, the sink and the committer: in transactions, not at all (a preview), or at least once."""
        if forward.exactly_once:
            transaction = self.exactly_once(make_sink, forward, on_error, ledger)
            return [*stages, transaction.leave_out_refused], transaction, transaction, transaction
        if sending.dry_run:
            return *build_preview(steps, stages, self.ready.topic, self.stop, say), NoCommit(), None
        stages, sink = build_detours(steps, stages, throttle(make_sink(), sending.rate, self.stop), say)
        committer, first = self.at_least_once(sink, forward, chosen, ledger)
        return [*first, *stages], sink, committer, None

    def exactly_once(
        self, make_sink: Callable[[], Sink], forward: ForwardOptions, on_error: str, ledger: Ledger
    ) -> ExactlyOnce:
        """Transactions; dead letters of the same cluster go into them."""
        from kpipe.exactly_once import ExactlyOnce
        from kpipe.plan.modes import GroupMember, check_one_cluster, open_line

        opened, ready = self.opened, self.ready
        check_one_cluster(opened, ready)
        line = open_line(ready)

        def sink_now() -> Sink:
            ready.producer, ready.troubles = line.producer, line.troubles
            return make_sink()

        letters = self.letters
        transaction = ExactlyOnce(
            line,
            sink_now,
            opened.source,
            GroupMember(opened.consumer, f"{label(ready.cluster)}:group {self.group}"),
            records=forward.txn_records,
            interval=forward.txn_interval,
            on_error=on_error,
            stopped=lambda: self.stop.requested,
            forced=lambda: self.stop.forced,
            also_flush=letters.flush if letters is not None else lambda _timeout: True,
            on_abort=letters.forget if letters is not None else lambda: None,
            note=opened.source.ids.metadata,
        )
        if letters is not None and self.letter_topic is not None and self.letter_topic.cluster_id == ready.cluster_id:
            letters.send_with(lambda: line.producer, line.serve, transaction.join)

        def began(starts: dict[TopicPartition, int]) -> None:
            ledger.begin(starts)
            transaction.began(starts)

        self.hooks.began, self.hooks.revoked, self.hooks.lost = began, transaction.revoked, transaction.lost
        return transaction

    def at_least_once(
        self, sink: Sink, forward: ForwardOptions, chosen: Selection, ledger: Ledger
    ) -> tuple[Committer, list[PipelineStage]]:
        """Commits of the group, if there is one; with --resume-by-trace what is there already is left out first."""
        opened = self.opened
        committer: Committer = NoCommit()
        stages: list[PipelineStage] = []
        if forward.resume_by_trace:
            from kpipe.plan.modes import open_resume

            self.resume = open_resume(
                opened, self.ready, chosen, forward.resume_limit, self.trace.trace_prefix, self.stop
            )
            stages.append(self.resume.leave_out)
        if chosen.group is not None:
            where = f"{self.source_label}:group {chosen.group}"
            tail = self.resume.note if self.resume is not None else lambda _place: ""
            grouped = GroupCommitter(
                opened.consumer, where, opened.source.at_eof, note=opened.source.ids.metadata, tail=tail
            )
            wire_group(self.hooks, ledger, BothFlushed(sink, self.letters), grouped, self.stop)
            committer = grouped
        if self.resume is not None:
            from kpipe.plan.modes import ResumingCommitter, wire_resume

            wire_resume(self.hooks, self.resume)
            committer = ResumingCommitter(committer, self.resume)
        return committer, stages

    def notes(self) -> list[str]:
        """What --resume-by-trace left out."""
        if self.resume is None or not self.resume.skipped:
            return []
        return [f"resume: {self.ready.where}: {self.resume.skipped:,} records were there already and were left out"]


def _refuse_circle(opened: OpenSource, ready: Target, topics: Sequence[str]) -> None:
    if opened.cluster_id and opened.cluster_id == ready.cluster_id and ready.topic in topics:
        raise UsageError("source and target are the same topic; forward to another one", where=ready.where)


def _partition_choice(
    to_partition: str, keyless: str, opened: OpenSource, ready: Target, topics: Sequence[str]
) -> Callable[[Batch], Iterable[int]] | None:
    if to_partition == "same":
        wanted = opened.partitions(topics)
        if ready.partitions < wanted:
            what = f"has {ready.partitions} partitions, the source has {wanted}; add some or drop `same`"
            raise KpipeError(what, where=ready.where, stage=Stage.CONFIG)
        return keep_partitions(ready.partitions)
    if to_partition:
        number = check_partition(to_partition, ready.partitions, ready.where)
        return lambda _batch: repeat(number)
    return stick_keyless(ready.partitions) if keyless == "sticky" else None


def _compaction_warning(ready: Target, steps: Sequence[Step], keyless: str) -> list[str]:
    """A compacted topic refuses records without a key; whether the source has such records shows only later."""
    keyed = keyless == "key" or any(step.name in ("set-key", "key-field", "map-key") for step in steps)
    if not ready.compacted or keyed:
        return []
    advice = "a keyless record will stop the run; use --keyless key, --key-field or --on-error skip for such records"
    return [f"send: {ready.where}: the topic is compacted and takes no record without a key; {advice}"]

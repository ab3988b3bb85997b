"""What produce, consume and forward open and wire in the same way: clusters, targets, dead letters, filters.

It moves no record; `kpipe.plan.assembly` makes a run of it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from kpipe.clusters.address import parse_target
from kpipe.delivery.commit import Commits
from kpipe.kafka.watch import Watch
from kpipe.options import TargetOptions
from kpipe.plan.places import Policy, also_sides, open_profiles, parse_policy, read_profiles
from kpipe.plan.rules import FILTERS, ROUTES, first_step
from kpipe.plan.target import (
    asked_blueprint,
    make_letters,
    open_letters,
    producer_properties,
    refuse_same,
    size_warning,
)
from kpipe.sinks.away import Away
from kpipe.sinks.epoch import EpochTimes
from kpipe.sinks.opening import Opening
from kpipe.sinks.outlet import Outlet
from kpipe.transform.patterns import Patience
from kpipe.transform.registry import TRANSFORMS
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.clusters.address import Place
    from kpipe.clusters.profiles import Cluster, Role
    from kpipe.kafka.blueprints import Blueprint
    from kpipe.options import ConnectionOptions, RunOptions, TraceOptions
    from kpipe.pace import Pace
    from kpipe.parts import Sink
    from kpipe.pipeline import PipelineStage
    from kpipe.run_state import RunState
    from kpipe.shutdown import Stop
    from kpipe.sinks.dead_letters import DeadLetterTopic
    from kpipe.sinks.outlet import Choose
    from kpipe.sinks.target import Target
    from kpipe.sources.opening import OpenSource
    from kpipe.through.chain import Filters
    from kpipe.through.filtering import Note
    from kpipe.trace import Hop
    from kpipe.transform.step import Step

UNASKED = TargetOptions(buffer="8M")
"""How dead letters are sent by a command that has no options for sending."""


STATISTICS_MS = 1000
"""How often a client that is measured says how it is; it costs 0.1 ms each time, whatever the number of records."""


def _with_statistics(cluster: Cluster) -> Cluster:
    own = {"statistics.interval.ms": str(STATISTICS_MS)}
    return replace(cluster, properties={**own, **cluster.properties})


def _routed_clusters(steps: Sequence[Step]) -> list[str]:
    """The clusters that routes may choose."""
    if not first_step(steps, ROUTES):
        return []
    from kpipe.transform.route import clusters_in

    return clusters_in(steps)


def _silent(steps: Sequence[Step]) -> list[str]:
    """What to say of jq programs that would say something themselves."""
    names = {row.name for row in TRANSFORMS if row.metavar in ("JQ", "NAME=JQ")}
    programs = [step for step in steps if step.name in names]
    if not programs:
        return []
    from kpipe.transform.program import says_nothing

    told = [(step, word) for step in programs if (word := says_nothing(step.text))]
    return [f"transform: {step.title}: {word} shows nothing here; try the program with jq" for step, word in told]


UNSENT: dict[str, Any] = {"enable.idempotence": False}
"""Nothing is produced in a dry run, so the cluster is not asked for a producer id either."""


def _pace(rates: Sequence[str], stop: Stop) -> Pace | None:
    """`--rate`, if there is a limit."""
    if not rates:
        return None
    from kpipe.pace import Pace, parse_rates

    return Pace(*parse_rates(rates), lambda: stop.requested)


class Wiring:
    """A run that is being put together, in the order of the methods; each adds what the options ask for.

    `sending` are the command's options, or in a dry run those under which nothing is created.
    """

    def __init__(
        self,
        connection: ConnectionOptions,
        run: RunOptions,
        steps: Sequence[Step],
        stop: Stop,
        say: Callable[[str], None],
        sending: TargetOptions | None = None,
        limit: int | None = None,
    ) -> None:
        self.connection, self.steps, self.stop, self.say = connection, steps, stop, say
        self.policy = parse_policy(run.on_error)
        self._profiles = read_profiles(connection)  # before a jq program is compiled, which looks at the environment
        self.sending: TargetOptions = sending or UNASKED
        if self.sending.dry_run:
            self.policy, self.sending = Policy(self.policy.name), replace(self.sending, create=False)
        self.opening = Opening(connection.timeout, self.stopped, asked_blueprint(self.sending))
        self.patience = Patience()
        self.pace = _pace(self.sending.rate, stop)
        self.watch = Watch(self.warn, self.stopped)
        self.commits = Commits()
        self.letters: DeadLetterTopic | None = None
        self.letter_topic: Target | None = None
        self._quiet = run.quiet
        self._measures = bool(run.metrics or run.metrics_file)
        self.limit = limit
        self.filters: Filters | None = None
        self.warn(*_silent(steps))
        self.epoch = EpochTimes(self.warn)
        self._also: Sequence[Place] = ()
        self._letter_clusters: list[Cluster] = []
        self.also_clusters: list[Cluster] = []
        self.routed = _routed_clusters(steps)
        self.routed_clusters: list[Cluster] = []
        self.outlet: Outlet | None = None

    def warn(self, *warnings: str) -> None:
        """Tell people now, for what comes next may fail; --quiet asks for errors only."""
        for warning in () if self._quiet else warnings:
            self.say(warning)

    def stopped(self) -> bool:
        """Whether a signal has come."""
        return self.stop.requested

    @property
    def keeps_records(self) -> bool:
        """Whether records are looked at once they are judged: by the file of --spill, or in a preview."""
        return bool(self.sending.spill) or self.sending.dry_run

    def properties(self, cluster: Cluster, own: dict[str, Any]) -> dict[str, Any]:
        """What a producer on that cluster is opened with; `own` is what this run asks of it beside the options."""
        return producer_properties(self.sending, cluster, own | UNSENT if self.sending.dry_run else own)

    def resolve(self, *own: tuple[str | None, Role], also: Sequence[Place] = ()) -> list[Cluster]:
        """The clusters of the command's own places; those of dead letters, --also and routes are opened later."""
        self._also = also
        routed: list[tuple[str | None, Role]] = [(name, "target") for name in self.routed]
        clusters = iter(
            open_profiles(self._profiles, [*own, *self.policy.places, *also_sides(also), *routed], self.warn)
        )
        if self._measures:
            clusters = map(_with_statistics, clusters)
        found = list(islice(clusters, len(own)))
        self._letter_clusters = list(islice(clusters, len(self.policy.places)))
        self.also_clusters = list(islice(clusters, len(also)))
        self.routed_clusters = list(clusters)
        return found

    def open_outlet(
        self,
        ready: Target,
        choose: Choose,
        own: dict[str, Any],
        trace: TraceOptions,
        patience: float | None = None,
        model: Callable[[str], Blueprint] | None = None,
    ) -> Outlet:
        """The target, the topics of --also and the clusters of routes; `own` are properties of their producers.

        `patience` is for how many seconds a record waits for a cluster that a route chose (None: without limit),
        `model` what a topic that a route makes is like (None: it has as many partitions as the target).
        """
        away = Away(self.say, self.patience, lambda: self.stop.forced, patience)
        outlet = Outlet(ready, choose, self.opening, away, model=model, tell_made=self._tell_made)

        def properties(cluster: Cluster) -> dict[str, Any]:
            return self.properties(cluster, {name: own[name] for name in own if name not in cluster.properties})

        outlet.open_others(self._also, self.also_clusters, properties)
        outlet.open_clusters(self.routed, self.routed_clusters, properties)
        if first_step(self.steps, ROUTES):
            outlet.open_routes()
        if trace.trace != "none":
            outlet.write_trace(trace.trace_prefix)
        for target in outlet.targets:
            self._tell_made(target)
        for target in (*outlet.targets, *outlet.clusters.values()):
            target.epoch = self.epoch
            target.watched_by(self.watch)
        self.outlet = outlet
        return outlet

    def blueprint(self) -> Callable[[str], Blueprint] | None:
        """What --like says a topic is that is made; None where it says nothing. Asked for when one is made."""
        if not self.sending.like or self.sending.dry_run:
            return None
        from kpipe.kafka.blueprints import like
        from kpipe.kafka.connection import Connection

        place = parse_target(self.sending.like)
        model = Connection(self._profiles.resolve(place.cluster), self.connection.timeout, self.stopped)
        return lambda _cluster_id: like(model, place.topic)

    def leave_out(self, opened: OpenSource, topics: Sequence[str], ready: Target) -> None:
        """Read no topic that the run writes to because a pattern happens to match it, and say so."""
        if opened.leave_out(topics, ready.cluster_id, ready.topic):
            self.warn(f"read: {ready.where}: the pattern matches it, too; it is not read, for this run writes to it")

    def _tell_made(self, target: Target) -> None:
        """`--create` made it: with how many partitions is often the cluster's choice."""
        if target.made:
            self.warn(f"config: {target.where}: created, with {counted(target.partitions, 'partition')}")

    def open_letters(
        self,
        hop: Hop,
        delivery_timeout_ms: int,
        opened: OpenSource | None,
        topics: Sequence[str],
        outlet: Outlet | None = None,
    ) -> None:
        """The dead-letter topic, if one is asked for: no topic that is read (`opened` None: no cluster), no target."""
        if self.policy.letters is None:
            return
        (cluster,) = self._letter_clusters
        ready = open_letters(self.policy.letters.topic, cluster, self.sending, self.opening, delivery_timeout_ms)
        self._tell_made(ready)
        if opened is not None:
            if ready.topic in opened.names(topics):
                opened.tell_apart(ready)
            refuse_same(ready, opened.cluster_id, topics, "the source")
            self.leave_out(opened, topics, ready)
        if outlet is not None:
            refuse_same(ready, outlet.ready.cluster_id, [outlet.ready.topic], "the target")
            for target, _ in outlet.others:
                refuse_same(ready, target.cluster_id, [target.topic], "one of --also")
            outlet.letters = ready
            self.warn(*size_warning(ready, outlet.targets))
        ready.watched_by(self.watch, letters=True)
        self.letter_topic, self.letters = ready, make_letters(ready, hop, self.stop)

    def through_filters(
        self, stages: Sequence[PipelineStage], sink: Sink, state: RunState, *, waits: bool = True
    ) -> tuple[list[PipelineStage], Sink]:
        """Filters and the throttle before the sink; the stages are those before the first filter.

        `waits` when the source does not keep the pace itself.
        """
        if self.pace is not None:
            from kpipe.sinks.throttle import Throttle

            sink = Throttle(sink, self.pace, waits=waits)
        return self._put_filters(stages, sink, state)

    def preview(self, stages: Sequence[PipelineStage], topic: str, state: RunState) -> tuple[list[PipelineStage], Sink]:
        """A dry run's stages and sink; filters do run."""
        from kpipe.sinks.preview import open_preview

        preview = open_preview(topic, self.stop)
        stages, sink = self._put_filters(stages, preview, state, preview.note)
        return [preview.enter, *stages, preview.leave], sink

    def _put_filters(
        self, stages: Sequence[PipelineStage], sink: Sink, state: RunState, note: Note | None = None
    ) -> tuple[list[PipelineStage], Sink]:
        if not first_step(self.steps, FILTERS):
            return list(stages), sink
        from kpipe.through.chain import put_filters

        filters = self.filters = put_filters(stages, sink, self.say, state, self.limit, note)
        return filters.stages, filters.sink

"""Where records leave: the target, the topics that routes choose, and those of `--also`, on one client per cluster.

It sends no record.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from kpipe.clusters.client import label
from kpipe.errors import UsageError
from kpipe.plan.partitions import refuse_keyless
from kpipe.plan.places import target_place
from kpipe.plan.target import Target, add_topic, prepare_target
from kpipe.trace import Destination, Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kpipe.clusters.address import Place
    from kpipe.clusters.profiles import Cluster, Side
    from kpipe.options import TargetOptions
    from kpipe.pipeline import Sink
    from kpipe.pipeline import Stage as PipelineStage
    from kpipe.record import Batch
    from kpipe.sinks.branch import Routes
    from kpipe.sinks.reports import DeliveryLines
    from kpipe.trace import Hop
    from kpipe.transform.step import Step

    Choose: TypeAlias = Callable[[Target], "Callable[[Batch], Iterable[int]] | None"]

ROUTING = ("route", "rename-topic")


def also_places(texts: Sequence[str], main: Place) -> list[Place]:
    """The places of `--also`; each is named once, and none is the target itself."""
    places = [target_place(text) for text in texts]
    for number, place in enumerate(places):
        if place == main or place in places[:number]:
            raise UsageError(f"--also {texts[number]}: records go there already; name another topic")
    return places


def also_sides(places: Sequence[Place]) -> list[tuple[str | None, Side]]:
    """The clusters of `--also`, to be resolved with the other places."""
    return [(place.cluster, "target") for place in places]


def routes_in(steps: Sequence[Step]) -> str:
    """The first step that chooses a topic, empty when there is none."""
    return next((step.name for step in steps if step.name in ROUTING), "")


@dataclass(slots=True)
class Outlet:
    """The target and what goes beside it. `choose` gives a target's partition choice, or raises KpipeError."""

    ready: Target
    choose: Choose
    options: TargetOptions
    timeout: float
    stopped: Callable[[], bool]
    others: list[tuple[Target, bool]] = field(default_factory=list)
    """Each with whether it has a producer of its own."""
    routed: dict[str, Target] = field(default_factory=dict)
    routes: Routes | None = None
    tell_made: Callable[[Target], None] = lambda _target: None
    """Told of each topic that a route made."""
    letters: Target | None = None
    """The dead letters' topic, which no route may lead to."""

    destinations: dict[str, Destination] = field(default_factory=dict)
    """The topics that routes chose so far, as the trace knows them."""

    @property
    def forgets_time(self) -> bool:
        """Whether one of the topics that get every record gives it another timestamp."""
        return not all(target.keeps_time for target in self.targets)

    @property
    def targets(self) -> list[Target]:
        """All topics that are known before the first record, the target first."""
        return [self.ready, *(target for target, _ in self.others)]

    def targets_of(self, topic: str | None) -> list[Target]:
        """Where a record goes that a route sends to `topic` (None: to the target)."""
        others = [target for target, _ in self.others]
        return [self.ready if topic is None else self.routed.get(topic, self.ready), *others]

    def open_others(self, places: Sequence[Place], clusters: Sequence[Cluster], own: dict[str, Any]) -> None:
        """Look the topics of `--also` up; those on a cluster that is open share its producer."""
        for place, cluster in zip(places, clusters, strict=True):
            known = next((target for target in self.targets if label(target.cluster) == label(cluster)), None)
            if known is not None:
                self.others.append((add_topic(known, place.topic, self.options, self.timeout, self.stopped), False))
                continue
            mine = {name: value for name, value in own.items() if name not in cluster.properties}
            ready = prepare_target(place.topic, cluster, self.options, self.timeout, self.stopped, mine)
            self.others.append((ready, True))

    def open_routes(self) -> list[PipelineStage]:
        """A stage that finds the topics that records are routed to."""
        from kpipe.sinks.branch import Routes

        def find(topic: str) -> None:
            target = add_topic(self.ready, topic, self.options, self.timeout, self.stopped)
            self.choose(target)
            self.tell_made(target)
            self.routed[topic] = target
            self.destinations[topic] = Destination(target.cluster_id, target.topic, target.keeps_time)

        self.routes = Routes(self.ready.topic, find)
        return [*_refuse_routes_to(self.letters, self.ready), self.routes.admit]

    def guards(self, hop: Hop | None) -> list[PipelineStage]:
        """The loop guard and the key rule of every further topic; a record that one of them refuses goes nowhere."""
        stages: list[PipelineStage] = []
        for target, _ in self.others:
            if hop is not None:
                stages.append(_guard(hop._replace(target_cluster=target.cluster_id, target_topic=target.topic)))
            stages += refuse_keyless(target)
        return stages

    def sink(self, lines: DeliveryLines | None = None) -> Sink:
        """The sink for all of them."""
        main: Sink = self.ready.sink(self.choose(self.ready), lines)
        if self.routes is not None:
            from kpipe.sinks.branch import RoutedSink

            main = RoutedSink(main, self.ready.topic, lambda topic: self._routed_sink(topic, lines))
        if self.others:
            from kpipe.sinks.branch import FanOut

            main = FanOut(main, [(target.sink(self.choose(target)), is_own) for target, is_own in self.others])
        return main

    def _routed_sink(self, topic: str, lines: DeliveryLines | None) -> Sink:
        target = replace(self.routed[topic], producer=self.ready.producer, troubles=self.ready.troubles)
        return target.sink(self.choose(target), lines)


def _refuse_routes_to(letters: Target | None, ready: Target) -> list[PipelineStage]:
    """Ends the run at a record that is routed to where dead letters go: the two could not be told apart any more."""
    if letters is None or letters.cluster_id != ready.cluster_id:
        return []

    def refuse(batch: Batch) -> None:
        if batch.targets is not None and letters.topic in batch.targets:
            raise UsageError(
                "--on-error: records are routed to the dead-letter topic; name another topic", where=letters.where
            )

    return [refuse]


def _guard(hop: Hop) -> PipelineStage:
    """The loop guard for a further topic, on a copy: only one trace is written."""
    tracer = Tracer(hop)

    def guard(batch: Batch) -> None:
        copy = batch.snapshot()
        copy.bad, copy.index, copy.targets = [], None, None
        tracer(copy)
        batch.reject({each.index: each.error for each in copy.bad})

    return guard

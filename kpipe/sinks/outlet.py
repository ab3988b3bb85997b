"""Where records leave: the target, the topics that routes choose, and those of `--also`, on one client per cluster.

It sends no record.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from kpipe.errors import UsageError
from kpipe.formats.lineage import TraceNames
from kpipe.kafka.client import label
from kpipe.kafka.metadata import fetch_metadata
from kpipe.record import split_target
from kpipe.sinks.limits import refuse_unfit
from kpipe.sinks.opening import add_topic, fit_batches, needs_own_batches, open_cluster, prepare_target
from kpipe.trace import Destination, Tracer
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kpipe.clusters.address import Place
    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.blueprints import Blueprint
    from kpipe.parts import Sink
    from kpipe.pipeline import PipelineStage
    from kpipe.record import Batch
    from kpipe.sinks.away import Away
    from kpipe.sinks.branch import Routes, Tally
    from kpipe.sinks.opening import Opening
    from kpipe.sinks.reports import DeliveryLines
    from kpipe.sinks.target import Target
    from kpipe.trace import Hop

    Properties: TypeAlias = Callable[[Cluster], dict[str, Any]]
    """What a further producer on a cluster is opened with."""
    Choose: TypeAlias = Callable[[Target], "Callable[[Batch], Iterable[int]] | None"]


@dataclass(slots=True)
class Outlet:
    """The target and what goes beside it. `choose` gives a target's partition choice, or raises KpipeError."""

    ready: Target
    choose: Choose
    opening: Opening
    away: Away
    """What is done while a cluster that a route chose cannot be asked."""
    others: list[tuple[Target, bool]] = field(default_factory=list)
    """Each with whether it has a producer of its own."""
    clusters: dict[str, Target] = field(default_factory=dict)
    """The clusters that routes may choose, as they are written there: a target whose producer serves the cluster."""
    routed: dict[tuple[str, str], tuple[Target, Target]] = field(default_factory=dict)
    """By cluster and topic: the topic, and the target whose producer serves it."""
    destinations: dict[str, Destination] = field(default_factory=dict)
    """The places that routes chose so far, as they wrote them, and as the trace knows them."""
    routes: Routes | None = None
    model: Callable[[str], Blueprint] | None = None
    """What a topic that a route made is like; without it, it has as many partitions as the target."""
    tell_made: Callable[[Target], None] = lambda _target: None
    """Told of each topic that a route made."""
    letters: Target | None = None
    """The dead letters' topic, which no route may lead to."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    """By cluster, when there are several."""

    @property
    def forgets_time(self) -> bool:
        """Whether one of the topics that get every record gives it another timestamp."""
        return not all(target.keeps_time for target in self.targets)

    @property
    def targets(self) -> list[Target]:
        """All topics that are known before the first record, the target first."""
        return [self.ready, *(target for target, _ in self.others)]

    def targets_of(self, place: str | None) -> list[Target]:
        """Where a record goes that a route sends to `place` (None: to the target)."""
        others = [target for target, _ in self.others]
        if place is None:
            return [self.ready, *others]
        _, key = self.base_of(place)
        target, _ = self.routed.get(key, (self.ready, self.ready))
        return [target, *others]

    @property
    def clients(self) -> list[Target]:
        """One target for each producer that is open."""
        own = [target for target, is_own in self.others if is_own]
        served = {id(target.producer): target for target in (self.ready, *own, *self.clusters.values())}
        return list(served.values())

    def open_others(self, places: Sequence[Place], clusters: Sequence[Cluster], properties: Properties) -> None:
        """Look the topics of `--also` up; those on a cluster that is open share its producer."""
        for place, cluster in zip(places, clusters, strict=True):
            if (known := self._serving(cluster)) is not None:
                found = add_topic(known, place.topic, self.opening)
                self.others.append((fit_batches(found), needs_own_batches(found)))
                continue
            ready = prepare_target(place.topic, cluster, properties(cluster), self.opening)
            self.others.append((ready, True))

    def open_clusters(self, names: Sequence[str], clusters: Sequence[Cluster], properties: Properties) -> None:
        """Open the clusters that routes may choose; one that cannot be used ends the run before it begins."""
        for name, cluster in zip(names, clusters, strict=True):
            known = self._serving(cluster)
            if known is None:
                known = open_cluster(cluster, properties(cluster), self.opening)
            self.clusters[name] = known

    def _serving(self, cluster: Cluster) -> Target | None:
        """A target on this cluster whose producer can serve more topics of it."""
        name = label(cluster)
        return next((target for target in self.clients if label(target.cluster) == name), None)

    def open_routes(self) -> None:
        """Records may be routed to further topics."""
        from kpipe.sinks.branch import Routes

        self.routes = Routes(self.ready.topic, self._find)

    def write_trace(self, prefix: str) -> None:
        """Records get a trace: the sinks know then by how much each of them has grown."""
        names = TraceNames(prefix)
        for target in (*self.targets, *self.clusters.values()):
            target.trace = names

    def route_stages(self) -> list[PipelineStage]:
        """The stages that find the topics that records are routed to, none of which is that of dead letters."""
        if self.routes is None:
            return []
        return [self.routes.admit, *_refuse_routes_to(self.letters, self.destinations)]

    def make(self, topics: Iterable[str]) -> None:
        """Make those of the topics that the target's cluster lacks, before a record comes for them."""
        ready, opening = self.ready, self.opening
        there = fetch_metadata(ready.producer, ready.troubles, opening.timeout, None, opening.stopped).topics
        for topic in topics:
            if topic not in there:
                self._find(topic)

    def _find(self, place: str) -> None:
        """Look up, or create, the topic of a place that a route wrote."""
        base, key = self.base_of(place)
        topic = key[1]
        if key == (label(self.ready.cluster), self.ready.topic):
            self.routed[key] = self.ready, self.ready
        if key not in self.routed:
            found = self.away.wait_for(base, topic, lambda: self._look_up(base, topic))
            self.choose(found)
            self.tell_made(found)
            fitting = fit_batches(found)
            self.routed[key] = fitting, fitting if fitting is not found else base
        target, _ = self.routed[key]
        self.destinations[place] = Destination(target.cluster_id, target.topic, target.keeps_time)

    def base_of(self, place: str) -> tuple[Target, tuple[str, str]]:
        """A target on the cluster of a place, and the place however it is written."""
        name, topic = split_target(place)
        base = self.ready if name is None else self.clusters[name]
        return base, (label(base.cluster), topic)

    def _look_up(self, base: Target, topic: str) -> Target:
        like = base if base.partitions else replace(base, partitions=self.ready.partitions)
        model = None if self.model is None else partial(self.model, topic)
        return add_topic(like, topic, replace(self.opening, stopped=self.away.given_up), model)

    def guards(self, hop: Hop) -> list[PipelineStage]:
        """The loop guard of every further topic; a record that one of them refuses goes nowhere."""
        return [
            _guard(hop._replace(target_cluster=target.cluster_id, target_topic=target.topic))
            for target, _ in self.others
        ]

    def tracer(self, hop: Hop) -> PipelineStage:
        """The stage that writes the trace."""
        return Tracer(hop, self.destinations)

    def limits(self) -> list[PipelineStage]:
        """The stage that takes out what one of the topics would refuse, and a batch with it."""
        return refuse_unfit(self.targets, self.targets_of, routes=self.routes is not None)

    def sink(self, lines: DeliveryLines | None = None) -> Sink:
        """The sink for all of them."""
        main = self.ready.sink(self.choose(self.ready), lines)
        if self.routes is None and not self.others:
            return main
        from kpipe.sinks.branch import FanOut, RoutedSink

        others = [(target, target.sink(self.choose(target)), is_own) for target, is_own in self.others]
        tally_of = self._counting([(self.ready, main), *((target, sink) for target, sink, _ in others)])
        sink: Sink = main
        if self.routes is not None:
            opening = RouteSinks(self, main, lines, tally_of)
            sink = RoutedSink(main, self.ready.topic, opening.open, own=opening.own, tally_of=tally_of.get)
        if others:
            sink = FanOut(sink, [(each, is_own) for _, each, is_own in others], tally_of.get)
        return sink

    def _counting(self, sinks: Iterable[tuple[Target, Sink]]) -> dict[Sink, Tally]:
        """What counts the records of each sink: nothing when all of them are on one cluster."""
        from kpipe.sinks.branch import Tally

        names = dict.fromkeys(label(target.cluster) for target in (*self.targets, *self.clusters.values()))
        if len(names) < 2:
            return {}
        for name in names:
            self.tallies.setdefault(name, Tally())
        return {sink: self.tallies[label(target.cluster)] for target, sink in sinks}

    def facts(self) -> dict[str, object]:
        """What became of the records by cluster, for the summary, and each cluster's last complaint."""
        if not self.tallies:
            return {}
        troubles = {label(client.cluster): client.troubles.latest() for client in reversed(self.clients)}
        return {
            "clusters": {
                name: {**tally.counts(), "trouble": troubles.get(name, "")} for name, tally in self.tallies.items()
            }
        }

    def notes(self) -> list[str]:
        """The clusters that did not take all of their records, for people."""
        notes = []
        for name, tally in self.tallies.items():
            if tally.failed or tally.unknown:
                counts = ", ".join(f"{count:,} {outcome}" for outcome, count in tally.counts().items())
                notes.append(f"send: {name}: {counts} of {counted(tally.sent, 'record')} for this cluster")
        return notes


class RouteSinks:
    """The sinks of the topics that routes choose; `own` are those that are the first of their producer."""

    def __init__(self, outlet: Outlet, main: Sink, lines: DeliveryLines | None, tally_of: dict[Sink, Tally]) -> None:
        self.own: list[Sink] = []
        self._outlet, self._lines, self._tally_of = outlet, lines, tally_of
        self._sinks: dict[tuple[str, str], Sink] = {(label(outlet.ready.cluster), outlet.ready.topic): main}
        self._served = {id(target.producer) for target in outlet.targets}

    def open(self, place: str) -> Sink:
        """The sink for a place that was found."""
        outlet = self._outlet
        _, key = outlet.base_of(place)
        if key not in self._sinks:
            target, serving = outlet.routed[key]
            # The producer of this moment: within transactions it may be another one than when the topic was found.
            target = replace(target, producing=serving.producing)
            sink = self._sinks[key] = target.sink(outlet.choose(target), self._lines)
            if id(target.producer) not in self._served:
                self._served.add(id(target.producer))
                self.own.append(sink)
            if key[0] in outlet.tallies:
                self._tally_of[sink] = outlet.tallies[key[0]]
        return self._sinks[key]


def _refuse_routes_to(letters: Target | None, destinations: Mapping[str, Destination]) -> list[PipelineStage]:
    """Ends the run at a record that is routed to where dead letters go: the two could not be told apart any more."""
    if letters is None:
        return []
    place = (letters.cluster_id, letters.topic)

    def refuse(batch: Batch) -> None:
        for target in set(batch.targets or ()):
            if target is not None and target in destinations and destinations[target][:2] == place:
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

"""Sends records to further topics: those that a route chose, and those that get every record as well (`--also`).

It never settles a record before every topic it went to has acknowledged it, and never mixes up whose error it was.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from kpipe.errors import BadRecord, Exit, Interrupted, KpipeError, Stage
from kpipe.flight import Unsent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.flight import Flight, Parcel
    from kpipe.parts import Failed, Judge, Sent, Sink
    from kpipe.record import Batch


class Elsewhere:
    """A failed delivery report of a sink that is not the main one."""

    __slots__ = ("error", "sink")

    def __init__(self, sink: Sink, error: object) -> None:
        self.sink = sink
        self.error = error


class Tally:
    """What became of the records that went to one cluster; a record that goes to two counts at both."""

    __slots__ = ("failed", "sent", "unknown")

    def __init__(self) -> None:
        self.sent = self.failed = self.unknown = 0

    def count(self, sink: Sink, error: object, more: int = 1) -> None:
        """One failed delivery report; `more` is -1 for one that was taken back, because its record is sent again."""
        if isinstance(error, Unsent) or sink.unwritten(error):
            self.failed += more
        else:
            self.unknown += more

    def counts(self) -> dict[str, int]:
        """The outcomes once every report is in; until then what is in flight counts as delivered."""
        delivered = self.sent - self.failed - self.unknown
        return {"delivered": delivered, "failed": self.failed, "unknown": self.unknown}


class Branch:
    """A flight as another sink sees it: its reports settle the same records, its failures carry the sink."""

    def __init__(self, flight: Flight, sink: Sink, tally: Tally | None = None) -> None:
        self._flight = flight
        self._sink = sink
        self._tally = tally

    def keep(self, parcel: Parcel) -> None:
        """As the flight."""
        self._flight.keep(parcel)

    def take_reports(self, batch: Batch) -> list[Callable[[object | None, object], None]]:
        """As those of the flight, one per record of `batch`."""
        sink, tally = self._sink, self._tally

        def tagging(report: Callable[[object | None, object], None]) -> Callable[[object | None, object], None]:
            def note(error: object | None, message: object) -> None:
                if error is not None:
                    if tally is not None:
                        tally.count(sink, error)
                    error = Elsewhere(sink, error)
                report(error, message)

            return note

        if tally is not None:
            tally.sent += len(batch)

        reports = self._flight.take_reports(batch)
        return [tagging(reports[place]) for place in range(len(batch))]


class Branching:
    """What sinks with several topics share: the main sink first, then the others.

    `tally_of` gives what counts a sink's records (None: nobody asks for them by cluster).
    """

    def __init__(self, main: Sink, tally_of: Callable[[Sink], Tally | None] = lambda _sink: None) -> None:
        self.main = main
        self._tally_of = tally_of

    def hand_over(self, batch: Batch, flight: Flight, sink: Sink, idle: Callable[[], bool]) -> None:
        """Send a batch to one of the sinks; only what is not the main one's, or is counted, needs to be told apart."""
        tally = self._tally_of(sink)
        plain = sink is self.main and tally is None
        sink.send(batch, flight if plain else cast("Any", Branch(flight, sink, tally)), idle)

    @property
    def others(self) -> Sequence[Sink]:
        """The sinks that have a client of their own."""
        return ()

    def poll(self) -> None:
        """Collect delivery reports of all."""
        for sink in (self.main, *self.others):
            sink.poll()

    def explain(self, error: object, where: str, record: Sent | None = None) -> KpipeError:
        """In the words of the sink whose report it is; its cluster and topic are named."""
        if isinstance(error, Elsewhere):
            return error.sink.explain(error.error, where, record)
        return self.main.explain(error, where, record)

    def refused(self, error: object) -> bool:
        """Whether the report is its sink's judgement on the record."""
        if isinstance(error, Elsewhere):
            return error.sink.refused(error.error)
        return self.main.refused(error)

    def unwritten(self, error: object) -> bool:
        """Whether the report proves that its sink did not write the record."""
        if isinstance(error, Elsewhere):
            return error.sink.unwritten(error.error)
        return self.main.unwritten(error)

    def took_along(self, failures: Sequence[Failed], idle: Callable[[], bool]) -> bool:
        """Whether any sink's batch took records along."""
        taken = [sink.took_along(own, idle) for sink, own in self._by_sink(failures)]
        return any(taken)

    def resend(self, failures: Sequence[Failed], judge: Judge, idle: Callable[[], bool]) -> Sequence[Failed]:
        """Each sink sends its own again; the failures that stand keep their sink."""
        stand: list[Failed] = []
        for sink, own in self._by_sink(failures):
            tally = self._tally_of(sink)
            left = sink.resend(own, _judging(judge, sink, tally), idle)
            if tally is not None:
                kept = {(id(flight), index) for flight, index, _ in left}
                for flight, index, report in own:
                    if (id(flight), index) not in kept:
                        tally.count(sink, report, -1)
            if sink is not self.main:
                left = [(flight, index, Elsewhere(sink, report)) for flight, index, report in left]
            stand += left
        return stand

    def _by_sink(self, failures: Sequence[Failed]) -> list[tuple[Sink, list[Failed]]]:
        found: dict[int, tuple[Sink, list[Failed]]] = {id(self.main): (self.main, [])}
        for flight, index, report in failures:
            sink, own = (report.sink, report.error) if isinstance(report, Elsewhere) else (self.main, report)
            found.setdefault(id(sink), (sink, []))[1].append((flight, index, own))
        return [(sink, own) for sink, own in found.values() if own]

    def flush(self, timeout: float) -> bool:
        """Wait for all of them; True when nothing is left anywhere."""
        share = timeout / (1 + len(self.others))
        busy = [sink for sink in (self.main, *self.others) if not sink.flush(share)]
        return not busy

    def purge(self) -> None:
        """Give up what is in flight anywhere."""
        for sink in (self.main, *self.others):
            sink.purge()

    def close(self, timeout: float) -> None:
        """Let go of all of them within `timeout` seconds."""
        for sink in (self.main, *self.others):
            sink.close(timeout / (1 + len(self.others)))


def _judging(judge: Judge, sink: Sink, tally: Tally | None) -> Judge:
    def of_sink(flight: Flight, index: int, report: object) -> bool:
        if tally is not None:
            tally.count(sink, report)
        return judge(flight, index, report if isinstance(report, Unsent) else Elsewhere(sink, report))

    return of_sink


class RoutedSink(Branching):
    """Records with a target of their own go there; the others to the main topic. One client serves a cluster's topics.

    `open_topic` gives the sink for a place that exists, one sink for a topic however its place is written; `own` are
    those of them that brought a client, and grows with them. The order within each topic is that of the batch.
    """

    def __init__(
        self,
        main: Sink,
        topic: str,
        open_topic: Callable[[str], Sink],
        *,
        own: Sequence[Sink] = (),
        tally_of: Callable[[Sink], Tally | None] = lambda _sink: None,
    ) -> None:
        super().__init__(main, tally_of)
        self._open_topic = open_topic
        self._sinks: dict[str, Sink] = {topic: main}
        self._topic = topic
        self._own = own

    @property
    def others(self) -> Sequence[Sink]:
        """The sinks of routes that have a client of their own."""
        return self._own

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Send the batch topic by topic."""
        if batch.targets is None:
            self.hand_over(batch, flight, self.main, idle)
            return
        places = [target or self._topic for target in batch.targets]
        sinks = {place: self._sink(place) for place in dict.fromkeys(places)}
        chosen = [sinks[place] for place in places]
        for sink in dict.fromkeys(chosen):
            some = batch.snapshot()
            if chosen.count(sink) < len(chosen):
                some.keep([each is sink for each in chosen])
            self.hand_over(some, flight, sink, idle)

    def _sink(self, place: str) -> Sink:
        if place not in self._sinks:
            self._sinks[place] = self._open_topic(place)
        return self._sinks[place]


class FanOut(Branching):
    """Every record goes to the main topic and to all others; a frozen one holds the reading and loses nothing.

    `others` are sinks, each with whether it has a client of its own.
    """

    def __init__(
        self,
        main: Sink,
        others: Sequence[tuple[Sink, bool]],
        tally_of: Callable[[Sink], Tally | None] = lambda _sink: None,
    ) -> None:
        super().__init__(main, tally_of)
        self._others = [sink for sink, _ in others]
        self._own = [sink for sink, is_own in others if is_own]

    @property
    def others(self) -> Sequence[Sink]:
        """The sinks of `--also` that do not share a client with one before them."""
        return self._own

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Send the batch to every sink."""
        plain = batch
        if batch.targets is not None:
            plain = batch.snapshot()
            plain.targets = None  # what gets every record gets those of a route, too
        for _ in self._others:
            flight.expect_again(batch)
        self.hand_over(batch, flight, self.main, idle)
        for sink in self._others:
            self.hand_over(plain, flight, sink, idle)


class UnknownTarget(BadRecord):
    """A record that a route sends to a topic that cannot take it."""

    stage = Stage.SEND
    code = "UNKNOWN_TOPIC"


class Routes:
    """Which places records were routed to; each is looked up once, when the first record for it comes.

    `main` is the topic of records without a target; `find` prepares a place, and raises KpipeError when it cannot.
    What is said of a cluster ends the run; only what is said of the topic makes the record bad.
    """

    AGAIN = 10.0
    """Seconds after which a topic that was not there is looked for again."""

    def __init__(self, main: str, find: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._main = main
        self._find = find
        self._clock = clock
        self._known = {main}
        self._refusals: dict[str, tuple[float, str]] = {}

    def admit(self, batch: Batch) -> None:
        """The last stage before the trace: a record for a topic that is not there is bad, and says so where."""
        if batch.targets is None:
            return
        topics = {target for target in batch.targets if target is not None} - self._known
        refusals = {topic: why for topic in sorted(topics) if (why := self._refusal(topic))}
        if refusals:
            bad = {row: refusals[topic] for row, topic in enumerate(batch.targets) if topic in refusals}
            batch.reject({row: UnknownTarget(why) for row, why in bad.items()})

    def _refusal(self, topic: str) -> str:
        until, why = self._refusals.get(topic, (0.0, ""))
        if why and self._clock() < until:
            return why
        try:
            self._find(topic)
        except KpipeError as error:
            if error.exit_code is Exit.UNREACHABLE or isinstance(error, Interrupted):
                raise  # no judgement on a record: the cluster is away, or a signal came first
            why = f"routed to {error.where or topic}: {error.what}"
            self._refusals[topic] = (self._clock() + self.AGAIN, why)
            return why
        self._known.add(topic)
        return ""

"""Sends records to further topics: those that a route chose, and those that get every record as well (`--also`).

It never settles a record before every topic it went to has acknowledged it, and never mixes up whose error it was.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from kpipe.errors import BadRecord, Exit, KpipeError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.ledger import Flight
    from kpipe.pipeline import Sink
    from kpipe.record import Batch


class Elsewhere:
    """A failed delivery report of a sink that is not the main one."""

    __slots__ = ("error", "sink")

    def __init__(self, sink: Sink, error: object) -> None:
        self.sink = sink
        self.error = error


class Branch:
    """A flight as another sink sees it: its reports settle the same records, its failures carry the sink."""

    def __init__(self, flight: Flight, sink: Sink) -> None:
        self._flight = flight
        self._sink = sink

    def take_reports(self, batch: Batch) -> list[Callable[[object | None, object], None]]:
        """As those of the flight, one per record of `batch`."""
        sink = self._sink

        def tagging(report: Callable[[object | None, object], None]) -> Callable[[object | None, object], None]:
            def note(error: object | None, message: object) -> None:
                report(None if error is None else Elsewhere(sink, error), message)

            return note

        reports = self._flight.take_reports(batch)
        return [tagging(reports[place]) for place in range(len(batch))]


class Branching:
    """What sinks with several topics share: the main sink first, then the others."""

    def __init__(self, main: Sink) -> None:
        self.main = main

    @property
    def others(self) -> Sequence[Sink]:
        """The sinks that have a client of their own."""
        return ()

    def poll(self) -> None:
        """Collect delivery reports of all."""
        for sink in (self.main, *self.others):
            sink.poll()

    def explain(self, error: object, where: str) -> KpipeError:
        """In the words of the sink whose report it is; its cluster and topic are named."""
        if isinstance(error, Elsewhere):
            return error.sink.explain(error.error, where)
        return self.main.explain(error, where)

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


class RoutedSink(Branching):
    """Records with a target of their own go there; the others to the main topic. One client serves all topics.

    `open_topic` makes the sink for a topic that exists; the order within each topic is that of the batch.
    """

    def __init__(self, main: Sink, topic: str, open_topic: Callable[[str], Sink]) -> None:
        super().__init__(main)
        self._topic = topic
        self._open_topic = open_topic
        self._sinks: dict[str, Sink] = {}

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Send the batch topic by topic."""
        if batch.targets is None:
            self.main.send(batch, flight, idle)
            return
        targets = [target or self._topic for target in batch.targets]
        for topic in dict.fromkeys(targets):
            some = batch.snapshot()
            if targets.count(topic) < len(targets):
                some.keep([target == topic for target in targets])
            sink = self._sink(topic)
            sink.send(some, flight if sink is self.main else cast("Any", Branch(flight, sink)), idle)

    def _sink(self, topic: str) -> Sink:
        if topic == self._topic:
            return self.main
        if topic not in self._sinks:
            self._sinks[topic] = self._open_topic(topic)
        return self._sinks[topic]


class FanOut(Branching):
    """Every record goes to the main topic and to all others; a frozen one holds the reading and loses nothing.

    `others` are sinks, each with whether it has a client of its own.
    """

    def __init__(self, main: Sink, others: Sequence[tuple[Sink, bool]]) -> None:
        super().__init__(main)
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
            plain.targets = None  # a route chooses between topics of the main cluster
        for _ in self._others:
            flight.expect_again(batch)
        self.main.send(batch, flight, idle)
        for sink in self._others:
            sink.send(plain, cast("Any", Branch(flight, sink)), idle)


class UnknownTarget(BadRecord):
    """A record that a route sends to a topic that cannot take it."""

    stage = Stage.SEND
    code = "UNKNOWN_TOPIC"


class Routes:
    """Which topics records were routed to; each is looked up once, when the first record for it comes.

    `main` is the topic of records without a target; `find` prepares a topic, and raises KpipeError when it cannot.
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
            if error.exit_code is Exit.UNREACHABLE:
                raise
            why = f"routed to {error.where or topic}: {error.what}"
            self._refusals[topic] = (self._clock() + self.AGAIN, why)
            return why
        self._known.add(topic)
        return ""

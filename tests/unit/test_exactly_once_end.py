"""Exactly once at the end of the input: it waits where waiting helps, and it ends, whatever does not come."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from exactly_once_lab import PLACE, FakeSink, FakeSource, Lab

from kpipe.delivery.exactly_once import ATTEMPTS
from kpipe.errors import BadRecord, UndeliveredError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import DeliveryReport, Flight
    from kpipe.record import Batch


class PatientSource(FakeSource):
    """Counts how often it is polled while nothing can be read; `on_poll` is what a poll brings."""

    def __init__(self, values: list[bytes]) -> None:
        super().__init__(values)
        self.polls = 0
        self.on_poll: Any = lambda _polls: None

    def keep_alive(self) -> None:
        self.polls += 1
        self.on_poll(self.polls)


def without_a_generation(*values: bytes) -> tuple[Lab, PatientSource, list[float]]:
    lab = Lab(*values, records=100)
    source = PatientSource(list(values))
    lab.source = lab.pipeline.source = lab.once._source = source  # type: ignore[assignment]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        lab.now += seconds

    lab.pipeline.sleep = sleep
    lab.member.generation = -1
    return lab, source, slept


def test_the_end_of_the_input_without_a_generation_polls_and_waits_for_one() -> None:
    """It asked 397,000 times in 12 s, and never polled the consumer whose rebalance it waited for."""
    lab, source, slept = without_a_generation(b"0", b"1")

    def rejoin(polls: int) -> None:
        if polls == 10:
            lab.member.generation = 4

    source.on_poll = rejoin
    lab.run()
    assert lab.commits == [2]
    assert (lab.ledger.delivered, lab.pipeline.error) == (2, None)
    assert len(slept) == 10
    assert min(slept) >= 0.2  # a few turns a second


def test_the_end_of_the_input_without_a_generation_is_given_up_in_time() -> None:
    lab, source, slept = without_a_generation(b"0", b"1")
    lab.run()
    assert lab.commits == []
    assert isinstance(lab.pipeline.error, UndeliveredError)
    assert source.polls == len(slept) > 0
    assert (lab.ledger.delivered, lab.ledger.read) == (0, lab.ledger.failed + lab.ledger.unknown)


def test_a_partition_that_went_away_meanwhile_is_read_on_by_its_new_owner() -> None:
    lab, source, _ = without_a_generation(b"0", b"1")

    def lose(polls: int) -> None:
        if polls == 2:
            source.owned = set()
            lab.once.lost([PLACE])
            source.finished = True

    source.on_poll = lose
    lab.run()
    assert (lab.commits, lab.ledger.read, lab.pipeline.error) == ([], 0, None)


class SlowSink(FakeSink):
    """Reports only once the clock says so; each look takes as long as it may."""

    def __init__(self, lab: Lab, until: float) -> None:
        super().__init__(lab)
        self.until = until
        self.reports: list[DeliveryReport] = []

    def send(self, batch: Batch, flight: Flight, _idle: Callable[[], bool]) -> None:
        self.lab.sent += batch.values
        self.reports += flight.take_reports(batch)[: len(batch)]

    def flush(self, timeout: float) -> bool:
        if not self.reports:
            return True
        self.lab.now += timeout
        if self.lab.now < self.until:
            return False
        while self.reports:
            self.reports.pop()(None, None)
        return True


def with_slow_reports(*values: bytes, until: float) -> tuple[Lab, PatientSource, list[float]]:
    lab, source, slept = without_a_generation(*values)
    lab.member.generation = 3
    lab.once._make_sink = lambda: SlowSink(lab, until)
    lab.pipeline.clock = lambda: lab.now
    return lab, source, slept


def test_reports_that_do_not_come_at_the_end_of_the_input_end_the_run() -> None:
    """It had found its transaction broken and asked again, five times a second, for ever."""
    lab, _, slept = with_slow_reports(b"0", b"1", until=1e9)
    lab.run()
    assert lab.line.log == ["begin", "abort"] * ATTEMPTS
    assert "5 transactions failed in a row" in str(lab.pipeline.error)
    assert (lab.ledger.delivered, len(slept)) == (0, 0)


def test_reports_that_come_late_at_the_end_of_the_input_are_waited_for_in_the_group() -> None:
    """Up to 45 s were waited without a poll: a sign of life for nobody, and a rebalance that waits for us."""
    lab, source, _ = with_slow_reports(b"0", b"1", until=5.0)
    looks: list[float] = []
    lab.pipeline.observers.append(lambda: looks.append(lab.now))
    lab.run()
    assert (lab.commits, lab.ledger.delivered) == ([2], 2)
    assert source.polls == 4  # once a second
    assert max(after - before for before, after in pairwise(looks)) < 0.2


def test_a_partition_that_goes_while_reports_are_waited_for_is_committed_before_it_goes() -> None:
    lab, source, _ = with_slow_reports(b"0", b"1", until=5.0)

    def revoke(polls: int) -> None:
        if polls == 2:
            lab.once.revoked([PLACE])
            source.owned = set()

    source.on_poll = revoke
    lab.run()
    assert lab.line.log == ["begin", ("commit", {PLACE: 2})]
    assert (lab.ledger.delivered, lab.pipeline.error) == (2, None)


def test_a_partition_that_is_lost_while_reports_are_waited_for_is_its_new_owners() -> None:
    lab, source, _ = with_slow_reports(b"0", b"1", until=5.0)

    def lose(polls: int) -> None:
        if polls == 2:
            source.owned = set()
            lab.once.lost([PLACE])
            source.finished = True

    source.on_poll = lose
    lab.run()
    assert lab.line.log == ["begin", "abort"]
    assert (lab.ledger.read, lab.ledger.delivered, lab.pipeline.error) == (0, 0, None)


class RefusingLetters:
    """A dead-letter topic that takes nothing: it says so when it is asked, once the letter is out."""

    def __init__(self) -> None:
        self.refused: list[tuple[Flight, int]] = []
        self.waiting: list[tuple[Flight, int]] = []

    def send(self, flight: Flight, index: int, _error: Any, _idle: Any) -> None:
        self.waiting.append((flight, index))

    def flush(self, _timeout: float) -> bool:
        self.refused += self.waiting
        self.waiting = []
        return True

    def poll(self) -> None:
        if self.refused:
            raise UndeliveredError("the dead-letter topic did not take a record")

    def forget(self) -> None: ...
    def purge(self) -> None: ...
    def close(self, _timeout: float) -> None: ...


def test_a_dead_letter_that_is_refused_at_the_end_of_the_input_ends_the_run() -> None:
    """Its flight is never complete: the run asked again whether it could commit, five times a second, for ever."""

    def refuse(batch: Batch) -> None:
        batch.reject({place: BadRecord("bad") for place, value in enumerate(batch.values) if value == b"bad"})

    lab = Lab(b"0", b"bad", stages=[refuse], on_error="dlq", records=100)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert len(slept) < 10, "it does not end"

    lab.pipeline.sleep = sleep
    letters = RefusingLetters()
    lab.pipeline.dead_letters = lab.once._letters = letters  # type: ignore[assignment]
    lab.run()
    assert "did not take a record" in str(lab.pipeline.error)
    assert lab.commits == [1]
    assert (lab.ledger.delivered, lab.ledger.failed) == (1, 1)

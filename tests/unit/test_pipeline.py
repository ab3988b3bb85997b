"""The way of a record on lists: what is sent, settled, committed, told, in every way a run can end."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.errors import BadRecord, Exit, KpipeError, UndeliveredError
from kpipe.ledger import Ledger
from kpipe.pipeline import Pipeline
from kpipe.record import Batch
from kpipe.shutdown import Stop
from tests.fakes import LATER, NEVER, REFUSED, UNKNOWN, UNWRITTEN, ListCommitter, ListSink, ListSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import DeliveryReport, Flight
    from kpipe.parts import Failed

PLACE = ("t", 0)


def batches(*sizes: int) -> list[Batch]:
    """Records 0, 1, 2, … of one partition in batches of these sizes; the value is the offset."""
    made, start = [], 0
    for size in sizes:
        numbers = range(start, start + size)
        made.append(
            Batch([b"%d" % n for n in numbers], topics=["t"] * size, partitions=[0] * size, offsets=list(numbers))
        )
        start += size
    return made


class Run:
    """A pipeline on lists, run to its end."""

    def __init__(
        self,
        steps: list[Any],
        sink: ListSink | None = None,
        stages: tuple[Callable[[Batch], None], ...] = (),
        **more: Any,
    ) -> None:
        self.source, self.sink, self.committer = ListSource(steps), sink or ListSink(), ListCommitter()
        self.ledger, self.said, self.stop = Ledger(keeps_offsets=True), [], more.pop("stop", None) or Stop()
        self.pipeline = Pipeline(
            self.source, stages, self.sink, self.committer, self.ledger, self.stop, say=self.said.append, **more
        )
        self.pipeline.run()
        assert self.ledger.balanced
        assert self.ledger.in_flight == 0
        assert self.source.events[-1] == self.sink.events[-1] == "close"

    @property
    def counts(self) -> tuple[int, ...]:
        """Read, delivered, filtered, failed, unknown."""
        ledger = self.ledger
        return (ledger.read, ledger.delivered, ledger.filtered, ledger.failed, ledger.unknown)


def only(wanted: Callable[[int], bool]) -> Callable[[Batch], None]:
    return lambda batch: batch.keep([wanted(int(value or b"")) for value in batch.values])


def bad(*numbers: int) -> Callable[[Batch], None]:
    def refuse(batch: Batch) -> None:
        batch.reject(
            {place: BadRecord("is bad") for place, value in enumerate(batch.values) if int(value or b"") in numbers}
        )

    return refuse


def test_everything_arrives_and_is_committed() -> None:
    run = Run([*batches(3, 2), None])
    assert run.sink.values == [b"0", b"1", b"2", b"3", b"4"]
    assert run.counts == (5, 5, 0, 0, 0)
    assert run.committer.final == {PLACE: 5}
    assert (run.pipeline.error, run.said, run.pipeline.lost) == (None, [], [])
    assert run.source.events == ["leave", "close"]


def test_no_input_is_success() -> None:
    run = Run([])
    assert run.counts == (0, 0, 0, 0, 0)
    assert run.ledger.complete


def test_nothing_is_committed_past_a_record_on_its_way() -> None:
    run = Run([*batches(2, 2, 2), None], ListSink({b"2": LATER}))
    assert max(prefix.get(PLACE, 0) for prefix in run.committer.prefixes) == 2
    assert run.committer.final == {PLACE: 6}
    assert run.counts == (6, 6, 0, 0, 0)


def test_what_a_filter_drops_is_settled() -> None:
    run = Run(batches(4, 4), stages=(only(lambda n: n % 4 == 1),))
    assert run.sink.values == [b"1", b"5"]
    assert run.counts == (8, 2, 6, 0, 0)
    assert run.committer.final == {PLACE: 8}


def test_a_batch_that_is_filtered_whole_is_never_sent() -> None:
    run = Run(batches(3), stages=(only(lambda n: False),))
    assert (run.sink.values, run.counts, run.committer.final) == ([], (3, 0, 3, 0, 0), {PLACE: 3})


# --- the limit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "sent", "committed"), [(0, 0, None), (1, 1, 1), (3, 3, 3), (4, 4, 4), (9, 6, 6)])
def test_a_limit_cuts_exactly(limit: int, sent: int, committed: int | None) -> None:
    run = Run(batches(3, 3), limit=limit)
    assert len(run.sink.values) == sent
    assert run.counts == (sent, sent, 0, 0, 0)
    assert run.committer.final == ({} if committed is None else {PLACE: committed})


def test_a_limit_counts_what_passes_the_filters() -> None:
    run = Run(batches(10), stages=(only(lambda n: n % 3 == 0),), limit=2)
    assert run.sink.values == [b"0", b"3"]
    assert run.counts == (4, 2, 2, 0, 0)
    assert run.committer.final == {PLACE: 4}


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_bad_record_behind_the_limit_was_not_read(policy: str) -> None:
    run = Run(batches(5), stages=(bad(2, 4),), limit=2, on_error=policy)
    assert (run.sink.values, run.counts, run.pipeline.error, run.said) == ([b"0", b"1"], (2, 2, 0, 0, 0), None, [])
    assert run.committer.final == {PLACE: 2}


def test_a_bad_record_before_the_limit_is_one() -> None:
    run = Run(batches(5), stages=(bad(1),), limit=2, on_error="skip")
    assert (run.sink.values, run.counts) == ([b"0", b"2"], (3, 2, 0, 1, 0))
    assert run.committer.final == {PLACE: 3}


def test_a_split_may_pass_the_limit_but_ends_the_run() -> None:
    def split(batch: Batch) -> None:
        batch.values = [value for value in batch.values for _ in range(3)]
        batch.index = [number for number in range(batch.read) for _ in range(3)]
        for column in ("topics", "partitions", "offsets"):
            setattr(batch, column, [entry for entry in getattr(batch, column) for _ in range(3)])

    run = Run(batches(2, 2, 2), stages=(split,), limit=4)
    assert run.sink.values == [b"0"] * 3 + [b"1"] * 3
    assert run.counts == (2, 2, 0, 0, 0)


# --- bad and refused records -----------------------------------------------------------------------------------


def test_a_bad_record_stops_the_run_before_it() -> None:
    run = Run(batches(2, 4, 2), stages=(bad(3, 5),))
    assert run.sink.values == [b"0", b"1", b"2"]
    assert run.counts == (4, 3, 0, 1, 0)
    assert run.committer.final == {PLACE: 3}
    assert isinstance(run.pipeline.error, BadRecord)
    assert run.pipeline.error.exit_code is Exit.BAD_INPUT
    assert str(run.pipeline.error) == "decode: t[0]@3: is bad"
    assert run.pipeline.lost == [], "it was told as the error"


def test_bad_records_can_be_skipped_and_are_told() -> None:
    run = Run(batches(2, 4), stages=(bad(0, 3),), on_error="skip")
    assert run.sink.values == [b"1", b"2", b"4", b"5"]
    assert run.counts == (6, 4, 0, 2, 0)
    assert run.committer.final == {PLACE: 6}
    assert run.said == [f"decode: t[0]@{n}: is bad; skipped (--on-error skip)" for n in (0, 3)]
    assert not run.ledger.complete


def test_a_refused_record_stops_the_run() -> None:
    run = Run([*batches(3), None, *batches(1)], ListSink({b"1": REFUSED}))
    assert run.counts[:4] == (3, 2, 0, 1)
    assert run.committer.final == {PLACE: 1}
    assert str(run.pipeline.error) == "send: t[0]@1: the sink says refused"


def test_a_refused_record_can_be_skipped() -> None:
    run = Run([*batches(3), None], ListSink({b"1": REFUSED}), on_error="skip")
    assert run.counts == (3, 2, 0, 1, 0)
    assert run.committer.final == {PLACE: 3}


class LateReports(ListSink):
    """Refuses value 2 at once; that value 0, of an older batch, fell with it is told only while it waits."""

    def __init__(self) -> None:
        super().__init__({b"2": REFUSED})
        self.first: DeliveryReport | None = None
        self.sent_again: list[tuple[int, int]] = []

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        if self.first is None:
            self.first, *_ = flight.take_reports(batch)
            self.values += batch.values
            return
        super().send(batch, flight, idle)

    def took_along(self, failures: object, idle: object) -> bool:
        assert self.first is not None
        self.first(REFUSED, None)
        return True

    def resend(self, failures: list[Failed], judge: object, idle: object) -> list[Failed]:
        for flight, index, _ in failures:
            self.sent_again += [(offset, index) for at, _, offset in flight.positions() if at == index]
            flight.settled.append(index)
        return []


def test_what_is_sent_again_is_in_the_order_of_reading_whenever_its_reports_came() -> None:
    run = Run([*batches(1, 3), None], LateReports())
    assert [offset for offset, _ in run.sink.sent_again] == [0, 2]  # type: ignore[attr-defined]


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_an_unknown_outcome_always_stops(policy: str) -> None:
    """Nobody knows whether it was written: to go on would be to guess."""
    run = Run([*batches(3), None], ListSink({b"1": UNKNOWN}), on_error=policy)
    assert run.counts == (3, 2, 0, 0, 1)
    assert run.committer.final == {PLACE: 1}
    assert isinstance(run.pipeline.error, UndeliveredError)


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_what_was_not_written_for_no_fault_of_its_own_always_stops(policy: str) -> None:
    """A producer that died, a right that is missing: --on-error acts on judgements, and this is none."""
    run = Run([*batches(3), None], ListSink({b"1": UNWRITTEN}), on_error=policy)
    assert run.counts == (3, 2, 0, 1, 0)
    assert run.committer.final == {PLACE: 1}
    assert isinstance(run.pipeline.error, UndeliveredError)
    assert run.said == []


def test_a_source_that_fails_is_drained_first() -> None:
    run = Run([*batches(2), KpipeError("the source broke")], ListSink({b"0": LATER, b"1": LATER}))
    assert run.counts == (2, 2, 0, 0, 0)
    assert str(run.pipeline.error) == "read: the source broke"
    assert run.committer.final == {PLACE: 2}


# --- the end ---------------------------------------------------------------------------------------------------


class Spilled:
    """A spill file in memory."""

    def __init__(self) -> None:
        self.indexes: list[int] = []

    def write(self, lost: Any) -> int:
        self.indexes += [index for _, index in lost]
        return len(self.indexes)


def test_what_is_never_acknowledged_is_purged_listed_and_spilled() -> None:
    spill = Spilled()
    run = Run(batches(4), ListSink({b"1": NEVER, b"3": NEVER}), spill=spill, flush_timeout=0.0)
    assert "purge" in run.sink.events
    assert run.counts == (4, 2, 0, 0, 2)
    assert run.committer.final == {PLACE: 1}
    assert spill.indexes == [1, 3]
    told = [where for where, _ in run.pipeline.lost]
    assert set(told) | {run.pipeline.error and run.pipeline.error.where} >= {"t[0]@1", "t[0]@3"}
    assert run.pipeline.error is not None
    assert run.pipeline.error.exit_code is Exit.UNDELIVERED


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_stage_that_raises_leaves_its_batch_unsent_and_known_to_be_so(on_error: str) -> None:
    """Nobody has to wonder whether they arrived, and no policy skips what was never tried."""

    def refuse(batch: Batch) -> None:
        if b"2" in batch.values:
            raise KpipeError("records are routed to where none may go")

    run = Run(batches(2, 3, 2), stages=(refuse,), on_error=on_error)

    assert run.sink.values == [b"0", b"1"]
    assert run.counts == (5, 2, 0, 3, 0)
    assert run.committer.final == {PLACE: 2}
    assert run.pipeline.lost == [(f"t[0]@{n}", "the run ended before it was sent") for n in (2, 3, 4)]
    assert "routed" in str(run.pipeline.error)


class UntriedSink(ListSink):
    """What is purged was still in the queue: certainly not written."""

    def purge(self) -> None:
        for report in self._never:
            report(REFUSED, None)
        self._never.clear()


def test_what_is_given_up_unsent_is_not_skipped() -> None:
    """`--on-error skip` is about records that a target refuses; what nobody tried to send comes again."""
    run = Run(batches(4), UntriedSink({b"1": NEVER, b"3": NEVER}), on_error="skip", flush_timeout=0.0)
    assert run.counts == (4, 2, 0, 2, 0)
    assert run.committer.final == {PLACE: 1}
    assert run.said == []
    assert run.pipeline.error is not None


def test_what_finds_no_room_before_the_end_is_not_skipped() -> None:
    stop = Stop()
    stop.signal, stop.deadline = signal.SIGTERM, 0.0
    sink, ledger, committer = ListSink(room=2), Ledger(keeps_offsets=True), ListCommitter()
    pipeline = Pipeline(ListSource(batches(4)), (), sink, committer, ledger, stop, on_error="skip")
    pipeline.turn()
    pipeline.drain()
    assert (ledger.read, ledger.delivered, ledger.failed, ledger.unknown) == (4, 2, 2, 0)
    assert committer.final == {PLACE: 2}


def test_a_second_signal_gives_up_what_is_in_flight() -> None:
    stop = Stop()
    stop.signal, stop.deadline = signal.SIGTERM, 0.0  # as if the drain's time was over
    source = batches(2, 2)
    run = Run(source, ListSink({b"0": NEVER}), stop=stop)
    assert run.counts == (0, 0, 0, 0, 0), "a signal before the first read: nothing is read"

    late = Stop(drain_timeout=0.0)

    def arrives(_batch: Batch) -> None:
        late._on_signal(signal.SIGTERM, None)

    run = Run(batches(2, 2), ListSink({b"0": NEVER}), stages=(arrives,), stop=late, flush_timeout=1e9)
    assert run.counts == (2, 1, 0, 0, 1)
    assert run.committer.final == {}


def test_a_full_sink_keeps_the_source_alive_and_gives_up_when_forced() -> None:
    stop = Stop()

    class Busy(ListSource):
        def keep_alive(self) -> None:
            super().keep_alive()
            if len(self.events) == 3:
                stop._on_signal(signal.SIGTERM, None)
                stop.deadline = 0.0

    source, sink, ledger = Busy(batches(3)), ListSink(room=1), Ledger(keeps_offsets=True)
    pipeline = Pipeline(source, (), sink, ListCommitter(), ledger, stop, patience=0.0)
    pipeline.run()

    assert source.events.count("keep_alive") >= 3
    assert (ledger.read, ledger.delivered, ledger.failed + ledger.unknown) == (3, 1, 2)
    assert ledger.balanced


# --- what a change of one word would break -----------------------------------------------------------------------


class ReportedLater(UntriedSink):
    """What is purged is reported by the next flush, as the client does it."""

    def purge(self) -> None:
        self.events.append("purge")

    def flush(self, timeout: float) -> bool:
        if "purge" in self.events:
            super().purge()
        return super().flush(timeout)


def test_the_reports_of_what_was_purged_are_heard() -> None:
    run = Run(batches(4), ReportedLater({b"1": NEVER}), flush_timeout=0.0)
    assert run.counts == (4, 3, 0, 1, 0)


def test_what_is_given_up_is_given_up_once() -> None:
    run = Run(batches(4), ListSink({b"1": NEVER}), flush_timeout=0.0)
    assert run.sink.events.count("purge") == 1


def test_records_that_nobody_can_explain_are_an_error_of_their_own() -> None:
    class Mute(ListSink):
        def purge(self) -> None:
            self.events.append("purge")

    run = Run(batches(2), Mute({b"1": NEVER}), flush_timeout=0.0)
    assert run.counts == (2, 1, 0, 0, 1)
    assert "1 record was not delivered before the end" in str(run.pipeline.error)
    assert run.pipeline.lost == [("t[0]@1", "not delivered in time")]


def test_what_was_refused_before_going_back_says_nothing_of_what_is_read_again() -> None:
    """A flight is used again: the refusal of its first record must not stick to the next batch."""
    ledger = Ledger(keeps_offsets=True)
    pipeline = Pipeline(ListSource(batches(1)), (), ListSink(), ListCommitter(), ledger, Stop())
    (batch,) = batches(1)
    flight = ledger.track(batch, batch.snapshot())
    pipeline.state.refused.append((flight, 0))
    pipeline.state.reasons[id(flight), 0] = "old"
    pipeline.state.rewind({})
    ledger._spare.append(flight)
    flight.reset()
    assert ledger.track(batch, batch.snapshot()) is flight
    pipeline.drain()
    assert (ledger.failed, ledger.unknown) == (0, 1)


def test_dead_letters_are_waited_for_in_the_drain() -> None:
    """`tests/unit/test_drain.py` has the letters; here they are the only thing under way."""
    from tests.unit.test_drain import Letters

    letters = Letters()
    run = Run(batches(3), ListSink({b"1": REFUSED}), dead_letters=letters, on_error="dlq")
    assert "flush" in letters.events
    assert run.ledger.dead_lettered == 1
    assert run.committer.final == {PLACE: 3}

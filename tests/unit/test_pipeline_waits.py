"""How long a run waits, for what, who hears of it meanwhile, and what it says at the end. The clock is the test's."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.errors import BadRecord, KpipeError, UndeliveredError
from kpipe.flight import Flight
from kpipe.ledger import Ledger
from kpipe.pipeline import (
    CLOSE_GRACE,
    COMMIT_GRACE,
    DRAIN_NOTICE,
    FLUSH_FAILURES,
    FLUSH_SLICE,
    LEAST,
    LEAVE_GRACE,
    TURN,
    Pipeline,
)
from kpipe.record import Batch
from kpipe.shutdown import Stop
from tests.fakes import LATER, NEVER, REFUSED, UNKNOWN, ListCommitter, ListSink, ListSource

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = ("t", 0)


def batch(*offsets: int) -> Batch:
    size = len(offsets)
    return Batch([b"%d" % n for n in offsets], topics=["t"] * size, partitions=[0] * size, offsets=list(offsets))


class Run:
    """A pipeline on lists with a clock of its own; `flushing` is told of every flush."""

    def __init__(self, steps: list[Any], script: dict[bytes, str] | None = None, **more: Any) -> None:
        self.now = 0.0
        self.source, self.sink, self.committer = ListSource(steps), ListSink(script), ListCommitter()
        self.ledger = Ledger(keeps_offsets=True)
        self.stop = Stop(drain_timeout=9.0, clock=lambda: self.now)
        self.said: list[str] = []
        self.slept: list[float] = []
        self.observed: list[float] = []
        self.slices: list[float] = []
        self.limits: dict[str, float] = {}
        self.on_flush: Callable[[int], None] = lambda _number: None
        flush = self.sink.flush

        def slow(timeout: float) -> bool:
            self.slices.append(timeout)
            self.on_flush(len(self.slices))
            done = flush(timeout)
            self.now += 0.0 if done else timeout
            return done

        self.sink.flush = slow  # type: ignore[method-assign]
        self._limit(self.source, "close", "source")
        self._limit(self.sink, "close", "sink")
        committer: Any = self.committer
        finish = committer.finish

        def finishing(ledger: Ledger, timeout: float) -> None:
            self.limits["commit"] = timeout
            finish(ledger, timeout)

        committer.finish = finishing
        self.pipeline = Pipeline(
            self.source, (), self.sink, self.committer, self.ledger, self.stop,
            say=self.said.append, clock=lambda: self.now, sleep=self._sleep, observers=[lambda: self.observed.append(self.now)], **more,
        )  # fmt: skip

    def _limit(self, part: Any, method: str, name: str) -> None:
        inner = getattr(part, method)

        def limited(timeout: float) -> None:
            self.limits[name] = timeout
            inner(timeout)

        setattr(part, method, limited)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def signal(self) -> None:
        self.stop._on_signal(signal.SIGTERM, None)

    def run(self) -> Run:
        self.pipeline.run()
        assert self.ledger.balanced
        assert self.ledger.in_flight == 0
        return self


# --- the end of the input ------------------------------------------------------------------------------------------


def test_the_end_waits_as_long_as_reports_come_in_and_observers_hear_of_it() -> None:
    """Records of one batch over a thin link: it gave up in the middle of the batch, for only whole ones counted."""
    run = Run([batch(0, 1, 2)], {b"0": NEVER, b"1": NEVER, b"2": NEVER}, flush_timeout=10.0)

    def one_more(number: int) -> None:
        if number in {80, 160, 240}:  # every 8 s: never 10 s without one
            run.sink._never.pop(0)(None, None)

    run.on_flush = one_more
    run.run()
    assert (run.ledger.delivered, run.pipeline.error) == (3, None)
    assert run.now > 20.0
    assert set(run.slices) == {FLUSH_SLICE}
    assert max(after - before for before, after in zip(run.observed, run.observed[1:], strict=False)) < 0.2


def test_the_end_gives_up_when_no_report_comes_any_more() -> None:
    run = Run([batch(0)], {b"0": NEVER}, flush_timeout=10.0).run()
    assert run.ledger.unknown == 1
    assert 10.0 <= run.now <= 10.3
    assert run.sink.events.count("purge") == 1


def test_a_flush_that_fails_now_and_then_is_asked_on() -> None:
    run = Run([batch(0)], {b"0": NEVER}, flush_timeout=1e9)

    def sometimes(number: int) -> None:
        if number == 100:
            run.sink._never.pop(0)(None, None)
        elif number % 5:
            raise KpipeError(f"flush {number}")

    run.on_flush = sometimes
    run.run()
    assert (run.ledger.delivered, len(run.slices)) == (1, 100)
    assert str(run.pipeline.error) == "read: flush 1"


def test_without_a_signal_the_last_steps_have_their_usual_time() -> None:
    run = Run([batch(0)]).run()
    assert run.limits == {"commit": 10.0, "source": 5.0, "sink": 1.0}


def test_after_a_signal_the_last_steps_have_what_is_left_and_some_grace() -> None:
    run = Run([batch(0), None, None], {b"0": NEVER})
    run.pipeline.stages = [lambda _batch: run.signal()]
    run.run()
    assert run.now == pytest.approx(9.0, abs=0.2)
    assert run.limits == {
        "commit": pytest.approx(COMMIT_GRACE, abs=0.2),
        "source": pytest.approx(LEAVE_GRACE, abs=0.2),
        "sink": pytest.approx(CLOSE_GRACE, abs=0.2),
    }


def test_with_all_time_used_up_each_step_has_a_moment() -> None:
    run = Run([batch(0), None])
    run.pipeline.stages = [lambda _batch: run.signal()]
    run.on_flush = lambda _number: setattr(run, "now", 60.0)
    run.run()
    assert run.limits == {"commit": LEAST, "source": LEAST, "sink": LEAST}


# --- what a person hears -------------------------------------------------------------------------------------------


def test_a_drain_that_takes_long_after_a_signal_is_explained_once() -> None:
    run = Run([batch(*range(1200)), None], {b"%d" % n: NEVER for n in range(1200)})
    run.pipeline.stages = [lambda _batch: run.signal()]
    run.run()
    (told,) = run.said
    assert told.startswith("stopping: waiting for 1,200 records that were read for up to 8 s more")
    assert told.endswith("a second signal gives them up")


def test_a_drain_is_not_explained_before_one_wonders_or_without_a_signal() -> None:
    run = Run([batch(0), None], {b"0": NEVER})
    run.pipeline.stages = [lambda _batch: run.signal()]

    def soon(number: int) -> None:
        if number == round(DRAIN_NOTICE / FLUSH_SLICE) - 1:
            run.sink._never.pop(0)(None, None)

    run.on_flush = soon
    assert run.run().said == []
    assert Run([batch(0)], {b"0": NEVER}, flush_timeout=5.0).run().said == []


def test_records_that_are_left_are_told_with_their_reasons_the_first_as_the_error() -> None:
    run = Run([batch(0, 1, 2)], {b"0": UNKNOWN, b"1": REFUSED, b"2": UNKNOWN}).run()
    assert str(run.pipeline.error) == "send: t[0]@0: the sink says unknown"
    assert run.pipeline.lost == [("t[0]@1", "the sink says refused"), ("t[0]@2", "the sink says unknown")]
    assert (run.ledger.failed, run.ledger.unknown) == (1, 2)


def test_a_spill_that_fails_is_told_and_positions_are_still_listed() -> None:
    class Full:
        def write(self, _lost: Any) -> int:
            raise OSError(28, "No space left on device", "spill.jsonl")

    run = Run([batch(0, 1)], {b"0": NEVER, b"1": NEVER}, flush_timeout=0.0, spill=Full()).run()
    assert run.said == ["read: spill.jsonl: No space left on device"]
    assert {where for where, _ in run.pipeline.lost} | {run.pipeline.error.where if run.pipeline.error else ""} >= {
        "t[0]@1"
    }


def test_with_nothing_left_there_is_no_spill() -> None:
    written: list[Any] = []

    class Spill:
        def write(self, lost: Any) -> int:
            written.append(lost)
            return len(lost)

    Run([batch(0)], spill=Spill()).run()
    assert written == []


# --- a sink without room -------------------------------------------------------------------------------------------


def waiting(run: Run, seconds: float) -> list[bool]:
    """What whoever waits for room is told, ten times a second."""
    answers: list[bool] = []
    until = run.now + seconds
    while run.now < until:
        answers.append(run.pipeline.idle())
        run.now += 0.1
    return answers


def test_whoever_waits_keeps_the_place_in_the_group_and_observers_hear_of_it() -> None:
    run = Run([])
    assert all(waiting(run, 5.05))
    assert run.source.events.count("keep_alive") == pytest.approx(4.5, abs=0.6)  # once a second
    assert len(run.observed) >= 50


def test_after_a_read_the_group_is_content_for_a_while() -> None:
    run = Run([None, None])
    run.now = 100.0
    run.pipeline.turn()
    run.pipeline.idle()
    assert run.source.events == []


def test_without_trouble_nobody_gives_up_waiting() -> None:
    assert all(waiting(Run([], flush_timeout=1.0), 5.0))


@pytest.mark.parametrize("ending", ["error", "drain"])
def test_once_the_run_ends_the_wait_has_its_time_and_no_more(ending: str) -> None:
    run = Run([], flush_timeout=2.0)
    if ending == "error":
        run.pipeline.state.error = KpipeError("first")
    else:
        run.pipeline.state.draining = True
    answers = waiting(run, 4.0)
    assert answers.count(True) == pytest.approx(20, abs=1)
    assert answers == sorted(answers, reverse=True), "once it says no it does not change its mind"


def test_what_was_given_up_is_not_waited_for_again() -> None:
    run = Run([])
    run.pipeline._gave_up = True
    assert run.pipeline.idle() is False
    assert (run.source.events, run.observed) == ([], [])


def test_a_flush_that_fails_every_time_is_asked_a_few_times() -> None:
    run = Run([batch(0)], {b"0": NEVER}, flush_timeout=1e9)

    def fail(_number: int) -> None:
        raise KpipeError("no")

    run.on_flush = fail
    run.run()
    assert len(run.slices) == FLUSH_FAILURES + 1, "and once for what was purged"


def test_observers_learn_of_the_drain_before_its_first_step() -> None:
    run = Run([batch(0)])
    seen: list[tuple[bool, list[str]]] = []
    run.pipeline.observers.append(lambda: seen.append((run.pipeline.state.draining, list(run.source.events))))
    run.run()
    assert (True, []) in seen


def test_a_second_signal_ends_the_wait_for_good() -> None:
    run = Run([])
    run.signal()
    run.now = 9.0
    assert run.pipeline.idle() is False
    assert run.pipeline._gave_up


def test_a_run_that_has_lost_its_purpose_ends_the_wait_with_its_reason() -> None:
    run = Run([])

    def gone() -> None:
        raise KpipeError("nobody reads stdout")

    run.pipeline.watch = gone
    assert run.pipeline.idle() is False
    assert "nobody reads stdout" in str(run.pipeline.error)


# --- turns ---------------------------------------------------------------------------------------------------------


def test_every_turn_serves_the_sink_watches_and_is_seen() -> None:
    watched: list[int] = []
    run = Run([batch(0), None, Batch([]), None], watch=lambda: watched.append(1))
    polls: list[int] = []
    poll = run.sink.poll
    run.sink.poll = lambda: (polls.append(1), poll())[1]  # type: ignore[method-assign,func-returns-value]
    for turns in range(1, 4):
        run.pipeline.turn()
        assert (len(polls), len(watched), len(run.observed)) == (turns, turns, turns)


def test_a_run_without_a_group_commits_nothing_and_needs_no_committer() -> None:
    run = Run([batch(0)])
    run.pipeline.committer = None
    run.run()
    assert (run.ledger.delivered, run.committer.final) == (1, None)


def test_enough_ends_the_reading_whatever_the_source_has() -> None:
    run = Run([batch(0), batch(1), batch(2)])
    run.pipeline.enough = lambda: len(run.sink.values) >= 2
    run.run()
    assert run.sink.values == [b"0", b"1"]
    assert run.committer.final == {PLACE: 2}


def test_contents_are_kept_for_a_dead_letter_and_for_nothing_else() -> None:
    kept: list[Any] = []

    class Letters:
        refused: tuple[()] = ()

        def poll(self) -> None: ...
        def purge(self) -> None: ...
        def close(self, _timeout: float) -> None: ...

        def flush(self, _timeout: float) -> bool:
            return True

    for letters in (None, Letters()):
        run = Run([batch(0)], {b"0": LATER}, dead_letters=letters)
        run.pipeline.turn()
        kept.append(run.ledger.flights[0].origin.values)  # type: ignore[union-attr]
        run.run()
    assert kept == [[], [b"0"]]


# --- skipping, copies, letters -------------------------------------------------------------------------------------


def test_a_record_that_a_transaction_reads_again_is_told_once_and_outside_of_one_each_time() -> None:
    class Transaction:
        def take_back(self, _failures: Any) -> bool:
            return False

        def commit_all(self) -> bool:
            return True

        def conclude(self, _timeout: float) -> None: ...

    def refuse(records: Batch) -> None:
        records.reject({0: BadRecord("is bad", where="t[0]@7")})

    for transaction, times in ((Transaction(), 1), (None, 2)):
        run = Run([batch(7), batch(7)], on_error="skip", transaction=transaction)
        run.pipeline.stages = [refuse]
        run.run()
        assert run.said == ["decode: t[0]@7: is bad; skipped (--on-error skip)"] * times
        assert (run.ledger.failed, run.ledger.delivered) == (2, 0)


def test_a_record_that_two_targets_refuse_is_one_failure() -> None:
    run = Run([batch(0, 1)], on_error="skip")
    flight = run.ledger.track(batch(5), batch(5))
    flight.expect(0)
    error = UndeliveredError("no")
    run.pipeline._take_out(flight, 0, error)
    run.pipeline._take_out(flight, 0, error)
    run.ledger.settle()
    assert (run.ledger.failed, run.ledger.in_flight, len(run.said)) == (1, 0, 1)


class SlowLetters:
    """Letters that are acknowledged after so many flushes (never: 10**9), one of them refused before."""

    def __init__(self, run: Callable[[], Run], flushes: int) -> None:
        self.refused: list[tuple[Flight, int]] = []
        self.waiting: list[tuple[Flight, int]] = []
        self.left, self.run = flushes, run
        self.events: list[str] = []
        self.slices: list[float] = []

    def send(self, flight: Flight, index: int, _error: Any, _idle: Any) -> None:
        self.waiting.append((flight, index))

    def poll(self) -> None:
        self.events.append("poll")

    def flush(self, timeout: float) -> bool:
        self.slices.append(timeout)
        self.left -= 1
        self.run().now += timeout
        if self.left > 0:
            return False
        for flight, index in self.waiting:
            flight.dead_lettered += 1
            flight.settled.append(index)
        self.waiting.clear()
        return True

    def purge(self) -> None:
        self.events.append("purge")
        self.refused += self.waiting

    def close(self, timeout: float) -> None:
        self.events.append(f"close {timeout:.1f}")


def with_letters(flushes: int, **more: Any) -> tuple[Run, SlowLetters]:
    letters = SlowLetters(lambda: run, flushes)
    run = Run([batch(0, 1)], {b"1": REFUSED}, on_error="dlq", dead_letters=letters, **more)
    return run, letters


def test_letters_are_waited_for_and_observers_hear_of_it() -> None:
    run, letters = with_letters(30)
    run.run()
    assert (run.ledger.delivered, run.ledger.dead_lettered) == (1, 1)
    assert len(letters.slices) == 30
    assert set(letters.slices) == {FLUSH_SLICE}
    assert len(run.observed) >= 30
    assert letters.events[-2:] == ["poll", "close 1.0"]


def test_letters_that_do_not_arrive_are_given_up_and_known_not_to_be_written() -> None:
    run, letters = with_letters(10**9, flush_timeout=3.0)
    run.run()
    assert len(letters.slices) == pytest.approx(30, abs=1)
    assert letters.events.count("purge") == 1
    assert (run.ledger.delivered, run.ledger.failed, run.ledger.unknown) == (1, 1, 0)
    assert run.committer.final == {PLACE: 1}


def test_a_second_signal_waits_for_no_letter() -> None:
    run, letters = with_letters(10**9)
    run.pipeline.stages = [lambda _batch: run.signal()]
    run.on_flush = lambda _number: setattr(run, "now", max(run.now, 9.0))
    run.run()
    assert (len(letters.slices), letters.events.count("purge")) == (1, 1)


# --- transactions at the end ---------------------------------------------------------------------------------------


class Books:
    """A transaction that says "done" only at the look with this number."""

    def __init__(self, run: Callable[[], Run], looks: int) -> None:
        self.left, self.run = looks, run
        self.concluded: list[float] = []

    def take_back(self, _failures: Any) -> bool:
        return False

    def commit_all(self) -> bool:
        self.left -= 1
        return self.left <= 0

    def conclude(self, timeout: float) -> None:
        self.concluded.append(timeout)


def test_a_transaction_that_cannot_end_yet_is_asked_a_few_times_a_second_in_its_group() -> None:
    books = Books(lambda: run, 10)
    run = Run([batch(0)], transaction=books)
    run.run()
    assert run.slept == [TURN] * 9
    assert run.source.events.count("keep_alive") == 9
    assert len(run.observed) >= 10
    assert books.concluded == [30.0]


def test_a_transaction_that_was_aborted_at_the_end_goes_on_reading() -> None:
    books = Books(lambda: run, 2)
    run = Run([batch(0)], transaction=books)

    def again(_flight: Any) -> None:
        if books.left == 1 and not run.source._batches and run.source.finished:
            run.source._batches.append(batch(1))
            run.source.finished = False

    look = run.pipeline._look_at_failures
    assert look is not None
    commit_all = books.commit_all

    def abort_once() -> bool:
        done = commit_all()
        if not done:
            again(None)
        return done

    books.commit_all = abort_once  # type: ignore[method-assign]
    run.run()
    assert (run.sink.values, run.slept) == ([b"0", b"1"], [])


def test_a_signal_ends_the_wait_for_a_transaction() -> None:
    books = Books(lambda: run, 10**9)
    run = Run([batch(0)], transaction=books)
    run.pipeline.sleep = lambda _seconds: run.signal()
    run.run()
    assert books.concluded == [9.0]


# --- a call that does not come back --------------------------------------------------------------------------------


def test_what_is_abandoned_is_unknown_and_the_books_are_closed_once() -> None:
    run = Run([batch(0, 1)], {b"1": NEVER})
    run.pipeline.turn()
    run.pipeline.abandon()
    assert "a call did not come back" in str(run.pipeline.error)
    assert (run.ledger.delivered, run.ledger.unknown, run.ledger.balanced) == (1, 1, True)
    run.pipeline._close_books()
    assert run.ledger.unknown == 1


@pytest.mark.parametrize("concluded", [True, False])
def test_an_abandoned_transaction_leaves_nothing_known_unless_it_was_concluded(concluded: bool) -> None:
    books = Books(lambda: run, 1)
    run = Run([batch(0, 1), None], transaction=books)
    run.pipeline.turn()
    if concluded:
        run.pipeline._conclude()
    run.pipeline.abandon()
    assert (run.ledger.delivered, run.ledger.unknown) == ((2, 0) if concluded else (0, 2))

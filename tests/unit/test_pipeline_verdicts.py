"""Who decides about a record that failed, in which order, and what is kept of it for the end."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.errors import BadRecord, Interrupted, KpipeError
from kpipe.flight import Unsent
from kpipe.ledger import Ledger
from kpipe.pipeline import Pipeline
from kpipe.record import Batch
from kpipe.shutdown import Stop
from tests.fakes import LATER, NEVER, REFUSED, UNKNOWN, ListCommitter, ListSink, ListSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import Flight

PLACE = ("t", 0)


def batch(*offsets: int) -> Batch:
    size = len(offsets)
    return Batch([b"%d" % n for n in offsets], topics=["t"] * size, partitions=[0] * size, offsets=list(offsets))


def pipeline(steps: list[Any], script: dict[bytes, str] | None = None, **more: Any) -> Pipeline:
    sink = more.pop("sink", None) or ListSink(script)
    said: list[str] = []
    stop = more.pop("stop", None) or Stop()
    stages = more.pop("stages", ())
    return Pipeline(
        ListSource(steps), stages, sink, ListCommitter(), Ledger(keeps_offsets=True), stop, say=said.append, **more
    )


def final(run: Pipeline) -> Any:
    return run.committer.final  # type: ignore[union-attr]


class Transaction:
    """Takes back what it is asked to, as often as `takes` says."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.asked: list[list[int]] = []

    def take_back(self, failures: Any) -> bool:
        self.asked.append([index for _, index, _ in failures])
        self.takes -= 1
        return self.takes >= 0

    def commit_all(self) -> bool:
        return True

    def conclude(self, _timeout: float) -> None: ...


def test_what_a_transaction_takes_back_is_judged_by_nobody() -> None:
    transaction = Transaction(takes=1)
    run = pipeline([batch(0, 1), None], {b"1": REFUSED}, transaction=transaction)
    run.turn()
    assert (transaction.asked, run.error, run.state.refused) == ([[1]], None, [])


def test_what_it_leaves_is_judged_as_ever() -> None:
    transaction = Transaction(takes=0)
    run = pipeline([batch(0, 1), None], {b"1": REFUSED}, transaction=transaction)
    run.run()
    assert transaction.asked == [[1]]
    assert str(run.error) == "send: t[0]@1: the sink says refused"


def test_in_the_drain_nothing_is_taken_back() -> None:
    """Nothing is read again after the end: what failed there is told."""
    transaction = Transaction(takes=99)
    run = pipeline([batch(0, 1)], {b"1": NEVER}, transaction=transaction, flush_timeout=0.0)
    run.run()
    assert transaction.asked == []
    assert run.error is not None


def test_without_failures_nobody_is_asked() -> None:
    transaction = Transaction(takes=99)
    run = pipeline([batch(0), None], transaction=transaction)
    run.run()
    assert transaction.asked == []


class Bisecting(ListSink):
    """Sends again what fell with a batch; `answers` says what becomes of it then."""

    def __init__(self, script: dict[bytes, str], answers: dict[int, str] | None = None) -> None:
        super().__init__(script)
        self.answers = answers or {}
        self.asked = 0
        self.resent: list[int] = []

    def took_along(self, failures: Any, idle: Callable[[], bool]) -> bool:
        self.asked += 1
        return True

    def resend(self, failures: Any, judge: Any, idle: Any) -> list[Any]:
        left = []
        for flight, index, _report in failures:
            self.resent.append(index)
            if index in self.answers:
                left.append((flight, index, self.answers[index]))
            else:
                flight.settled.append(index)
        return left


def test_what_fell_with_its_batch_is_sent_again_and_only_what_fails_then_is_judged() -> None:
    sink = Bisecting({b"0": REFUSED, b"1": REFUSED, b"2": REFUSED}, {1: REFUSED})
    run = pipeline([batch(0, 1, 2), None], sink=sink, on_error="skip")
    run.run()
    assert (sink.asked, sink.resent) == (1, [0, 1, 2])
    assert (run.ledger.delivered, run.ledger.failed, run.error) == (2, 1, None)


def test_after_giving_up_nothing_is_sent_again() -> None:
    sink = Bisecting({b"0": NEVER})
    run = pipeline([batch(0)], sink=sink, flush_timeout=0.0)
    run.run()
    assert (sink.asked, sink.resent) == (0, [])
    assert run.ledger.unknown == 1


@pytest.mark.parametrize(
    ("fate", "policy", "failed", "unknown", "committed"),
    [
        (REFUSED, "skip", 1, 0, 3),
        (REFUSED, "stop", 1, 0, 1),
        (UNKNOWN, "skip", 0, 1, 1),
        (UNKNOWN, "stop", 0, 1, 1),
    ],
)
def test_a_policy_acts_on_judgements_and_on_nothing_else(
    fate: str, policy: str, failed: int, unknown: int, committed: int
) -> None:
    run = pipeline([batch(0, 1, 2), None], {b"1": fate}, on_error=policy)
    run.run()
    assert (run.ledger.failed, run.ledger.unknown, final(run)) == (failed, unknown, {PLACE: committed})


def test_the_first_reason_of_a_record_is_the_one_that_is_told() -> None:
    run = pipeline([batch(0)])
    flight = run.ledger.track(batch(5), batch(5))
    run._decide(flight, 0, UNKNOWN)
    run._decide(flight, 0, REFUSED)
    assert str(run.state.reasons[id(flight), 0]) == "send: t[0]@5: the sink says unknown"
    assert run.error is run.state.reasons[id(flight), 0]
    assert run.state.refused == [(flight, 0)]


def test_a_record_without_a_place_is_told_without_one() -> None:
    run = pipeline([])
    flight = run.ledger.track(batch(5), batch(5))
    flight.origin = None
    assert run._judge(flight, 0, UNKNOWN) is False
    assert str(run.error) == "send: the sink says unknown"
    assert run._judge(flight, 0, UNKNOWN) is False


def test_what_was_never_sent_is_known_not_to_be_written_and_stops_those_behind_it() -> None:
    run = pipeline([], on_error="skip")
    flight = run.ledger.track(batch(5), batch(5))
    assert run._judge(flight, 0, Unsent()) is False
    assert run.state.refused == [(flight, 0)]
    assert "the run ended before it was sent" in str(run.state.reasons[id(flight), 0])
    assert run.error is None


def test_a_record_that_is_skipped_lets_those_behind_it_go_on() -> None:
    run = pipeline([], on_error="skip")
    flight = run.ledger.track(batch(5), batch(5))
    assert run._judge(flight, 0, REFUSED) is True
    assert run.error is None


# --- what ends a run -----------------------------------------------------------------------------------------------


def test_a_signal_that_interrupts_a_call_is_no_error_and_any_other_error_is() -> None:
    stop = Stop()
    stop._on_signal(signal.SIGTERM, None)
    run = pipeline([], stop=stop)
    run._note(Interrupted("stopped"))
    assert run.error is None
    run._note(KpipeError("first"))
    run._note(KpipeError("second"))
    assert str(run.error) == "read: first"


def test_an_interruption_without_a_signal_is_an_error() -> None:
    run = pipeline([])
    run._note(Interrupted("by whom?"))
    assert "by whom?" in str(run.error)


def test_a_run_is_over_by_its_limit_its_source_its_error_or_a_signal() -> None:
    run = pipeline([batch(0), batch(1)], limit=2)
    assert not run.is_over()
    run.state.sent = 1
    assert not run.is_over()
    run.state.sent = 2
    assert run.is_over()
    run = pipeline([batch(0)])
    run.state.error = KpipeError("x")
    assert run.is_over()
    run = pipeline([batch(0)], enough=lambda: False)
    assert not run.is_over()
    run.stop._on_signal(signal.SIGTERM, None)
    assert run.is_over()


def test_the_earliest_bad_record_of_a_batch_is_the_one_that_ends_it() -> None:
    def refuse(records: Batch) -> None:
        records.reject({3: BadRecord("late"), 1: BadRecord("early")})

    run = pipeline([batch(0, 1, 2, 3)], stages=(refuse,))
    run.run()
    assert str(run.error) == "decode: t[0]@1: early"
    assert (run.ledger.read, run.ledger.delivered, run.ledger.failed) == (2, 1, 1)
    assert (final(run), run.lost) == ({PLACE: 1}, [])


def test_of_a_batch_whose_letter_could_not_be_sent_only_the_rest_is_unsent() -> None:
    class Letters:
        refused: tuple[()] = ()

        def __init__(self) -> None:
            self.sent: list[int] = []

        def send(self, flight: Flight, index: int, _error: KpipeError, _idle: Any) -> None:
            if self.sent:
                raise KpipeError("no room")
            self.sent.append(index)
            flight.dead_lettered += 1
            flight.settled.append(index)

        def poll(self) -> None: ...
        def purge(self) -> None: ...
        def close(self, _timeout: float) -> None: ...

        def flush(self, _timeout: float) -> bool:
            return True

    def refuse(records: Batch) -> None:
        records.reject({0: BadRecord("first"), 2: BadRecord("second")})

    run = pipeline([batch(0, 1, 2, 3)], stages=(refuse,), on_error="dlq", dead_letters=Letters())
    run.run()
    assert (run.ledger.dead_lettered, run.ledger.failed, run.ledger.unknown) == (1, 3, 0)
    assert final(run) == {PLACE: 1}
    assert "no room" in str(run.error)


def test_what_is_lost_is_listed_in_the_order_of_reading_with_what_is_known() -> None:
    run = pipeline([batch(0, 1), batch(2)], {b"0": NEVER, b"1": LATER, b"2": NEVER}, flush_timeout=0.0)
    run.run()
    where = [run.error.where if run.error else "", *(place for place, _ in run.lost)]
    assert where == ["t[0]@0", "t[0]@2"]
    assert run.ledger.unknown == 2


def test_a_fault_of_ours_while_a_record_is_judged_is_told_and_the_record_known_not_to_be_written() -> None:
    class Broken(ListSink):
        def explain(self, error: object, where: str, _record: Any = None) -> KpipeError:
            raise ValueError("odd")

    run = pipeline([], sink=Broken())
    flight = run.ledger.track(batch(5), batch(5))
    assert run._judge(flight, 0, REFUSED) is False
    assert "odd" in str(run.error)
    assert run.state.refused == [(flight, 0)]

"""Every way a transaction call can end, with a scripted producer: which call follows, and what may be concluded."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kpipe.delivery.transaction import SLICE, FencedError, Outcome, TransactionLine, generation
from kpipe.errors import KpipeError, Stage, UndeliveredError, UnreachableError
from kpipe.kafka.troubles import Troubles

OFFSETS = {("orders", 0): 7}
MEMBER = b"CGMDv2:" + (3).to_bytes(4, sys.byteorder, signed=True)


def failing(code: int = KafkaError._STATE, *, retriable: bool = False, abort: bool = False, fatal: bool = False) -> Any:
    return KafkaException(KafkaError(code, "scripted", fatal, retriable, abort))


TIMED_OUT = failing(KafkaError._TIMED_OUT, retriable=True)
ABORTABLE = failing(KafkaError.UNKNOWN_MEMBER_ID, abort=True)
FENCED = failing(KafkaError._FENCED, fatal=True)
ODD = failing()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def take(self, seconds: float, error: Exception | None = None) -> None:
        """A call that takes so long, and how it ends."""
        self.now += seconds
        if error is not None:
            raise error


class ScriptedProducer:
    """Answers each call with what the script says for it; a call that is not in the script succeeds."""

    def __init__(self, clock: Clock, script: dict[str, list[Any]] | None = None) -> None:
        self.calls: list[str] = []
        self.sent: list[Any] = []
        self._clock = clock
        self._script = script or {}

    def _call(self, name: str, timeout: float = 0.0) -> None:
        self.calls.append(name)
        answers = self._script.get(name, [])
        answer = answers.pop(0) if answers else None
        if answer is TIMED_OUT:
            self._clock.now += timeout
        if answer is not None:
            raise answer

    def init_transactions(self, timeout: float) -> None:
        self._call("init", timeout)

    def begin_transaction(self) -> None:
        self._call("begin")

    def send_offsets_to_transaction(self, offsets: Any, _metadata: Any, timeout: float) -> None:
        self.sent.append([(entry.topic, entry.partition, entry.offset) for entry in offsets])
        self._call("offsets", timeout)

    def commit_transaction(self, timeout: float) -> None:
        self._call("commit", timeout)

    def abort_transaction(self, timeout: float) -> None:
        self._call("abort", timeout)

    def purge(self) -> None:
        self.calls.append("purge")

    def poll(self, _timeout: float) -> int:
        if answers := self._script.get("poll"):
            raise answers.pop(0)
        return 0

    def close(self) -> None:
        self.calls.append("close")


class Lab:
    """A line over scripted producers: the first has the script, those that replace it have `later`."""

    def __init__(self, later: dict[str, list[Any]] | None = None, **script: list[Any]) -> None:
        self.clock = Clock()
        self.first = ScriptedProducer(self.clock, script)
        self.replaced: list[ScriptedProducer] = []
        self._later = later or {}
        self.line = TransactionLine(self.first, Troubles("t"), self._open, "t:id", 10.0, self.clock)  # type: ignore[arg-type]

    def _open(self) -> Any:
        self.replaced.append(ScriptedProducer(self.clock, self._later))
        return self.replaced[-1], Troubles("t")

    def commit(self) -> Outcome:
        self.line.begin()
        return self.line.commit(OFFSETS, MEMBER, 10.0)


def test_a_commit_sends_the_offsets_first() -> None:
    lab = Lab()
    lab.line.start(5)

    assert lab.commit() is Outcome.COMMITTED
    assert lab.first.calls == ["init", "begin", "offsets", "commit"]
    assert lab.first.sent == [[("orders", 0, 7)]]
    assert not lab.line.is_open


def test_init_is_called_again_while_it_may_be() -> None:
    lab = Lab(init=[TIMED_OUT, TIMED_OUT])
    lab.line.start(5)
    assert lab.first.calls == ["init"] * 3


@pytest.mark.parametrize("call", ["offsets", "commit", "abort"])
def test_whoever_looks_on_hears_of_a_wait_for_the_coordinator(call: str) -> None:
    """A service manager with WatchdogSec=60 must not end a run that only waits for its transaction."""
    lab = Lab(**{call: [TIMED_OUT, TIMED_OUT]})
    lab.line.start(5)
    heard: list[float] = []
    lab.line.progress = lambda: heard.append(lab.clock())
    if call == "abort":
        lab.line.begin()
        lab.line.abort(10.0)
    else:
        lab.commit()
    assert len({at for at in heard if at > 0}) >= 2


def test_init_gives_up_in_time() -> None:
    lab = Lab(init=[TIMED_OUT] * 9)
    with pytest.raises(UnreachableError):
        lab.line.start(5)
    assert len(lab.first.calls) <= 4


def test_nothing_is_waited_for_once_the_drain_is_over() -> None:
    """Offsets that hang (librdkafka#5511) held a run up for a minute after its SIGTERM."""
    lab = Lab(offsets=[TIMED_OUT] * 9)
    lab.line.given_up = lambda: lab.first.calls.count("offsets") == 2
    assert lab.commit() is Outcome.ABORTED
    assert lab.first.calls.count("offsets") == 2


def test_an_id_that_is_not_allowed_is_said_so() -> None:
    lab = Lab(init=[failing(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, fatal=True)])
    with pytest.raises(UnreachableError, match="not authorised"):
        lab.line.start(5)


@pytest.mark.parametrize("call", ["offsets", "commit"])
def test_an_abortable_error_aborts(call: str) -> None:
    lab = Lab(**{call: [ABORTABLE]})
    assert lab.commit() is Outcome.ABORTED
    assert lab.first.calls[-1] == "abort"
    assert not lab.replaced
    assert lab.line.reason == "scripted"


@pytest.mark.parametrize("call", ["offsets", "commit"])
def test_a_retry_that_succeeds_commits_and_replaces_the_producer_before_the_next(call: str) -> None:
    """KIP-890 is missing in librdkafka: a late answer to the first call could end the next transaction."""
    lab = Lab(**{call: [TIMED_OUT]})
    assert lab.commit() is Outcome.COMMITTED
    assert not lab.replaced
    lab.line.begin()
    assert [producer.calls for producer in lab.replaced] == [["init", "begin"]]


def test_offsets_that_time_out_for_good_are_not_committed() -> None:
    lab = Lab(offsets=[TIMED_OUT] * 20)
    assert lab.commit() is Outcome.ABORTED
    assert "commit" not in lab.first.calls
    assert len(lab.replaced) == 1


def test_a_commit_that_times_out_for_good_is_unknown() -> None:
    lab = Lab(commit=[TIMED_OUT] * 20)
    assert lab.commit() is Outcome.UNKNOWN
    assert lab.line.in_doubt
    assert [producer.calls for producer in lab.replaced] == [["init"]]


def test_a_commit_that_timed_out_and_is_abortable_then_is_unknown() -> None:
    lab = Lab(commit=[TIMED_OUT, ABORTABLE])
    assert lab.commit() is Outcome.UNKNOWN
    assert len(lab.replaced) == 1


def test_an_unexplained_commit_error_is_unknown() -> None:
    lab = Lab(commit=[ODD])
    assert lab.commit() is Outcome.UNKNOWN
    assert len(lab.replaced) == 1


def test_unexplained_offsets_error_replaces_the_producer_and_counts_as_aborted() -> None:
    lab = Lab(offsets=[ODD])
    assert lab.commit() is Outcome.ABORTED
    assert len(lab.replaced) == 1


@pytest.mark.parametrize("call", ["begin", "offsets", "commit"])
@pytest.mark.parametrize("code", [KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH])
def test_fenced_ends_it_and_names_both_causes(call: str, code: int) -> None:
    lab = Lab(**{call: [failing(code, fatal=True)]})
    with pytest.raises(FencedError, match="another process uses this transactional id, or the transaction timed out"):
        lab.commit()
    assert lab.line.fenced
    assert not lab.replaced
    assert not lab.line.in_doubt


def test_fenced_after_a_doubtful_commit_is_in_doubt() -> None:
    lab = Lab(commit=[TIMED_OUT, FENCED])
    with pytest.raises(FencedError):
        lab.commit()
    assert lab.line.in_doubt


def test_an_abort_that_fails_replaces_the_producer() -> None:
    lab = Lab(abort=[ODD])
    lab.line.begin()
    lab.line.abort(5)
    assert [producer.calls for producer in lab.replaced] == [["init"]]
    assert not lab.line.is_open


def test_an_abort_is_called_again() -> None:
    lab = Lab(abort=[TIMED_OUT])
    lab.line.begin()
    lab.line.abort(5)
    assert lab.first.calls == ["begin", "abort", "abort"]


def test_a_producer_that_cannot_be_replaced_is_an_error() -> None:
    lab = Lab(later={"init": [TIMED_OUT] * 20}, commit=[ODD])
    with pytest.raises(UnreachableError):
        lab.commit()
    assert lab.line.in_doubt


def test_a_begin_that_fails_gets_a_new_producer_once() -> None:
    lab = Lab(begin=[ODD])
    lab.line.begin()
    assert lab.line.is_open
    assert [producer.calls for producer in lab.replaced] == [["init", "begin"]]


def test_a_begin_that_fails_twice_is_an_error() -> None:
    lab = Lab(later={"begin": [ODD]}, begin=[ODD])
    with pytest.raises(KpipeError):
        lab.line.begin()


@pytest.mark.parametrize(("name", "fenced"), [("_FENCED", True), ("OUT_OF_ORDER_SEQUENCE_NUMBER", False)])
def test_a_fatal_error_in_the_background(name: str, *, fenced: bool) -> None:
    lab = Lab()
    lab.line.troubles.fatal = (name, "text")
    if fenced:
        with pytest.raises(FencedError):
            lab.line.check()
    else:
        assert not lab.line.check()
        lab.line.begin()
        assert len(lab.replaced) == 1


@pytest.mark.parametrize("number", [-1, 0, 5, 1 << 30])
def test_the_generation_is_read_from_the_metadata(number: int) -> None:
    assert generation(b"CGMDv2:" + number.to_bytes(4, sys.byteorder, signed=True) + b"member\0") == number


def test_metadata_of_another_layout_is_left_to_the_broker() -> None:
    assert generation(b"CGMDv9") == 0
    assert generation(b"CGMDv9:\xff\xff\xff\xff") == 0


def test_a_fatal_error_that_the_client_raises_while_serving_is_kept() -> None:
    """confluent_kafka raises a fatal error from poll and flush and never gives it to the error callback."""
    lab = Lab(poll=[FENCED])
    lab.line.serve()
    with pytest.raises(FencedError):
        lab.line.check()


def test_any_other_error_while_serving_is_not_hidden() -> None:
    lab = Lab(poll=[ODD])
    with pytest.raises(KafkaException):
        lab.line.serve()


def test_a_coordinator_that_never_answers_does_not_outlast_the_deadline_of_a_signal() -> None:
    """The client waits for this answer without limit: what hangs is left behind, and nothing calls the producer again."""
    lab, answer = Lab(), threading.Event()
    lab.first.send_offsets_to_transaction = lambda *_arguments: answer.wait(60)  # type: ignore[method-assign]
    lab.line.begin()
    deadline = time.monotonic() + 0.5
    lab.line.given_up = lambda: time.monotonic() > deadline

    with pytest.raises(UnreachableError, match="did not answer in time, so nothing was committed"):
        lab.line.commit(OFFSETS, MEMBER, 60.0)
    answer.set()
    lab.line.discard(1)

    assert time.monotonic() < deadline + 2
    assert not lab.line.is_open
    assert lab.first.calls == ["begin"]


@pytest.mark.parametrize("call", ["offsets", "commit"])
def test_a_commit_ends_within_its_time(call: str) -> None:
    lab = Lab(**{call: [TIMED_OUT] * 1000})
    lab.line.begin()
    lab.line.commit(OFFSETS, MEMBER, 5.0)
    assert lab.first.calls.count(call) <= 5
    assert lab.clock.now <= 5.0 + SLICE


@pytest.mark.parametrize("call", ["offsets", "commit", "abort", "init"])
def test_no_call_is_given_more_time_than_the_drain_has_left(call: str) -> None:
    """A slice of 2 s that began a moment before the deadline outlasted it."""
    lab = Lab(**{call: [TIMED_OUT] * 1000})
    lab.line.remaining = lambda otherwise: min(otherwise, max(0.0, 1.0 - lab.clock.now))
    lab.line.given_up = lambda: lab.clock.now >= 1.0
    lab.line.begin()
    with suppress(KpipeError):
        if call == "init":
            lab.line.start(10.0)
        elif call == "abort":
            lab.line.abort(10.0)
        else:
            lab.line.commit(OFFSETS, MEMBER, 10.0)
    assert lab.clock.now < 1.5


def test_fenced_while_aborting_ends_it() -> None:
    """To replace the producer would take the id back from whoever has it now."""
    lab = Lab(abort=[FENCED])
    lab.line.begin()
    with pytest.raises(FencedError):
        lab.line.abort(5)
    assert lab.line.fenced
    assert not lab.replaced


# --- what each end says, and what it leaves behind -----------------------------------------------------------------


def test_a_line_begins_with_nothing_known_against_it() -> None:
    line = Lab().line
    assert (line.fenced, line.stuck, line.in_doubt, line.reason, line.is_open) == (False, False, False, "", False)
    assert (line.given_up(), line.remaining(7.0), line.check()) == (False, 7.0, True)


def test_fenced_has_a_code_of_its_own() -> None:
    lab = Lab(begin=[FENCED])
    with pytest.raises(FencedError) as caught:
        lab.line.begin()
    assert (caught.value.code, caught.value.stage, caught.value.where) == ("FENCED", Stage.COMMIT, "t:id")
    assert not lab.line.is_open


def test_a_doubt_ends_with_the_producer_that_it_was_about() -> None:
    """Each transaction with a producer of its own would cost an init every time."""
    lab = Lab(commit=[TIMED_OUT])
    lab.commit()
    for _ in range(3):
        assert lab.commit() is Outcome.COMMITTED
    assert len(lab.replaced) == 1
    lab = Lab(init=[TIMED_OUT])
    lab.line.start(5.0)
    lab.line.begin()
    assert lab.replaced == []


def test_a_producer_that_is_replaced_is_emptied_and_closed_and_its_reports_heard() -> None:
    lab = Lab(begin=[ODD])
    served: list[float] = []
    poll = lab.first.poll
    lab.first.poll = lambda timeout: (served.append(timeout), poll(timeout))[1]  # type: ignore[method-assign]
    lab.line.begin()
    assert lab.first.calls == ["begin", "purge", "close"]
    assert served == [0]


def test_an_abort_hears_the_reports_of_what_it_purged() -> None:
    lab = Lab()
    served: list[float] = []
    lab.first.poll = lambda timeout: served.append(timeout) or 0  # type: ignore[method-assign,func-returns-value]
    lab.line.begin()
    lab.line.abort(5.0)
    assert served == [0]


def test_a_transaction_is_open_from_its_begin_to_its_end() -> None:
    lab = Lab()
    lab.clock.now = 3.0
    lab.line.begin()
    assert (lab.line.opened, lab.line.is_open) == (3.0, True)
    lab.line.commit(OFFSETS, MEMBER, 10.0)
    assert (lab.line.opened, lab.line.is_open) == (None, False)
    lab.line.begin()
    lab.line.abort(1.0)
    assert not lab.line.is_open


def test_what_is_committed_beside_offsets_goes_with_them_in_order() -> None:
    lab, sent = Lab(), []
    lab.first.send_offsets_to_transaction = lambda offsets, metadata, _timeout: sent.append(  # type: ignore[method-assign]
        ([(each.topic, each.partition, each.offset, each.metadata) for each in offsets], metadata)
    )
    lab.line.begin()
    lab.line.commit({("b", 0): 1, ("a", 1): 2, ("a", 0): 3}, MEMBER, 10.0, lambda topic: f"id-{topic}")
    assert sent == [([("a", 0, 3, "id-a"), ("a", 1, 2, "id-a"), ("b", 0, 1, "id-b")], MEMBER)]


@pytest.mark.parametrize(
    ("script", "outcome", "in_doubt", "calls"),
    [
        ({"offsets": [ABORTABLE]}, Outcome.ABORTED, False, ["begin", "offsets", "abort"]),
        ({"commit": [ABORTABLE]}, Outcome.ABORTED, False, ["begin", "offsets", "commit", "abort"]),
        ({"offsets": [TIMED_OUT, ABORTABLE]}, Outcome.ABORTED, False, ["begin", "offsets", "offsets", "abort"]),
        ({"commit": [ODD]}, Outcome.UNKNOWN, True, ["begin", "offsets", "commit", "purge", "close"]),
        ({"offsets": [ODD]}, Outcome.ABORTED, False, ["begin", "offsets", "purge", "close"]),
    ],
)
def test_what_may_be_concluded_from_an_error_and_what_follows(
    script: dict[str, list[Any]], outcome: Outcome, in_doubt: bool, calls: list[str]
) -> None:
    lab = Lab(**{name: list(answers) for name, answers in script.items()})
    assert lab.commit() is outcome
    assert (lab.line.in_doubt, lab.first.calls, lab.line.reason) == (in_doubt, calls, "scripted")


def test_an_abort_after_an_error_has_what_is_left_of_the_time_and_a_slice_at_least() -> None:
    lab = Lab(offsets=[ABORTABLE], abort=[TIMED_OUT] * 99)
    lab.line.begin()
    began = lab.clock.now
    lab.line.commit(OFFSETS, MEMBER, 7.0)
    assert lab.clock.now - began == pytest.approx(7.0, abs=0.2)
    lab = Lab(abort=[TIMED_OUT] * 99)
    lab.first.send_offsets_to_transaction = lambda *_arguments: lab.clock.take(0.9, ABORTABLE)  # type: ignore[method-assign]
    lab.line.begin()
    lab.line.commit(OFFSETS, MEMBER, 1.0)
    assert lab.clock.now == pytest.approx(0.9 + SLICE, abs=0.2)


@pytest.mark.parametrize("timeout", [1.0, SLICE + 1.4, 9.0])
def test_a_commit_has_what_its_offsets_left_and_a_slice_at_least(timeout: float) -> None:
    lab = Lab(commit=[TIMED_OUT] * 99)
    lab.first.send_offsets_to_transaction = lambda *_arguments: lab.clock.take(0.9)  # type: ignore[method-assign]
    lab.line.begin()
    lab.line.commit(OFFSETS, MEMBER, timeout)
    assert lab.clock.now == pytest.approx(max(timeout, 0.9 + SLICE), abs=0.2)


def test_no_call_is_asked_to_take_no_time_or_longer_than_a_slice() -> None:
    limits: list[float] = []

    def init(timeout: float) -> None:
        limits.append(timeout)
        lab.clock.now += timeout
        raise TIMED_OUT

    lab = Lab()
    lab.first.init_transactions = init  # type: ignore[method-assign]
    with pytest.raises(UnreachableError):
        lab.line.start(SLICE * 2 + 0.01)
    assert limits[:2] == [SLICE, SLICE]
    assert 0 < limits[2] <= 0.2
    limits.clear()
    lab.line.remaining = lambda _otherwise: 0.0
    lab.line.given_up = lambda: True
    with pytest.raises(UnreachableError):
        lab.line.start(60.0)
    assert len(limits) == 1
    assert 0 < limits[0] <= 0.2


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (TIMED_OUT, UnreachableError, "the transaction coordinator: scripted; run again"),
        (ODD, UndeliveredError, "the transaction coordinator: scripted; run again"),
        (
            failing(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
            UnreachableError,
            "not authorised for this transactional id",
        ),
    ],
)
def test_what_the_coordinator_says_is_told_with_its_kind(error: Any, kind: type[KpipeError], words: str) -> None:
    lab = Lab(init=[error] * 99)
    with pytest.raises(kind, match=words) as caught:
        lab.line.start(1.0)
    assert type(caught.value) is kind
    assert (caught.value.stage, caught.value.where) == (Stage.COMMIT, "t:id")


def test_an_error_in_the_thread_that_sends_offsets_is_the_callers() -> None:
    lab = Lab()

    def broken(*_arguments: Any) -> None:
        raise ValueError("odd")

    lab.first.send_offsets_to_transaction = broken  # type: ignore[method-assign]
    lab.line.begin()
    with pytest.raises(ValueError, match="odd"):
        lab.line.commit(OFFSETS, MEMBER, 1.0)


def test_a_producer_that_can_go_on_is_closed_and_a_stuck_one_left() -> None:
    lab = Lab()
    lab.line.discard(1.0)
    assert lab.first.calls == ["close"]
    lab = Lab()
    lab.line.stuck = True
    lab.line.discard(1.0)
    assert lab.first.calls == []


def test_why_a_producer_must_be_replaced_is_remembered() -> None:
    lab = Lab()
    lab.line.troubles.fatal = ("OUT_OF_ORDER_SEQUENCE_NUMBER", "out of order")
    assert lab.line.check() is False
    assert (lab.line.reason, lab.line.fenced) == ("out of order", False)
    lab.line.begin()
    lab.line.troubles.fatal = ("_FENCED", "fenced")
    with pytest.raises(FencedError):
        lab.line.check()
    assert (lab.line.reason, lab.line.fenced, lab.line.is_open) == ("fenced", True, False)


def test_what_the_client_warns_of_while_it_is_closed_is_nobodys_business() -> None:
    lab = Lab()

    def close() -> None:
        warnings.warn("cannot abort", RuntimeWarning, stacklevel=1)
        lab.first.calls.append("closed")

    lab.first.close = close  # type: ignore[method-assign]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        lab.line.discard(1.0)
    assert (told, lab.first.calls) == ([], ["closed"])


def test_a_slow_coordinator_costs_no_core() -> None:
    lab, looks = Lab(), []
    lab.first.send_offsets_to_transaction = lambda *_arguments: time.sleep(0.25)  # type: ignore[method-assign]
    lab.line.given_up = lambda: bool(looks.append(1))
    lab.line.begin()
    assert lab.line.commit(OFFSETS, MEMBER, 10.0) is Outcome.COMMITTED
    assert len(looks) <= 10

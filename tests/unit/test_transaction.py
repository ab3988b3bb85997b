"""Every way a transaction call can end, with a scripted producer: which call follows, and what may be concluded."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kpipe.delivery.transaction import SLICE, FencedError, Outcome, TransactionLine, generation
from kpipe.errors import KpipeError, UnreachableError
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

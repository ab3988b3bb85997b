"""The drain: each step is done whatever became of the one before, the balance is drawn, and there is one deadline."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.errors import BadRecord, InternalError, Interrupted, KpipeError, UndeliveredError, in_words
from kpipe.ledger import Ledger
from kpipe.pipeline import FLUSH_FAILURES, Pipeline
from kpipe.record import Batch
from kpipe.shutdown import OVERTIME, Stop
from tests.fakes import LATER, NEVER, REFUSED, ListCommitter, ListSink, ListSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.flight import Flight

PLACE = ("t", 0)


class ClientError(Exception):
    """What the client raises: an error with words of its own as the first argument."""

    class Told:
        def str(self) -> str:
            return "Broker: something of the client's"

    def __init__(self) -> None:
        super().__init__(self.Told())


def batch(*values: bytes, first: int = 0) -> Batch:
    size = len(values)
    return Batch(list(values), topics=["t"] * size, partitions=[0] * size, offsets=list(range(first, first + size)))


class Letters:
    """Dead letters in memory, acknowledged when they are flushed."""

    def __init__(self) -> None:
        self.refused: list[tuple[Flight, int]] = []
        self.events: list[str] = []
        self._waiting: list[tuple[Flight, int]] = []

    def send(self, flight: Flight, index: int, error: KpipeError, idle: Callable[[], bool]) -> None:
        self._waiting.append((flight, index))

    def poll(self) -> None: ...

    def flush(self, timeout: float) -> bool:
        self.events.append("flush")
        for flight, index in self._waiting:
            flight.dead_lettered += 1
            flight.settled.append(index)
        self._waiting.clear()
        return True

    def purge(self) -> None: ...

    def close(self, timeout: float) -> None:
        self.events.append("close")


class Spilled:
    def __init__(self) -> None:
        self.count = 0

    def write(self, lost: Sequence[Any]) -> int:
        self.count = len(lost)
        return self.count


class Run:
    """Records 0 and 1 arrive, 2 is never acknowledged, 3 is refused and becomes a dead letter."""

    def __init__(self, **more: Any) -> None:
        self.source = ListSource([batch(b"0", b"1"), batch(b"2", b"3", first=2)])
        self.sink = ListSink({b"1": LATER, b"2": NEVER, b"3": REFUSED})
        self.committer, self.letters, self.spill = ListCommitter(), Letters(), Spilled()
        self.ledger, self.said = Ledger(keeps_offsets=True), []
        self.pipeline = Pipeline(
            self.source, (), self.sink, self.committer, self.ledger, more.pop("stop", None) or Stop(),
            on_error="dlq", dead_letters=self.letters, spill=self.spill, say=self.said.append, flush_timeout=0.0, **more,
        )  # fmt: skip


STEPS = [
    ("source", "leave"), ("sink", "flush"), ("sink", "purge"), ("sink", "explain"), ("letters", "send"),
    ("letters", "flush"), ("letters", "poll"), ("letters", "close"), ("spill", "write"), ("committer", "finish"),
    ("source", "close"), ("sink", "close"),
]  # fmt: skip


@pytest.mark.parametrize("raised", [ClientError, TypeError, KpipeError("told")], ids=["client", "ours", "told"])
@pytest.mark.parametrize(("part", "method"), STEPS, ids=[f"{part}.{method}" for part, method in STEPS])
def test_an_exception_in_a_step_of_the_drain_keeps_no_other_from_being_done(
    part: str, method: str, raised: Any
) -> None:
    run = Run()
    asked: list[str] = []

    def fail(*_arguments: Any, **_named: Any) -> None:
        if (part, method) == ("letters", "poll") and not run.pipeline.state.draining:
            return
        asked.append(method)
        raise raised if isinstance(raised, Exception) else raised()

    setattr(getattr(run, part), method, fail)
    run.pipeline.run()

    assert asked
    assert run.ledger.balanced
    assert (run.ledger.read, run.ledger.in_flight) == (4, 0)
    assert run.ledger.read == (run.ledger.delivered + run.ledger.dead_lettered + run.ledger.failed + run.ledger.unknown)
    error = run.pipeline.error
    assert error is not None
    assert "\n" not in str(error)
    if (part, method) != ("spill", "write"):
        assert run.spill.count >= 1
    else:
        assert run.said
    if (part, method) != ("committer", "finish"):
        assert run.committer.final == {PLACE: 1 if (part, method) == ("sink", "flush") else 2}
    for name in ("source", "sink"):
        events = getattr(run, name).events
        assert (events[-1:] == ["close"]) is ((part, method) != (name, "close"))
    assert ("close" in run.letters.events) is ((part, method) != ("letters", "close"))


@pytest.mark.parametrize("method", ["read", "poll", "tick", "stage"])
def test_an_exception_in_a_turn_ends_the_run_with_a_drain(method: str) -> None:
    run = Run()

    def fail(*_arguments: Any) -> None:
        raise ClientError

    if method == "stage":
        run.pipeline.stages = [fail]
    else:
        part: Any = {"read": run.source, "poll": run.sink, "tick": run.committer}[method]
        setattr(part, method, fail)
    run.pipeline.run()

    assert run.ledger.balanced
    assert str(run.pipeline.error) == "send: the client says: Broker: something of the client's; run again"
    assert run.source.events[-1] == run.sink.events[-1] == "close"
    assert run.committer.final is not None


def test_a_flush_that_always_fails_is_not_called_for_ever() -> None:
    run = Run()
    run.pipeline.flush_timeout = 1e9
    flushed: list[float] = []

    def fail(timeout: float) -> bool:
        flushed.append(timeout)
        raise ClientError

    run.sink.flush = fail  # type: ignore[method-assign]
    run.pipeline.run()
    assert len(flushed) <= FLUSH_FAILURES + 2
    assert "purge" in run.sink.events


def test_a_letter_that_cannot_be_sent_keeps_no_other_from_being_looked_at() -> None:
    """The rest of the refused records are known not to have been written, and are no riddle."""
    run = Run()
    run.source = run.pipeline.source = ListSource([batch(b"0", b"1", b"2", b"3")])  # type: ignore[assignment]
    run.sink.script = {b"1": REFUSED, b"2": REFUSED, b"3": REFUSED}

    def fail(*_arguments: Any) -> None:
        raise ClientError

    run.letters.send = fail  # type: ignore[method-assign]
    run.pipeline.run()
    assert (run.ledger.delivered, run.ledger.failed, run.ledger.unknown) == (1, 3, 0)
    assert run.committer.final == {PLACE: 1}


def test_a_bad_record_that_cannot_become_a_letter_leaves_its_batch_unsent() -> None:
    run = Run()

    def refuse(records: Batch) -> None:
        records.reject({0: BadRecord("is bad")})

    def fail(*_arguments: Any) -> None:
        raise ClientError

    run.pipeline.stages = [refuse]
    run.letters.send = fail  # type: ignore[method-assign]
    run.pipeline.run()
    assert run.sink.values == []
    assert (run.ledger.read, run.ledger.failed, run.ledger.unknown) == (2, 2, 0)
    assert run.committer.final == {}


# --- one deadline ----------------------------------------------------------------------------------------------


class Hanging:
    """A call that does not come back while the test looks."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.entered = threading.Event()

    def __call__(self, *_arguments: Any, **_named: Any) -> bool:
        self.entered.set()
        self.over.wait(30)
        return True


CALLS = [
    ("source", "leave"), ("sink", "flush"), ("sink", "purge"), ("letters", "flush"), ("committer", "finish"),
    ("source", "close"), ("sink", "close"), ("letters", "close"), ("sink", "poll"), ("source", "read"),
    ("committer", "tick"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "method"), CALLS, ids=[f"{part}.{method}" for part, method in CALLS])
def test_a_call_that_does_not_come_back_is_left_behind_and_the_balance_is_drawn(part: str, method: str) -> None:
    stop = Stop(drain_timeout=0.2)
    run, hanging, ended = Run(stop=stop), Hanging(), threading.Event()

    def give_up() -> None:
        run.pipeline.abandon()
        ended.set()

    setattr(getattr(run, part), method, hanging)
    stop.watch(give_up)
    threading.Thread(target=run.pipeline.run, daemon=True).start()
    assert hanging.entered.wait(10)
    began = time.monotonic()
    stop._on_signal(signal.SIGTERM, None)
    stop.wake()
    assert ended.wait(5)
    took = time.monotonic() - began
    hanging.over.set()

    assert 0.2 <= took < 0.2 + 1.0 + 0.5  # the half second is the machine's
    assert run.ledger.balanced
    assert run.ledger.in_flight == 0
    assert isinstance(run.pipeline.error, KpipeError)


def test_a_second_signal_is_a_deadline_now() -> None:
    now = [0.0]
    stop = Stop(9.0, clock=lambda: now[0])
    stop._on_signal(signal.SIGTERM, None)
    now[0] = 1.0
    assert (stop.forced, stop.remaining(30.0), stop.remaining(2.0)) == (False, 8.0, 2.0)
    stop._on_signal(signal.SIGTERM, None)
    assert (stop.forced, stop.remaining(30.0), stop.remaining(30.0, grace=0.5)) == (True, 0.0, 0.5)
    assert not stop.overdue
    now[0] += OVERTIME
    assert stop.overdue


def test_without_a_signal_there_is_no_deadline() -> None:
    stop = Stop(0.0)
    assert (stop.forced, stop.overdue, stop.remaining(7.0, grace=1.0)) == (False, False, 7.0)


def test_what_a_signal_interrupted_is_no_error() -> None:
    stop = Stop()
    stop._on_signal(signal.SIGTERM, None)
    run = Run(stop=stop)
    run.pipeline._note(Interrupted("stopped"))
    assert run.pipeline.error is None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UndeliveredError("as it is"), "send: as it is"),
        (ClientError(), "send: the client says: Broker: something of the client's; run again"),
        (OSError(28, "No space left on device", "file"), "read: file: No space left on device"),
        (
            ValueError("odd"),
            "read: internal error (ValueError: odd); please report it, with the output of KPIPE_DEBUG=1",
        ),
    ],
)
def test_any_exception_becomes_one_line(error: Exception, told: str) -> None:
    known = in_words(error)
    assert str(known) == told
    assert isinstance(known, InternalError) is isinstance(error, ValueError)

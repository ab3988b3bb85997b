"""The way of a record, from source to commit, for all three commands.

It knows no Kafka: the plan plugs in the source, the stages, the sink and the committer.

A turn:   1 read   2 track   3 decode's and the stages' verdicts   4 send   5 settle   6 commit
A drain:  7 stop reading   8 flush   9 settle and commit   10 close   (always, whatever ended the run)
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from kpipe.errors import Interrupted, KpipeError, UndeliveredError, in_words, without_policy
from kpipe.flight import Unsent
from kpipe.run_state import RunState
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.flight import Flight
    from kpipe.ledger import Ledger
    from kpipe.parts import Committer, DeadLetters, Sink, Source, Spill, Transaction
    from kpipe.record import Batch
    from kpipe.shutdown import Stop


PipelineStage: TypeAlias = "Callable[[Batch], None]"

UNSENT = "the run ended before it was sent"

FLUSH_SLICE = 0.1
"""Seconds: `flush` runs signal handlers only between its calls of 200 ms, and not at all at the end of a frozen one."""

DRAIN_NOTICE = 1.0
"""Seconds of a drain after which it is said that, and for what, it waits."""

COMMIT_GRACE, LEAVE_GRACE, CLOSE_GRACE = 0.5, 0.7, 0.8
"""Seconds behind the deadline of a signal at which the last steps must have ended."""
LEAST = 0.05  # seconds that a step is given when all time is used up: what is free at once still works
FLUSH_FAILURES = 10
"""Flushes in a row that may raise before what is in flight is given up: each filter has its last words, no more."""
TURN = 0.2  # seconds between two looks at a transaction that cannot end yet


@dataclass(slots=True)
class Pipeline:
    """One run. `limit` counts records handed to the sink; `on_error` is stop or skip (or to `dead_letters`)."""

    source: Source
    stages: Sequence[PipelineStage]
    sink: Sink
    committer: Committer | None
    """None: there is nothing to commit."""
    ledger: Ledger
    stop: Stop
    on_error: str = "stop"
    limit: int | None = None
    dead_letters: DeadLetters | None = None
    transaction: Transaction | None = None
    spill: Spill | None = None
    say: Callable[[str], None] = lambda _text: None
    observers: list[Callable[[], None]] = field(default_factory=list)
    """Called once a turn, and while the run waits: live line, balance of a worker, readiness, metrics."""
    watch: Callable[[], None] = lambda: None
    """Raises KpipeError when the run has lost its purpose, whether or not there are records: nobody reads stdout."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    flush_timeout: float = 150.0
    """Seconds without a single delivery report after which the end of the input is not waited for any longer."""
    patience: float = 1.0
    """Seconds of waiting after which the source is asked to keep its place in the group (and to fetch anew)."""
    enough: Callable[[], bool] | None = None
    """Whether the sink wants no more; where filters drop records, it counts those that pass."""
    state: RunState = field(default=None)  # type: ignore[assignment]
    """How far the run has come; given where others look at it, too, else the pipeline makes one."""
    _polled: float = 0.0
    _ending_since: float | None = None
    _gave_up: bool = False
    """The sink was told not to wait: what it still reports as not written was not judged, so no --on-error skips it."""
    _concluded: bool = False
    _closed: bool = False
    _abandoned: threading.Event | None = None
    """Set aside by `abandon`: who comes late to a drain waits here for the end of the process."""

    def __post_init__(self) -> None:
        self.state = self.state or RunState(self.ledger)
        self.state.observers += self.observers
        self.observers = self.state.observers

    @property
    def error(self) -> KpipeError | None:
        """The first thing that went wrong: what the run ends with."""
        return self.state.error

    @property
    def lost(self) -> list[tuple[str, str]]:
        """(position, reason) of records that were not delivered and of which nothing was said yet."""
        return self.state.lost

    def run(self) -> None:
        """Move records until the source ends, the limit is reached, a signal comes or something fails; then drain."""
        try:
            while not (self.is_over() and self._is_closed()):
                self.turn()
        except Exception as error:  # noqa: BLE001 - a fault of ours must not keep a balance from being drawn
            self._note(error)
        finally:
            self.drain()

    def _note(self, error: Exception) -> None:
        """The first thing that went wrong is what the run ends with; that a signal interrupted something is none."""
        if self.state.error is None and not (self.stop.requested and isinstance(error, Interrupted)):
            self.state.error = in_words(error)

    def progress(self) -> None:
        """The main loop moves: whoever looks on is told."""
        self.state.progress()

    def is_over(self) -> bool:
        """Whether nothing more is to be read."""
        state = self.state
        over = self.stop.requested or self.source.finished or state.error is not None
        return (
            over or (self.enough is not None and self.enough()) or (self.limit is not None and state.sent >= self.limit)
        )

    def _is_closed(self) -> bool:
        """Whether an open transaction is committed; one that was aborted goes on with reading."""
        while self.transaction is not None and self.state.error is None and not self.stop.requested:
            if self.transaction.commit_all():
                break
            self._look_at_failures()
            if not self.is_over():
                return False
            self.source.keep_alive()  # what it waits for, a rebalance say, comes with a poll
            self.sink.poll()
            if self.dead_letters is not None:
                self.dead_letters.poll()  # one that was refused leaves its flight open for ever
            self.progress()
            self.sleep(TURN)
        return True

    def turn(self) -> None:
        """Steps 1 to 6."""
        self._polled = self.clock()
        batch = self.source.read()
        if batch is None or not batch.read:
            self.sink.poll()
        else:
            self._move(batch)
        if self.dead_letters is not None:
            self.dead_letters.poll()
        self.ledger.settle()
        self._look_at_failures()
        if self.committer is not None:
            self.committer.tick(self.ledger)
        self.progress()
        self.watch()

    def _move(self, batch: Batch) -> None:
        flight = self.ledger.track(batch, batch.snapshot())
        try:
            for stage in self.stages:
                stage(batch)
        except KpipeError:
            flight.leave_unsent(range(flight.read))
            raise
        if batch.bad:
            batch.unite_bad()
        if self.limit is not None and len(batch) >= self.limit - self.state.sent:
            self._cut_at_limit(batch, flight)
        try:
            self._judge_bad(batch, flight)
        except Exception:
            flight.leave_unsent(index for index in range(flight.read) if index not in flight.taken_out)
            raise
        flight.settle_filtered(batch)
        self.state.sent += len(batch)
        if len(batch):
            self.sink.send(batch, flight, self.idle)
            if self.dead_letters is None:
                flight.forget_contents()
        self.sink.poll()

    def _judge_bad(self, batch: Batch, flight: Flight) -> None:
        if not batch.bad:
            return
        if self.on_error == "stop":
            first = min(batch.bad, key=lambda bad: bad.index)
            batch.truncate(first.index + 1)
            self.ledger.cut(flight, first.index + 1)
            self.state.refused.append((flight, first.index))
            self.state.reasons[id(flight), first.index] = first.error
            self.state.error = first.error
            return
        for bad in batch.bad:
            self._take_out(flight, bad.index, bad.error)

    def _take_out(self, flight: Flight, index: int, error: KpipeError) -> None:
        if index in flight.taken_out:  # refused once more, by another target or as another copy: it is one record
            flight.settled.append(index)
            return
        flight.taken_out.add(index)
        if self.dead_letters is not None:
            try:
                self.dead_letters.send(flight, index, error, self.idle)
            except Exception:
                flight.taken_out.discard(index)
                raise
        else:
            self._skip(flight, index, error)

    def _skip(self, flight: Flight, index: int, error: KpipeError) -> None:
        flight.failed.add(index)
        flight.settled.append(index)
        if self.transaction is not None:
            position = flight.position(index)
            if position in self.state.told:
                return
            if position is not None:
                self.state.told.add(position)
        self.say(f"{without_policy(str(error))}; skipped (--on-error skip)")

    def _cut_at_limit(self, batch: Batch, flight: Flight) -> None:
        """Whatever stands behind the last record that is wanted was not read: neither a bad one nor a filtered one."""
        allowed = (self.limit or 0) - self.state.sent
        read = (range(len(batch)) if batch.index is None else batch.index)[allowed - 1] + 1
        batch.truncate(read)
        self.ledger.cut(flight, read)

    def idle(self) -> bool:
        """Called now and then by whoever waits: stay in the group, and say whether waiting still makes sense."""
        now = self.clock()
        if self.state.error is not None or self.state.draining:  # what was read before an error goes out, if it can
            self._ending_since = now if self._ending_since is None else self._ending_since
            self._gave_up = self._gave_up or now - self._ending_since >= self.flush_timeout
        if self._gave_up or self.stop.forced:
            self._gave_up = True
            return False
        if now - self._polled >= self.patience:
            self._polled = now
            self.source.keep_alive()
        self.progress()
        try:
            self.watch()
        except KpipeError as error:
            self._gave_up = True
            self._note(error)
        return not self._gave_up

    def _look_at_failures(self) -> None:
        failures = list(self.ledger.failures())
        if (
            failures
            and self.transaction is not None
            and not self.state.draining
            and self.transaction.take_back(failures)
        ):
            return
        if failures and not self._gave_up and self.sink.took_along(failures, self.idle):
            failures = self.ledger.by_age([*failures, *self.ledger.failures()])
            failures = list(self.sink.resend(failures, self._judge, self.idle))
        for flight, index, report in failures:
            self._judge(flight, index, report)

    def _judge(self, flight: Flight, index: int, report: object) -> bool:
        """What becomes of a record that failed: --on-error decides about a judgement, anything else ends the run."""
        try:
            return self._decide(flight, index, report)
        except Exception as error:  # noqa: BLE001 - what befalls one record keeps no other from being looked at
            self._note(error)
            self.state.refused.append((flight, index))
            return False

    def _decide(self, flight: Flight, index: int, report: object) -> bool:
        where = flight.origin.where_read(index) if flight.origin is not None else ""
        if isinstance(report, Unsent):
            self.state.reasons[id(flight), index] = UndeliveredError(UNSENT, where=where)
            self.state.refused.append((flight, index))
            return False
        error = self.sink.explain(report, where, (flight, index))
        if self.on_error != "stop" and not self._gave_up and self.sink.refused(report):
            self._take_out(flight, index, error)
            return True
        self.state.reasons.setdefault((id(flight), index), error)
        if self.sink.unwritten(report):
            self.state.refused.append((flight, index))
        self.state.error = self.state.error or error
        return False

    def drain(self) -> None:
        """Steps 7 to 10: each is done whatever became of the one before, and the balance is always drawn.

        The deadline of a signal holds whatever the cluster does: every wait asks it, and `abandon` does for the rest.
        """
        self.state.draining = True
        self._attempt(self.progress)  # whoever looks on learns of the drain before its end
        self._attempt(self.source.leave)
        self._attempt(self._flush)
        self._attempt(self._look_at_failures)
        self._attempt(self._finish_dead_letters)
        self._attempt(self._conclude)
        self._attempt(self._close_books)
        self._attempt(self._finish_commits)
        self._attempt(lambda: self.source.close(self._left(5.0, LEAVE_GRACE)))
        for part in (self.sink,) if self.dead_letters is None else (self.dead_letters, self.sink):
            self._attempt(partial(self._close, part))

    def _finish_commits(self) -> None:
        if self.committer is not None:
            self.committer.finish(self.ledger, self._left(10.0, COMMIT_GRACE))

    def _close(self, part: Sink | DeadLetters) -> None:
        part.close(self._left(1.0, CLOSE_GRACE))

    def _attempt(self, step: Callable[[], object]) -> None:
        """One step of the drain; what goes wrong in it is noted."""
        if self._abandoned is not None:
            self._abandoned.wait()
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the steps behind it are all the more needed
            self._note(error)

    def _left(self, otherwise: float, grace: float) -> float:
        return max(LEAST, self.stop.remaining(otherwise, grace=grace))

    def abandon(self) -> None:
        """End a drain that is overdue, from another thread: a call of the client, or of ours, did not come back.

        What is not settled counts as unknown. Commits need the client, so there is none: the next start repeats.
        """
        self._abandoned = threading.Event()
        self._note(UndeliveredError("a call did not come back before the drain ended; records may come twice"))
        with suppress(Exception):  # the balance is drawn from what there is; the reason was noted above
            if self.transaction is not None and not self._concluded:
                self.state.give_up()  # what was acknowledged is not visible yet
            self._close_books()

    def _finish_dead_letters(self) -> None:
        letters, waited = self.dead_letters, 0.0
        if letters is None:
            return
        try:
            while not letters.flush(FLUSH_SLICE):
                self.progress()
                waited += FLUSH_SLICE
                if self.stop.forced or waited >= self.flush_timeout:
                    letters.purge()
                    break
            letters.poll()
        finally:
            self.state.refused += letters.refused

    def _conclude(self) -> None:
        if self.transaction is not None:
            self.transaction.conclude(self._left(30.0, 0.0))
            self._concluded = True

    def _flush(self) -> None:
        # By the clock, not by the number of turns: a sink that hears something returns long before its slice is over.
        began = moved = self.clock()
        before, said = self.ledger.heard, False
        failures = 0
        while True:
            try:
                if self.sink.flush(FLUSH_SLICE):
                    return
                failures = 0
            except Exception as error:  # noqa: BLE001 - a part may fail only now (a filter's last words); others go on
                self._note(error)
                failures += 1
            self.ledger.settle()
            self.progress()
            now = self.clock()
            if self.ledger.heard != before:
                before, moved = self.ledger.heard, now
            said = said or self._say_what_is_waited_for(now - began)
            if self.stop.forced or now - moved >= self.flush_timeout or failures >= FLUSH_FAILURES:
                self._gave_up = True
                self.sink.purge()
                self.sink.flush(FLUSH_SLICE)
                return

    def _say_what_is_waited_for(self, waited: float) -> bool:
        """When a drain after a signal takes long enough for a person to wonder; returns whether it was said."""
        if not self.stop.requested or waited < DRAIN_NOTICE:
            return False
        left = f"{self.ledger.waiting:,} records that were read for up to {self.stop.remaining(math.inf):.0f} s more"
        self.say(f"stopping: waiting for {left}; a second signal gives them up")
        return True

    def _close_books(self) -> None:
        if self._closed:
            return
        self._closed = True
        outstanding: deque[tuple[Flight, int]] = deque(self.ledger.close(self.state.refused))
        if not outstanding:
            return
        if self.spill is not None:
            try:
                self.spill.write(outstanding)
            except Exception as error:  # noqa: BLE001 - without the file their positions are all the more needed
                self.say(str(in_words(error)))
        for flight, index in outstanding:
            where = flight.origin.where_read(index) if flight.origin is not None else ""
            reason = self.state.reasons.get((id(flight), index))
            if reason is not None and reason is self.state.error:
                continue
            self.state.lost.append(
                (where, str(reason.what) if isinstance(reason, KpipeError) else "not delivered in time")
            )
        if self.state.error is None:
            self.state.error = UndeliveredError(
                f"{counted(len(outstanding), 'record was', 'records were')} not delivered before the end; "
                "see their positions below"
            )

"""The way of a record, from source to commit, for all three commands.

It knows no Kafka: the plan plugs in the source, the stages, the sink and the committer.

A turn:   1 read   2 track   3 decode's and the stages' verdicts   4 send   5 settle   6 commit
A drain:  7 stop reading   8 flush   9 settle and commit   10 close   (always, whatever ended the run)
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from kpipe.errors import KpipeError, UndeliveredError
from kpipe.ledger import Mark, Unsent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.ledger import Flight, Ledger, TopicPartition
    from kpipe.record import Batch
    from kpipe.shutdown import Stop


class Source(Protocol):
    """Where records come from."""

    finished: bool
    """True when no further record will come: end of input, or the end that was fixed at the start."""

    def read(self) -> Batch | None:
        """Wait up to 0.1 s for records; None when there were none. Raises KpipeError."""

    def keep_alive(self) -> None:
        """Take part in the group without reading; called while the sink is full."""

    def leave(self) -> None:
        """Stop reading for good; what was read so far stays valid."""

    def close(self, timeout: float) -> None:
        """Let go of the source within `timeout` seconds."""


class Sink(Protocol):
    """Where records go."""

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Hand over the batch; while the sink is full call `idle`, and give up when it returns False."""

    def poll(self) -> None:
        """Collect delivery reports that have come in."""

    def explain(self, error: object, where: str) -> KpipeError:
        """What a failed delivery report means, in words."""

    def refused(self, error: object) -> bool:
        """Whether a failed delivery report is a judgement on the record; only then `--on-error` may act."""

    def unwritten(self, error: object) -> bool:
        """Whether a failed delivery report proves that the record was not written."""

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for what was sent; True when nothing is left."""

    def purge(self) -> None:
        """Give up what is still in flight; its delivery reports come in with an error."""

    def close(self, timeout: float) -> None:
        """Let go of the target within `timeout` seconds."""


class Committer(Protocol):
    """Turns settled prefixes into committed offsets."""

    def tick(self, ledger: Ledger) -> None:
        """Commit if it is time to; called once a turn."""

    def finish(self, ledger: Ledger, timeout: float) -> None:
        """Commit what is settled, exactly, before the source is let go."""


class Spill(Protocol):
    """Keeps records that could not be delivered."""

    def write(self, lost: Sequence[tuple[Flight, int]]) -> int:
        """Write these records; returns how many."""


class DeadLetters(Protocol):
    """Takes records that failed."""

    refused: list[tuple[Flight, int]]
    """Records that were not taken."""

    def send(self, flight: Flight, index: int, error: KpipeError) -> None:
        """Send one record as it was read, with its error; the flight settles when it is acknowledged."""

    def poll(self) -> None:
        """Collect delivery reports; raises KpipeError when a record was not taken."""

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for what was sent; True when nothing is left."""

    def purge(self) -> None:
        """Give up what is still in flight."""

    def close(self, timeout: float) -> None:
        """Let go of the topic within `timeout` seconds."""


class Transaction(Protocol):
    """Makes what was sent and the offsets it came from visible together, or neither."""

    def take_back(self, failures: Sequence[tuple[Flight, int, object]]) -> bool:
        """Whether these failures were undone by going back: what they belong to is read again."""

    def commit_all(self) -> bool:
        """Commit because the run may be over; False when records failed or must be read again."""

    def conclude(self, timeout: float) -> None:
        """Commit or abort within `timeout` seconds, for good."""


Stage: TypeAlias = "Callable[[Batch], None]"

UNSENT = "the run ended before it was sent"

FLUSH_SLICE = 0.1
"""Seconds: `flush` runs signal handlers only between its calls of 200 ms, and not at all at the end of a frozen one."""

DRAIN_NOTICE = 1.0
"""Seconds of a drain after which it is said that, and for what, it waits."""


@dataclass(slots=True)
class Pipeline:
    """One run. `limit` counts records handed to the sink; `on_error` is stop or skip (or to `dead_letters`)."""

    source: Source
    stages: Sequence[Stage]
    sink: Sink
    committer: Committer
    ledger: Ledger
    stop: Stop
    on_error: str = "stop"
    limit: int | None = None
    dead_letters: DeadLetters | None = None
    transaction: Transaction | None = None
    spill: Spill | None = None
    say: Callable[[str], None] = lambda _text: None
    progress: Callable[[], None] = lambda: None
    watch: Callable[[], None] = lambda: None
    """Raises KpipeError when the run has lost its purpose, whether or not there are records: nobody reads stdout."""
    clock: Callable[[], float] = time.monotonic
    flush_timeout: float = 150.0
    """Seconds without a single delivery report after which the end of the input is not waited for any longer."""
    sent: int = 0
    _draining: bool = False
    _gave_up: bool = False
    """The sink was told not to wait: what it still reports as not written was not judged, so no --on-error skips it."""
    error: KpipeError | None = None
    lost: list[tuple[str, str]] = field(default_factory=list)
    """(position, reason) of records that were not delivered and of which nothing was said yet."""
    _refused: list[tuple[Flight, int]] = field(default_factory=list)
    _reasons: dict[tuple[int, int], object] = field(default_factory=dict)
    _mark: tuple[Mark, int] = field(default_factory=lambda: (Mark(), 0))

    def run(self) -> None:
        """Move records until the source ends, the limit is reached, a signal comes or something fails; then drain."""
        try:
            while not (self._is_over() and self._is_closed()):
                self.turn()
        except KpipeError as error:
            self.error = error
        finally:
            self.drain()

    @property
    def draining(self) -> bool:
        """Whether nothing more will be read: what is sent now is the last."""
        return self._draining

    def _is_over(self) -> bool:
        over = self.stop.requested or self.source.finished or self.error is not None
        return over or (self.limit is not None and self.sent >= self.limit)

    def _is_closed(self) -> bool:
        """Whether an open transaction is committed; one that was aborted goes on with reading."""
        while self.transaction is not None and self.error is None and not self.stop.requested:
            if self.transaction.commit_all():
                break
            self._look_at_failures()
            if not self._is_over():
                return False
        return True

    def turn(self) -> None:
        """Steps 1 to 6."""
        batch = self.source.read()
        if batch is None or not batch.read:
            self.sink.poll()
        else:
            self._move(batch)
        if self.dead_letters is not None:
            self.dead_letters.poll()
        self.ledger.settle()
        self._look_at_failures()
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
        if self.limit is not None and len(batch) >= self.limit - self.sent:
            self._cut_at_limit(batch, flight)
        if batch.bad:
            self._judge_bad(batch, flight)
        flight.settle_filtered(batch)
        self.sent += len(batch)
        if len(batch):
            self.sink.send(batch, flight, self.idle)
            if self.dead_letters is None:
                flight.forget_contents()
        self.sink.poll()

    def _judge_bad(self, batch: Batch, flight: Flight) -> None:
        if self.on_error == "stop":
            first = min(batch.bad, key=lambda bad: bad.index)
            batch.truncate(first.index + 1)
            self.ledger.cut(flight, first.index + 1)
            self._refused.append((flight, first.index))
            self._reasons[id(flight), first.index] = first.error
            self.error = first.error
            return
        for bad in batch.bad:
            self._take_out(flight, bad.index, bad.error)

    def _take_out(self, flight: Flight, index: int, error: KpipeError) -> None:
        if index in flight.taken_out:  # refused once more, by another target or as another copy: it is one record
            flight.settled.append(index)
            return
        flight.taken_out.add(index)
        if self.dead_letters is not None:
            self.dead_letters.send(flight, index, error)
        else:
            self._skip(flight, index, error)

    def _skip(self, flight: Flight, index: int, error: KpipeError) -> None:
        flight.failed.add(index)
        flight.settled.append(index)
        self.say(f"{error}; skipped (--on-error skip)")

    def _cut_at_limit(self, batch: Batch, flight: Flight) -> None:
        """Whatever stands behind the last record that is wanted was not read: neither a bad one nor a filtered one."""
        allowed = (self.limit or 0) - self.sent
        read = (range(len(batch)) if batch.index is None else batch.index)[allowed - 1] + 1
        batch.truncate(read)
        self.ledger.cut(flight, read)

    def idle(self) -> bool:
        """Called while the sink is full: stay in the group, and say whether waiting still makes sense."""
        self.source.keep_alive()
        self.progress()
        try:
            self.watch()
        except KpipeError as error:
            self.error = self.error or error
        self._gave_up = self._gave_up or self.stop.forced or self.error is not None
        return not self._gave_up

    def _look_at_failures(self) -> None:
        failures = list(self.ledger.failures())
        if failures and self.transaction is not None and not self._draining and self.transaction.take_back(failures):
            return
        for flight, index, report in failures:
            where = flight.origin.where_read(index) if flight.origin is not None else ""
            if isinstance(report, Unsent):
                self._reasons[id(flight), index] = UndeliveredError(UNSENT, where=where)
                self._refused.append((flight, index))
                continue
            error = self.sink.explain(report, where)
            if self.on_error == "stop" or self._gave_up or not self.sink.refused(report):
                self._reasons.setdefault((id(flight), index), error)
                if self.sink.unwritten(report):
                    self._refused.append((flight, index))
                self.error = self.error or error
            else:
                self._take_out(flight, index, error)

    def mark(self) -> None:
        """What was read so far is final; `rewind` and `write_off` come back to here."""
        self._mark = (self.ledger.mark(), self.sent)

    def rewind(self, next_offsets: Mapping[TopicPartition, int]) -> int:
        """What was read since the mark is read again, and was never read as far as anyone is concerned."""
        mark, self.sent = self._mark
        self._refused.clear()
        self._reasons.clear()
        return self.ledger.rewind(mark, next_offsets)

    def write_off(self, next_offsets: Mapping[TopicPartition, int], *, unknown: bool = False) -> None:
        """What was read since the mark did not get through: a transaction was aborted, and the run is over."""
        count = self.ledger.write_off(self._mark[0], next_offsets, unknown=unknown)
        self._refused.clear()
        if count and self.error is None:
            what = "nobody knows whether it was committed" if unknown else "it was aborted"
            self.error = UndeliveredError(
                f"{count:,} records were in a transaction that did not end: {what}; the next start goes on from there"
            )

    def drain(self) -> None:
        """Steps 7 to 10: nothing that was read is forgotten, and the deadline holds whatever the cluster does."""
        self.source.leave()
        self._draining = True
        self._flush()
        self._look_at_failures()
        self._finish_dead_letters()
        self._conclude()
        self._close_books()
        try:
            self.committer.finish(self.ledger, self.stop.remaining(10.0))
        except KpipeError as error:
            self.error = self.error or error
        self.source.close(max(0.5, self.stop.remaining(5.0)))
        if self.dead_letters is not None:
            self.dead_letters.close(max(0.3, self.stop.remaining(1.0)))
        self.sink.close(max(0.3, self.stop.remaining(1.0)))

    def _finish_dead_letters(self) -> None:
        letters, waited = self.dead_letters, 0.0
        if letters is None:
            return
        try:
            while not letters.flush(FLUSH_SLICE):
                waited += FLUSH_SLICE
                if self.stop.forced or waited >= self.flush_timeout:
                    letters.purge()
                    break
            letters.poll()
        except KpipeError as error:
            self.error = self.error or error
        self._refused += letters.refused

    def _conclude(self) -> None:
        if self.transaction is None:
            return
        try:
            self.transaction.conclude(self.stop.remaining(30.0))
        except KpipeError as error:
            self.error = self.error or error

    def _flush(self) -> None:
        # By the clock, not by the number of turns: a sink that hears something returns long before its slice is over.
        began = moved = self.clock()
        before, said = self.ledger.waiting, False
        while not self._is_flushed():
            self.ledger.settle()
            self.progress()
            now = self.clock()
            if self.ledger.waiting != before:
                before, moved = self.ledger.waiting, now
            said = said or self._say_what_is_waited_for(now - began)
            if self.stop.forced or now - moved >= self.flush_timeout:
                self._gave_up = True
                self.sink.purge()
                self.sink.flush(FLUSH_SLICE)
                return

    def _is_flushed(self) -> bool:
        """A part of the sink may find only now that something is wrong (a filter's last words); the rest goes on."""
        try:
            return self.sink.flush(FLUSH_SLICE)
        except KpipeError as error:
            self.error = self.error or error
            return False

    def _say_what_is_waited_for(self, waited: float) -> bool:
        """When a drain after a signal takes long enough for a person to wonder; returns whether it was said."""
        if not self.stop.requested or waited < DRAIN_NOTICE:
            return False
        left = f"{self.ledger.waiting:,} records in flight for up to {self.stop.remaining(0.0):.0f} s more"
        self.say(f"send: waiting for {left}; a second signal gives them up")
        return True

    def _close_books(self) -> None:
        outstanding: deque[tuple[Flight, int]] = deque(self.ledger.close(self._refused))
        if not outstanding:
            return
        if self.spill is not None:
            try:
                self.spill.write(outstanding)
            except KpipeError as error:
                self.say(str(error))
        for flight, index in outstanding:
            where = flight.origin.where_read(index) if flight.origin is not None else ""
            reason = self._reasons.get((id(flight), index))
            if reason is not None and reason is self.error:
                continue
            self.lost.append((where, str(reason.what) if isinstance(reason, KpipeError) else "not delivered in time"))
        if self.error is None:
            self.error = UndeliveredError(
                f"{len(outstanding):,} records were not delivered before the end; see their positions below",
            )

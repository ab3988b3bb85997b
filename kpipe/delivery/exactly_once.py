"""Sends records in transactions that carry their source offsets: each record is in the target once, or not at all.

It never commits past a record that is not in the transaction, and never goes on after an abort without going back.

Within one group and one cluster. A transaction begins with the first record and ends after so many records or so much
time, on a rebalance (inside the callback), and at the end of the run. An aborted one is read again from its start.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from kpipe.delivery.commit import Commits
from kpipe.delivery.transaction import Outcome, generation
from kpipe.errors import BadRecord, Exit, KpipeError, Stage, UndeliveredError
from kpipe.flight import is_open
from kpipe.kafka.errors import Kind, is_lasting, kind_of
from kpipe.sinks.bisect_batch import fell_with_its_batch
from kpipe.sinks.bisect_transaction import Suspects
from kpipe.sinks.topic import NotSent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import TopicPartition as ClientPartition

    from kpipe.delivery.transaction import TransactionLine
    from kpipe.flight import Flight, Position, TopicPartition
    from kpipe.ledger import Ledger
    from kpipe.parts import Failed, Judge, Sent, Sink
    from kpipe.record import Batch
    from kpipe.run_state import RunState
    from kpipe.sinks.dead_letters import DeadLetterTopic

GATHERING = 2.0
"""Seconds in which the other reports of a transaction that broke are waited for."""
ATTEMPTS = 5
"""Transactions that may fail in a row before the run gives up."""


class RefusedRecord(BadRecord):
    """A record that the target refused in an earlier transaction; the others of it go on without it."""

    exit_code = Exit.UNDELIVERED
    stage = Stage.SEND


class Rereadable(Protocol):
    """A source that can be sent back."""

    @property
    def owned(self) -> set[TopicPartition]:
        """The partitions that are read here now."""

    @property
    def at_eof(self) -> dict[TopicPartition, int]:
        """Positions behind the last record of idle partitions."""

    @property
    def undecided(self) -> set[TopicPartition]:
        """Partitions of which the group does not know yet where this run began; whoever commits one takes it out."""

    def rewind(self, offsets: dict[TopicPartition, int], count: int) -> None:
        """Read again from these offsets."""


class GroupConsumer(Protocol):
    """The group's consumer: who we are in it, and what it has committed."""

    def metadata(self) -> bytes:
        """As it is now; taken after the last poll, because it changes with every rebalance."""

    def committed(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's offsets; raises KpipeError."""


class ExactlyOnce:
    """Sink, committer, transaction and group listener of one run.

    `make_sink` gives the sink for the producer that is in use; `state` is the run's, which goes back when a transaction
    does. With `takes_letters` dead letters are part of the transaction, because their topic is on the same cluster.
    `outdone` takes the number of reports so far and says whether a new producer would fare better than ours.
    """

    def __init__(
        self,
        line: TransactionLine,
        make_sink: Callable[[], Sink],
        source: Rereadable,
        member: GroupConsumer,
        state: RunState,
        *,
        records: int,
        interval: float,
        on_error: str,
        stopped: Callable[[], bool],
        forced: Callable[[], bool],
        letters: DeadLetterTopic | None = None,
        takes_letters: bool = False,
        note: Callable[[str], str] = lambda _topic: "",
        commits: Commits | None = None,
        outdone: Callable[[int], bool] = lambda _heard: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self.commits = commits or Commits()
        self.state, self.ledger = state, state.ledger
        line.progress = state.progress
        self._make_sink = make_sink
        self._sink = make_sink()
        self._source = source
        self._member = member
        self._records = records
        self._interval = interval
        self._on_error = on_error
        self._stopped = stopped
        self._forced = forced
        self._letters = letters
        self._note = note
        self._outdone = outdone
        self._clock = clock
        self._base: dict[TopicPartition, int] = {}
        self._sent = 0
        self._due = clock() + interval
        self._failures = 0
        self._broken = False
        self._concluded = False
        self._refused: dict[Position, RefusedRecord] = {}
        self._suspects = Suspects()
        self._isolated = False
        self._idle: Callable[[], bool] = lambda: True
        """The run's, as it came with the records that are waited for: stay in the group, be seen to live."""
        if letters is not None and takes_letters:
            letters.send_with(lambda: line.producer, line.serve, self.join)

    # --- the sink ----------------------------------------------------------------------------------------------

    def ensure_open(self) -> None:
        """Have an open transaction to send in."""
        if not self._line.is_open:
            self._line.begin()
            self._renew_sink()
            self._due = self._clock() + self._interval

    def join(self) -> None:
        """A record that does not come through `send` (a dead letter) goes into the transaction, too."""
        self.ensure_open()
        self._sent += 1

    def _renew_sink(self) -> None:
        self._sink = self._make_sink()

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Send within the transaction.

        A full queue is waited for without `idle`, which could start a rebalance in mid-batch; a transaction that is
        open for too long is given up instead.
        """
        self._idle = idle
        self.ensure_open()
        self._sent += len(batch)
        self._isolated = False
        for part in self._suspects.parts(batch) if self._suspects else [batch]:
            if part is not batch and not self._is_flushed(self._line.timeout):
                return  # one of them was refused: the transaction is read again
            self._sink.send(part, flight, self._has_patience)

    def _is_flushed(self, timeout: float) -> bool:
        """Wait until all that was sent is written; False when something was not."""
        deadline = self._clock() + timeout
        while not self._sink.flush(0.1):
            self.state.progress()
            if self.ledger.has_news() or self._forced() or self._clock() > deadline or self._is_lost():
                return False
        return not self.ledger.has_news()

    def _has_patience(self) -> bool:
        self.state.progress()
        opened = self._line.opened
        late = opened is None or self._clock() - opened > self._line.timeout * 0.75
        self._broken = self._broken or late or self._is_lost()
        return not (self._broken or self._forced())

    def _is_lost(self) -> bool:
        """A producer that does not find back to its cluster is replaced before its transaction times out."""
        self._line.lost = self._line.lost or self._outdone(self.ledger.heard)
        return self._line.lost

    def poll(self) -> None:
        """Serve delivery reports; raises FencedError."""
        self._line.serve()
        if not self._line.check():
            self._broken = True

    def explain(self, error: object, where: str, record: Sent | None = None) -> KpipeError:
        """In the words of the topic's sink."""
        return self._sink.explain(error, where, record)

    def refused(self, error: object) -> bool:
        """As the topic's sink knows it; a broker's word about a batch is no judgement on each of its records."""
        return self._sink.refused(error) and (self._isolated or isinstance(error, NotSent))

    def unwritten(self, error: object) -> bool:
        """As the topic's sink knows it."""
        return self._sink.unwritten(error)

    def took_along(self, failures: Sequence[Failed], idle: Callable[[], bool]) -> bool:
        """A transaction is read again as a whole: see `take_back`."""
        return False

    def resend(self, failures: Sequence[Failed], judge: Judge, idle: Callable[[], bool]) -> Sequence[Failed]:
        """A transaction is read again as a whole: see `take_back`."""
        return failures

    def flush(self, timeout: float) -> bool:
        """Wait for delivery reports; that is not yet a commit. A doomed transaction is not waited for."""
        done = self._sink.flush(timeout)
        return done or self._broken or self._line.fenced or self.ledger.has_failed()

    def purge(self) -> None:
        """Give up what is in flight, and the transaction with it."""
        self._broken = True
        self._sink.purge()

    def close(self, timeout: float) -> None:
        """Close the client."""
        if self._line.is_open or self._line.fenced or self._line.stuck:
            self._line.discard(timeout)
        else:
            self._sink.close(timeout)

    # --- the committer -----------------------------------------------------------------------------------------

    def tick(self, ledger: Ledger) -> None:
        """Commit when there are enough records, or it is time."""
        if self._broken:
            self._go_back_broken()
        elif self._sent >= self._records or self._clock() >= self._due:
            self._commit(self._idle)

    def _go_back_broken(self) -> None:
        self._go_back(self._line.reason or "the producer could not go on")

    def finish(self, ledger: Ledger, timeout: float) -> None:
        """Nothing is left to do: `conclude` came before."""

    # --- the transaction ---------------------------------------------------------------------------------------

    def began(self, starts: dict[TopicPartition, int]) -> None:
        """Partitions were assigned, and begin here; where -o alone says so, that is committed before a record is."""
        self.ledger.begin(starts)
        self._base.update(starts)
        if not self._source.undecided.isdisjoint(starts):
            self._due = self._clock()

    def revoked(self, places: list[TopicPartition]) -> None:
        """Commit before partitions go to somebody else; what is not committed is taken back."""
        try:
            if not self._concluded and not self._commit(leaving=set(places)):
                self._go_back(self._line.reason or "records failed while partitions were given up", set(places))
        finally:
            self._forget(places)

    def lost(self, places: list[TopicPartition]) -> None:
        """Partitions are gone already: abort, for their offsets are somebody else's."""
        try:
            if not self._concluded and (self._line.is_open or self._sent):
                self._go_back("the group gave our partitions away", set(places))
        finally:
            self._forget(places)

    def committed(self, error: Any, partitions: list[ClientPartition]) -> None:
        """Offsets go with their transaction; of a commit beside it there is no answer to hear."""

    def _forget(self, places: list[TopicPartition]) -> None:
        self.ledger.revoke(places)
        for place in places:
            self._base.pop(place, None)

    def _commit(self, idle: Callable[[], bool] = lambda: True, *, leaving: set[TopicPartition] | None = None) -> bool:
        """Flush, check every report, send the offsets, commit. False when something failed and nobody dealt with it.

        `idle` is called while it waits for reports; a rebalance in there may end the transaction before us.
        """
        self._flush_all(idle)
        self._line.check()
        self.ledger.settle()
        self._due = self._clock() + self._interval
        if self._broken or self.ledger.has_news() or self.ledger.flights:
            return False
        news = self._news(self.ledger.next_offsets)
        if not self._line.is_open:
            if self._sent:
                return False
            if not news:
                if not self._failures:  # else what was aborted is about to be read again, and is no new start
                    self._close_batch()
                return True
            self.ensure_open()  # a batch that was filtered out whole: its offsets alone are a transaction
        metadata = self._member.metadata()
        if generation(metadata) < 0:
            return self._wait_for_group(leaving)
        if not news:
            self._go_back("no partition is ours any more", leaving)
            return True
        outcome = self._line.commit(news, metadata, self._time_left(), self._note)
        if outcome is Outcome.UNKNOWN:
            outcome = self._ask_group(news)
        self.commits.count(taken=outcome is Outcome.COMMITTED)
        if outcome is not Outcome.COMMITTED:
            self._go_back(self._line.reason, leaving)
            return True
        self._base.update(news)
        self._source.undecided.difference_update(news)
        self._close_batch()
        return True

    def _close_batch(self) -> None:
        self._sent = 0
        self._suspects.forget(self._base)
        self._refused = {place: error for place, error in self._refused.items() if is_open(place, self._base)}
        self._failures = 0
        self.state.mark()

    def _flush_all(self, idle: Callable[[], bool]) -> None:
        """Wait for every report, as long as the transaction may live; stop at the first failure."""
        deadline = self._clock() + self._time_left() * 0.75
        while not (self._sink.flush(0.1) and (self._letters is None or self._letters.flush(0.1))):
            if self.ledger.has_news() or self.ledger.has_failed():
                return
            ends = self._forced() or self._clock() > deadline or self._is_lost()
            if ends or not self._line.check() or not idle():
                self._broken = True
                return

    def _time_left(self) -> float:
        opened = self._line.opened
        return max(1.0, self._line.timeout - (self._clock() - opened)) if opened is not None else self._line.timeout

    def _news(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Offsets of partitions that are ours and that have moved, or that the group does not know yet."""
        wanted = dict(offsets)
        if not (self.ledger.flights or self.ledger.cut_short):
            for place, offset in self._source.at_eof.items():
                wanted[place] = max(offset, wanted.get(place, 0))
        owned, base, undecided = self._source.owned, self._base, self._source.undecided
        return {
            place: next_
            for place, next_ in wanted.items()
            if place in owned and (base.get(place, -1) < next_ or place in undecided)
        }

    def _wait_for_group(self, leaving: set[TopicPartition] | None) -> bool:
        """Offsets without a generation would be taken unchecked: wait for the group, or give up in time."""
        if leaving is None and not self._stopped() and self._time_left() > self._line.timeout / 2:
            return True
        self._go_back("this process is no member of the group any more", leaving)
        return True

    def _ask_group(self, news: Mapping[TopicPartition, int]) -> Outcome:
        """Records and offsets are one transaction: where the offsets are, the records are."""
        found = self._member.committed(list(news))
        self._line.in_doubt = False
        there = [found.get(place, -1) >= offset for place, offset in news.items()]
        return Outcome.COMMITTED if all(there) else Outcome.ABORTED

    def _go_back(self, reason: str, leaving: set[TopicPartition] | None = None) -> None:
        """Abort, and read again from the transaction's start; KpipeError after too many in a row."""
        self._undo()
        if self._letters is not None:
            self._letters.forget()
        self._failures += 1
        self._sent = 0
        count = self.state.rewind(self._base)
        gone = leaving or set()
        places = {place: offset for place, offset in self._base.items() if place in self._source.owned - gone}
        self._source.rewind(places, count)
        if self._failures >= ATTEMPTS:
            raise UndeliveredError(
                f"{self._failures} transactions failed in a row: {reason}; nothing of them is in the target",
                stage=Stage.COMMIT,
            )

    def _undo(self) -> None:
        if not self._line.check() or self._line.lost:
            self._line.replace(self._line.timeout)
        elif self._line.is_open:
            self._line.abort(self._line.timeout)
        self._broken = False
        self._renew_sink()

    # --- what the pipeline asks --------------------------------------------------------------------------------

    def take_back(self, failures: Sequence[tuple[Flight, int, object]]) -> bool:
        """Abort and go back, noting records that were refused for their own sake; False leaves them to the policy."""
        for _, _, report in failures:
            if is_lasting(report):
                raise self._sink.explain(report, "")
        failures = [*failures, *self._gather()]
        own = [entry for entry in failures if self._is_own_fault(entry[2])]
        if own and all(isinstance(report, NotSent) for _, _, report in failures):
            return False
        refused = [entry for entry in failures if fell_with_its_batch(entry[2])]
        self._isolated = len(refused) == 1
        if own and self._on_error == "stop" and (self._isolated or not refused):
            return False
        if len(refused) > 1:
            self._failures = 0 if self._suspects.accuse(refused) else self._failures
        else:
            for flight, index, report in own:
                self._failures = 0  # it will be left out: that is a way forward
                self._note_refusal(flight, index, report)
        self._go_back(self._reason((refused or failures)[0][2]))
        return True

    def _gather(self) -> list[Failed]:
        """What else failed: what stood in the queue is told before the batch for which the transaction broke."""
        deadline = self._clock() + GATHERING
        while not self._sink.flush(0.1) and self._clock() < deadline and not self._forced():
            pass
        return list(self.ledger.failures())

    def _is_own_fault(self, report: object) -> bool:
        return report.judged and not self._broken if isinstance(report, NotSent) else kind_of(report) is Kind.REFUSED

    def _reason(self, report: object) -> str:
        return self._sink.explain(report, "").what

    def _note_refusal(self, flight: Flight, index: int, report: object) -> None:
        origin = flight.origin
        if origin is None:
            return
        error = self._sink.explain(report, origin.where_read(index), (flight, index))
        refusal = RefusedRecord(error.what, where=error.where)
        refusal.code = error.code
        position = flight.position(index)
        if position is not None:
            self._refused[position] = refusal

    def leave_out_refused(self, batch: Batch) -> None:
        """The last stage: records that the target refused before are bad, and the others of their transaction pass."""
        if not self._refused or batch.topics is None:
            return
        places = zip(batch.topics, batch.partitions or [], batch.offsets or [], strict=True)
        errors: dict[int, BadRecord] = {}
        for index, place in enumerate(places):
            refusal = self._refused.get(place)  # type: ignore[arg-type]
            if refusal is not None:
                errors[index] = refusal
        batch.reject(errors)

    def commit_all(self) -> bool:
        """Commit what there is; False when it must be read again or its failures are still to be judged."""
        before = self._failures
        done = self._commit(self._idle)
        if self._broken:
            self._go_back_broken()
        return done and self._failures <= before and not self._line.is_open

    def conclude(self, timeout: float) -> None:
        """Commit the exact prefix, or abort: an open transaction would hold up every reader of the target."""
        self._concluded = True
        self.ledger.settle()
        offsets = self._news(self.ledger.prefix())
        if not (self._line.is_open or self._sent or offsets):
            return
        deadline = self._clock() + timeout
        committed = False
        try:
            committed = self._is_sound() and self._commit_last(offsets, deadline)
            if self._line.is_open:
                self._line.abort(max(0.3, deadline - self._clock()))
        finally:
            if not committed:
                self.state.write_off(self._base, unknown=self._line.in_doubt)

    def _is_sound(self) -> bool:
        """Whether the transaction holds what lies before the offsets, all of it and nothing else."""
        if self._line.fenced or self._broken or self._forced() or (self._sent and not self._line.is_open):
            return False
        return not (self.ledger.has_failed() or self.ledger.has_holes())

    def _commit_last(self, offsets: Mapping[TopicPartition, int], deadline: float) -> bool:
        metadata = self._member.metadata()
        if generation(metadata) < 0 or (self._line.is_open and not offsets):
            return False
        self.ensure_open()
        outcome = self._line.commit(offsets, metadata, deadline - self._clock(), self._note)
        return (self._ask_group(offsets) if outcome is Outcome.UNKNOWN else outcome) is Outcome.COMMITTED

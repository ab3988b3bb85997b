"""What became of every record that was read: tracked, settled, and the contiguous prefix that may be committed.

It performs no I/O and knows no client: it is told what was read and reported, and answers with counts and offsets.

    read = delivered + filtered + dead_lettered + failed + unknown

A flight is one batch on its way. The prefix is the order in which records were handed out, not offset arithmetic:
compaction and transaction markers leave holes in offsets (KIP-98).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kpipe.flight import Flight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from kpipe.flight import TopicPartition
    from kpipe.record import Batch

SPARE = 40
"""Flights that are kept for the next batches, with their delivery reports (0.13 MiB for 500 records). An outage opens
many more, of few records each: kept, each grew to the largest batch and never shrank (soak: 1 MiB a minute)."""


class Mark(NamedTuple):
    """The balance at a moment at which nothing was in flight, to come back to."""

    read: int = 0
    delivered: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    failed: int = 0


@dataclass(slots=True)
class Ledger:
    """The balance of a run, and the offsets that are safe to commit."""

    keeps_offsets: bool = False
    keeps_records: bool = False
    read: int = 0
    delivered: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    failed: int = 0
    unknown: int = 0
    in_flight: int = 0
    landed: int = 0
    """Of those in flight, delivered already: a sink may be able to count them before it can tell which they are."""
    cut_short: bool = False
    """Records were fetched but not read: only offsets of records that were read may be committed."""
    on_settled: Callable[[Flight], None] | None = None
    """Told of each complete flight, in the order of reading, before it is booked."""
    flights: deque[Flight] = field(default_factory=deque)
    next_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    _spare: list[Flight] = field(default_factory=list)

    def track(self, batch: Batch, origin: Batch) -> Flight:
        """Open a flight for a batch that has just been read; `origin` keeps the coordinates as they were read."""
        flight = self._spare.pop() if self._spare else Flight()
        flight.origin = origin
        flight.batch = batch if self.keeps_records else None
        flight.read = flight.expected = batch.read
        self.read += batch.read
        self.in_flight += batch.read
        self.flights.append(flight)
        return flight

    def begin(self, starts: Mapping[TopicPartition, int]) -> None:
        """Partitions begin here: what lies before is none of this group's, and a restart must not decide it anew.

        Without it, a group that starts at the end and dies before its first record would miss what came meanwhile.
        """
        if self.keeps_offsets:
            self.next_offsets.update(starts)

    def cut(self, flight: Flight, read: int) -> None:
        """Only the first `read` records of the batch count as read: the run ends before the others."""
        gone = flight.read - read
        self.cut_short = self.cut_short or gone > 0
        self.read -= gone
        self.in_flight -= gone
        flight.read = read
        flight.expected -= gone

    def settle(self) -> None:
        """Book the complete flights at the head of the line and move the committable offsets past them."""
        flights = self.flights
        while flights and flights[0].complete:
            flight = flights.popleft()
            if self.keeps_offsets:
                self.next_offsets.update(flight.ends())
            if self.on_settled is not None:
                self.on_settled(flight)
            self._book(flight, flight.read)
            flight.reset()
            if len(self._spare) < SPARE:
                self._spare.append(flight)

    def let_go(self) -> None:
        """Keep no flight for later: behind a backlog each has reports for its largest batch (2 ms to make anew)."""
        self._spare.clear()

    def _book(self, flight: Flight, settled: int) -> None:
        self.in_flight -= flight.read
        self.filtered += flight.filtered
        self.failed += len(flight.failed)
        self.dead_lettered += flight.dead_lettered
        self.delivered += settled - flight.filtered - len(flight.failed) - flight.dead_lettered

    def failures(self) -> Iterator[tuple[Flight, int, object]]:
        """Failed delivery reports that nobody has looked at yet, oldest first."""
        for flight in self.flights:
            while flight.handled < len(flight.failures):
                index, error = flight.failures[flight.handled]
                flight.handled += 1
                yield flight, index, error

    def by_age(self, failures: Iterable[tuple[Flight, int, object]]) -> list[tuple[Flight, int, object]]:
        """The same in the order of reading: reports of an older flight may come in behind those of a younger one."""
        ages = {id(flight): age for age, flight in enumerate(self.flights)}
        return sorted(failures, key=lambda failure: ages.get(id(failure[0]), -1))

    def prefix(self) -> dict[TopicPartition, int]:
        """The committable offset of every partition, exact to the record: also through flights that are incomplete."""
        self.settle()
        offsets = dict(self.next_offsets)
        blocked: set[TopicPartition] = set()
        for flight in self.flights:
            settled = flight.settled_indexes()
            for index, place, offset in flight.positions():
                if place in blocked or place in flight.revoked:
                    continue
                if index in settled:
                    offsets[place] = offset + 1
                else:
                    blocked.add(place)
        return offsets

    def mark(self) -> Mark:
        """Where `rewind` and `write_off` come back to: everything read so far is final."""
        return Mark(self.read, self.delivered, self.filtered, self.dead_lettered, self.failed)

    def rewind(self, mark: Mark, next_offsets: Mapping[TopicPartition, int]) -> int:
        """What was read since `mark` counts as never read, because it is read again; returns how many records.

        Its flights are dropped, not reused: a late report finds nobody.
        """
        gone = self.read - mark.read
        self.read, self.delivered, self.filtered = mark.read, mark.delivered, mark.filtered
        self.dead_lettered, self.failed = mark.dead_lettered, mark.failed
        self._drop_flights(next_offsets)
        return gone

    def write_off(self, mark: Mark, next_offsets: Mapping[TopicPartition, int], *, unknown: bool) -> int:
        """What was sent since `mark` was not delivered after all (or nobody knows); returns how many records."""
        self.settle()
        filtered = self.filtered + sum(flight.filtered for flight in self.flights)
        lost = self.read - mark.read - (filtered - mark.filtered)
        self.filtered, self.delivered, self.dead_lettered = filtered, mark.delivered, mark.dead_lettered
        self.failed = mark.failed if unknown else mark.failed + lost
        self.unknown += lost if unknown else 0
        self._drop_flights(next_offsets)
        return lost

    def _drop_flights(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self.flights.clear()
        self.in_flight = 0
        self.next_offsets = dict(next_offsets)

    def has_news(self) -> bool:
        """Whether there are failed delivery reports that nobody has looked at yet."""
        return any(flight.handled < len(flight.failures) for flight in self.flights)

    def has_failed(self) -> bool:
        """Whether a record in flight was refused, or lost on its way, and is not settled otherwise."""
        return any(
            index not in settled
            for flight in self.flights
            if flight.failures
            for settled in (flight.settled_indexes(),)
            for index, _ in flight.failures
        )

    def has_holes(self) -> bool:
        """Whether a record is settled while one before it in its partition is not."""
        waiting: set[TopicPartition] = set()
        for flight in self.flights:
            settled = flight.settled_indexes()
            for index, place, _ in flight.positions():
                if index not in settled:
                    waiting.add(place)
                elif place in waiting:
                    return True
        return False

    def revoke(self, places: Iterable[TopicPartition]) -> None:
        """Forget partitions that went away: a late delivery report must never move their offsets again.

        The broker checks a commit's generation, not who owns the partition, and takes lower offsets than before.
        """
        gone = set(places)
        for place in gone:
            self.next_offsets.pop(place, None)
        for flight in self.flights:
            flight.revoked |= gone

    def has_in_flight(self, places: Iterable[TopicPartition]) -> bool:
        """Whether a record of one of these partitions is still on its way."""
        wanted = set(places)
        for flight in self.flights:
            if flight.complete:
                continue
            settled = flight.settled_indexes()
            if any(place in wanted and index not in settled for index, place, _ in flight.positions()):
                return True
        return False

    def close(self, refused: Iterable[tuple[Flight, int]]) -> list[tuple[Flight, int]]:
        """Book what is left after the drain: `refused` are known not to have been written, the others are unknown.

        Returns the records that were not delivered, as (flight, index).
        """
        self.settle()
        known = {(id(flight), index) for flight, index in refused}
        lost: list[tuple[Flight, int]] = []
        for flight in self.flights:
            settled = flight.settled_indexes()
            missing = [index for index in range(flight.read) if index not in settled]
            back = flight.returned.intersection(missing)
            self.cut_short = self.cut_short or bool(back)
            self.read -= len(back)
            missing = [index for index in missing if index not in back]
            refusals = sum((id(flight), index) in known for index in missing)
            flight.failed.difference_update(missing)
            self._book(flight, flight.read - len(missing) - len(back))
            self.failed += refusals
            self.unknown += len(missing) - refusals
            lost += [(flight, index) for index in missing]
        return lost

    @property
    def waiting(self) -> int:
        """Records that were read and of which nobody knows yet that they arrived."""
        return self.in_flight - self.landed

    @property
    def heard(self) -> int:
        """A number that changes with each delivery report, also one of a flight that is not complete yet."""
        reports = sum(len(flight.settled) + len(flight.failures) for flight in self.flights)
        return reports - self.waiting

    @property
    def balanced(self) -> bool:
        """Whether every record that was read is accounted for."""
        accounted = self.delivered + self.filtered + self.dead_lettered + self.failed + self.unknown
        return self.read == accounted + self.in_flight

    @property
    def complete(self) -> bool:
        """Whether everything that was read has reached its end and nothing was lost."""
        return self.balanced and not (self.in_flight or self.failed or self.unknown)

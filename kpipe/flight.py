"""One batch on its way: which of its records are settled, how each was reported on, and where each was read.

It performs no I/O and knows no client: reports come in by the callbacks that it hands out.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from kpipe.record import Batch

TopicPartition: TypeAlias = tuple[str, int]
Position: TypeAlias = tuple[str, int, int]
"""Topic, partition, offset."""
DeliveryReport: TypeAlias = "Callable[[object | None, object], None]"
"""Told the error, or None when the record is on its target, and the client's message."""


def is_open(position: Position, committed: Mapping[TopicPartition, int]) -> bool:
    """Whether a record may be read again: the next offset that is committed in its partition is not behind it."""
    topic, partition, offset = position
    return offset >= committed.get((topic, partition), 0)


def delivery_reports(flight: Flight, indexes: Iterable[int]) -> list[DeliveryReport]:
    """What the client calls once with the outcome of one record; it only takes notes, for a callback must never raise.

    Reused from flight to flight: making one per record costs more than calling it (bench: +100 ns). Closures: calling
    an object costs twice as much (110 instead of 60 ns). Those of a flight share all but their index: 280 bytes each.
    """
    settle, fail = flight.settled.append, flight.failures.append

    def make(index: int) -> DeliveryReport:
        def report(error: object | None, _message: object) -> None:
            if error is None:
                settle(index)
            else:
                fail((index, error))

        return report

    return list(map(make, indexes))


class Parcel:
    """A batch as it was handed to one sink, kept until its flight is settled: a refused batch is sent again.

    `failed` are the places in it that failed, where an index is in it more than once (None: each index is once).
    """

    __slots__ = ("batch", "failed", "partitions", "sink")

    def __init__(self, sink: object, batch: Batch, partitions: Sequence[int] | None = None) -> None:
        self.sink = sink
        self.batch = batch
        self.partitions = partitions
        self.failed: list[int] | None = None


class Unsent:
    """Stands for the delivery report of a record that the run ended before: not written, and no fault of its own."""


class Flight:
    """One batch on its way: where its records came from, and which of them are settled.

    `settled` holds indexes into the batch as read, once for each thing that had to happen to the record (one delivery,
    or more for a record that was split or sent to several targets); `expected` is how many entries make it complete.
    """

    __slots__ = (
        "batch",
        "dead",
        "dead_lettered",
        "dropped",
        "expected",
        "failed",
        "failures",
        "filtered",
        "handled",
        "needs",
        "origin",
        "parcels",
        "read",
        "reports",
        "returned",
        "revoked",
        "settled",
        "taken_out",
    )

    def __init__(self) -> None:
        self.settled: list[int] = []
        self.failures: list[tuple[int, object]] = []
        self.parcels: list[Parcel] = []
        self.reports: list[DeliveryReport] = []
        self.reset()

    def reset(self) -> None:
        """Make the flight ready for another batch; its delivery reports stay."""
        self.settled.clear()
        self.failures.clear()
        self.parcels.clear()
        self.batch: Batch | None = None
        self.origin: Batch | None = None
        self.needs: Counter[int] | None = None
        self.revoked: set[TopicPartition] = set()
        self.failed: set[int] = set()
        self.taken_out: set[int] = set()
        self.dropped: Counter[int] | None = None
        self.dead: set[int] = set()
        self.returned: set[int] = set()
        self.read = self.expected = self.filtered = self.dead_lettered = self.handled = 0

    def keep(self, parcel: Parcel) -> None:
        """Keep what a sink was given until the flight is settled."""
        self.parcels.append(parcel)

    def take_reports(self, batch: Batch) -> list[DeliveryReport]:
        """At least one delivery report per record of `batch`, in its order."""
        reports = self.reports
        if len(reports) < batch.read:
            reports += delivery_reports(self, range(len(reports), batch.read))
        if batch.index is None:
            return reports
        return [reports[index] for index in batch.index]

    def settle_filtered(self, batch: Batch) -> None:
        """Settle what left the batch without an error; copies made by a split must all settle before their source."""
        if batch.index is None:
            return
        gone = set(range(self.read)).difference(batch.index, (bad.index for bad in batch.bad))
        self.filtered += len(gone)
        self.settled += gone
        if len(batch.index) > self.read - len(gone) - len(batch.bad):
            self.needs = Counter(batch.index)
            self.expected += len(batch.index) - len(self.needs)

    def expect_again(self, batch: Batch) -> None:
        """Every record of `batch` goes to one more target and settles when that one has acknowledged it, too."""
        needs = Counter(range(self.read)) if self.needs is None else self.needs
        needs.update(range(self.read) if batch.index is None else batch.index)
        self.needs = needs
        self.expected += len(batch)

    def expect(self, index: int, more: int = 1) -> None:
        """So many more things must happen to one record before it is settled."""
        if self.needs is None:
            self.needs = Counter(range(self.read))
        self.needs[index] += more
        self.expected += more

    def drop(self, index: int) -> None:
        """A copy of a record was filtered behind a detour; the record is filtered when nothing is left of it."""
        if self.dropped is None:
            self.dropped = Counter()
        self.dropped[index] += 1
        self.settled.append(index)
        if self.dropped[index] == (1 if self.needs is None else self.needs[index]):
            self.filtered += 1

    def give_back(self, indexes: Iterable[int]) -> None:
        """These records were not read after all: the run ended before them, and the next one begins with them."""
        self.returned.update(indexes)

    def leave_unsent(self, indexes: Iterable[int]) -> None:
        """The run ends before these records were sent."""
        self.failures += [(index, Unsent()) for index in indexes]

    def forget_contents(self) -> None:
        """Keep only where the records came from: what was handed over needs no second copy until it is settled."""
        if self.origin is not None and self.batch is None:
            self.origin.values, self.origin.keys, self.origin.headers = [], None, None

    def settle_sent(self, batch: Batch) -> None:
        """Settle every record of the batch at once: the sink has written it."""
        self.settled += range(self.read) if batch.index is None else batch.index

    @property
    def complete(self) -> bool:
        """Whether every record is settled."""
        return len(self.settled) == self.expected

    def settled_indexes(self) -> set[int]:
        """The records of which everything expected has happened."""
        if self.needs is None:
            return set(self.settled)
        counts = Counter(self.settled)
        return {index for index, count in counts.items() if count >= self.needs.get(index, 1)}

    def positions(self) -> Iterator[tuple[int, TopicPartition, int]]:
        """(index, topic and partition, offset) of every record as it was read."""
        origin = self.origin
        if origin is None or origin.topics is None or origin.partitions is None or origin.offsets is None:
            return
        places = zip(origin.topics, origin.partitions, origin.offsets, strict=True)
        for index, (topic, partition, offset) in zip(range(self.read), places, strict=False):
            if topic is not None and partition is not None and offset is not None:
                yield index, (topic, partition), offset

    def position(self, index: int) -> Position | None:
        """Where one record was read; None for one that is of no topic."""
        origin = self.origin
        if origin is None or origin.topics is None or origin.partitions is None or origin.offsets is None:
            return None
        topic, partition, offset = origin.topics[index], origin.partitions[index], origin.offsets[index]
        return None if topic is None or partition is None or offset is None else (topic, partition, offset)

    def ends(self) -> dict[TopicPartition, int]:
        """The next offset of every partition in the flight, for a flight that is complete."""
        if self.origin is None:
            return {}
        ends = {place: offset + 1 for place, offset in self.origin.last_offsets(self.read).items()}
        for place in self.revoked:
            ends.pop(place, None)
        return ends

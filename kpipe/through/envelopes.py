"""`--through-json`: each record goes to the filter as an envelope, and what comes back is sent: changed, more or fewer.

It never takes a record for dropped before the filter shows it: by giving back a later one of the same partition, or by
ending. Until then the record stays unsettled, so a restart gives it to the filter again.

What comes back is matched by topic, partition and offset; the filter keeps the order within a partition. An input that
has no end gives no end to the filter, so the last records of a partition that a filter drops stay open until a later
one comes; when so many are open that the window is full and nothing comes back, the filter's input is closed, all that
it did not give back counts as filtered, and a new filter goes on. The same happens when a partition is taken away.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from kpipe.errors import KpipeError
from kpipe.formats.envelope import EnvelopeDecoder
from kpipe.formats.envelope_output import EnvelopeEncoder
from kpipe.record import NO_TIMESTAMP
from kpipe.through.child import Child, pump
from kpipe.through.filtering import (
    LAST_WORDS,
    NOT_ANSWERED,
    TURN,
    FilterMismatch,
    FilterSink,
    Surroundings,
    Unanswered,
    slices,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kpipe.errors import BadRecord
    from kpipe.flight import Flight
    from kpipe.parts import Sink
    from kpipe.pipeline import PipelineStage
    from kpipe.record import Batch, Timestamp
    from kpipe.through.filtering import Filter

QueueKey: TypeAlias = tuple[int, str, int]
"""Process, topic and partition: what one queue of open records belongs to."""

ANSWERS = 4096
"""Lines decoded at once: one that is no envelope is an error of 1 KB, and a block can hold 131,000 of them."""
WINDOW = 10_000
"""Records that may be open at a time."""
WINDOW_BYTES = 32 << 20
"""Bytes of envelopes that may be open at a time; a larger record goes alone."""
STALL = 1.0
"""Seconds without an answer after which a full window means that the filter drops everything."""


@dataclass(slots=True, eq=False)
class Open:
    """A record that was given to the filter: its row in `batch`, its flight, and what it is known by."""

    flight: Flight
    index: int
    batch: Batch
    row: int
    offset: int
    size: int
    answered: bool = False


class Envelopes(FilterSink):
    """The envelope mode: it writes ahead, takes what comes, and settles what is known to be over."""

    def __init__(
        self,
        what: Filter,
        inner: Sink,
        stages: Sequence[PipelineStage],
        tell: Callable[[str], None],
        around: Surroundings = Surroundings(),  # noqa: B008 - it is frozen
        *,
        window: int = WINDOW,
        stall: float = STALL,
    ) -> None:
        super().__init__(what, inner, stages, tell, around)
        self._window, self._stall = window, stall
        self._encode = EnvelopeEncoder()
        self._decoders: dict[int, EnvelopeDecoder] = {}
        self._open: dict[QueueKey, deque[Open]] = {}
        self._count = self._bytes = self._serial = 0
        self._ending: set[int] = set()
        self._progress = time.monotonic()
        self._idle: Callable[[], bool] = lambda: True

    # --- to the filter -----------------------------------------------------------------------------------------

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Give every record to the filter as soon as there is room, and send on what comes back meanwhile."""
        self._idle = idle
        named = self._name(batch)
        numbers = self.numbers_of(batch)
        index = range(len(batch)) if batch.index is None else batch.index
        given = 0
        try:
            for row, block in self._blocks(named):
                if self.enough() or not self._make_room(len(block), numbers[row]):
                    return
                entry = Open(flight, index[row], batch, row, _offset(named, row), len(block))
                place = (numbers[row], *_place(named, row))
                self._open.setdefault(place, deque()).append(entry)
                self._count += 1
                self._bytes += len(block)
                given += 1
                self.child(numbers[row]).write(block)
        finally:
            (flight.give_back if self.enough() else flight.leave_unsent)(index[given : len(batch)])
        self._turn(0)

    def _blocks(self, named: Batch) -> Iterator[tuple[int, bytes]]:
        """(row, envelope with its newline) of each record."""
        for start, end in slices(named):
            yield from enumerate(self._encode(named.cut_out(start, end)).splitlines(keepends=True), start)

    def _name(self, batch: Batch) -> Batch:
        """The batch with coordinates for every record; lines of a file get its name, 0 and a running number."""
        topics, partitions, offsets = batch.topics, batch.partitions, batch.offsets
        if topics and partitions and offsets and None not in topics and None not in partitions and None not in offsets:
            return batch
        named = batch.snapshot()
        first = self._serial
        self._serial += len(batch)
        named.topics = [batch.file or "record"] * len(batch)
        named.partitions = [0] * len(batch)
        named.offsets = list(range(first, self._serial))
        return named

    def _make_room(self, size: int, number: int) -> bool:
        """Wait until one more record may be open; False when the run must end."""
        self._progress = time.monotonic()
        while number in self._ending or self._is_full(size):
            self._turn(TURN)
            if self._is_full(size) and time.monotonic() - self._progress > self._stall:
                self._begin_end()
            if not self._idle():
                return False
        return True

    def _is_full(self, size: int) -> bool:
        return self._count > 0 and (self._count >= self._window or self._bytes + size > WINDOW_BYTES)

    # --- from the filter ---------------------------------------------------------------------------------------

    def _turn(self, timeout: float) -> None:
        """Move bytes, send on what came back, settle what is over; raises when the filter fails."""
        pump(self.children.values(), timeout)
        try:
            for number, child in list(self.children.items()):
                while child.lines:
                    self._take(number, child)
                if child.endless:
                    raise self.endless()
                if child.ended:
                    self._bury(number, child)
                elif (child.unwritten or number in self._ending) and self.hangs(child):
                    raise self.hung()
        except KpipeError as error:
            self._give_up(error)
            raise

    def _take(self, number: int, child: Child) -> None:
        decoder = self._decoders.setdefault(number, EnvelopeDecoder(self.what.title))
        self._progress = time.monotonic()
        lines = [child.lines.popleft() for _ in range(min(len(child.lines), ANSWERS))]
        answers = decoder.feed(b"\n".join([*lines, b""]))
        if answers.bad:
            raise self._mismatch(f"answered something that is no envelope: {answers.bad[0].error.what}")
        if self.wanted() is not None:  # one by one: what stands behind the last that is wanted is not looked at
            for row in range(len(answers)):
                if self.enough():
                    return
                self._send_on(answers, [self._find(number, answers, row)], row, row + 1)
            return
        found = [self._find(number, answers, row) for row in range(len(answers))]
        start = 0
        for row in range(1, len(found) + 1):
            if row == len(found) or found[row].flight is not found[start].flight:
                self._send_on(answers, found[start:row], start, row)
                start = row

    def _find(self, number: int, answers: Batch, row: int) -> Open:
        if answers.topics is None or answers.partitions is None or answers.offsets is None:
            raise self._mismatch("answered an envelope without topic, partition or offset")
        offset = answers.offsets[row]
        key = (number, str(answers.topics[row]), int(answers.partitions[row] or 0))
        queue = self._open.get(key, deque())
        before = next((count for count, entry in enumerate(queue) if entry.offset == offset), None)
        if before is not None:
            queue[before].flight.expect(queue[before].index)
            for _ in range(before):  # a later one of the partition came back: of these none will
                self._settle(queue.popleft())
            return queue[0]
        where = f"{key[1]}[{key[2]}]@{offset}"
        raise self._mismatch(f"answered {where}, which it was not given or which it gave back out of order")

    def _send_on(self, answers: Batch, entries: list[Open], start: int, end: int) -> None:
        part = answers.cut_out(start, end)
        for entry in entries:
            entry.answered = True
        flight, origin = entries[0].flight, entries[0].batch
        part.index = [entry.index for entry in entries]
        part.read = flight.read
        part.cluster, part.file = origin.cluster, origin.file
        part.source_timestamps = [_source_time(entry.batch, entry.row) for entry in entries]
        for column in ("topics", "partitions", "offsets", "lines", "targets"):
            missing = any(getattr(entry.batch, column) is None for entry in entries)
            setattr(part, column, None if missing else [getattr(entry.batch, column)[entry.row] for entry in entries])
        self.pass_on(part, flight, self._idle)

    def _settle(self, entry: Open) -> None:
        """Nothing more comes back for this record; when nothing came at all, the filter has dropped it."""
        self._count -= 1
        self._bytes -= entry.size
        filtered = entry.flight.filtered
        origin = entry.flight.origin
        entry.flight.drop(entry.index)
        if entry.flight.filtered > filtered:
            self.note(origin, entry.index, None)

    # --- the end of a filter -----------------------------------------------------------------------------------

    def _begin_end(self) -> None:
        """Close the filter's input: what it does not give back now, it has dropped."""
        for number, child in self.children.items():
            if number not in self._ending:
                self._ending.add(number)
                child.busy = time.monotonic()
                child.close_input()

    def _bury(self, number: int, child: Child) -> None:
        mine = [place for place in self._open if place[0] == number]
        expected = number in self._ending and not (child.unwritten or child.broken)
        code = child.reap(LAST_WORDS)
        if not expected or (code != 0 and any(self._open[place] for place in mine)):
            raise self.died(child)
        for place in mine:
            for entry in self._open.pop(place):
                self._settle(entry)
        child.let_go()
        self.children.pop(number, None)
        self._decoders.pop(number, None)
        self._ending.discard(number)
        self._progress = time.monotonic()

    def _give_up(self, error: KpipeError) -> None:
        """Nobody knows which of the open records will ever come back: none of them counts as done."""
        entries = [entry for queue in self._open.values() for entry in queue]
        for entry in entries:
            entry.flight.failures.append((entry.index, Unanswered(NOT_ANSWERED)))
        if entries and not error.where:
            first = entries[0]
            error.where = first.batch.where(first.row)
        self._forget()

    def _forget(self) -> None:
        self.end()
        self._open.clear()
        self._decoders.clear()
        self._ending.clear()
        self._count = self._bytes = 0

    def _mismatch(self, what: str) -> BadRecord:
        advice = "a filter keeps topic, partition and offset, and the order within a partition"
        return FilterMismatch(f"{self.what.title}: the filter {what}; {advice}")

    # --- the sink's other duties -------------------------------------------------------------------------------

    def poll(self) -> None:
        """Send on what came back, and collect delivery reports."""
        if self.children:
            self._turn(0)
        self._stop_early()
        self.inner.poll()

    def flush(self, timeout: float) -> bool:
        """Let the filter end, so that everything is known of every record; the next one starts it again."""
        self._stop_early()
        if self.children and not self._passing:
            self._begin_end()
            self._turn(timeout)
            if self.children:
                return False
        return self.inner.flush(timeout)

    def _stop_early(self) -> None:
        """Nothing more is wanted: what the filter has not given back was not read after all."""
        if not self.enough() or self._passing:
            return
        for entry in [entry for queue in self._open.values() for entry in queue]:
            if entry.answered and entry.index not in entry.flight.returned:
                self._settle(entry)
            else:
                entry.flight.give_back((entry.index,))
        self._forget()

    def purge(self) -> None:
        """End the filter; what it has not given back is not sent."""
        self._forget()
        self.inner.purge()


def _place(named: Batch, row: int) -> tuple[str, int]:
    topics, partitions = named.topics or [], named.partitions or []
    return str(topics[row]), int(partitions[row] or 0)


def _source_time(batch: Batch, row: int) -> Timestamp:
    """What the trace tells: the filter may give another timestamp to the record, not to where it came from."""
    times = batch.timestamps if batch.source_timestamps is None else batch.source_timestamps
    return NO_TIMESTAMP if times is None else times[row]


def _offset(named: Batch, row: int) -> int:
    return int((named.offsets or [])[row] or 0)

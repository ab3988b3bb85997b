"""From where to where each partition is read, which are read here, and which are read to their end.

It knows no client and asks nobody: it is told what was assigned, and cuts a batch at the ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpipe.flight import TopicPartition
    from kpipe.kafka.lookups import Bounds
    from kpipe.record import Batch

JOINING = 10.0
"""Seconds that a member without a partition waits for one, beyond `--idle`, before it takes nothing for an answer."""
BEYOND = 1 << 63
"""Past every offset."""


@dataclass(slots=True)
class Progress:
    """How far the reading is: records read, and where each partition began and ends."""

    count: int = 0
    starts: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)

    def start(
        self,
        starts: dict[TopicPartition, int],
        ends: dict[TopicPartition, int],
        bounds: dict[TopicPartition, Bounds],
    ) -> None:
        """Note where partitions begin, and their end when it is known."""
        self.starts.update(starts)
        self.ends.update({place: ends.get(place, bounds[place].high) for place in starts if place in bounds})

    def forget(self, place: TopicPartition) -> None:
        """A partition went to another member."""
        self.starts.pop(place, None)
        self.ends.pop(place, None)

    def expected(self) -> int:
        """Offsets between start and end: an upper bound of records, for compaction and markers leave holes."""
        return sum(max(0, end - self.starts.get(place, end)) for place, end in self.ends.items())


@dataclass(slots=True)
class Assignment:
    """The partitions of one run.

    `ends` are exclusive and may name partitions of other members; `empty` are partitions without a record before their
    end; `at_eof` are positions behind the last record of idle partitions. `late_end` is ms since the epoch: the ends
    are fixed when that moment has come.
    """

    bounded: bool
    """Whether every partition has an end, also one that comes later."""
    shared: bool
    """Whether a group's other members read the rest."""
    finished: bool = False
    late_end: int | None = None
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    assigned: set[TopicPartition] = field(default_factory=set)
    done: set[TopicPartition] = field(default_factory=set)
    empty: set[TopicPartition] = field(default_factory=set)
    at_eof: dict[TopicPartition, int] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    heard: tuple[int, float] | None = None
    """How many records had been read when the last one came, and when that was."""

    def fix(self, ends: dict[TopicPartition, int], bounds: dict[TopicPartition, Bounds]) -> None:
        """Set the ends, as the bounds were at that moment."""
        self.ends = ends
        self.empty = {place for place, bound in bounds.items() if bound.low >= ends.get(place, bound.low + 1)}

    def take(self, starts: dict[TopicPartition, int], bounds: dict[TopicPartition, Bounds]) -> None:
        """These partitions are read here from now on."""
        if self.bounded:
            for place in starts:
                self.ends.setdefault(place, bounds[place].high)
        self.done.difference_update(starts)
        self.done.update(place for place, offset in starts.items() if self.is_past(place, offset))
        self.assigned.update(starts)
        self.progress.start(starts, self.ends, bounds)

    def let_go(self, places: Iterable[TopicPartition]) -> None:
        """These partitions are not read here any more."""
        for place in places:
            self.assigned.discard(place)
            self.done.discard(place)
            self.at_eof.pop(place, None)
            self.progress.forget(place)

    def reopen(self, places: Iterable[TopicPartition], count: int) -> None:
        """`count` records of these partitions are read again."""
        for place in places:
            self.done.discard(place)
            self.at_eof.pop(place, None)
        self.progress.count -= count
        self.finished = False

    def is_past(self, place: TopicPartition, offset: int) -> bool:
        """Whether a partition is read to its end when `offset` comes next."""
        return place in self.ends and offset >= self.ends[place]

    def reach(self, place: TopicPartition, offset: int) -> bool:
        """Note the position behind the last record there is; whether that is the end."""
        self.at_eof[place] = min(offset, self.ends.get(place, offset))
        return self.is_past(place, offset)

    @property
    def share_is_done(self) -> bool:
        """Whether all partitions that are read here are read to their end."""
        return self.assigned <= self.done

    def others(self) -> dict[TopicPartition, int]:
        """The ends of partitions that somebody else must reach."""
        return {place: end for place, end in self.ends.items() if place not in self.done and place not in self.empty}

    def check_finished(self) -> None:
        """A member of a group is not finished with its own partitions: another one may be dead and hold the rest."""
        if (self.ends or self.bounded) and self.share_is_done and self.late_end is None:
            self.finished = not self.shared or not self.others()

    def check_idle(self, idle: float, now: float, *, holds_back: bool) -> None:
        """End when no record came for `idle` seconds; the wait for a place in the group does not count, up to JOINING.

        `holds_back`: records have come, and wait until they are old enough.
        """
        count = self.progress.count
        if self.heard is None or self.heard[0] != count:
            self.heard = (count, now)
        patience = idle + (0 if self.assigned else JOINING)
        if now - self.heard[1] >= patience and not holds_back:
            self.finished = True

    # Hot path, with `TopicSource.read`.
    def cut(self, batch: Batch) -> list[TopicPartition]:
        """Cut off what lies past an end, which was not read as far as anyone is concerned; the ends that it reached."""
        reached: list[TopicPartition] = []
        over = False
        for place, offset in batch.last_offsets().items():
            end = self.ends.get(place)
            if end is not None and offset >= end - 1:
                over = over or offset >= end
                reached.append(place)
        if over:
            places = zip(batch.topics or [], batch.partitions or [], batch.offsets or [], strict=True)
            batch.keep([offset < self.ends.get((topic, number), BEYOND) for topic, number, offset in places])  # type: ignore[operator,arg-type]
            batch.index, batch.read = None, len(batch)
        return reached

"""Leaves out records that are in the target already, as their trace headers there say (`--resume-by-trace`).

It never trusts a highest offset: with several target partitions the records behind a lost one may have landed, so what
is left out is a set, and holes are filled.

How far back the target must be read is proven, not guessed. The set only has to hold offsets from the group's committed
one on. With every commit goes the `floor`: positions in the target before which no such record can be. At first it is
where one was found, or the end that was looked at; later it is the end of each target partition at a moment, once all
that was read before that moment is committed: the rest was sent later, and lies behind it. Without a floor (no group,
or commits of another tool) the target is read from its beginning, up to a limit.
"""

from __future__ import annotations

import time
from contextlib import suppress
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from kpipe.delivery.tail import ANSWER, TargetTail
from kpipe.errors import UnreachableError
from kpipe.formats.header_names import read_headers
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from kpipe.flight import TopicPartition
    from kpipe.ledger import Ledger
    from kpipe.record import Batch

PAGE = 8192
"""Offsets per page of a set: 1 KiB of bits, made only where there are any."""

INTERVAL = 10.0
"""Seconds between moments that may become a floor: what a restart reads of the target is about twice that."""

_HEADERS = methodcaller("headers")

MARK = "tail="
MAX_METADATA = 4000
"""Bytes of a commit's metadata: brokers take 4096 (offset.metadata.max.bytes)."""


class OffsetSet:
    """Offsets of one partition, one bit each."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self.highest = -1

    def add(self, offset: int) -> None:
        """Put an offset in."""
        page, bit = divmod(offset, PAGE)
        if page not in self._pages:
            self._pages[page] = bytearray(PAGE // 8)
        self._pages[page][bit >> 3] |= 1 << (bit & 7)
        self.highest = max(self.highest, offset)

    def __contains__(self, offset: int) -> bool:
        page, bit = divmod(offset, PAGE)
        held = self._pages.get(page)
        return held is not None and bool(held[bit >> 3] & (1 << (bit & 7)))


class Resume:
    """The stage that leaves out what is there, and the floor that makes the next start cheap.

    `committed_with` gives the metadata that partitions were committed with. `skipped` counts records left out.
    `there_at_start`: the partitions of the source, and the target's ends as they were before that was asked.
    """

    def __init__(
        self,
        tail: TargetTail,
        cluster_id: str,
        target_id: str,
        committed_with: Callable[[Iterable[TopicPartition]], Mapping[TopicPartition, str]],
        *,
        prefix: str = "",
        clock: Callable[[], float] = time.monotonic,
        there_at_start: tuple[frozenset[TopicPartition], dict[int, int]] | None = None,
    ) -> None:
        self.skipped = 0
        self._tail = tail
        self._cluster = cluster_id.encode()
        self._mark = f"{MARK}{target_id}/{tail.topic}/"
        self._committed_with = committed_with
        self._names = tuple(
            prefix + name for name in ("source_cluster", "source_topic", "source_partition", "source_offset")
        )
        self._clock = clock
        self._there: dict[TopicPartition, OffsetSet] = {}
        self._floors: dict[TopicPartition, dict[int, int]] = {}
        self._candidate: tuple[int, dict[int, int]] | None = None
        self._due = clock() + INTERVAL
        self._searches: list[Generator[None, None, None]] = []
        self._sought: dict[TopicPartition, Mapping[TopicPartition, int]] = {}
        """Partitions that are looked for, each with the starts of the last `look` that gave them to us."""
        self._there_at_start = there_at_start

    # --- what is there -----------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether it is still being found out what is there: until then, nothing that was read may go on."""
        return bool(self._searches)

    def look(self, starts: Mapping[TopicPartition, int]) -> None:
        """Partitions begin at these offsets: which of the records from there on are in the target, `step` finds out.

        A member that is given no partition has nothing to look for. Called in a rebalance, so it reads nothing itself.
        """
        if not starts:
            return
        notes = self._committed_with(starts)
        floors = {place: self._floor_of(place, notes.get(place, "")) for place in starts}
        starts = dict(starts)
        for place in starts:
            self._there[place] = OffsetSet()
            self._sought[place] = starts
        known = [floor for floor in floors.values() if floor is not None]
        lowest: dict[int, int] = {}
        if len(known) == len(floors):
            lowest = {p: min(floor.get(p, 0) for floor in known) for p in set().union(*known)}
        self._searches.append(self._search(starts, lowest))

    def _floor_of(self, place: TopicPartition, metadata: str) -> dict[int, int] | None:
        """Of a partition that was added since the start nothing lies before the end that the target had then."""
        floor = self._parse(metadata)
        if floor is None and self._there_at_start is not None and place not in self._there_at_start[0]:
            return self._there_at_start[1]
        return floor

    def step(self) -> None:
        """Look a little further, for half a second at most. Raises KpipeError."""
        try:
            next(self._searches[0])
        except StopIteration:
            self._searches.pop(0)

    def _search(self, starts: dict[TopicPartition, int], lowest: dict[int, int]) -> Generator[None, None, None]:
        """What went away meanwhile is nothing of ours, also when it came back: a later search looks for it anew."""
        wanted: dict[tuple[bytes | None, bytes | None], TopicPartition] = {
            (topic.encode(), b"%d" % partition): (topic, partition) for topic, partition in starts
        }
        firsts: dict[TopicPartition, dict[int, int]] = {place: {} for place in starts}
        ends = yield from self._tail.search(lowest, lambda messages: self._take(messages, wanted, starts, firsts))
        for place in [place for place in starts if self._sought.get(place) is starts]:
            if self._there[place].highest < 0:
                del self._there[place]
            self._floors[place] = {**ends, **firsts[place]}
            del self._sought[place]
        self._candidate = None

    def _take(
        self,
        messages: list[Any],
        wanted: Mapping[tuple[bytes | None, bytes | None], TopicPartition],
        starts: Mapping[TopicPartition, int],
        firsts: Mapping[TopicPartition, dict[int, int]],
    ) -> None:
        cluster_name, topic_name, partition_name, offset_name = self._names
        carried = read_headers(lambda: list(map(_HEADERS, messages)))
        for message, headers in zip(messages, carried, strict=True):
            known = dict(headers or ())
            if known.get(cluster_name) != self._cluster:
                continue
            place = wanted.get((known.get(topic_name), known.get(partition_name)))
            offset = known.get(offset_name) or b""
            if place is None or self._sought.get(place) is not starts:
                continue
            if offset.isdigit() and int(offset) >= starts[place]:
                self._there[place].add(int(offset))
                firsts[place].setdefault(message.partition(), message.offset())

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """Partitions went to somebody else."""
        for place in places:
            self._there.pop(place, None)
            self._floors.pop(place, None)
            self._sought.pop(place, None)

    def leave_out(self, batch: Batch) -> None:
        """The first stage: records that are there already are filtered."""
        if not self._there or batch.topics is None:
            return
        there = self._there
        places = list(zip(batch.topics, batch.partitions or [], strict=True))
        offsets = batch.offsets or []
        keep = [
            (found := there.get(place)) is None or offset not in found  # type: ignore[arg-type,operator]
            for place, offset in zip(places, offsets, strict=True)
        ]
        self.skipped += keep.count(False)
        for place, offset in dict(zip(places, offsets, strict=True)).items():
            if place in there and offset >= there[place].highest:  # type: ignore[operator]
                del there[place]
        if not all(keep):
            batch.keep(keep)

    # --- the floor ---------------------------------------------------------------------------------------------

    def tick(self, ledger: Ledger) -> None:
        """Take note of the target's end now and then; it is the floor once what was read until then is committed."""
        if self._candidate is not None and ledger.read - ledger.in_flight >= self._candidate[0]:
            _, ends = self._candidate
            self._floors = dict.fromkeys(self._floors, ends)
            self._candidate = None
        if self._candidate is None and not (self._there or self._searches) and self._clock() >= self._due:
            self._due = self._clock() + INTERVAL
            with suppress(UnreachableError):  # the old floor is still right
                self._candidate = (ledger.read, self._tail.ends())

    def end(self, ledger: Ledger, timeout: float = ANSWER) -> None:
        """The last commit: with everything settled, the target's end is the floor, if it is told in time."""
        if not (self._there or self._searches or ledger.in_flight):
            with suppress(UnreachableError):
                self._floors = dict.fromkeys(self._floors, self._tail.ends(timeout))

    def note(self, place: TopicPartition) -> str:
        """What to commit beside an offset; nothing when it would be too long for a broker to take."""
        floor = self._floors.get(place)
        if floor is None:
            return ""
        text = self._mark + ",".join(f"{partition}:{position}" for partition, position in sorted(floor.items()))
        return text if len(text) <= MAX_METADATA else ""

    def _parse(self, metadata: str) -> dict[int, int] | None:
        """The floor in a commit's metadata; None when there is none for this target."""
        found = next((word for word in metadata.split(" ") if word.startswith(self._mark)), None)
        if found is None:
            return None
        floor: dict[int, int] = {}
        for entry in found.removeprefix(self._mark).split(","):
            partition, _, position = entry.partition(":")
            if not (partition.isdigit() and position.isdigit()):
                return None
            floor[int(partition)] = int(position)
        return floor

    def told(self, where: str) -> list[str]:
        """What people should know at the end: how many records `where` had already."""
        if not self.skipped:
            return []
        return [f"resume: {where}: {counted(self.skipped, 'record was', 'records were')} there already, and left out"]

    def close(self) -> None:
        """Let go of the target."""
        self._tail.close()

"""Where groups go on among copies of the records that they read. Pure: one pass over the copies serves all groups.

In each partition of copies a group is put right behind the last copy it has read before the first one it has not: what
lies behind is read, so nothing unread is passed, and copies behind it that were read already are repeated, and counted.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kpipe.flight import TopicPartition


class Spot(NamedTuple):
    """Where a group goes on in one partition of copies."""

    position: int
    read: int
    """Copies before it, of records that the group has read."""
    repeats: int
    """Copies behind it, of records that the group has read."""
    foreign: int
    """Records before it that were not made from what the group reads, and are passed."""


class _Source:
    """The copies of one source partition within one partition of copies.

    Groups have read up to `limits` (sorted, distinct). They rise above the highest offset seen, `reached` of them at or
    below it: the first copy at or beyond a limit is the first that its groups have not read.
    """

    __slots__ = ("below", "groups", "limits", "reached", "seen")

    def __init__(self, committed: Iterable[tuple[str, int]]) -> None:
        by_limit: dict[int, list[str]] = {}
        for group, offset in committed:
            by_limit.setdefault(offset, []).append(group)
        self.limits = sorted(by_limit)
        self.groups = [by_limit[limit] for limit in self.limits]
        self.reached = 0
        self.seen = 0
        self.below = [0] * (len(self.limits) + 1)
        """Copies of which the limit with this number is the lowest above them."""


class _Copies:
    """One partition of copies."""

    def __init__(self, low: int) -> None:
        self.behind_last = low
        """Behind the last copy seen, or the start."""
        self.last = low - 1
        """The last record of any kind."""
        self.copies = 0
        self.foreign = self.foreign_before_last = 0
        self.sources: dict[TopicPartition, _Source] = {}
        self.placed: dict[str, tuple[int, int, int, dict[TopicPartition, int]]] = {}
        """(position, copies before it, foreign records before it, copies seen of each source by then)"""


class Placement:
    """`groups`: what each has committed, by source partition; one that is missing there counts as unread."""

    def __init__(self, groups: Mapping[str, Mapping[TopicPartition, int]], lows: Mapping[TopicPartition, int]) -> None:
        self._groups = groups
        self._copies = {place: _Copies(low) for place, low in lows.items()}
        self.scanned = 0

    def take(self, place: TopicPartition, offset: int, origin: tuple[TopicPartition, int] | None) -> None:
        """The next record of a partition, in the order of offsets; `origin` is what it is a copy of."""
        here = self._copies[place]
        self.scanned += 1
        here.last = offset
        if origin is None:
            here.foreign += 1
            return
        of, at = origin
        source = here.sources.get(of)
        if source is None:
            source = here.sources[of] = _Source((group, each.get(of, 0)) for group, each in self._groups.items())
        limits = source.limits
        while source.reached < len(limits) and limits[source.reached] <= at:
            self._place(here, source.groups[source.reached])
            source.reached += 1
        source.below[bisect_right(limits, at)] += 1
        source.seen += 1
        here.copies += 1
        here.behind_last, here.foreign_before_last = offset + 1, here.foreign

    @staticmethod
    def _place(here: _Copies, groups: Iterable[str]) -> None:
        seen = {of: source.seen for of, source in here.sources.items()}
        for group in groups:
            where = (here.behind_last, here.copies, here.foreign_before_last, seen)
            here.placed.setdefault(group, where)

    def conclude(self, ends: Mapping[TopicPartition, int]) -> dict[str, dict[TopicPartition, Spot]]:
        """Where each group goes on; `ends` is where a partition goes on behind its last record."""
        return {
            group: {place: _spot(here, group, committed, ends[place]) for place, here in self._copies.items()}
            for group, committed in self._groups.items()
        }


def _spot(here: _Copies, group: str, committed: Mapping[TopicPartition, int], end: int) -> Spot:
    seen = {of: source.seen for of, source in here.sources.items()}
    # Where nothing unread is: behind the last copy, and before records that are no copies.
    everything = (here.behind_last, here.copies, here.foreign_before_last, seen)
    position, read, foreign, seen = here.placed.get(group, everything)
    repeats = 0
    for of, source in here.sources.items():
        number = bisect_right(source.limits, committed.get(of, 0))
        repeats += sum(source.below[:number]) - seen.get(of, 0)
    return Spot(max(position, end) if here.last < position else position, read, repeats, foreign)

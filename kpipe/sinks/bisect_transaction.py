"""Finds, from one transaction to the next, the records for which a broker refuses a batch of them.

A refused batch breaks its transaction, so its parts cannot be tried within it. Each transaction that is read again
sends the suspects in smaller groups, each group alone, until a record is refused alone.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from kpipe.flight import is_open

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kpipe.flight import Flight, Position, TopicPartition
    from kpipe.parts import Failed
    from kpipe.record import Batch

GROUPS = 32
"""Groups that suspects are sent in: three aborted transactions find one bad record among 1,000."""


class Suspects:
    """Records of batches that were refused, each with the number of the group that it is sent in next time."""

    def __init__(self) -> None:
        self._groups: dict[Position, int] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def forget(self, committed: Mapping[TopicPartition, int]) -> None:
        """Those before these next offsets are in a transaction that was committed; it may have ended among them."""
        self._groups = {place: group for place, group in self._groups.items() if is_open(place, committed)}

    def accuse(self, refused: Sequence[Failed]) -> bool:
        """One of these, at least, had the broker refuse their batch; returns whether they are fewer than before."""
        found = positions_in(refused)
        lines = {place[:2] for place in found}
        before = {place for place in self._groups if place[:2] in lines}
        size = -(-len(found) // GROUPS)
        kept = {place: group for place, group in self._groups.items() if place not in before}
        self._groups = kept | {place: number // size for number, place in enumerate(found)}
        return not before or len(found) < len(before)

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """The batch in the parts to be sent one after the other: first the partitions without suspects."""
        places = list(zip(batch.topics or [], batch.partitions or [], batch.offsets or [], strict=True))
        lines = {place[:2] for place in self._groups}
        clear = [place[:2] not in lines for place in places]
        yield _cut_out(batch, clear)
        groups = [self._groups.get(place, -1) for place in places]  # type: ignore[arg-type]
        rows = [row for row, is_clear in enumerate(clear) if not is_clear]
        for _, same in groupby(rows, groups.__getitem__):
            chosen = set(same)
            yield _cut_out(batch, [row in chosen for row in range(len(batch))])


def positions_in(failures: Sequence[Failed]) -> list[Position]:
    """Where the records that failed were read, in that order within a partition, each once."""
    wanted: dict[int, tuple[Flight, set[int]]] = {}
    for flight, index, _ in failures:
        wanted.setdefault(id(flight), (flight, set()))[1].add(index)
    return sorted(
        {
            (*place, offset)
            for flight, indexes in wanted.values()
            for index, place, offset in flight.positions()
            if index in indexes
        }
    )


def _cut_out(batch: Batch, mask: Sequence[bool]) -> Batch:
    part = batch.snapshot()
    part.keep(mask)
    return part

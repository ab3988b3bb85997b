"""What must hold after every fault: nothing lost, order kept, bytes equal, duplicates within the bound.

It reads both topics with a client of its own and trusts no header but the trace coordinates, which it checks, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.broker.lab.cluster import Rec


@dataclass(frozen=True)
class Verdict:
    """What a run did to the records of the source topic."""

    records: int
    lost: int
    duplicates: int
    disorder: int
    altered: int

    def __str__(self) -> str:
        return f"{self.records} records, {self.lost} lost, {self.duplicates} twice, {self.disorder} out of order"


def judge(source: Sequence[Rec], target: Sequence[Rec], *, skipped: int = 0) -> Verdict:
    """Compare by coordinates: each target record names the source record it was made from.

    `disorder` counts first arrivals that stand behind a later record of the same source partition on the same target
    partition; a rewind repeats records, but its first arrivals are still in order.
    """
    known = {(record.partition, record.offset): record for record in source}
    arrivals: Counter[tuple[int, int]] = Counter()
    highest: dict[tuple[int, int], int] = defaultdict(lambda: -1)
    disorder = altered = 0
    for record in target:
        headers = dict(record.headers)
        place = int(headers["source_partition"] or b"-1"), int(headers["source_offset"] or b"-1")
        original = known.get(place)
        if original is None or (original.key, original.value) != (record.key, record.value):
            altered += 1
            continue
        arrivals[place] += 1
        line = (place[0], record.partition)
        if arrivals[place] == 1:
            disorder += place[1] < highest[line]
            highest[line] = max(highest[line], place[1])
    lost = len(known) - len(arrivals) - skipped
    return Verdict(len(known), lost, sum(count - 1 for count in arrivals.values()), disorder, altered)

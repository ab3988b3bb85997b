"""What must hold after every fault: nothing lost, order kept, bytes equal, duplicates within the bound.

It reads both sides with a client of its own and trusts nothing that it can check: what a copy says of its source is
held against the source.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.broker.lab.cluster import Rec

TRACE = ("source_", "origin_", "trace_hops")


@dataclass(frozen=True)
class Verdict:
    """What a run did to the records of its source.

    `disorder` counts first arrivals behind a later record of the same source partition, in one target partition or
    under one key; `altered` copies with another key, value, timestamp, header or no place in the source.
    """

    records: int
    lost: int
    duplicates: int
    disorder: int
    altered: int

    def __str__(self) -> str:
        counts = f"{self.records:,} records, {self.lost:,} lost, {self.duplicates:,} twice"
        return f"{counts}, {self.disorder:,} out of order, {self.altered:,} altered"


def traced(copy: Rec) -> tuple[int, int]:
    """The partition and offset that a copy says it was made from."""
    headers = dict(copy.headers)
    return int(headers.get("source_partition") or b"-1"), int(headers.get("source_offset") or b"-1")


def numbered(copy: Rec) -> tuple[int, int]:
    """The line that a copy was made from, by the number that its value ends with."""
    digits = (copy.value or b"")[-7:]
    return 0, int(digits) if digits.isdigit() else -1


def judge(source: Sequence[Rec], target: Iterable[Rec], place: Callable[[Rec], tuple[int, int]] = traced) -> Verdict:
    """Compare by place: each target record, in order of partition and offset, says which source record it was.

    A rewind repeats records, but its first arrivals are still in order. A key that is found in two target partitions
    has no order there: its records count as out of order.
    """
    known = {(record.partition, record.offset): record for record in source}
    arrivals: Counter[tuple[int, int]] = Counter()
    highest: dict[tuple[object, ...], int] = {}
    homes: dict[bytes, int] = {}
    disorder = altered = 0
    for copy in target:
        origin = place(copy)
        original = known.get(origin)
        if original is None or not same(original, copy):
            altered += 1
        if original is None:
            continue
        arrivals[origin] += 1
        if arrivals[origin] > 1:
            continue
        lines: list[tuple[object, ...]] = [(origin[0], copy.partition)]
        if copy.key is not None:
            lines.append((origin[0], copy.key))
        strayed = copy.key is not None and homes.setdefault(copy.key, copy.partition) != copy.partition
        disorder += strayed or any(origin[1] < highest.get(line, -1) for line in lines)
        highest.update((line, max(origin[1], highest.get(line, -1))) for line in lines)
    twice = sum(count - 1 for count in arrivals.values())
    return Verdict(len(known), len(known) - len(arrivals), twice, disorder, altered)


def same(original: Rec, copy: Rec) -> bool:
    """Whether a copy has its original's bytes; what was written without a timestamp may have any."""
    own = tuple(header for header in copy.headers if not header[0].startswith(TRACE))
    stamped = dict(copy.headers).get("source_timestamp")
    return (
        (original.key, original.value, original.headers) == (copy.key, copy.value, own)
        and original.timestamp in (-1, copy.timestamp)
        and stamped in (None, b"%d" % original.timestamp)
    )

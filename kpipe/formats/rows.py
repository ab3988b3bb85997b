"""Turns records that were decoded one by one into a batch; the bad ones among them are taken out with their reasons.

It never decodes anything itself, and the formats that can decode whole columns do not come through here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kpipe.errors import BadRecord
from kpipe.record import NO_TIMESTAMP, Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.record import Headers, Timestamp

Entry = TypeVar("Entry")


class Row(NamedTuple):
    """One record."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers | None = None
    timestamp: Timestamp = NO_TIMESTAMP
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None


_PLACEHOLDER = Row(b"")


def batch_of(rows: Sequence[Row | BadRecord], *, file: str, lines: Sequence[int]) -> Batch:
    """Return the records as columns; a column without any entry is None. `lines` has a position for every row."""
    errors = {place: row for place, row in enumerate(rows) if isinstance(row, BadRecord)}
    good = [_PLACEHOLDER if isinstance(row, BadRecord) else row for row in rows]
    timestamps = [row.timestamp for row in good]
    batch = Batch(
        [row.value for row in good],
        keys=unless_empty([row.key for row in good]),
        headers=unless_empty([row.headers or None for row in good]),
        timestamps=None if timestamps.count(NO_TIMESTAMP) == len(timestamps) else timestamps,
        topics=unless_empty([row.topic for row in good]),
        partitions=unless_empty([row.partition for row in good]),
        offsets=unless_empty([row.offset for row in good]),
        file=file,
        lines=lines,
    )
    batch.reject(errors)
    return batch


def unless_empty(column: list[Entry | None]) -> list[Entry | None] | None:
    """Return the column, or None when all its entries are."""
    return None if column.count(None) == len(column) else column

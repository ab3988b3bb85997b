"""Records that a program gives, from any iterable, as batches.

It never reads ahead of what it was asked for by more than one batch, and hides no exception of the iterable.
"""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING

from kpipe.record import NO_TIMESTAMP, TIMESTAMP_CREATE, Batch, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST, LONGEST = 500, 0.1
"""Records and seconds of one batch: delivery reports are looked at between two."""


class GivenSource:
    """Records of an iterable; `as_record` makes one of each entry. Positions are `records:N`, from 1 on.

    What the iterable, or `as_record`, raises ends the input behind the records before it, and is kept as `failure`.
    """

    is_typed, fragment, read_bytes = False, 0, 0
    total_bytes: int | None = None

    def __init__(self, entries: Iterable[object], as_record: Callable[[object], Record]) -> None:
        self.finished = False
        self.failure: Exception | None = None
        self._entries: Iterator[object] = iter(entries)
        self._as_record = as_record
        self._numbers = count(1)

    def read(self) -> Batch | None:
        """The next records; waits for the first of them as long as the iterable does."""
        records: list[Record] = []
        until = time.monotonic() + LONGEST
        try:
            for entry in self._entries:
                records.append(self._as_record(entry))
                if len(records) == MOST or time.monotonic() > until:
                    break
            else:
                self.finished = True
        except Exception as error:  # noqa: BLE001 - it is the program's own, and goes back to it
            self.failure, self.finished = error, True
        return self._batch(records) if records else None

    def _batch(self, records: list[Record]) -> Batch:
        traced = any(record.topic for record in records)
        timed = any(record.timestamp is not None for record in records)
        headers = [list(record.headers) or None for record in records]
        times = [NO_TIMESTAMP if each.timestamp is None else (TIMESTAMP_CREATE, each.timestamp) for each in records]
        return Batch(
            [record.value for record in records],
            keys=[record.key for record in records],
            headers=headers if any(headers) else None,
            timestamps=times if timed else None,
            topics=[record.topic or None for record in records] if traced else None,
            partitions=[record.partition for record in records] if traced else None,
            offsets=[record.offset for record in records] if traced else None,
            file="records",
            lines=[next(self._numbers) for _ in records],
        )

    def keep_alive(self) -> None:
        """Nothing to keep alive."""

    def leave(self) -> None:
        """The iterable is the program's: it is not closed."""

    def close(self, timeout: float) -> None:
        """Nothing is open."""

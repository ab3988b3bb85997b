"""How fast records may go (`--rate`): a budget that time fills, what is sent uses, and what is read looks at.

It moves no record and waits for nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.units import parse_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SAVED = 0.25
"""Seconds of budget that may be saved up: a turn that took longer than it should does not make the rate a lower one."""
GRAIN = 0.02
"""Seconds of budget worth reading for: less makes a batch of a record or two, which costs what 500 do."""
UNKNOWN_SIZE = 1000
"""Bytes that a record is taken for until one was seen."""
FAST = 10_000_000
"""Bytes a second from which on a short queue could run dry."""
FORGET = 2000
"""Records after which what was seen counts for half."""


class Bucket:
    """A budget of `rate` units a second; it may go into debt for what was larger than it seemed."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self.rate = rate
        self._clock = clock
        self._level = rate * GRAIN
        self._last = clock()

    def level(self) -> float:
        """How much may be used now; negative while in debt."""
        now = self._clock()
        self._level = min(max(self.rate * SAVED, 1.0), self._level + (now - self._last) * self.rate)
        self._last = now
        return self._level

    def wait(self, least: float = 0.0) -> float:
        """Seconds until there is more than `least`."""
        missing = least - self.level()
        return 0.0 if missing < 0 else missing / self.rate + 1e-6

    def room(self) -> float:
        """How much was left when the clock was last looked at."""
        return self._level

    def take(self, amount: float) -> None:
        """Use some, beyond what is left if need be."""
        self._level -= amount


class Pace:
    """The rates of one run, of records and of bytes a second (None: no limit). `ended`: nothing is held up any more."""

    def __init__(
        self,
        records: float | None,
        size: float | None,
        ended: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.records = None if records is None else Bucket(records, clock)
        self.size = None if size is None else Bucket(size, clock)
        self.ended = ended
        self._read = self._sent = self._bytes = 0.0

    @property
    def is_fast(self) -> bool:
        """Whether it needs all that the client can fetch ahead."""
        return self.size is not None and self.size.rate >= FAST

    def wait(self) -> float:
        """Seconds until anything may be sent."""
        if self.ended():
            return 0.0
        return max((bucket.wait() for bucket in (self.records, self.size) if bucket is not None), default=0.0)

    def most(self, limit: int) -> tuple[int, float]:
        """How many records to read now, up to `limit`, and seconds to wait when there are none.

        What a filter drops is not counted by the rate, so more are read where fewer are sent. A run that ends reads
        none: nothing would hold back what a signal found on its way here.
        """
        if self.ended():
            return 0, 0.0
        passing = (self._sent + 1) / (self._read + 1)
        count = float(limit)
        for bucket, of_one in ((self.records, 1.0), (self.size, self._size_of_one())):
            if bucket is not None:
                wait = bucket.wait(bucket.rate * GRAIN)
                if wait > 0:
                    return 0, wait
                count = min(count, bucket.room() / of_one / passing)
        return max(1, int(count)), 0.0

    def note_read(self, count: int) -> None:
        """So many records were read."""
        self._read += count
        if self._read > FORGET:
            self._read, self._sent, self._bytes = self._read / 2, self._sent / 2, self._bytes / 2

    def take(self, count: int, size: int) -> None:
        """So many records, of so many bytes, are sent now."""
        self._sent += count
        self._bytes += size
        if self.records is not None:
            self.records.take(count)
        if self.size is not None:
            self.size.take(size)

    def _size_of_one(self) -> float:
        return max(1.0, self._bytes / self._sent) if self._sent else UNKNOWN_SIZE


def parse_rates(texts: Sequence[str]) -> tuple[float | None, float | None]:
    """Records and bytes a second from `--rate`, which may be given twice; None where there is no limit."""
    records: float | None = None
    size: float | None = None
    for text in texts:
        of_records, of_bytes = parse_rate(text, "--rate")
        records, size = of_records or records, of_bytes or size
    return records, size

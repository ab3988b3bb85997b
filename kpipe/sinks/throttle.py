"""Lets records through to the target at a limited rate; what waits was read once and stays where it is.

It never drops or reads anything again, and ends at once when the run must end: what was read then goes out unthrottled.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.units import parse_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.errors import KpipeError
    from kpipe.ledger import Flight
    from kpipe.pipeline import Sink
    from kpipe.record import Batch

SLICE = 0.1
"""Seconds of one wait: between two of them the group is kept alive, reports are collected and signals are seen."""


class Bucket:
    """A budget of `rate` units a second, at most a slice of time saved up; it may go into debt for one large record."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._level = rate * SLICE
        self._last = clock()

    def wait(self) -> float:
        """Seconds until something may be taken."""
        now = self._clock()
        self._level = min(self._rate * SLICE, self._level + (now - self._last) * self._rate)
        self._last = now
        return 0.0 if self._level > 0 else -self._level / self._rate + 1e-6

    def room(self) -> float:
        """How much is left."""
        return self._level

    def take(self, amount: float) -> None:
        """Use some, beyond what is left if need be."""
        self._level -= amount


def parse_rates(texts: Sequence[str]) -> tuple[float | None, float | None]:
    """Records and bytes a second from `--rate`, which may be given twice; None where there is no limit."""
    records: float | None = None
    size: float | None = None
    for text in texts:
        of_records, of_bytes = parse_rate(text, "--rate")
        records, size = of_records or records, of_bytes or size
    return records, size


class Throttle:
    """A sink that stands before another one. `ended` says that the run must end, so nothing may wait any longer."""

    def __init__(
        self,
        inner: Sink,
        records: float | None,
        size: float | None,
        ended: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.inner = inner
        self._records = None if records is None else Bucket(records, clock)
        self._size = None if size is None else Bucket(size, clock)
        self._ended = ended
        self._sleep = sleep

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Send the batch in slices as the rate allows."""
        done = 0
        while done < len(batch):
            self._wait(idle)
            end = len(batch) if self._ended() else self._fit(batch, done)
            if done == 0 and end == len(batch):
                part = batch
            else:
                part = batch.snapshot()
                part.keep([done <= place < end for place in range(len(batch))])
            self.inner.send(part, flight, idle)
            done = end

    def _wait(self, idle: Callable[[], bool]) -> None:
        while not self._ended():
            left = max((bucket.wait() for bucket in (self._records, self._size) if bucket is not None), default=0.0)
            if left <= 0:
                return
            self._sleep(min(SLICE, left))
            self.inner.poll()
            if not idle():
                return

    def _fit(self, batch: Batch, start: int) -> int:
        """Where the slice from `start` ends: at least one record."""
        end = start
        while end < len(batch):
            end += 1
            full = False
            if self._records is not None:
                self._records.take(1)
                full = self._records.room() <= 0
            if self._size is not None:
                self._size.take(_size(batch, end - 1))
                full = full or self._size.room() <= 0
            if full:
                break
        return end

    def poll(self) -> None:
        """As the sink behind it."""
        self.inner.poll()

    def explain(self, error: object, where: str) -> KpipeError:
        """As the sink behind it."""
        return self.inner.explain(error, where)

    def refused(self, error: object) -> bool:
        """As the sink behind it."""
        return self.inner.refused(error)

    def unwritten(self, error: object) -> bool:
        """As the sink behind it."""
        return self.inner.unwritten(error)

    def flush(self, timeout: float) -> bool:
        """As the sink behind it."""
        return self.inner.flush(timeout)

    def purge(self) -> None:
        """As the sink behind it."""
        self.inner.purge()

    def close(self, timeout: float) -> None:
        """As the sink behind it."""
        self.inner.close(timeout)


def _size(batch: Batch, place: int) -> int:
    """Bytes of a record's key and value."""
    key = batch.keys[place] if batch.keys is not None else None
    return len(batch.values[place] or b"") + len(key or b"") + 1

"""Lets records through to the target at a limited rate; what waits was read once and stays where it is.

It never drops or reads anything again, and ends at once when the run must end: what was read then goes out unthrottled.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.parts import SinkBefore

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import Flight
    from kpipe.pace import Pace
    from kpipe.parts import Sink
    from kpipe.record import Batch

SLICE = 0.1
"""Seconds of one wait: between two of them reports are collected and signals are seen."""


class Throttle(SinkBefore):
    """A sink that stands before another one.

    With `waits` it holds back what was read from a file. A topic is read at the `pace` itself, so that the records wait
    in the client's queue; here they are only counted.
    """

    def __init__(
        self, inner: Sink, pace: Pace, *, waits: bool = True, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__(inner)
        self._pace = pace
        self._waits = waits
        self._sleep = sleep

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Send the batch in slices as the rate allows."""
        if not self._waits:
            self._pace.take(len(batch), sum(_size(batch, place) for place in range(len(batch))))
            self.inner.send(batch, flight, idle)
            return
        done = 0
        while done < len(batch):
            self._wait(idle)
            end = self._fit(batch, done)
            if done == 0 and end == len(batch):
                part = batch
            else:
                part = batch.snapshot()
                part.keep([done <= place < end for place in range(len(batch))])
            self.inner.send(part, flight, idle)
            done = end

    def _wait(self, idle: Callable[[], bool]) -> None:
        while left := self._pace.wait():
            self._sleep(min(SLICE, left))
            self.inner.poll()
            if not idle():
                return

    def _fit(self, batch: Batch, start: int) -> int:
        """Where the slice from `start` ends: at least one record."""
        pace = self._pace
        if pace.ended():
            return len(batch)
        end = start
        while end < len(batch):
            pace.take(1, _size(batch, end))
            end += 1
            if any(bucket is not None and bucket.room() <= 0 for bucket in (pace.records, pace.size)):
                break
        return end


def _size(batch: Batch, place: int) -> int:
    """Bytes of a record's key and value."""
    key = batch.keys[place] if batch.keys is not None else None
    return len(batch.values[place] or b"") + len(key or b"") + 1

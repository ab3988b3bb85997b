"""`-c N` behind filters: the first N records that pass are sent, and what comes after them was never read.

It settles nothing: a record that is given back belongs to the next run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.parts import SinkBefore

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import Flight
    from kpipe.parts import Sink
    from kpipe.record import Batch


class LimitedSink(SinkBefore):
    """The sink behind the last filter. `left` records may still be sent; None: any number."""

    def __init__(self, inner: Sink, left: int | None = None) -> None:
        super().__init__(inner)
        self.left = left

    def enough(self) -> bool:
        """Whether nothing more is wanted."""
        return self.left is not None and self.left <= 0

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Send what is wanted; a record of which a part was sent before the limit is as far as it will be."""
        if self.left is not None and len(batch) > self.left:
            index = range(len(batch)) if batch.index is None else batch.index
            sent = set(index[: self.left])
            for entry in index[self.left :]:
                if entry in sent:
                    flight.drop(entry)
                else:
                    flight.give_back((entry,))
            batch = batch.cut_out(0, self.left)
        if self.left is not None:
            self.left -= len(batch)
        if len(batch):
            self.inner.send(batch, flight, idle)

"""Reads partitions without joining a group: the ones that were asked for, and those that are added meanwhile.

It commits nothing and asks no coordinator for its place.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError
from kpipe.sources.selection import BEGINNING, find_places

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.ledger import TopicPartition
    from kpipe.sources.bounds import Bounds
    from kpipe.sources.reading import Reading

REFRESH = 30.0
"""Seconds between looks at the metadata for new partitions, when there is no group to be told by."""


class Alone:
    """A reader on its own; `widened` is told of partitions that are new."""

    def __init__(self, reading: Reading, widened: Callable[[list[TopicPartition]], None]) -> None:
        self._reading = reading
        self._widened = widened
        self._next_look = time.monotonic() + REFRESH

    def start(self, starts: dict[TopicPartition, int], bounds: dict[TopicPartition, Bounds]) -> None:
        """Assign partitions at absolute offsets: OFFSET_BEGINNING costs 500 ms before the first record."""
        extents = self._reading.extents
        extents.take(starts, bounds)
        self._reading.tap.assign(starts, shared=False)
        extents.check_finished()

    def idle(self) -> None:
        """Partitions added while following are read from their beginning: nothing written to them is missed."""
        from confluent_kafka import KafkaException

        reading, now = self._reading, time.monotonic()
        if now < self._next_look or reading.extents.ends or reading.selection.partitions is not None:
            return
        self._next_look = now + REFRESH
        with suppress(KafkaException, KpipeError):  # looked at again; what is assigned goes on
            metadata = reading.consumer.list_topics(timeout=1.0)
            new = sorted(set(find_places(reading.selection, metadata, reading.cluster)) - reading.extents.assigned)
            if new:
                self._widened(new)
                bounds = reading.resolver.bounds(new)
                self.start(reading.resolver.starts(BEGINNING, bounds), bounds)

    def close(self, _timeout: float) -> None:
        """There is nothing to leave."""
        from confluent_kafka import KafkaException

        with suppress(KafkaException, RuntimeError):
            self._reading.consumer.close()

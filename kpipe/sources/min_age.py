"""Holds messages back until they are old enough (`--min-age`), each partition on its own.

It never lets a later message of a partition pass an earlier one, and holds little more than MOST bytes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Message

    from kpipe.flight import TopicPartition


MOST = 8 << 20
"""Bytes that are held until their partitions are paused: the client throws away what it has fetched of a paused one, so
that a pause for each record that is too young made it fetch everything many times."""
OVERHEAD = 200
"""Bytes that a message takes beside its value."""


class MinAge:
    """Messages that are younger than `min_age` seconds, per partition.

    `pause` and `resume` are called with the partitions that need not, or need, be fetched; `paused` are those now.
    """

    def __init__(
        self,
        min_age: float,
        pause: Callable[[list[TopicPartition]], None],
        resume: Callable[[list[TopicPartition]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.held: dict[TopicPartition, list[Message]] = {}
        self.paused: set[TopicPartition] = set()
        self._size = 0
        self._min_age = min_age * 1000
        self._pause = pause
        self._resume = resume
        self._clock = clock

    def sift(self, messages: Iterable[Message]) -> list[Message]:
        """Those that may go now; the others are kept. What the client says of a partition stays in its place."""
        ready: list[Message] = []
        for message in messages:
            place = (str(message.topic()), int(message.partition() or 0))
            queue = self.held.get(place)
            if queue is None and not self._is_young(message):
                ready.append(message)
                continue
            if queue is None:
                queue = self.held[place] = []
            queue.append(message)
            self._size += _size(message)
        if self._size > MOST and (more := sorted(self.held.keys() - self.paused)):
            self.paused.update(more)
            self._pause(more)
        return ready

    def release(self) -> list[Message]:
        """Those that have become old enough."""
        ready: list[Message] = []
        for place, queue in list(self.held.items()):
            count = next((at for at, message in enumerate(queue) if self._is_young(message)), len(queue))
            if count:
                ready += queue[:count]
                self._size -= sum(map(_size, queue[:count]))
                self.held[place] = queue[count:]
            if count == len(queue):
                del self.held[place]
                if place in self.paused:
                    self.paused.discard(place)
                    self._resume([place])
        return ready

    def drop(self, places: Iterable[TopicPartition]) -> None:
        """These partitions went away or are read again: what is held of them was never read."""
        for place in places:
            self._size -= sum(map(_size, self.held.pop(place, [])))
            self.paused.discard(place)

    def _is_young(self, message: Message) -> bool:
        if message.error() is not None:
            return False
        kind, ms = message.timestamp()
        return bool(kind) and self._clock() * 1000 - ms < self._min_age


def _size(message: Message) -> int:
    return OVERHEAD + (0 if message.error() is not None else len(message.value() or b""))

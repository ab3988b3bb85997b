"""Whether the target topic got more partitions while records are sent to it: keys then go to other ones than before.

It changes no record and never waits for an answer; it says it once for each change.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kpipe.kafka.client import forget_admin
from kpipe.kafka.topic_ids import ask_ids, description, is_silent
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.record import Batch

LOOK = 30.0  # seconds between looks; librdkafka itself sees new partitions after up to 5 min


class PartitionGrowth:
    """A stage that looks at nothing but the clock; `open_admin` is called at the first look."""

    def __init__(
        self,
        open_admin: Callable[[], Any],
        topic: str,
        partitions: int,
        where: str,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_admin = open_admin
        self._admin: Any = None
        self._topic, self._partitions, self._where = topic, partitions, where
        self._say = say
        self._clock = clock
        self._next = clock() + LOOK
        self._asked: dict[str, Any] = {}

    def __call__(self, _batch: Batch) -> None:
        """Ask when it is time to, and pick the answer up with a later batch."""
        if self._clock() < self._next:
            return
        if not self._asked:
            if self._admin is None:
                self._admin = self._open_admin()
            self._asked = ask_ids(self._admin, [self._topic])
        if all(future.done() for future in self._asked.values()):
            self._next = self._clock() + LOOK
            asked, self._asked = self._asked, {}
            if is_silent(asked):
                forget_admin(self._admin)
                self._admin = None
            for future in asked.values():
                if future.exception() is None:
                    self._compare(len(description(future).partitions))

    def _compare(self, partitions: int) -> None:
        if partitions != self._partitions:
            change = f"has {counted(partitions, 'partition')} now, {self._partitions} at the start"
            self._say(f"send: {self._where}: {change}; keys go to other partitions than before, see --partitioner")
            self._partitions = partitions

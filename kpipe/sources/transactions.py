"""Finds the open transactions that hold records back: readers of committed records stop before the first of them.

It reads one record of each, to tell since when, and only where something is held back. It commits and aborts nothing.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, UnreachableError
from kpipe.kafka.lookups import LATEST, fetched_end, find_offsets, find_watermarks
from kpipe.sources.selection import where
from kpipe.units import counted, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Consumer

    from kpipe.flight import TopicPartition
    from kpipe.sources.assignment import Assignment
    from kpipe.sources.offsets import OffsetResolver

LOOK = 10.0
"""Seconds between looks while there is nothing to read: that a transaction is open for a second or so is no news."""
ANSWER, FIRST = 2.0, 3.0
"""Seconds for an answer about an end, and for the first records of the transactions."""


@dataclass(slots=True, frozen=True)
class Held:
    """What one partition holds back: `count` offsets from `offset` on, since `since_ms` (None: nobody said)."""

    place: TopicPartition
    offset: int
    count: int
    since_ms: int | None

    def told(self, cluster: str) -> str:
        """Where, how many, and since when."""
        since = "a transaction that is open" if self.since_ms is None else "a transaction open since "
        since += "" if self.since_ms is None else format_time(self.since_ms)
        held = counted(self.count, "offset is", "offsets are")
        return f"{where(cluster, *self.place, self.offset)}: {held} held back by {since}"


class OpenTransactions:
    """Those of one source."""

    def __init__(
        self,
        consumer: Consumer,
        cluster: str,
        resolver: OffsetResolver,
        assignment: Assignment,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.held: list[Held] = []
        """What the ends that were fixed at the start leave out."""
        self._consumer = consumer
        self._cluster = cluster
        self._resolver = resolver
        self._assignment = assignment
        self._say = say
        self._clock = clock
        self._stable: dict[TopicPartition, int] = {}
        """Ends that are those of what is committed: an open transaction may hold records back behind them."""
        self._checked = False
        self._next = clock() + LOOK
        self._stood: dict[TopicPartition, int] = {}
        self._told: set[tuple[TopicPartition, int]] = set()

    def expect(self, stable: dict[TopicPartition, int]) -> None:
        """The run will end at these ends, which are those of what is committed."""
        self._stable = stable

    def find_held_back(self) -> list[Held]:
        """At the ends that were fixed at the start: what is held back behind them. Each is told."""
        if not self._checked:
            self._checked = True
            owned = self._assignment.assigned or self._stable.keys()
            self._check_ends({place: end for place, end in self._stable.items() if place in owned})
        return self.held

    def _check_ends(self, ends: Mapping[TopicPartition, int]) -> None:
        """The run is at these ends, which were those of what is committed: tell what lies behind them."""
        from confluent_kafka import KafkaException

        unknown: list[TopicPartition] = []
        beyond: dict[TopicPartition, int] = {}
        with suppress(KafkaException, UnreachableError):
            for place, end in ends.items():
                high = fetched_end(self._consumer, place)
                if high < 0:
                    unknown.append(place)
                elif high > end:
                    beyond[place] = high
            if unknown:  # nothing was fetched of these, so the client has not heard of their end
                reader = self._open()
                try:
                    for place in unknown:
                        high = find_watermarks(reader, place, ANSWER).high
                        if high > ends[place]:
                            beyond[place] = high
                finally:
                    reader.close()
            stable = {place: bound.high for place, bound in self._resolver.bounds(beyond).items()}
            stuck = {place: high for place, high in beyond.items() if stable[place] == ends[place]}
            self.held = self._describe({place: (ends[place], high) for place, high in stuck.items()})
        for held in self.held:
            self._say(f"read: {held.told(self._cluster)}; they were not read")

    def look(self) -> None:
        """While there is nothing to read: a transaction that is open for some time is a wait, and is told once."""
        now = self._clock()
        if self._stable or now < self._next:
            return
        self._next = now + LOOK
        consumer = self._consumer
        stands = {place: at for place, at in self._assignment.at_eof.items() if fetched_end(consumer, place) > at}
        waiting = {
            place: (at, fetched_end(consumer, place))
            for place, at in stands.items()
            if self._stood.get(place) == at and (place, at) not in self._told
        }
        self._stood = stands
        for held in self._describe(self._still_held(waiting)):
            self._told.add((held.place, held.offset))
            self._say(f"read: {held.told(self._cluster)}; waiting for its end")

    def _still_held(self, waiting: Mapping[TopicPartition, tuple[int, int]]) -> dict[TopicPartition, tuple[int, int]]:
        """Those that the cluster itself says are held back: after an outage, records may only not have come yet."""
        try:
            stable = find_offsets(self._consumer, waiting, LATEST, ANSWER, self._cluster)
        except KpipeError:
            return {}
        return {place: span for place, span in waiting.items() if stable[place] == span[0]}

    def _open(self) -> Consumer:
        """A consumer that also sees what is not committed."""
        open_reader = self._resolver.open_reader
        if open_reader is None:
            raise UnreachableError("the consumer sees all records itself", where=self._cluster)
        return open_reader()

    def _describe(self, found: Mapping[TopicPartition, tuple[int, int]]) -> list[Held]:
        since = self._first_times({place: low for place, (low, _) in found.items()})
        return [Held(place, low, high - low, since.get(place)) for place, (low, high) in sorted(found.items())]

    def _first_times(self, firsts: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The time of the first record of each transaction."""
        from confluent_kafka import KafkaException
        from confluent_kafka import TopicPartition as Asked

        times: dict[TopicPartition, int] = {}
        if not firsts:
            return times
        with suppress(KafkaException):
            reader = self._open()
            try:
                reader.assign([Asked(*place, offset) for place, offset in firsts.items()])
                deadline = time.monotonic() + FIRST
                while len(times) < len(firsts) and time.monotonic() < deadline:
                    message = reader.poll(0.2)
                    if message is not None and message.error() is None:
                        times.setdefault((str(message.topic()), int(message.partition() or 0)), message.timestamp()[1])
            finally:
                reader.close()
        return times

"""Reads partitions without joining a group: the ones that were asked for, and those that are added meanwhile.

It commits nothing and asks no coordinator for its place.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from kpipe.sources.selection import BEGINNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer

    from kpipe.kafka.lookups import Bounds
    from kpipe.ledger import TopicPartition
    from kpipe.sources.bounds import OffsetResolver
    from kpipe.sources.discovery import Discovery
    from kpipe.sources.extents import Extents
    from kpipe.sources.fetching import Fetching
    from kpipe.sources.selection import Hooks


class Assigned:
    """A reader on its own; `widened` is told of partitions that are new."""

    def __init__(
        self,
        consumer: Consumer,
        resolver: OffsetResolver,
        hooks: Hooks,
        extents: Extents,
        fetching: Fetching,
        discovery: Discovery | None,
        widened: Callable[[list[TopicPartition]], None],
    ) -> None:
        self._consumer = consumer
        self._resolver = resolver
        self._hooks = hooks
        self._extents = extents
        self._fetching = fetching
        self._discovery = discovery
        self._widened = widened
        self.is_placed = True

    def start(self, starts: dict[TopicPartition, int], bounds: dict[TopicPartition, Bounds]) -> None:
        """Assign partitions at absolute offsets: OFFSET_BEGINNING costs 500 ms before the first record."""
        self._extents.take(starts, bounds)
        self._fetching.assign(starts, shared=False)
        self._extents.check_finished()

    def look(self) -> None:
        """Partitions added while following are read from their beginning: nothing written to them is missed."""
        if self._discovery is not None:
            self._discovery.look(self._widen)

    def _widen(self, places: list[TopicPartition]) -> None:
        topics = {topic for topic, _ in places}
        self.drop([place for place in self._extents.assigned if place[0] not in topics])
        new = sorted(set(places) - self._extents.assigned)
        if new:
            self._widened(new)
            bounds = self._resolver.bounds(new)
            starts = self._resolver.starts(BEGINNING, bounds)
            self._hooks.began(starts)
            self.start(starts, bounds)

    def idle(self) -> None:
        """There is nobody else to wait for."""

    def drop(self, places: list[TopicPartition]) -> None:
        """These are gone from the cluster; the others are read on."""
        if places:
            self._hooks.lost(places)
            self._fetching.drop(places)
            self._extents.let_go(places)
            if self._discovery is not None:
                self._discovery.hasten()

    def close(self, _timeout: float) -> None:
        """There is nothing to leave."""
        from confluent_kafka import KafkaException

        with suppress(KafkaException, RuntimeError):
            self._consumer.close()

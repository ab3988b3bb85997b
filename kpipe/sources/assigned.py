"""Reads partitions without joining a group: the ones that were asked for, and those that are added meanwhile.

It commits nothing and asks no coordinator for its place.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from kpipe.sources.discovery import Discovery
from kpipe.sources.selection import BEGINNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.kafka.lookups import Bounds
    from kpipe.ledger import TopicPartition
    from kpipe.sources.state import SourceState


class Assigned:
    """A reader on its own; `widened` is told of partitions that are new."""

    def __init__(self, state: SourceState, widened: Callable[[list[TopicPartition]], None]) -> None:
        self._state = state
        self._widened = widened
        self.is_placed = True
        self._discovery = Discovery(state, self._widen) if state.selection.partitions is None else None

    def start(self, starts: dict[TopicPartition, int], bounds: dict[TopicPartition, Bounds]) -> None:
        """Assign partitions at absolute offsets: OFFSET_BEGINNING costs 500 ms before the first record."""
        extents = self._state.extents
        extents.take(starts, bounds)
        self._state.fetching.assign(starts, shared=False)
        extents.check_finished()

    def look(self) -> None:
        """Partitions added while following are read from their beginning: nothing written to them is missed."""
        if self._discovery is not None:
            self._discovery.look()

    def _widen(self, places: list[TopicPartition]) -> None:
        state = self._state
        topics = {topic for topic, _ in places}
        self.drop([place for place in state.extents.assigned if place[0] not in topics])
        new = sorted(set(places) - state.extents.assigned)
        if new:
            self._widened(new)
            bounds = state.resolver.bounds(new)
            starts = state.resolver.starts(BEGINNING, bounds)
            state.hooks.began(starts)
            self.start(starts, bounds)

    def idle(self) -> None:
        """There is nobody else to wait for."""

    def drop(self, places: list[TopicPartition]) -> None:
        """These are gone from the cluster; the others are read on."""
        if places:
            self._state.hooks.lost(places)
            self._state.fetching.drop(places)
            self._state.extents.let_go(places)
            if self._discovery is not None:
                self._discovery.hasten()

    def close(self, _timeout: float) -> None:
        """There is nothing to leave."""
        from confluent_kafka import KafkaException

        with suppress(KafkaException, RuntimeError):
            self._state.consumer.close()

"""Where a topic source starts and ends in each partition: offset specs resolved on the cluster, in one request each.

It reads no records. Ends are fixed here, at the start, so that `-e` means "as it was when I called".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.kafka.lookups import find_bounds, find_offsets
from kpipe.kafka.offsets import Offset, OffsetKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Consumer

    from kpipe.kafka.lookups import Bounds
    from kpipe.ledger import TopicPartition


class OffsetResolver:
    """Answers offset specs for partitions of one cluster. Raises UnreachableError when the cluster does not answer."""

    def __init__(
        self,
        consumer: Consumer,
        cluster: str,
        timeout: float,
        open_reader: Callable[[], Consumer] | None = None,
    ) -> None:
        self.open_reader = open_reader
        """Opens a consumer that sees open transactions; None where this one sees them, too."""
        self._consumer = consumer
        self._cluster = cluster
        self._timeout = timeout
        self.find_time: Callable[[dict[TopicPartition, Bounds], int], dict[TopicPartition, int]] = self.for_times
        """How an offset is found by its time; the embedded broker needs another way."""

    def bounds(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Low and high (last stable) offset of each partition."""
        return find_bounds(self._consumer, places, self._timeout, self._cluster)

    def for_times(self, places: Iterable[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        """The first offset at or after a time, per partition; -1 where every record is older."""
        return find_offsets(self._consumer, places, timestamp_ms, self._timeout, self._cluster)

    def starts(self, spec: Offset, bounds: dict[TopicPartition, Bounds]) -> dict[TopicPartition, int]:
        """The offset to start from in each partition, never below the first one that exists."""
        return {place: max(offset, bounds[place].low) for place, offset in self._resolve(spec, bounds).items()}

    def ends(self, spec: Offset, bounds: dict[TopicPartition, Bounds]) -> dict[TopicPartition, int]:
        """The offset to stop before in each partition, never beyond the end as it was at the start."""
        return {place: min(offset, bounds[place].high) for place, offset in self._resolve(spec, bounds).items()}

    def _resolve(self, spec: Offset, bounds: dict[TopicPartition, Bounds]) -> dict[TopicPartition, int]:
        if spec.kind is OffsetKind.TIME:
            found = self.find_time(bounds, spec.value)
            return {place: bounds[place].high if offset < 0 else offset for place, offset in found.items()}
        if spec.kind is OffsetKind.END:
            return {place: bound.high for place, bound in bounds.items()}
        if spec.kind is OffsetKind.TAIL:
            return {place: bound.high - spec.value for place, bound in bounds.items()}
        if spec.kind is OffsetKind.ABSOLUTE:
            return dict.fromkeys(bounds, spec.value)
        return {place: bound.low for place, bound in bounds.items()}

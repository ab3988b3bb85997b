"""Finds offsets by time on the embedded broker, by reading: it answers "none" to every such question.

It holds at most 5 MiB a partition, in memory and on this machine, so reading it is quick. Nobody else is asked so.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Consumer

    from kpipe.flight import TopicPartition
    from kpipe.kafka.lookups import Bounds

SILENCE = 5.0
"""Seconds without a record after which the rest counts as older: whatever is there comes at once."""


def find_by_reading(
    consumer: Consumer, bounds: Mapping[TopicPartition, Bounds], timestamp_ms: int, clock: Callable[[], float]
) -> dict[TopicPartition, int]:
    """The first offset at or after a time, per partition; -1 where every record is older. The consumer is used up."""
    from confluent_kafka import TopicPartition as Asked

    found = dict.fromkeys(bounds, -1)
    left = {place: bound.high for place, bound in bounds.items() if bound.low < bound.high}
    consumer.assign([Asked(topic, partition, bounds[topic, partition].low) for topic, partition in left])
    deadline = clock() + SILENCE
    while left and clock() < deadline:
        for message in consumer.consume(500, 0.1):
            place, offset = (str(message.topic()), int(message.partition() or 0)), int(message.offset() or 0)
            if message.error() is not None or place not in left:
                continue
            deadline = clock() + SILENCE
            if message.timestamp()[1] >= timestamp_ms and offset < left[place]:
                found[place] = offset
            if found[place] >= 0 or offset + 1 >= left[place]:
                del left[place]
    consumer.unassign()
    return found


def reading_with(
    open_one: Callable[[], Consumer],
) -> Callable[[dict[TopicPartition, Bounds], int], dict[TopicPartition, int]]:
    """`find_by_reading` with a consumer of its own for each question."""

    def find(bounds: dict[TopicPartition, Bounds], timestamp_ms: int) -> dict[TopicPartition, int]:
        consumer = open_one()
        try:
            return find_by_reading(consumer, bounds, timestamp_ms, time.monotonic)
        finally:
            consumer.close()

    return find

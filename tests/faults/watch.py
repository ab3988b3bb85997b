"""Asks a broker how far a topic and a group are, also while it comes and goes.

It never asks with an admin client: one whose request times out while its broker is away can abort the whole process
(librdkafka 2.16: `eonce->refcnt > 0` in rdkafka_queue.h).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 5.0
"""Seconds for one answer."""


class Watch:
    """Joins no group and commits nothing, whatever its group is called."""

    def __init__(self, bootstrap: str, group: str = "watch") -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "log_level": 0,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
            }
        )

    def arrived(self, topic: str, partitions: int) -> int | None:
        """The sum of the partitions' ends, transaction markers included; None when nobody answers."""
        places = [TopicPartition(topic, number) for number in range(partitions)]
        try:
            return sum(self._consumer.get_watermark_offsets(place, timeout=PATIENCE)[1] for place in places)
        except KafkaException:
            return None

    def committed(self, topic: str, partitions: int) -> int | None:
        """The sum of the group's offsets; None when nobody answers."""
        places = [TopicPartition(topic, number) for number in range(partitions)]
        try:
            return sum(max(0, each.offset) for each in self._consumer.committed(places, timeout=PATIENCE))
        except KafkaException:
            return None

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()


@contextmanager
def watching(bootstrap: str, group: str = "watch") -> Iterator[Watch]:
    """A watch for a moment."""
    watch = Watch(bootstrap, group)
    try:
        yield watch
    finally:
        watch.close()

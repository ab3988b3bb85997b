"""The consumer, as transactions see it: who it is in its group, and what the group has committed.

It commits nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpipe.delivery.transaction import SLICE
from kpipe.errors import Stage, UnreachableError
from kpipe.kafka.lookups import find_committed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import Consumer

    from kpipe.flight import TopicPartition
    from kpipe.kafka.lookups import Committed
    from kpipe.shutdown import Stop

ANSWER_TIMEOUT = 30.0
"""Seconds in which the group's offsets must be told; an open transaction on them holds the answer up."""


@dataclass(slots=True)
class GroupMember:
    """The consumer, as transactions see it."""

    consumer: Consumer
    where: str
    stop: Stop

    def metadata(self) -> bytes:
        """Who we are in the group, now."""
        found: Any = self.consumer.consumer_group_metadata()
        return bytes(found)

    def committed(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's offsets; an open transaction on them is waited for."""
        return {place: offset for place, (offset, _) in self._ask(places).items()}

    def notes(self, places: Iterable[TopicPartition]) -> Mapping[TopicPartition, str]:
        """What was committed beside the offsets."""
        return {place: note for place, (_, note) in self._ask(places).items()}

    def _ask(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Committed]:
        from confluent_kafka import KafkaException

        stop = self.stop
        try:
            return find_committed(
                self.consumer,
                places,
                ANSWER_TIMEOUT,
                slice_s=lambda: stop.remaining(SLICE),
                again=lambda: not stop.forced,
            )
        except KafkaException as error:
            message = f"cannot read the group's offsets: {error.args[0].str()}; run again"
            raise UnreachableError(message, where=self.where, stage=Stage.COMMIT) from None

"""The consumer, as transactions see it: who it is in its group, and what the group has committed.

It commits nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpipe.delivery.transaction import LEAST, SLICE
from kpipe.errors import Stage, UnreachableError
from kpipe.kafka.errors import HELD_UP, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import Consumer

    from kpipe.ledger import TopicPartition
    from kpipe.shutdown import Stop

ANSWER_TIMEOUT = 30.0
"""Seconds in which the group's offsets must be told; an open transaction on them holds the answer up."""
RETRY = 0.1
"""Seconds between two questions to a coordinator that is away."""


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

    def _ask(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        from confluent_kafka import KafkaException, TopicPartition

        asked = [TopicPartition(topic, partition) for topic, partition in places]
        answers: list[Any] = []
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while asked and not answers:
            try:
                answers = self.consumer.committed(asked, timeout=max(LEAST, self.stop.remaining(SLICE)))
            except KafkaException as error:
                cause = error.args[0]
                if name_of(cause) in HELD_UP and time.monotonic() < deadline and not self.stop.forced:
                    time.sleep(RETRY)
                    continue
                message = f"cannot read the group's offsets: {cause.str()}; run again"
                raise UnreachableError(message, where=self.where, stage=Stage.COMMIT) from None
        for answer in answers:
            if answer.error is not None:
                raise UnreachableError(str(answer.error.str()), where=self.where, stage=Stage.COMMIT)
        return {(a.topic, a.partition): (a.offset, a.metadata or "") for a in answers}

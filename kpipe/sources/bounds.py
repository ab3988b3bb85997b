"""Where a topic source starts and ends in each partition: offset specs resolved on the cluster, in one request each.

It reads no records. Ends are fixed here, at the start, so that `-e` means "as it was when I called".
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpipe.clusters.address import place_name
from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.kafka.diagnosis import denied
from kpipe.kafka.errors import MOVING, is_unauthorised
from kpipe.kafka.offsets import Offset, OffsetKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Consumer

    from kpipe.ledger import TopicPartition

EARLIEST, LATEST = -2, -1
"""Timestamps with a special meaning in a list-offsets request (KIP-79); latest is the last stable offset under
`read_committed` (KIP-98)."""


PAUSE = 0.1
"""Seconds between tries: a rebalance in a network that breaks must not end a run that goes on for months."""


@dataclass(slots=True, frozen=True)
class Bounds:
    """The first and the end offset (exclusive) of a partition, as the cluster had them at one moment."""

    low: int
    high: int


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
        wanted = list(places)
        low = self.for_times(wanted, EARLIEST)
        high = self.for_times(wanted, LATEST)
        return {place: Bounds(max(0, low[place]), max(0, high[place])) for place in wanted}

    def for_times(self, places: Iterable[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        """The first offset at or after a time, per partition; -1 where every record is older."""
        from confluent_kafka import KafkaException
        from confluent_kafka import TopicPartition as Asked

        asked = [Asked(topic, partition, timestamp_ms) for topic, partition in places]
        if not asked:
            return {}
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                answers = self._consumer.offsets_for_times(asked, timeout=max(0.1, deadline - time.monotonic()))
            except KafkaException as error:
                if error.args[0].name() in MOVING and time.monotonic() < deadline:
                    time.sleep(PAUSE)
                    continue
                message = f"no answer to a list-offsets request: {error.args[0].str()}; kpipe check says why"
                raise UnreachableError(message, where=self._cluster, stage=Stage.READ) from None
            moving = {answer.topic for answer in answers if answer.error is not None and answer.error.name() in MOVING}
            if not moving or time.monotonic() >= deadline:
                break
            self._refresh(moving)
            time.sleep(PAUSE)
        for answer in answers:
            if answer.error is not None:
                where = place_name(self._cluster, f"{answer.topic}[{answer.partition}]")
                if is_unauthorised(answer.error):
                    raise denied(f"topic {answer.topic}", "DESCRIBE").error(where, Stage.READ)
                raise KpipeError(f"cannot list offsets: {answer.error.str()}", where=where, stage=Stage.READ)
        return {(answer.topic, answer.partition): answer.offset for answer in answers}

    def _refresh(self, topics: Iterable[str]) -> None:
        """Let the client look again: a group may assign a partition that was added since it last did (KIP-848)."""
        from confluent_kafka import KafkaException

        with suppress(KafkaException):
            for topic in topics:
                self._consumer.list_topics(topic, timeout=1.0)

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

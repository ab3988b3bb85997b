"""A target topic: what it takes, the producer that it shares with its neighbours, and the sinks that send to it.

It opens nothing (`kpipe.sinks.opening` does).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kpipe.clusters.address import place_name
from kpipe.kafka.client import label
from kpipe.kafka.metadata import try_topic
from kpipe.sinks.partitions import check_partition
from kpipe.sinks.topic import TopicSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.formats.lineage import TraceNames
    from kpipe.kafka.librdkafka import ColumnProducer
    from kpipe.kafka.troubles import Troubles
    from kpipe.kafka.watch import Watch
    from kpipe.ledger import Ledger
    from kpipe.record import Batch
    from kpipe.sinks.epoch import EpochTimes
    from kpipe.sinks.producing import Producing
    from kpipe.sinks.reports import DeliveryLines

LOOK = 0.5  # seconds that a look at the partitions in mid-run may take
LOOK_PAUSE = 5.0
NO_LIMIT = 1 << 62  # Long.MAX_VALUE, Kafka's word for it, and what comes near


@dataclass(slots=True)
class Target:
    """A topic that exists, and the producer for it."""

    topic: str
    cluster: Cluster
    cluster_id: str
    producing: Producing
    """The producer, which all topics of the cluster share: a ColumnProducer where values and keys are all there is."""
    partitions: int
    limit_bytes: int | None = None
    compacted: bool = False
    before_ms: int | None = None
    """How old a record's time may be when it arrives; None: as old as it likes."""
    after_ms: int | None = None
    """How far ahead of the broker's clock it may be."""
    properties: dict[str, Any] = field(default_factory=dict)
    """What the producer was opened with on top of the cluster's own, to open another one like it."""
    keeps_time: bool = True
    """False when records get the broker's time (LogAppendTime), or when nobody may know whether they do."""
    made: bool = False
    """Whether --create has just made it."""
    epoch: EpochTimes | None = None
    trace: TraceNames | None = None
    """The names of the trace headers, where the run writes them."""
    _looked: float = 0.0

    @property
    def producer(self) -> Any:
        """The client that sends now."""
        return self.producing.producer

    @property
    def troubles(self) -> Troubles:
        """What that client complains about."""
        return self.producing.troubles

    @property
    def where(self) -> str:
        """`prod:orders`, for messages."""
        return place_name(label(self.cluster), self.topic)

    @property
    def partitioner(self) -> str:
        """How the producer chooses the partition of a key."""
        return str({**self.cluster.properties, **self.properties}.get("partitioner", ""))

    def sink(
        self, partition_of: Callable[[Batch], Iterable[int]] | None, lines: DeliveryLines | None = None
    ) -> TopicSink:
        """The sink for this topic."""
        sink = TopicSink(
            self.producing,
            self.topic,
            label(self.cluster),
            partition_of=partition_of,
            limit_bytes=self.limit_bytes,
            lines=lines,
            partitions=self.partitions,
        )
        sink.epoch = self.epoch if self.keeps_time else None
        sink.trace = self.trace
        return sink

    def watched_by(self, watch: Watch, *, letters: bool = False) -> None:
        """Have its cluster looked after while the run goes on; `letters`: it is counted what is dead-lettered."""
        topic = self.topic if self.partitions else ""  # with --to-origin each record has its own
        watch.add_target(self.cluster, self.troubles, lambda: self.producer, topic, letters=letters)

    def look_again(self) -> int:
        """How many partitions there are now; asked at most every 5 s, and in vain it is what was known."""
        if time.monotonic() >= self._looked + LOOK_PAUSE:
            self._looked = time.monotonic()
            found = try_topic(self.producer, LOOK, self.topic)
            self.partitions = max(self.partitions, len(found.partitions) if found is not None else 0)
        return self.partitions

    def column_sink(self, partition: str, ledger: Ledger) -> TopicSink | None:
        """The sink that takes values and keys by the column; None when the producer cannot."""
        from kpipe.kafka.librdkafka import ColumnProducer
        from kpipe.sinks.columns import ColumnSink

        if not isinstance(self.producer, ColumnProducer):
            return None
        number = check_partition(partition, self.partitions, self.where) if partition.isdigit() else -1
        return ColumnSink(
            self.producing,
            self.topic,
            label(self.cluster),
            ledger=ledger,
            choose=self._spread(self.producer) if number < 0 else lambda _batch: number,
            limit_bytes=self.limit_bytes,
            partitions=self.partitions,
        )

    def _spread(self, producer: ColumnProducer) -> Callable[[Batch], int]:
        """Blocks without keys go round, unless the partitioner sends all such records to one partition."""
        from kpipe.sinks.partition_rotation import PartitionRotation

        def led() -> Sequence[int]:
            found = try_topic(producer, LOOK, self.topic)
            return found.led if found is not None else ()

        return PartitionRotation(led).take if self.partitioner.endswith("random") else lambda _batch: -1


def read_limits(configs: Mapping[str, str]) -> dict[str, Any]:
    """What a topic takes, by its configuration, under the names that a Target has for it."""

    def number(name: str) -> int | None:
        text = configs.get(name, "")
        return int(text) if text.isdigit() and int(text) < NO_LIMIT else None

    older = "message.timestamp.difference.max.ms"  # before Kafka 3.6 (KIP-937) one limit for both directions
    stamps_itself = configs.get("message.timestamp.type") == "LogAppendTime"
    return {
        "limit_bytes": number("max.message.bytes"),
        "compacted": "compact" in configs.get("cleanup.policy", ""),
        "before_ms": None if stamps_itself else number("message.timestamp.before.max.ms") or number(older),
        "after_ms": None if stamps_itself else number("message.timestamp.after.max.ms") or number(older),
    }

"""Write, read and look at records, topics and groups straight from the client: the oracle that kpipe is judged by.

It never imports kpipe, and no call waits without limit: what does not come in time is a `LabError`.
"""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, cast

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewPartitions
from confluent_kafka.cimpl import NewTopic

from kpipe.formats.header_names import read_headers
from tests.broker.lab import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kpipe.record import Headers
    from tests.broker.lab.broker import Broker

TIMESTAMP_TYPES = ("none", "create", "append")
Isolation = Literal["read_committed", "read_uncommitted"]


@dataclass(frozen=True)
class Rec:
    """A record as the broker holds it; to write one, give the fields that matter.

    Written with partition -1 (the partitioner decides) and timestamp -1 (now); topic, offset and timestamp_type
    are the broker's to say. None and b"" differ for key, value and header values.
    """

    value: bytes | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = -1
    timestamp_type: str = "create"
    topic: str = ""
    partition: int = -1
    offset: int = -1


class Cluster:
    """One Kafka cluster of the lab, and what it really holds."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._producer: Producer | None = None
        self._consumers: dict[str, Consumer] = {}

    @property
    def bootstrap(self) -> str:
        """The `host:port` of the plaintext listener."""
        return self.broker.bootstrap

    @property
    def cluster_id(self) -> str:
        """The id that the broker tells its clients."""
        return self.broker.cluster_id

    @cached_property
    def admin(self) -> AdminClient:
        """The client for what the oracle has no verb for (ACLs, configs, deleting records)."""
        return AdminClient(self._client())

    def topic(self, partitions: int = 1, *, name: str = "", **configs: object) -> str:
        """Create a topic and give its (fresh) name; `max_message_bytes=1000` sets `max.message.bytes`."""
        name = name or f"t-{uuid.uuid4().hex[:12]}"
        config = {key.replace("_", "."): str(value) for key, value in configs.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
        until(lambda: self._is_made(new), f"topic: {name}: a broker to put it on")
        until(lambda: self._leaders(name) == partitions, f"topic: {name}: {partitions} partitions with a leader")
        return name

    def grow(self, topic: str, partitions: int) -> None:
        """Add partitions to a topic, so that there are so many."""
        self.admin.create_partitions([NewPartitions(topic, partitions)], request_timeout=20)[topic].result(25)
        until(lambda: self._leaders(topic) == partitions, f"grow: {topic}: {partitions} partitions with a leader")
        self._producer = None  # it would refuse a partition that it has not heard of

    def topics(self) -> set[str]:
        """Give the names of all topics: asking for all of them creates none."""
        return set(_metadata(self.admin).topics)

    def write(
        self,
        topic: str,
        records: Iterable[Rec | bytes],
        *,
        transaction: Literal["commit", "abort"] | None = None,
        timeout: float = 60,
    ) -> list[Rec]:
        """Write records (bytes: just a value) and give them as acknowledged, in the order given.

        With `transaction` they are one transaction that is committed or aborted; LabError if one is not acknowledged.
        """
        deadline = time.monotonic() + timeout
        given = [Rec(record) if isinstance(record, bytes) else record for record in records]
        producer = self._transactional(deadline) if transaction else self._idempotent()
        written = _produce(producer, topic, given, deadline)
        if transaction == "commit":
            producer.commit_transaction(_left(deadline))
        elif transaction == "abort":
            producer.abort_transaction(_left(deadline))
        missing = [record for record in written if not isinstance(record, Rec)]
        if missing:
            self._producer = None
            raise LabError(f"write: {topic}: {len(missing)} of {len(given)} records not acknowledged: {missing[0]}")
        return [record for record in written if isinstance(record, Rec)]

    def read(
        self,
        topic: str,
        partition: int | None = None,
        isolation: Isolation = "read_committed",
        *,
        at_least: int = 0,
        timeout: float = 60,
    ) -> list[Rec]:
        """Read a topic from its first to its last record of now, in order of partition and offset.

        With `at_least` it reads again until there are so many; LabError when the time is over.
        """
        deadline = time.monotonic() + timeout
        while True:
            records = self._read_once(topic, partition, isolation, deadline)
            if len(records) >= at_least:
                return records
            if time.monotonic() > deadline:
                raise LabError(f"read: {topic}: {len(records)} records, not {at_least}, after {timeout:g} s")
            time.sleep(0.05)

    def count(self, topic: str) -> int:
        """Give how many offsets a topic has, from its first to its end: records, and the markers of transactions."""
        consumer = self._consumer("read_uncommitted")
        bounds = [_bounds(consumer, topic, each) for each in self._partitions(consumer, topic)]
        self._consumers["read_uncommitted"] = consumer
        return sum(end - first for first, end in bounds)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Give partition → committed offset of a group, without the partitions that have none.

        One that a transaction holds up is waited for, as with `read`; who asks for no partitions hears nothing of it.
        """
        deadline, settled = time.monotonic() + 15, time.monotonic() + MARKERS
        described = _metadata(self.admin, topic).topics[topic]
        places = [TopicPartition(topic, each) for each in described.partitions] or None
        while True:
            stable = time.monotonic() < settled
            asked = self.admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, places)], require_stable=stable, request_timeout=10
            )
            try:
                found = asked[group].result(15).topic_partitions or []
            except KafkaException as error:  # a broker that was just thawed or started reads them first
                passing = ("COORDINATOR_LOAD_IN_PROGRESS", "UNSTABLE_OFFSET_COMMIT", BROKEN)
                if error.args[0].name() not in passing or time.monotonic() > deadline:
                    raise
            else:
                if not any(each.error and each.error.name() == "UNSTABLE_OFFSET_COMMIT" for each in found):
                    break
            time.sleep(0.1)
        return {each.partition: each.offset for each in found if each.topic == topic and each.offset >= 0}

    def _client(self) -> dict[str, str | int | float | bool]:
        return {
            "bootstrap.servers": self.bootstrap,
            "log_level": 0,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "allow.auto.create.topics": False,
        }

    def _is_made(self, new: NewTopic) -> bool:
        try:
            self.admin.create_topics([new], request_timeout=20)[new.topic].result(25)
        except KafkaException as error:
            # One that was killed, and then frozen, is fenced until it is heard of again.
            if error.args[0].code() == KafkaError.INVALID_REPLICATION_FACTOR:
                return False
            raise
        return True

    def _leaders(self, topic: str) -> int:
        try:
            described = self.admin.list_topics(topic, timeout=5).topics[topic]
        except KafkaException:
            return 0
        return sum(each.leader >= 0 for each in described.partitions.values())

    def _idempotent(self) -> Producer:
        # Kept: an idempotent producer takes half a second to send its first record.
        if self._producer is None:
            self._producer = Producer(self._producing())
        return self._producer

    def _transactional(self, deadline: float) -> Producer:
        producer = Producer({**self._producing(), "transactional.id": f"lab-{uuid.uuid4().hex}"})
        producer.init_transactions(_left(deadline))
        producer.begin_transaction()
        return producer

    def _producing(self) -> dict[str, str | int | float | bool]:
        return {
            **self._client(),
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "message.max.bytes": 100_000_000,
        }

    def _consumer(self, isolation: Isolation) -> Consumer:
        """Kept by who can use it again: a new one costs the broker 16 ms of CPU, and tests ask again and again."""
        config = {
            **self._client(),
            "group.id": "lab-oracle",  # the client wants one; nothing is committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": isolation,
            "fetch.wait.max.ms": 10,
            "fetch.queue.backoff.ms": 10,
        }
        return self._consumers.pop(isolation, None) or Consumer(config)

    def _read_once(self, topic: str, partition: int | None, isolation: Isolation, deadline: float) -> list[Rec]:
        consumer = self._consumer(isolation)
        partitions = self._partitions(consumer, topic) if partition is None else [partition]
        # Absolute offsets: resolving OFFSET_BEGINNING costs the client half a second.
        starts = [TopicPartition(topic, each, _bounds(consumer, topic, each)[0]) for each in partitions]
        consumer.assign(starts)
        records = _drain(consumer, topic, set(partitions), deadline, settled=isolation == "read_committed")
        consumer.unassign()
        self._consumers[isolation] = consumer
        return sorted(records, key=lambda record: (record.partition, record.offset))

    def _partitions(self, consumer: Consumer, topic: str) -> list[int]:
        found = _metadata(consumer, topic).topics[topic]
        if found.error is not None:
            raise LabError(f"read: {topic}: {found.error}")
        return sorted(found.partitions)


def dense(size: int) -> bytes:
    """So many bytes, always the same ones, that no codec makes fewer."""
    return random.Random(size).randbytes(size)


def until(condition: Callable[[], object], what: str, timeout: float = 20) -> None:
    """Wait until `condition()` is true; LabError with `what` when it does not come true.

    `timeout` is for a machine that has nothing else to do; it is waited for twice as long.
    """
    timeout *= 2
    deadline = time.monotonic() + timeout
    while True:
        asked = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        if now > deadline:
            raise LabError(f"{what}: not within {timeout:g} s")
        # Who waits shall not take the CPU that is waited for: some conditions read a whole topic.
        time.sleep(min(0.2, max(0.02, 2 * (now - asked))))


def _produce(producer: Producer, topic: str, records: list[Rec], deadline: float) -> list[Rec | str]:
    """Send and wait; give per record what the broker made of it, or why it is not known to be there."""
    written: list[Rec | str] = ["no delivery report in time"] * len(records)

    def report(place: int, error: KafkaError | None, message: Message) -> None:
        written[place] = str(error) if error else _acknowledged(records[place], message)

    for place, record in enumerate(records):
        if record.timestamp == 0 or record.timestamp < -1:
            raise LabError(f"write: the client cannot write timestamp {record.timestamp}: it takes 0 for now")
        _enqueue(producer, topic, record, partial(report, place), deadline)
        producer.poll(0)
    while len(producer) and time.monotonic() < deadline:
        producer.flush(0.2)
    if len(producer):
        producer.purge()
        producer.flush(1)
    return written


def _enqueue(
    producer: Producer, topic: str, record: Rec, report: Callable[[KafkaError | None, Message], None], deadline: float
) -> None:
    while True:
        try:
            producer.produce(
                topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                timestamp=max(record.timestamp, 0),
                headers=list(record.headers),
                on_delivery=report,
            )
        except BufferError:
            if time.monotonic() > deadline:
                raise LabError(f"write: {topic}: the queue stays full") from None
            producer.poll(0.1)
        else:
            return


def _acknowledged(record: Rec, message: Message) -> Rec:
    kind, timestamp = message.timestamp()
    return replace(
        record,
        topic=message.topic() or "",
        partition=_known(message.partition()),
        offset=_known(message.offset()),
        timestamp=timestamp,
        timestamp_type=TIMESTAMP_TYPES[kind],
    )


MARKERS = 5.0
"""Seconds for a transaction that stands open at the end of a partition. `commit_transaction` returns once the coordinator
has written down that it will commit; the markers, which make its records visible, follow."""


def _drain(consumer: Consumer, topic: str, open_partitions: set[int], deadline: float, *, settled: bool) -> list[Rec]:
    """Read to the end; with `settled`, wait a moment where a transaction holds the end back."""
    records: list[Rec] = []
    held: dict[int, float] = {}
    while open_partitions:
        if time.monotonic() > deadline:
            raise LabError(
                f"read: {topic}: partitions {sorted(open_partitions)} did not end; {len(records)} records so far"
            )
        for message in consumer.consume(1000, 0) or consumer.consume(1, 0.2):
            error = message.error()
            if error is None:
                records.append(_received(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                place = _known(message.partition())
                if settled and _known(message.offset()) < _high(consumer, topic, place):
                    held[place] = time.monotonic() + MARKERS
                else:
                    held.pop(place, None)
                    open_partitions.discard(place)
            else:
                raise LabError(f"read: {topic}: {error}")
        open_partitions -= {place for place, until_then in held.items() if time.monotonic() > until_then}
    return records


def _high(consumer: Consumer, topic: str, partition: int) -> int:
    """The end as the last fetch told it, whatever is committed."""
    bounds = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
    return bounds[1] if bounds else -1


def _received(message: Message) -> Rec:
    kind, timestamp = message.timestamp()
    return Rec(
        value=_bytes(message.value()),
        key=_bytes(message.key()),
        headers=_headers(message),
        timestamp=timestamp,
        timestamp_type=TIMESTAMP_TYPES[kind],
        topic=message.topic() or "",
        partition=_known(message.partition()),
        offset=_known(message.offset()),
    )


def _headers(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    # The client's type for headers is the one it takes; what it gives is always a list of pairs.
    # A name that is not UTF-8 comes as kpipe has it; tests compare such names with what kcat shows, too.
    (given,) = read_headers(lambda: cast("list[Headers | None]", list(map(Message.headers, [message]))))
    return tuple((name, _bytes(value)) for name, value in given or ())


def _bytes(field: object) -> bytes | None:
    if field is None or isinstance(field, bytes):
        return field
    raise LabError(f"read: the client gave {type(field).__name__} where a record has bytes")


def _known(number: int | None) -> int:
    return -1 if number is None else number


BROKEN = "_TRANSPORT"
"""What a client that is kept is told when the broker ends its connection under a question: asked again, it makes a new one."""


def _metadata(client: AdminClient | Consumer, topic: str | None = None) -> Any:
    deadline = time.monotonic() + 10
    while True:
        try:
            return client.list_topics(topic, timeout=10)
        except KafkaException as error:
            if error.args[0].name() != BROKEN or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    for _attempt in range(20):
        try:
            bounds = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            break
        except KafkaException as error:  # a topic of now, or a broker that was frozen: not everybody knows who leads
            passing = ("NOT_LEADER_FOR_PARTITION", "_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_OR_PART", BROKEN)
            if error.args[0].name() not in passing:
                raise
            time.sleep(0.1)
    else:
        raise LabError(f"read: {topic}[{partition}]: no leader")
    if bounds is None:
        raise LabError(f"read: {topic}[{partition}]: the broker does not say where it begins")
    return bounds


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.1)

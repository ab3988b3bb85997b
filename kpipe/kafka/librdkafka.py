"""The library under the Python client, called for whole columns of records at once.

It never looks into the Python client: its producer is a client of its own, made of librdkafka's public, stable C API.

The Python client takes one record a call (600 ns and, for its delivery report, 150-230 ns more);
`rd_kafka_produce_batch` takes a column of values for about a quarter of that. It knows no headers and no timestamps,
and reports only what failed (`delivery.report.only.error`): when its queue is empty, all else was delivered.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
from array import array
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from kpipe.kafka.errors import Cause, cause_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import KafkaError

PRODUCER = 0  # rd_kafka_type_t
COPY = 0x2  # RD_KAFKA_MSG_F_COPY
PURGE_QUEUE, PURGE_IN_FLIGHT = 0x1, 0x2  # RD_KAFKA_PURGE_F_QUEUE, _INFLIGHT
DELIVERY, LOG, ERROR, STATISTICS = 0x1, 0x4, 0x8, 0x100  # RD_KAFKA_EVENT_
QUEUE_FULL, INVALID_ARGUMENT = -184, -186  # RD_KAFKA_RESP_ERR__
WORDS = 9
"""Machine words of rd_kafka_message_t on 64 bits: err, topic, partition, value, its length, key, its length, offset,
and what the delivery report brings back."""
ERR, VALUE, KEY, MARK = 0, 3, 5, 8

_POINTER, _TEXT, _INT, _SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "conf_new": (_POINTER, []),
    "conf_set": (_INT, [_POINTER, _TEXT, _TEXT, _TEXT, _SIZE]),
    "conf_set_events": (None, [_POINTER, _INT]),
    "conf_set_log_cb": (None, [_POINTER, _POINTER]),
    "conf_destroy": (None, [_POINTER]),
    "new": (_POINTER, [_INT, _POINTER, _TEXT, _SIZE]),
    "topic_new": (_POINTER, [_POINTER, _TEXT, _POINTER]),
    "topic_destroy": (None, [_POINTER]),
    "produce_batch": (_INT, [_POINTER, ctypes.c_int32, _INT, _POINTER, _INT]),
    "outq_len": (_INT, [_POINTER]),
    "flush": (_INT, [_POINTER, _INT]),
    "purge": (_INT, [_POINTER, _INT]),
    "destroy": (None, [_POINTER]),
    "set_log_queue": (_INT, [_POINTER, _POINTER]),
    "queue_get_main": (_POINTER, [_POINTER]),
    "queue_poll": (_POINTER, [_POINTER, _INT]),
    "queue_destroy": (None, [_POINTER]),
    "event_type": (_INT, [_POINTER]),
    "event_error": (_INT, [_POINTER]),
    "event_error_string": (_TEXT, [_POINTER]),
    "event_error_is_fatal": (_INT, [_POINTER]),
    "event_log": (_INT, [_POINTER, _POINTER, _POINTER, _POINTER]),
    "event_message_next": (_POINTER, [_POINTER]),
    "event_destroy": (None, [_POINTER]),
    "event_stats": (_TEXT, [_POINTER]),
    "fatal_error": (_INT, [_POINTER, _TEXT, _SIZE]),
    "metadata": (_INT, [_POINTER, _INT, _POINTER, _POINTER, _INT]),
    "metadata_destroy": (None, [_POINTER]),
    "clusterid": (_POINTER, [_POINTER, _INT]),
    "mem_free": (None, [_POINTER, _POINTER]),
}


class _PartitionEntry(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_int32),
        ("err", _INT),
        ("leader", ctypes.c_int32),
        ("replica_cnt", _INT),
        ("replicas", _POINTER),
        ("isr_cnt", _INT),
        ("isrs", _POINTER),
    )


class _TopicEntry(ctypes.Structure):
    _fields_ = (
        ("topic", _TEXT),
        ("partition_cnt", _INT),
        ("partitions", ctypes.POINTER(_PartitionEntry)),
        ("err", _INT),
    )


class _MetadataEntry(ctypes.Structure):
    _fields_ = (
        ("broker_cnt", _INT),
        ("brokers", _POINTER),
        ("topic_cnt", _INT),
        ("topics", ctypes.POINTER(_TopicEntry)),
        ("orig_broker_id", ctypes.c_int32),
        ("orig_broker_name", _TEXT),
    )


class TopicMetadata(NamedTuple):
    """What the cluster says of a topic, under the names that the Python client's metadata has, and who is led."""

    partitions: range
    error: KafkaError | None
    led: tuple[int, ...] = ()
    """The partitions that have a leader."""


class Metadata(NamedTuple):
    """The cluster's answer."""

    cluster_id: str
    topics: dict[str, TopicMetadata]


@cache
def _library() -> Any:
    """The library as the Python client has loaded it; None where its symbols or its layout are not what is expected."""
    from confluent_kafka import cimpl

    if ctypes.sizeof(_POINTER) != 8 or sys.byteorder != "little":
        return None
    try:
        library = ctypes.CDLL(cimpl.__file__)
        for name, (answer, arguments) in _SIGNATURES.items():
            function = getattr(library, f"rd_kafka_{name}")
            function.restype, function.argtypes = answer, arguments
    except (OSError, AttributeError):  # linked statically, with its symbols hidden
        return None
    return library


def can_send_columns(properties: Mapping[str, Any]) -> bool:
    """Whether a producer with these properties can be had: no callbacks (tokens, logs that are shown) but our own."""
    if (
        os.environ.get("KPIPE_DEBUG")
        or "debug" in properties
        or str(properties.get("sasl.mechanism", "")).upper() == "OAUTHBEARER"
    ):
        return False
    return not any(callable(value) for value in properties.values()) and _library() is not None


class ColumnProducer:
    """A producer for one topic. Calls have the names, units and errors of the Python client's producer.

    `on_error` is told of the client's errors, `on_log` of what it logs, `on_failure(batch, place, error)` of each
    record that was not delivered. Raises KafkaException for properties that librdkafka does not take.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        topic: str,
        on_error: Callable[[KafkaError], None],
        on_log: Callable[[str], None],
        on_statistics: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._library = _library()
        self._on_error = on_error
        self._on_log = on_log
        self._on_statistics = on_statistics
        self.on_failure: Callable[[int, int, KafkaError], None] = lambda _batch, _place, _error: None
        self.value_bytes = 0
        """Of the last call of `produce`, all its values together: known here, and 40 ns a record to count elsewhere."""
        self._places = array("I")
        self._closing = threading.Lock()
        self._client: int | None = None
        self._client = self._open({**properties, "delivery.report.only.error": True, "log.queue": True})
        self._queue = self._library.rd_kafka_queue_get_main(self._client)
        self._topic = self._library.rd_kafka_topic_new(self._client, topic.encode(), None)
        if not self._topic:
            self.close()
            _refuse(f"no topic can be called {topic[:20]!r}...".encode())

    def _open(self, properties: Mapping[str, Any]) -> int:
        library, reason = self._library, ctypes.create_string_buffer(512)
        conf = library.rd_kafka_conf_new()
        for name, value in properties.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if library.rd_kafka_conf_set(conf, name.encode(), text.encode(), reason, len(reason)):
                library.rd_kafka_conf_destroy(conf)
                _refuse(reason.value)
        library.rd_kafka_conf_set_events(conf, DELIVERY | LOG | ERROR | STATISTICS)
        library.rd_kafka_conf_set_log_cb(conf, None)
        client = library.rd_kafka_new(PRODUCER, conf, reason, len(reason))
        if not client:
            library.rd_kafka_conf_destroy(conf)
            _refuse(reason.value)
        library.rd_kafka_set_log_queue(client, None)
        return int(client)

    def __len__(self) -> int:
        """Records (and errors not yet told) in the queue or in flight."""
        return int(self._library.rd_kafka_outq_len(self._client)) if self._client else 0

    # Hot path: `make bench` (lines in). One C call for all records; what is per record here are C loops over arrays.
    def produce(
        self,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None,
        partition: int,
        batch: int,
        first: int = 0,
    ) -> tuple[int, list[tuple[int, KafkaError]]]:
        """Queue records in order, for `partition` (-1: the partitioner decides).

        They are known as the number of their batch (32 bits) and their place in it, which is counted from `first`.
        Returns how many were taken or refused before the queue was full, and the refused ones by their place.
        """
        self._check_open()
        count = len(values)
        rows = array("Q", bytes(8 * WORDS * count))
        columns = memoryview(rows)
        held = _point_at(columns, VALUE, values)
        self.value_bytes = len(held)
        held_keys = b"" if keys is None else _point_at(columns, KEY, keys)
        self._mark(columns.cast("B").cast("I"), batch, first, count)
        address, _ = rows.buffer_info()
        taken = self._library.rd_kafka_produce_batch(self._topic, partition, COPY, address, count)
        del held, held_keys
        if taken == count:
            return count, []
        taken, refused = _refused(columns[ERR::WORDS].tolist())
        if any(cause_of(error) is Cause.FATAL for _, error in refused):
            self._tell_fatal()  # its event may be on its way still, and the cause belongs to the first refusal
        return taken, refused

    def _mark(self, halves: memoryview, batch: int, first: int, count: int) -> None:
        if first + count > len(self._places):
            self._places = array("I", range(2 * (first + count)))
        halves[2 * MARK :: 2 * WORDS] = memoryview(self._places)[first : first + count]
        halves[2 * MARK + 1 :: 2 * WORDS] = memoryview(array("I", [batch]) * count)

    def poll(self, timeout: float = 0.0) -> None:
        """Tell of errors and of records that were not delivered, waiting up to `timeout` seconds for the first."""
        library, wait = self._library, int(timeout * 1000)
        while self._client and (event := library.rd_kafka_queue_poll(self._queue, wait)):
            wait = 0
            try:
                self._tell(event)
            finally:
                library.rd_kafka_event_destroy(event)

    def _tell(self, event: int) -> None:
        from confluent_kafka import KafkaError

        library = self._library
        kind = library.rd_kafka_event_type(event)
        if kind == DELIVERY:
            while message := library.rd_kafka_event_message_next(event):
                words = (ctypes.c_uint64 * WORDS).from_address(message)
                self.on_failure(words[MARK] >> 32, words[MARK] & 0xFFFFFFFF, KafkaError(_signed(words[ERR])))
        elif kind == STATISTICS:
            self._on_statistics((library.rd_kafka_event_stats(event) or b"").decode(errors="replace"))
        elif kind == LOG:
            text = _POINTER()
            library.rd_kafka_event_log(event, ctypes.byref(_POINTER()), ctypes.byref(text), ctypes.byref(_INT()))
            if text.value:
                self._on_log(ctypes.string_at(text.value).decode(errors="replace"))
        elif kind == ERROR:
            if library.rd_kafka_event_error_is_fatal(event):
                self._tell_fatal()
            else:
                code, text = library.rd_kafka_event_error(event), library.rd_kafka_event_error_string(event)
                self._on_error(KafkaError(code, (text or b"").decode(errors="replace")))

    def _tell_fatal(self) -> None:
        from confluent_kafka import KafkaError

        reason = ctypes.create_string_buffer(512)
        cause = self._library.rd_kafka_fatal_error(self._client, reason, len(reason))
        self._on_error(KafkaError(cause, reason.value.decode(errors="replace"), True))

    def flush(self, timeout: float) -> int:
        """Send without lingering and wait up to `timeout` seconds; returns what is left."""
        if self._client:
            self._library.rd_kafka_flush(self._client, int(timeout * 1000))
            self.poll(0)
        return len(self)

    def purge(self, *, in_queue: bool = True, in_flight: bool = True) -> None:
        """Give up the queue and what is in flight; `on_failure` is told of each record."""
        if self._client:
            self._library.rd_kafka_purge(self._client, in_queue * PURGE_QUEUE | in_flight * PURGE_IN_FLIGHT)

    def close(self) -> None:
        """Let go of the client; as in librdkafka, this may take as long as its last answer."""
        with self._closing:
            client, self._client = self._client, None
        if client is None:
            return
        if self._topic:
            self._library.rd_kafka_topic_destroy(self._topic)
        self._library.rd_kafka_queue_destroy(self._queue)
        self._library.rd_kafka_destroy(client)

    def __del__(self) -> None:
        """As with the Python client, one that nobody holds any more keeps no threads and no connections."""
        self.close()

    def _check_open(self) -> None:
        """The library would not look: what was let go of must not be used."""
        if not self._client:
            raise RuntimeError("the producer is closed")

    def list_topics(self, topic: str | None = None, timeout: float = 5.0) -> Metadata:
        """What the cluster says of the producer's topic, or of all; KafkaException when it does not answer in time."""
        from confluent_kafka import KafkaError, KafkaException

        self._check_open()
        library, answer, wait = self._library, ctypes.POINTER(_MetadataEntry)(), int(timeout * 1000)
        every, only = (1, None) if topic is None else (0, self._topic)
        code = library.rd_kafka_metadata(self._client, every, only, ctypes.byref(answer), wait)
        if code:
            raise KafkaException(KafkaError(code))
        try:
            entries = [answer.contents.topics[number] for number in range(answer.contents.topic_cnt)]
            topics = {
                entry.topic.decode(): TopicMetadata(
                    range(entry.partition_cnt), KafkaError(entry.err) if entry.err else None, _led(entry)
                )
                for entry in entries
            }
        finally:
            library.rd_kafka_metadata_destroy(answer)
        return Metadata(self._cluster_id(wait), topics)

    def _cluster_id(self, wait: int) -> str:
        text = self._library.rd_kafka_clusterid(self._client, wait)
        if not text:
            return ""
        try:
            return ctypes.string_at(text).decode()
        finally:
            self._library.rd_kafka_mem_free(self._client, text)


def _led(topic: _TopicEntry) -> tuple[int, ...]:
    entries = (topic.partitions[place] for place in range(topic.partition_cnt))
    return tuple(sorted(entry.id for entry in entries if entry.leader >= 0))


def _point_at(columns: memoryview, column: int, entries: Sequence[bytes | None]) -> bytes:
    """Fill in where each entry begins and how long it is; returns the bytes that must live until they are copied."""
    try:
        block = b"".join(entries)  # type: ignore[arg-type]
    except TypeError:  # a null; asking for one first would cost more than the join
        return _point_at_nulls(columns, column, entries)
    _point(columns, column, block, list(map(len, entries)))  # type: ignore[arg-type]
    return block


def _point(columns: memoryview, column: int, block: bytes, lengths: list[int]) -> None:
    """An array is filled from struct's bytes: that costs half of what filling it from a list does."""
    start = ctypes.cast(ctypes.c_char_p(block), _POINTER).value or 0
    packed = f"{len(lengths)}Q"
    columns[column::WORDS] = _words(struct.pack(packed, *accumulate(lengths[:-1], initial=start)))
    columns[column + 1 :: WORDS] = _words(struct.pack(packed, *lengths))


def _words(packed: bytes) -> memoryview:
    return memoryview(packed).cast("Q")


def _point_at_nulls(columns: memoryview, column: int, entries: Sequence[bytes | None]) -> bytes:
    filled = [entry or b"" for entry in entries]
    block = b"".join(filled)
    _point(columns, column, block, list(map(len, filled)))
    for place, entry in enumerate(entries):
        if entry is None:
            columns[place * WORDS + column] = 0
    return block


def _refused(codes: list[int]) -> tuple[int, list[tuple[int, KafkaError]]]:
    """Whatever stands behind the first record that found the queue full was not taken either."""
    from confluent_kafka import KafkaError

    signed = [_signed(code) for code in codes]
    taken = signed.index(QUEUE_FULL) if QUEUE_FULL in signed else len(signed)
    return taken, [(place, KafkaError(code)) for place, code in enumerate(signed[:taken]) if code]


def _signed(word: int) -> int:
    """The error code in the lower half of a machine word."""
    code = word & 0xFFFFFFFF
    return code - (1 << 32) if code & 0x80000000 else code


def _refuse(reason: bytes) -> None:
    from confluent_kafka import KafkaError, KafkaException

    raise KafkaException(KafkaError(INVALID_ARGUMENT, reason.decode(errors="replace")))

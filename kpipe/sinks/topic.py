"""Sends records to a topic and takes down what the broker said of each.

It never retries a record by itself (those behind it may already have landed) and never flushes without a limit.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import islice, repeat, starmap
from operator import length_hint
from typing import TYPE_CHECKING, Any

from kpipe.clusters.diagnosis import denied
from kpipe.errors import KpipeError, Stage, UndeliveredError, UnreachableError
from kpipe.shutdown import run_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from confluent_kafka import Producer

    from kpipe.clusters.client import Troubles
    from kpipe.ledger import DeliveryReport, Flight
    from kpipe.record import Batch
    from kpipe.sinks.reports import DeliveryLines

UNKNOWN_OUTCOMES = frozenset(
    (
        "_MSG_TIMED_OUT",
        "_TIMED_OUT",
        "_TRANSPORT",
        "_PURGE_INFLIGHT",
        "_DESTROY",
        "_FATAL",
        "REQUEST_TIMED_OUT",
        "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        "NOT_LEADER_FOR_PARTITION",
        "NETWORK_EXCEPTION",
        "OUT_OF_ORDER_SEQUENCE_NUMBER",
        "UNKNOWN_PRODUCER_ID",
    ),
)
"""Reports after which the record may or may not have been written (KAFKA-13574, Jepsen); others prove it was not."""

PURGED = frozenset(("_PURGE_QUEUE", "_PURGE_INFLIGHT"))
"""Reports after a drain that ended; librdkafka purges the queue by itself, too, when a producer is beyond repair
(`rd_kafka_set_fatal_error0`)."""

NO_ROOM = "not sent: the run ended while the queue was full"
ROOM_SLICE = 0.05
PATIENCE = 1.0
"""Seconds a full queue is waited for before the source is asked to keep its place in the group."""


class NotSent:
    """What stands for a delivery report when a record never got as far as the client."""

    def __init__(self, reason: str, kind: type[KpipeError] = UndeliveredError) -> None:
        self.reason = reason
        self.kind = kind


class TopicSink:
    """One topic of one cluster. `partition_of` gives the partition column, -1 where the partitioner decides.

    `lines` prints where each delivered record went, when `--report` asks for it.
    """

    def __init__(
        self,
        producer: Producer,
        topic: str,
        cluster: str,
        troubles: Troubles,
        *,
        partition_of: Callable[[Batch], Iterable[int]] | None = None,
        limit_bytes: int | None = None,
        lines: DeliveryLines | None = None,
    ) -> None:
        self.topic = topic
        self.cluster = cluster
        self._producer = producer
        self._troubles = troubles
        self._partition_of = partition_of
        self._limit_bytes = limit_bytes
        self._lines = lines

    # Hot path: `make bench` (forward, produce). Positional arguments: keywords cost 350-400 ns a record. Rows go from
    # column to client in C (a loop over them costs 80 ns more), so the place of one that raised is asked of its column.
    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Queue every record in order; on a full queue wait for room and go on with the same record."""
        reports: Sequence[DeliveryReport] = flight.take_reports(batch)
        if self._lines is not None:
            reports = [self._lines.noting(report) for report in reports[: len(batch)]]
        columns: tuple[Sequence[Any] | None, ...] = (
            batch.keys,
            None if self._partition_of is None else list(islice(self._partition_of(batch), len(batch))),
            None if batch.timestamps is None else [ms if kind else 0 for kind, ms in batch.timestamps],
            batch.headers,
        )
        keys, partitions, timestamps, headers = columns
        values = iter(batch.values)
        rows = zip(
            repeat(self.topic),
            values,
            repeat(None) if keys is None else keys,
            repeat(-1) if partitions is None else partitions,
            reports,
            repeat(None),
            repeat(0) if timestamps is None else timestamps,
            repeat(None) if headers is None else headers,
            strict=False,
        )
        while True:
            try:
                deque(starmap(self._producer.produce, rows), maxlen=0)
            except BufferError:
                place = len(batch) - length_hint(values) - 1
                key, partition, timestamp, own = (None if column is None else column[place] for column in columns)
                partition, timestamp = -1 if partition is None else partition, timestamp or 0
                arguments = (self.topic, batch.values[place], key, partition, reports[place], None, timestamp, own)
                if not self._send_when_room(arguments, idle):
                    for report in reports[place : len(batch)]:
                        report(NotSent(NO_ROOM), None)
                    return
            except Exception as error:
                self._refuse(reports[len(batch) - length_hint(values) - 1], error)
            else:
                return

    def _send_when_room(self, arguments: tuple[Any, ...], idle: Callable[[], bool]) -> bool:
        patience = time.monotonic() + PATIENCE
        while True:
            self._troubles.serve(self._producer.poll, ROOM_SLICE)
            try:
                self._producer.produce(*arguments)
            except BufferError:
                if not len(self._producer):
                    reason = "the record is larger than the send buffer; raise --buffer"
                    arguments[4](NotSent(reason), None)
                    return True
            except Exception as error:
                self._refuse(arguments[4], error)
                return True
            else:
                return True
            if time.monotonic() >= patience and not idle():
                return False

    @staticmethod
    def _refuse(report: DeliveryReport, error: Exception) -> None:
        client_error = error.args[0] if error.args else None
        report(client_error if hasattr(client_error, "name") else NotSent(f"refused by the client: {error}"), None)

    def poll(self) -> None:
        """Serve delivery reports; raises KpipeError when the producer is beyond repair."""
        self._troubles.serve(self._producer.poll, 0)
        if self._lines is not None:
            self._lines.flush()
        if self._troubles.fatal is not None:
            raise self._beyond_repair(*self._troubles.fatal, f"{self.cluster}:{self.topic}")

    def _beyond_repair(self, name: str, text: str, where: str) -> KpipeError:
        message = f"the producer cannot go on ({name}): {text}; run again, at-least-once"
        failure: KpipeError = UndeliveredError(message, where=where)
        if "AUTHORIZATION" in name:
            failure = denied(_resource(name, self.topic), "WRITE").error(where, Stage.SEND)
        failure.code = name
        return failure

    def explain(self, error: object, where: str) -> KpipeError:
        """One line for a failed record: which limit, which permission, or why nobody can know."""
        place = f"{self.cluster}:{self.topic}"
        prefix = f"{where} -> {place}" if where else place
        if isinstance(error, NotSent):
            return error.kind(error.reason, where=prefix, stage=Stage.SEND)
        name = error_name(error)
        fatal = self._troubles.fatal
        if fatal is not None and (name == "_FATAL" or name in PURGED):  # what became of the record does not say why
            return self._beyond_repair(*fatal, prefix)
        kind = UnreachableError if "AUTHORIZATION" in name else UndeliveredError
        failure = kind(self._reason(name, error), where=prefix, stage=Stage.SEND)
        failure.code = name or failure.code
        return failure

    def _reason(self, name: str, error: object) -> str:
        if name in ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"):
            limit = f" ({self._limit_bytes:,} bytes)" if self._limit_bytes else ""
            what = f"the record is larger than the topic's max.message.bytes{limit}"
            return f"{what}; raise it or use --on-error dlq:TOPIC"
        if name == "_MSG_TIMED_OUT":
            cause = self._troubles.latest()
            because = f": {cause}" if cause else ""
            return f"not acknowledged in time, so it may or may not have been written{because}"
        if name in PURGED:
            return "not acknowledged before the drain ended; raise --drain-timeout"
        if "AUTHORIZATION" in name:
            return denied(_resource(name, self.topic), "WRITE").text
        if name in ("_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_PARTITION"):
            return "the topic or partition is gone; create it again and run again"
        if name == "INVALID_RECORD":
            return "the broker refused the record (a compacted topic takes no record without a key)"
        return str(getattr(error, "str", lambda: error)())

    def refused(self, error: object) -> bool:
        """True when the record was certainly not written."""
        return isinstance(error, NotSent) or error_name(error) not in UNKNOWN_OUTCOMES

    def in_flight(self) -> int:
        """Records (and unserved reports) in the client's queue."""
        return len(self._producer)

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds; True when nothing is left."""
        self._troubles.serve(self._producer.flush, timeout)
        if self._lines is not None:
            self._lines.flush()
        return not len(self._producer)

    def purge(self) -> None:
        """Drop the queue and what is in flight; every record of it gets a report that says so."""
        self._producer.purge()
        self._troubles.serve(self._producer.poll, 0)

    def close(self, timeout: float) -> None:
        """Close the client, but never wait for it longer than `timeout` seconds: its own close has no limit."""
        if len(self._producer):
            self.purge()
        run_bounded(self._producer.close, timeout)


def _resource(name: str, topic: str) -> str:
    """What an authorisation error is about: an idempotent producer is refused as a whole, a transaction by its id."""
    if name.startswith("TRANSACTIONAL_ID"):
        return "this transactional id"
    return "any topic, so no producer id was given" if name.startswith("CLUSTER") else f"topic {topic}"


def error_name(error: object) -> str:
    """The client's name of an error, `_MSG_TIMED_OUT`; empty when it has none."""
    name = getattr(error, "name", None)
    return str(name()) if callable(name) else ""

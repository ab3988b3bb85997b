"""Sends records to a topic and takes down what the broker said of each.

It never retries a record by itself (those behind it may already have landed) and never flushes without a limit.
"""

from __future__ import annotations

from collections import deque
from itertools import islice, repeat, starmap
from operator import length_hint
from typing import TYPE_CHECKING, Any

from kpipe.clusters.address import place_name
from kpipe.clusters.diagnosis import denied
from kpipe.errors import KpipeError, Stage, UndeliveredError, UnreachableError
from kpipe.kafka.errors import (
    BAD_RECORD,
    CLUSTER_DENIED,
    FATAL,
    ID_DENIED,
    NO_PLACE,
    PURGED,
    SIZES,
    TIMED_OUT,
    Kind,
    is_unauthorised,
    is_unwritten,
    kind_of,
    name_of,
)
from kpipe.shutdown import run_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from confluent_kafka import Producer

    from kpipe.clusters.client import Troubles
    from kpipe.ledger import DeliveryReport, Flight
    from kpipe.record import Batch
    from kpipe.sinks.epoch import EpochTimes
    from kpipe.sinks.reports import DeliveryLines

NO_ROOM = "not sent: the run ended while the queue was full"
ROOM_SLICE = 0.05


class NotSent:
    """What stands for a delivery report when a record never got as far as the client.

    `judged`: because of what the record is. Else because of when it came, which says nothing about it.
    """

    def __init__(self, reason: str, kind: type[KpipeError] = UndeliveredError, *, judged: bool = True) -> None:
        self.reason = reason
        self.kind = kind
        self.judged = judged


class TopicSink:
    """One topic of one cluster. `partition_of` gives the partition column, -1 where the partitioner decides.

    `lines` prints where each delivered record went, when `--report` asks for it; `epoch` counts times of 0.
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
        self.epoch: EpochTimes | None = None

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
        if self.epoch is not None and timestamps is not None and not all(timestamps):
            self.epoch.note(batch, place_name(self.cluster, self.topic))
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
                        report(NotSent(NO_ROOM, judged=False), None)
                    return
            except Exception as error:
                self._refuse(reports[len(batch) - length_hint(values) - 1], error)
            else:
                return

    def _send_when_room(self, arguments: tuple[Any, ...], idle: Callable[[], bool]) -> bool:
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
            if not idle():
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
            raise self._beyond_repair(*self._troubles.fatal, place_name(self.cluster, self.topic))

    def _beyond_repair(self, name: str, text: str, where: str) -> KpipeError:
        message = f"the producer cannot go on ({name}): {text}; run again, at-least-once"
        failure: KpipeError = UndeliveredError(message, where=where)
        if is_unauthorised(name):
            failure = denied(_resource(name, self.topic), "WRITE").error(where, Stage.SEND)
        failure.code = name
        return failure

    def explain(self, error: object, where: str) -> KpipeError:
        """One line for a failed record: which limit, which permission, or why nobody can know."""
        place = place_name(self.cluster, self.topic)
        prefix = f"{where} -> {place}" if where else place
        if isinstance(error, NotSent):
            return error.kind(error.reason, where=prefix, stage=Stage.SEND)
        name = name_of(error)
        fatal = self._troubles.fatal
        if fatal is not None and (name == FATAL or name in PURGED):  # what became of the record does not say why
            return self._beyond_repair(*fatal, prefix)
        kind = UnreachableError if is_unauthorised(name) else UndeliveredError
        failure = kind(self._reason(name, error), where=prefix, stage=Stage.SEND)
        failure.code = name or failure.code
        return failure

    def _reason(self, name: str, error: object) -> str:
        if name in SIZES:
            limit = f" ({self._limit_bytes:,} bytes)" if self._limit_bytes else ""
            what = f"the record is larger than the topic's max.message.bytes{limit}"
            return f"{what}; raise it or use --on-error dlq:TOPIC"
        if name == TIMED_OUT:
            cause = self._troubles.latest()
            because = f": {cause}" if cause else ""
            return f"not acknowledged in time, so it may or may not have been written{because}"
        if name in PURGED:
            return "not acknowledged before the drain ended; raise --drain-timeout"
        if is_unauthorised(name):
            return denied(_resource(name, self.topic), "WRITE").text
        if name in NO_PLACE:
            return "the topic or partition is gone; create it again and run again"
        if name == BAD_RECORD:
            return "the broker refused the record (a compacted topic takes no record without a key)"
        return str(getattr(error, "str", lambda: error)())

    def refused(self, error: object) -> bool:
        """True for a judgement on the record; once the producer is beyond repair, nothing is one."""
        if isinstance(error, NotSent):
            return error.judged
        return self._troubles.fatal is None and kind_of(error) is Kind.REFUSED

    def unwritten(self, error: object) -> bool:
        """True when the record was certainly not written."""
        return isinstance(error, NotSent) or is_unwritten(error)

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
    if name == ID_DENIED:
        return "this transactional id"
    return "any topic, so no producer id was given" if name == CLUSTER_DENIED else f"topic {topic}"

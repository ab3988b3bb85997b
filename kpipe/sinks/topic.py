"""Sends records to a topic and takes down what the broker said of each.

It sends a record again only when nothing that stands behind it can have landed, and never flushes without a limit.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import islice, repeat, starmap
from operator import length_hint
from typing import TYPE_CHECKING, Any

from kpipe.clusters.address import place_name
from kpipe.errors import KpipeError, Stage, UndeliveredError, UnreachableError
from kpipe.flight import Parcel
from kpipe.kafka.diagnosis import denied
from kpipe.kafka.errors import (
    Cause,
    Kind,
    cause_of,
    client_error,
    is_gone,
    is_unauthorised,
    is_unwritten,
    kind_of,
    name_of,
)
from kpipe.shutdown import run_bounded
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kpipe.flight import DeliveryReport, Flight
    from kpipe.formats.lineage import TraceNames
    from kpipe.kafka.troubles import Troubles
    from kpipe.parts import Failed, Judge, Sent
    from kpipe.record import Batch
    from kpipe.sinks.bisect_batch import Resent
    from kpipe.sinks.epoch import EpochTimes
    from kpipe.sinks.producing import Producing
    from kpipe.sinks.reports import DeliveryLines

FIRST_ANSWER = 30.0
"""Seconds that the answer to a new producer's first batches is waited for before the next one is sent all the same."""
UNKNOWN_BATCHES = 100
"""Batches after which a producer counts as known in partitions that are never written to."""
NO_ROOM = "not sent: the run ended while the queue was full"
ROOM_SLICE = 0.05
EMPTY_BATCH = 70
"""Bytes of a batch with one empty record (record batch v2: 61, and its record)."""


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
        producing: Producing,
        topic: str,
        cluster: str,
        *,
        partition_of: Callable[[Batch], Iterable[int]] | None = None,
        limit_bytes: int | None = None,
        lines: DeliveryLines | None = None,
        partitions: int = 1,
    ) -> None:
        self.topic = topic
        self.cluster = cluster
        self._producing = producing
        self._partition_of = partition_of
        self._limit_bytes = limit_bytes
        self._lines = lines
        self.epoch: EpochTimes | None = None
        self.trace: TraceNames | None = None
        """The names of the trace, where the run writes one."""
        self._partitions = partitions
        self._known: object = None
        """The producer of which every partition has taken a batch; see `_become_known`."""
        self._seen_by: object = None
        self._seen: set[int] = set()
        self._sent_unknown = 0

    @property
    def _producer(self) -> Any:
        return self._producing.producer

    @property
    def _troubles(self) -> Troubles:
        return self._producing.troubles

    # Hot path: `make bench` (forward, produce). Positional arguments: keywords cost 350-400 ns a record. Rows go from
    # column to client in C (a loop over them costs 80 ns more), so the place of one that raised is asked of its column.
    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Queue every record in order; on a full queue wait for room and go on with the same record."""
        reports: Sequence[DeliveryReport] = flight.take_reports(batch)
        producer = self._producing.producer
        if producer is not self._known and self._producing.keeps_order:
            reports = self._noting_partitions(producer, reports[: len(batch)])
        self._queue(producer, batch, flight, reports, idle)
        if producer is not self._known:
            self._become_known(producer, idle)

    def _queue(
        self,
        producer: Any,
        batch: Batch,
        flight: Flight,
        reports: Sequence[DeliveryReport],
        idle: Callable[[], bool],
    ) -> None:
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
        parcel = Parcel(self, batch, partitions)
        flight.keep(parcel)
        if batch.index is not None and len(set(batch.index)) < len(batch):
            reports = noting_places(parcel, reports)
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
                deque(starmap(producer.produce, rows), maxlen=0)
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

    def _noting_partitions(self, producer: Any, reports: Sequence[DeliveryReport]) -> list[DeliveryReport]:
        if self._seen_by is not producer:
            self._seen_by, self._seen, self._sent_unknown = producer, set(), 0
        seen = self._seen

        def noting(report: DeliveryReport) -> DeliveryReport:
            def note(error: object | None, message: Any) -> None:
                if error is None:
                    seen.add(message.partition())
                report(error, message)

            return note

        return [noting(report) for report in reports]

    def _become_known(self, producer: Any, idle: Callable[[], bool]) -> None:
        """Wait for each of the first batches, until every partition has taken one from this producer.

        Of a producer id that it has not met, a broker takes any sequence number (`ProducerAppendInfo.checkSequence`):
        when the first batch is refused, the one behind it would be written before what is sent again. Measured.
        """
        if self._producing.keeps_order:
            deadline = time.monotonic() + FIRST_ANSWER
            while len(producer) and self._troubles.fatal is None:
                self._troubles.serve(producer.flush, ROOM_SLICE)
                # Once a signal has come nothing is sent behind them, and the drain waits for them.
                if len(producer) and (not idle() or self._producing.stopped() or time.monotonic() >= deadline):
                    return
            self._sent_unknown += 1
            if len(self._seen) < self._partitions and self._sent_unknown < UNKNOWN_BATCHES:
                return
        self._known = producer

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
        told = client_error(error)
        report(NotSent(f"refused by the client: {error}") if told is None else told, None)

    def poll(self) -> None:
        """Serve delivery reports; raises KpipeError when the producer is beyond repair."""
        self._troubles.serve(self._producer.poll, 0)
        if self._lines is not None:
            self._lines.flush()
        if self._producing.fatal is not None:
            raise self._beyond_repair(*self._producing.fatal, place_name(self.cluster, self.topic))

    def _beyond_repair(self, name: str, text: str, where: str) -> KpipeError:
        message = f"the producer cannot go on ({name}): {text}; run again, at-least-once"
        failure: KpipeError = UndeliveredError(message, where=where)
        if is_unauthorised(name):
            failure = denied(_resource(cause_of(name), self.topic), "WRITE").error(where, Stage.SEND)
        failure.code = name
        return failure

    def explain(self, error: object, where: str, record: Sent | None = None) -> KpipeError:
        """One line for a failed record: which limit, which permission, or why nobody can know."""
        place = place_name(self.cluster, self.topic)
        prefix = f"{where} -> {place}" if where else place
        if isinstance(error, NotSent):
            return error.kind(error.reason, where=prefix, stage=Stage.SEND)
        name, cause = name_of(error), cause_of(error)
        fatal = self._producing.fatal
        if fatal is not None and cause in (Cause.FATAL, Cause.PURGED):  # what became of the record does not say why
            return self._beyond_repair(*fatal, prefix)
        kind = UnreachableError if is_unauthorised(name) else UndeliveredError
        reason = self._too_large(record) if cause is Cause.TOO_LARGE else self._reason(cause, error)
        failure = kind(reason, where=prefix, stage=Stage.SEND)
        failure.code = name or failure.code
        return failure

    def _reason(self, cause: Cause, error: object) -> str:
        if cause is Cause.TIMED_OUT:
            latest = self._troubles.latest()
            because = f": {latest}" if latest else ""
            return f"not acknowledged in time, so it may or may not have been written{because}"
        if cause is Cause.FENCED:
            return "another producer writes under this one's id, so nobody knows whether it was written; run again"
        if cause is Cause.PURGED:
            return "not acknowledged before the drain ended; raise --drain-timeout"
        if is_unauthorised(error):
            return denied(_resource(cause, self.topic), "WRITE").text
        if is_gone(error):
            return "the topic or partition is gone; create it again and run again"
        if cause is Cause.BAD_RECORD:
            return "the broker refused the record (a compacted topic takes no record without a key)"
        return str(getattr(error, "str", lambda: error)())

    def _too_large(self, record: Sent | None) -> str:
        """Which limit it is, and whether the trace is what pushes the record over it."""
        limit = f" ({self._limit_bytes:,} bytes)" if self._limit_bytes else ""
        what = f"the record is larger than the topic's max.message.bytes{limit}"
        size, added = (0, 0) if record is None else self._weigh(*record)
        if not added:
            return f"{what}; raise it or use --on-error dlq:TOPIC"
        if self._limit_bytes is not None and size - added <= self._limit_bytes:
            return f"{what} with its trace, which adds {counted(added, 'byte')}; use --trace none, or raise the limit"
        trace = f"its trace, which --trace none leaves out, is {counted(added, 'byte')} of it"
        return f"{what}; raise it or use --on-error dlq:TOPIC ({trace})"

    def _weigh(self, flight: Flight, index: int) -> tuple[int, int]:
        """Bytes of a record in a batch of its own, before compression; and how many of them its trace adds."""
        if self.trace is None:
            return 0, 0
        for parcel in flight.parcels:
            if parcel.sink is self and index in (indexes := indexes_of(parcel)):
                batch, place = parcel.batch, indexes.index(index)
                own = batch.header(place)
                key = b"" if batch.keys is None else batch.keys[place] or b""
                headers = sum(len(name.encode()) + len(value or b"") + 2 for name, value in own)
                return EMPTY_BATCH + len(batch.values[place] or b"") + len(key) + headers, self.trace.added_by_hop(own)
        return 0, 0

    def refused(self, error: object) -> bool:
        """True for a judgement on the record; once the producer is beyond repair, nothing is one."""
        if isinstance(error, NotSent):
            return error.judged
        return self._producing.fatal is None and kind_of(error) is Kind.REFUSED

    def unwritten(self, error: object) -> bool:
        """True when the record was certainly not written."""
        return isinstance(error, NotSent) or is_unwritten(error)

    def took_along(self, failures: Sequence[Failed], idle: Callable[[], bool]) -> bool:
        """Whether a refused batch is among them; what is still on its way is waited for."""
        if any(cause_of(report) is Cause.FATAL for _, _, report in failures):
            self._troubles.learn_cause(self._producer.poll)
        if self._producing.open_one is None or self._producing.fatal is not None:
            return False
        if not any(self._is_open(report) for _, _, report in failures):
            return False
        while self._producing.is_torn and len(self._producer):
            self._producing.give_back()
            self._troubles.serve(self._producer.poll, ROOM_SLICE)
            if len(self._producer) and not idle():
                return False
        return True

    def _is_open(self, report: object) -> bool:
        """Whether the record was not written, and may be once it is sent again."""
        if isinstance(report, NotSent):
            return False
        if cause_of(report) in (Cause.FATAL, Cause.OUT_OF_ORDER):  # it came behind the batch that tore the producer
            return self._producing.is_torn or self._producing.was_torn
        return kind_of(report) in (Kind.REFUSED, Kind.UNWRITTEN)

    def resend(self, failures: Sequence[Failed], judge: Judge, idle: Callable[[], bool]) -> Sequence[Failed]:
        """Send again what was not written, in order; a record that is refused alone is judged."""
        from kpipe.sinks.bisect_batch import BatchBisection

        rows = self._rows(failures)
        if not rows:
            return failures
        for flight, index, report in failures:  # first: why the batch was refused may be why the run ends
            if (id(flight), index) not in rows:
                judge(flight, index, report)
        torn = self._producing.is_torn
        with self._producing.careful() as (producer, troubles):

            def judge_there(flight: Flight, index: int, report: object) -> bool:
                return judge(flight, index, self._cause_there(report, troubles))

            BatchBisection(producer, troubles, judge_there, idle).run([row for same in rows.values() for row in same])
        if torn:
            self._renew()
        return ()

    def _cause_there(self, report: object, troubles: Troubles) -> object:
        """Why the producer for doubtful records took one no more: the report itself says only that it is dead.

        A right to write that was withdrawn is told to the batch, and to a new producer before it takes any record.
        """
        cause = cause_of(report)
        if troubles.fatal is None or cause not in (Cause.FATAL, Cause.PURGED):
            return report
        failure = self._beyond_repair(*troubles.fatal, "")
        if cause is Cause.FATAL or is_unwritten(report):
            kind = UnreachableError if isinstance(failure, UnreachableError) else UndeliveredError
            return NotSent(failure.what, kind, judged=False)
        return report

    def has_sent(self, flight: Flight, index: int) -> bool:
        """Whether the record went to this topic."""
        return any(parcel.sink is self and index in indexes_of(parcel) for parcel in flight.parcels)

    def _renew(self) -> None:
        self._producing.renew()

    def _rows(self, failures: Sequence[Failed]) -> dict[tuple[int, int], list[Resent]]:
        """What to send again, in the order of sending, by flight and index."""
        wanted: dict[int, set[int]] = {}
        flights: dict[int, Flight] = {}
        for flight, index, report in failures:
            if self._is_open(report):
                flights[id(flight)] = flight
                wanted.setdefault(id(flight), set()).add(index)
        rows: dict[tuple[int, int], list[Resent]] = {}
        for key, indexes in wanted.items():
            for parcel in flights[key].parcels:
                if parcel.sink is self:
                    for place, index in enumerate(indexes_of(parcel)):
                        if index in indexes and (parcel.failed is None or place in parcel.failed):
                            rows.setdefault((key, index), []).append(self._row(flights[key], index, parcel, place))
        return rows

    def _row(self, flight: Flight, index: int, parcel: Parcel, place: int) -> Resent:
        from kpipe.sinks.bisect_batch import Resent

        batch, settled = parcel.batch, flight.settled.append
        note = None if self._lines is None else self._lines.noting(lambda _error, _message: None)

        def settle(message: Any) -> None:
            settled(index)
            if note is not None:
                note(None, message)

        kind, ms = (0, 0) if batch.timestamps is None else batch.timestamps[place]
        arguments = (
            self.topic,
            batch.values[place],
            None if batch.keys is None else batch.keys[place],
            -1 if parcel.partitions is None else parcel.partitions[place],
            ms if kind else 0,
            None if batch.headers is None else batch.headers[place],
        )
        return Resent(flight, index, arguments, settle)

    def in_flight(self) -> int:
        """Records (and unserved reports) in the client's queue."""
        return len(self._producer)

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds; True when nothing is left."""
        self._producing.give_back()
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


def _resource(cause: Cause, topic: str) -> str:
    """What an authorisation error is about: an idempotent producer is refused as a whole, a transaction by its id."""
    if cause is Cause.ID_DENIED:
        return "this transactional id"
    return "any topic, so no producer id was given" if cause is Cause.CLUSTER_DENIED else f"topic {topic}"


def indexes_of(parcel: Parcel) -> Sequence[int]:
    """The index of each record of a parcel."""
    batch = parcel.batch
    return range(len(batch)) if batch.index is None else batch.index


def noting_places(parcel: Parcel, reports: Sequence[DeliveryReport]) -> list[DeliveryReport]:
    """For a batch with several copies of a record: which of them failed."""
    failed: list[int] = []
    parcel.failed = failed

    def noting(place: int, report: DeliveryReport) -> DeliveryReport:
        def note(error: object | None, message: object) -> None:
            if error is not None:
                failed.append(place)
            report(error, message)

        return note

    return [noting(place, report) for place, report in enumerate(reports[: len(parcel.batch)])]

"""Sends whole columns of records to a topic: values and keys, no headers and no timestamps of their own.

It never says of a record that it was delivered before that is certain. The client reports only what failed, so the
others are settled when its queue is empty; until then the ledger is told how many have landed, but not which.

What it is for: 500,000 lines of 100 B took 0.47-0.49 s of CPU this way and 0.79 s through `TopicSink` (min of 4 runs
in turn; kcat 0.27 s), at 49-56 and 48 MiB. `produce_batch` of the client is slower than its `produce`, loses headers
and gives errors only in the dicts it was given (confluent-kafka 2.16).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.flight import Parcel
from kpipe.sinks.topic import NO_ROOM, ROOM_SLICE, NotSent, TopicSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import KafkaError

    from kpipe.flight import Flight
    from kpipe.kafka.librdkafka import ColumnProducer
    from kpipe.ledger import Ledger
    from kpipe.parts import Failed
    from kpipe.record import Batch
    from kpipe.sinks.producing import Producing

OPEN_RECORDS, OPEN_FLIGHTS, OPEN_BYTES = 500_000, 10_000, 8_000_000
"""What may be open before the queue is waited for until it is empty: at full speed it never is by itself.

Each open batch is kept, to be sent again. With 32 MB of them the same lines took 99 MiB instead of 56, and 1.06 times
the CPU. With less the wait would be felt where answers take 0.1 s; a broker has five batches of 1 MB under way anyway.
"""
FIRST_WAIT = 0.002
"""Seconds between two looks at a full queue, doubled up to ROOM_SLICE while nothing moves."""


class ColumnSink(TopicSink):
    """One topic of one cluster, for a run whose records carry a value and perhaps a key.

    `choose` gives the one partition that all of a batch go to; with -1 the partitioner decides for each record.
    """

    def __init__(
        self,
        producing: Producing,
        topic: str,
        cluster: str,
        *,
        ledger: Ledger,
        choose: Callable[[Batch], int] = lambda _batch: -1,
        limit_bytes: int | None = None,
        partitions: int = 1,
        open_records: int = OPEN_RECORDS,
        open_flights: int = OPEN_FLIGHTS,
    ) -> None:
        super().__init__(producing, topic, cluster, limit_bytes=limit_bytes, partitions=partitions)
        self._most_records, self._most_flights = open_records, open_flights
        self._listen()
        self._ledger = ledger
        self._choose = choose
        self._open: dict[int, tuple[Flight, Sequence[int], set[int]]] = {}
        """Each flight by its number, with the indexes of what was sent, and the places in that which failed."""
        self._number = 0
        self._sent = 0
        self._open_bytes = 0

    def _listen(self) -> None:
        self._columns: ColumnProducer = self._producing.producer
        self._columns.on_failure = self._note_failure

    def _renew(self) -> None:
        super()._renew()
        self._listen()
        self._seen, self._sent_unknown = set(), 0

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Queue every record in order; on a full queue wait for room and go on with the same record."""
        if self._sent > self._most_records or len(self._open) >= self._most_flights or self._open_bytes > OPEN_BYTES:
            self._wait_until_empty(idle)
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._open[self._number] = (flight, range(len(batch)) if batch.index is None else batch.index, set())
        self._sent += len(batch)
        partition = self._choose(batch)
        flight.keep(Parcel(self, batch, None if partition < 0 else [partition] * len(batch)))
        taken = self._queue_columns(batch.values, batch.keys, partition, 0)
        self._open_bytes += self._columns.value_bytes
        if taken < len(batch):
            self._queue_rest(batch, partition, taken, idle)
        if self._columns is not self._known:
            self._seen.add(self._sent_unknown if partition < 0 else partition)
            self._become_known(self._columns, idle)

    def _queue_columns(
        self, values: list[bytes | None], keys: list[bytes | None] | None, partition: int, first: int
    ) -> int:
        taken, refused = self._columns.produce(values, keys, partition, self._number, first)
        for place, error in refused:
            self._note_failure(self._number, first + place, error)
        return taken

    def _queue_rest(self, batch: Batch, partition: int, taken: int, idle: Callable[[], bool]) -> None:
        keys, wait = batch.keys, FIRST_WAIT
        while taken < len(batch):
            self._columns.poll(wait)
            was_empty = not len(self._columns)
            more = self._queue_columns(batch.values[taken:], None if keys is None else keys[taken:], partition, taken)
            wait = FIRST_WAIT if more else min(2 * wait, ROOM_SLICE)
            taken += more
            self._count_landed(len(batch) - taken)
            if not more and was_empty:
                error = NotSent("the record is larger than the send buffer; raise --buffer")
                self._note_failure(self._number, taken, error)
                taken += 1
            if not idle():
                for place in range(taken, len(batch)):
                    self._note_failure(self._number, place, NotSent(NO_ROOM, judged=False))
                return

    def _wait_until_empty(self, idle: Callable[[], bool]) -> None:
        while len(self._columns):
            self._columns.poll(FIRST_WAIT)
            self._count_landed()
            if not idle():
                return
        self._settle()

    def _note_failure(self, number: int, place: int, error: KafkaError | NotSent) -> None:
        flight, indexes, failed = self._open[number]
        failed.add(place)
        flight.failures.append((indexes[place], error))

    def _settle(self) -> None:
        """With an empty queue every record that did not fail has been acknowledged."""
        if len(self._columns):
            self._count_landed()
            return
        for flight, sent, failed in self._open.values():
            flight.settled += [index for place, index in enumerate(sent) if place not in failed] if failed else sent
        self._open.clear()
        self._sent = self._open_bytes = self._ledger.landed = 0

    def _count_landed(self, unsent: int = 0) -> None:
        self._ledger.landed = max(0, self._sent - unsent - len(self._columns))

    def took_along(self, failures: Sequence[Failed], idle: Callable[[], bool]) -> bool:
        """As for any topic; what was delivered is settled before the producer is replaced."""
        taken = super().took_along(failures, idle)
        self._settle()
        return taken

    def poll(self) -> None:
        """Take down failures, and settle all others when nothing is left in the queue."""
        super().poll()
        self._settle()

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds; True when nothing is left."""
        done = super().flush(timeout)
        self._settle()
        return done

    def purge(self) -> None:
        """Drop the queue and what is in flight; every record of it is reported as failed."""
        super().purge()
        self._settle()

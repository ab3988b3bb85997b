"""Sends records that failed to a dead-letter topic: as they were read, with their trace and what went wrong.

It never counts a record as dead-lettered before the topic has acknowledged it, and never drops one that it refused.

    error_code error_message error_stage   why            source_attempts   how often it was tried, this time included
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kpipe.errors import Exit, KpipeError, Stage, UndeliveredError, UnreachableError, without_policy
from kpipe.kafka.errors import Kind, client_error, is_lasting, kind_of
from kpipe.record import Batch
from kpipe.shutdown import run_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Producer

    from kpipe.flight import Flight
    from kpipe.record import Headers
    from kpipe.sinks.target import Target

ERROR_HEADERS = ("error_code", "error_message", "error_stage")
ATTEMPTS = "source_attempts"
ROOM_SLICE = 0.05


def attempts_so_far(headers: Headers, prefix: str = "") -> int:
    """How often a record was tried, by its header; 0 for one that never failed."""
    value = dict(headers).get(prefix + ATTEMPTS)
    return int(value) if value is not None and value.isdigit() and len(value) < 10 else 0


def with_error(headers: Headers, error: KpipeError, prefix: str = "") -> Headers:
    """The headers of a dead letter: those of an earlier failure are replaced, all others stay in order."""
    names = {prefix + name for name in (*ERROR_HEADERS, ATTEMPTS)}
    attempts = max(1, attempts_so_far(headers, prefix))
    return [
        *(header for header in headers if header[0] not in names),
        (prefix + "error_code", error.code.encode()),
        (prefix + "error_message", without_policy(error.what).encode(errors="replace")),
        (prefix + "error_stage", error.stage.value.encode()),
        (prefix + ATTEMPTS, b"%d" % attempts),
    ]


def with_time(headers: Headers, ms: int, prefix: str = "") -> Headers:
    """The headers of a letter that is sent as of now: the record's own time stands in its trace."""
    name = prefix + "source_timestamp"
    if any(header[0] == name for header in headers):
        return headers
    return [*headers, (name, b"%d" % ms)]


MARGIN = 60_000
"""Milliseconds by which clocks may differ: a letter whose time is that near to its topic's limit goes as of now."""
DEFAULT_AFTER_MS = 3_600_000
"""message.timestamp.after.max.ms of Kafka 4."""


class DeadLetterTopic:
    """One topic for dead letters.

    `producer` gives the client to send with, `serve` has its delivery reports come in, `explain` says what one means.
    `takes_time` says whether the topic takes a record of that time (ms); another one is sent as of now.
    Within a transaction (`send_with`) they are the transaction's, `join` makes ready for a record, and a letter that an
    abort purged is forgotten (`forget`), because its record is read again.
    """

    def __init__(  # noqa: PLR0913 - one for each side it touches
        self,
        topic: str,
        where: str,
        producer: Callable[[], Producer],
        serve: Callable[[float], None],
        *,
        explain: Callable[[object], KpipeError],
        stamp: Callable[[Batch], None],
        partition_of: Callable[[Batch], Iterable[int]],
        prefix: str = "",
        forced: Callable[[], bool] = lambda: False,
        takes_time: Callable[[int], bool] = lambda _ms: True,
    ) -> None:
        self.refused: list[tuple[Flight, int]] = []
        self._topic = topic
        self._where = where
        self._producer = producer
        self._serve = serve
        self._explain = explain
        self._stamp = stamp
        self._partition_of = partition_of
        self._prefix = prefix
        self._join: Callable[[], None] = lambda: None
        self._forced = forced
        self._takes_time = takes_time
        self._in_transaction = False
        self._epoch = 0
        self._pending = 0
        self._failure: KpipeError | None = None
        self._no_more = False

    def send_with(
        self, producer: Callable[[], Producer], serve: Callable[[float], None], join: Callable[[], None]
    ) -> None:
        """Send by another client from now on: dead letters then belong to its transactions."""
        self._producer, self._serve, self._join = producer, serve, join
        self._in_transaction = True

    def send(self, flight: Flight, index: int, error: KpipeError, idle: Callable[[], bool]) -> None:
        """Send one record with its error; the flight settles when it is acknowledged. Raises KpipeError.

        While there is no room, `idle` keeps the place in the group; once it says no, nothing is waited for any more.
        """
        letter = _as_read(flight, index, error)
        if letter is None:
            message = f"{error}; its bytes are gone, so it cannot become a dead letter"
            raise UndeliveredError(message, where=self._where)
        self._stamp(letter)
        headers = with_error(letter.header(0), error, self._prefix)
        kind, ms = letter.timestamps[0] if letter.timestamps is not None else (0, -1)
        if kind and not self._takes_time(ms):
            kind, headers = 0, with_time(headers, ms, self._prefix)
        arguments = (
            self._topic,
            letter.values[0],
            letter.keys[0] if letter.keys is not None else None,
            next(iter(self._partition_of(letter))),
            self._noting(flight, index, error),
            None,
            ms if kind else 0,
            headers,
        )
        self._join()
        self._pending += 1
        self._produce(arguments, flight, index, idle)

    def _noting(self, flight: Flight, index: int, error: KpipeError) -> Callable[[Any, Any], None]:
        """The delivery report: it takes notes, for a callback must never raise."""
        epoch = self._epoch

        def note(failure: Any, _message: Any) -> None:
            if epoch != self._epoch:
                return
            self._pending -= 1
            if failure is None:
                flight.dead_lettered += index not in flight.dead  # copies of a split record are one record
                flight.dead.add(index)
                flight.settled.append(index)
            elif self._in_transaction and kind_of(failure) is not Kind.REFUSED and not is_lasting(failure):
                flight.failures.append((index, failure))  # it went down with its transaction, which is read again
            else:
                self._refuse(flight, index, self._explain(failure), error)

        return note

    def _refuse(self, flight: Flight, index: int, cause: KpipeError, error: KpipeError) -> None:
        self.refused.append((flight, index))
        if self._failure is None:
            why = cause.what.partition(";")[0]  # the advice behind it, a dead-letter topic, is not for this one
            what = f"the dead-letter topic did not take a record: {why}; the record had failed with: {error}"
            kind = UnreachableError if cause.exit_code is Exit.UNREACHABLE else UndeliveredError
            self._failure = kind(what, where=self._where, stage=Stage.SEND)

    def _produce(self, arguments: tuple[Any, ...], flight: Flight, index: int, idle: Callable[[], bool]) -> None:
        while True:
            try:
                self._producer().produce(*arguments)
            except BufferError:
                if not self._wait_for_room(idle):
                    self._pending -= 1
                    self.refused.append((flight, index))
                    return
            except Exception as error:  # noqa: BLE001 - whatever the client raises, the record was not taken
                told = client_error(error)
                if told is not None:  # such as that the transaction broke a moment ago
                    arguments[4](told, None)
                    return
                self._pending -= 1
                what = f"the dead-letter topic did not take a record: {error}"
                self.refused.append((flight, index))
                raise UndeliveredError(what, where=self._where, stage=Stage.SEND) from None
            else:
                return

    def _wait_for_room(self, idle: Callable[[], bool]) -> bool:
        """One slice of waiting; False when the run must end. A frozen cluster is asked once, not once a record."""
        if self._no_more or self._forced():
            return False
        self._serve(ROOM_SLICE)
        self._no_more = not idle()
        return True

    def poll(self) -> None:
        """Serve delivery reports; raises KpipeError when a record was not taken."""
        if self._pending:
            self._serve(0)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def forget(self) -> None:
        """The transaction that the letters were in is gone, and they with it."""
        self._epoch += 1
        self._pending = 0
        self._failure = None
        self.refused.clear()

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for what was sent; True when nothing is left."""
        deadline = time.monotonic() + timeout
        while self._pending and time.monotonic() < deadline:
            self._serve(0.01)
        return not self._pending or self._failure is not None

    def purge(self) -> None:
        """Give up what is still in flight."""
        self._producer().purge()
        self._serve(0)

    def close(self, timeout: float) -> None:
        """Close the client within `timeout` seconds."""
        producer = self._producer()
        if len(producer):
            self.purge()
        run_bounded(producer.close, timeout)


def _as_read(flight: Flight, index: int, error: KpipeError) -> Batch | None:
    """The record as it was read; of one that could not be decoded the bytes, as the value of a record of their own."""
    origin = flight.origin
    if origin is not None and (origin.index is None or index in origin.index):
        place = index if origin.index is None else origin.index.index(index)
        return origin.cut_out(place, place + 1)
    raw = getattr(error, "raw", None)
    if raw is None:
        return None
    file, _, line = error.where.rpartition(":")
    return Batch([raw], file=file, lines=[int(line) if line.isdigit() else 0])


def takes_time(ready: Target, clock: Callable[[], float] = time.time) -> Callable[[int], bool]:
    """Whether the topic takes a record of that time; where nobody says so, whether a default one of Kafka 4 would."""
    after = DEFAULT_AFTER_MS if ready.after_ms is None else ready.after_ms
    before = ready.before_ms

    def takes(ms: int) -> bool:
        now = int(clock() * 1000)
        return ms <= now + after - MARGIN and (before is None or ms >= now - before + MARGIN)

    return takes

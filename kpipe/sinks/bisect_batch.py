"""Sends again what a refused batch took with it, in order, and finds the records that earned it.

A broker refuses a batch as a whole, and librdkafka does not tell which record it was about (2.16: where one record is
bad all fail alike; where two are, the good ones are told apart, KIP-467). So they are sent in parts: a part that is
refused is halved, and a record is judged when it was refused alone. Nothing is sent before all that stands before it
is written or judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kpipe.flight import Unsent
from kpipe.kafka.errors import Cause, Kind, cause_of, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kpipe.flight import Flight
    from kpipe.kafka.troubles import Troubles

PART, PART_BYTES = 500, 250_000
"""Records and bytes that are sent together at first: far below a batch, so that each partition's are one batch."""
SLICE = 0.1


class Resent(NamedTuple):
    """One record to be sent: `arguments` for the client (topic, value, key, partition, timestamp, headers)."""

    flight: Flight
    entry: int
    arguments: tuple[Any, ...]
    settle: Callable[[Any], None]
    """Told the client's message when the record is on its target."""

    @property
    def size(self) -> int:
        """Bytes of value and key."""
        return len(self.arguments[1] or b"") + len(self.arguments[2] or b"") + 50


class BatchBisection:
    """`judge` decides about a record that failed alone and says whether to go on; `idle` says whether to wait on."""

    def __init__(
        self,
        producer: Any,
        troubles: Troubles,
        judge: Callable[[Flight, int, object], bool],
        idle: Callable[[], bool],
    ) -> None:
        self._producer = producer
        self._troubles = troubles
        self._judge = judge
        self._idle = idle
        self._gave_up = False

    def run(self, rows: Sequence[Resent]) -> None:
        """Each row is settled or judged; what comes behind the end of the run is judged as unsent."""
        waiting = list(parts_of(rows))[::-1]
        going = True
        while waiting and going and not self._gave_up:
            part = waiting.pop()
            failed = self._send(part)
            refused = [row for row, error in failed if fell_with_its_batch(error)]
            others = [(row, error) for row, error in failed if not fell_with_its_batch(error)]
            if others:  # nobody knows, or none of the next ones would fare better
                verdicts = [self._judge(row.flight, row.entry, error) for row, error in others]
                going = all(verdicts)
                waiting += [refused] if refused else []
            elif len(refused) == 1:
                going = self._judge(refused[0].flight, refused[0].entry, failed[0][1])
            elif refused:
                half = len(refused) // 2
                waiting += [refused[half:], refused[:half]]
        for part in reversed(waiting):
            for row in part:
                self._judge(row.flight, row.entry, Unsent())

    def _send(self, part: Sequence[Resent]) -> list[tuple[Resent, object]]:
        """Send the rows and wait for their reports; returns those that failed, in order."""
        outcomes: dict[int, object] = {}
        for place, row in enumerate(part):
            self._produce(row, _noting(outcomes, place, row))
        while len(self._producer):
            self._troubles.serve(self._producer.flush, SLICE)
            if len(self._producer) and not self._idle():
                self._gave_up = True
                self._producer.purge()
                self._troubles.serve(self._producer.flush, SLICE)
                break
        if any(cause_of(error) is Cause.FATAL for error in outcomes.values()):
            self._troubles.learn_cause(self._producer.poll)
        return [(row, outcomes[place]) for place, row in enumerate(part) if place in outcomes]

    def _produce(self, row: Resent, note: Callable[[object | None, Any], None]) -> None:
        topic, value, key, partition, timestamp, headers = row.arguments
        while True:
            try:
                self._producer.produce(topic, value, key, partition, note, None, timestamp, headers)
            except BufferError:
                self._troubles.serve(self._producer.flush, SLICE)
                if self._idle():
                    continue
                self._gave_up = True
                note(Unsent(), None)
            except Exception as error:  # noqa: BLE001 - whatever the client raises, the record was not taken
                note(error.args[0] if error.args else error, None)
            return


def fell_with_its_batch(error: object) -> bool:
    """Whether a broker refused the batch; that says nothing yet about this record of it."""
    return kind_of(error) is Kind.REFUSED or cause_of(error) is Cause.NEIGHBOUR


def _noting(outcomes: dict[int, object], place: int, row: Resent) -> Callable[[object | None, Any], None]:
    def note(error: object | None, message: Any) -> None:
        if error is None:
            row.settle(message)
        else:
            outcomes[place] = error

    return note


def parts_of(rows: Sequence[Resent]) -> Iterator[list[Resent]]:
    """In parts of at most PART records and PART_BYTES, or one record."""
    part: list[Resent] = []
    size = 0
    for row in rows:
        if part and (len(part) == PART or size + row.size > PART_BYTES):
            yield part
            part, size = [], 0
        part.append(row)
        size += row.size
    if part:
        yield part

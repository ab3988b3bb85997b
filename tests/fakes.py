"""Both ends of a pipeline in memory: a source that hands out batches, a sink whose delivery reports are scripted.

They swap I/O, and nothing else: no function is patched.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, UndeliveredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kpipe.flight import DeliveryReport, Flight, TopicPartition
    from kpipe.ledger import Ledger
    from kpipe.parts import Failed, Sent
    from kpipe.record import Batch

REFUSED, UNWRITTEN, UNKNOWN, NEVER, LATER = "refused", "unwritten", "unknown", "never", "later"
"""What a sink can do with a value instead of acknowledging it at the next poll; later: when it is flushed."""


class ClientError:
    """A KafkaError, as far as it is asked: one of a name, that is no matter of a moment."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name

    def code(self) -> int:
        return 0

    def str(self) -> str:
        return self._name

    def retriable(self) -> bool:
        return False

    def fatal(self) -> bool:
        return False


class ListSource:
    """Hands out these batches (None: nothing there at the moment; an error: raised), then has finished."""

    def __init__(self, batches: Iterable[Batch | KpipeError | None]) -> None:
        self._batches = deque(batches)
        self.events: list[str] = []
        self.finished = not self._batches

    def read(self) -> Batch | None:
        step = self._batches.popleft()
        self.finished = not self._batches
        if isinstance(step, KpipeError):
            raise step
        return step

    def keep_alive(self) -> None:
        self.events.append("keep_alive")

    def leave(self) -> None:
        self.events.append("leave")

    def close(self, timeout: float) -> None:
        self.events.append("close")


class ListSink:
    """Keeps what it is sent. `script` maps a value to what becomes of it; all others are acknowledged at the next poll.

    With `room` it takes so many records, then calls idle until that says no.
    """

    def __init__(self, script: Mapping[bytes, str] | None = None, *, room: int | None = None) -> None:
        self.script = dict(script or {})
        self.values: list[bytes | None] = []
        self.events: list[str] = []
        self._room = room
        self._now: list[tuple[DeliveryReport, object | None]] = []
        self._later: list[DeliveryReport] = []
        self._never: list[DeliveryReport] = []

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        for value, report in zip(batch.values, flight.take_reports(batch), strict=False):
            if self._room is not None and len(self.values) >= self._room:
                while idle():
                    pass
                report(REFUSED, None)
                continue
            self.values.append(value)
            fate = self.script.get(value or b"")
            if fate == LATER:
                self._later.append(report)
            elif fate == NEVER:
                self._never.append(report)
            else:
                self._now.append((report, fate))

    def poll(self) -> None:
        now, self._now = self._now, []
        for report, fate in now:
            report(fate, None)

    def explain(self, error: object, where: str, _record: Sent | None = None) -> KpipeError:
        return UndeliveredError(f"the sink says {error}", where=where)

    def refused(self, error: object) -> bool:
        return error == REFUSED

    def unwritten(self, error: object) -> bool:
        return error in (REFUSED, UNWRITTEN)

    def took_along(self, failures: object, idle: object) -> bool:
        return False

    def resend(self, failures: list[Failed], judge: object, idle: object) -> list[Failed]:
        return failures

    def flush(self, timeout: float) -> bool:
        self.poll()
        for report in self._later:
            report(None, None)
        self._later.clear()
        return not self._never

    def purge(self) -> None:
        self.events.append("purge")
        for report in self._never:
            report(UNKNOWN, None)
        self._never.clear()

    def close(self, timeout: float) -> None:
        self.events.append("close")


@dataclass
class ListCommitter:
    """Notes what may be committed at each turn, and what was committed at the end."""

    prefixes: list[dict[TopicPartition, int]] = field(default_factory=list)
    final: dict[TopicPartition, int] | None = None

    def tick(self, ledger: Ledger) -> None:
        self.prefixes.append(dict(ledger.next_offsets))

    def finish(self, ledger: Ledger, timeout: float) -> None:
        self.final = ledger.prefix()

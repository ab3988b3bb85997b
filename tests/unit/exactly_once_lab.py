"""The transactional sink and committer between fakes of everything they speak to: producer, source, member, letters."""

from __future__ import annotations

import sys
from typing import Any

from kpipe.delivery.exactly_once import ExactlyOnce
from kpipe.delivery.transaction import Outcome
from kpipe.errors import KpipeError, UndeliveredError
from kpipe.flight import Flight
from kpipe.ledger import Ledger
from kpipe.pipeline import Pipeline
from kpipe.record import Batch
from kpipe.run_state import RunState
from kpipe.shutdown import Stop
from kpipe.sinks.topic import NotSent

PLACE = ("orders", 0)


class FakeLine:
    timeout = 10.0

    def __init__(self) -> None:
        self.opened: float | None = None
        self.fenced = self.stuck = self.in_doubt = self.unfit = self.lost = False
        self.reason = "scripted"
        self.outcomes: list[Any] = []
        self.log: list[Any] = []
        self.producer = self

    @property
    def is_open(self) -> bool:
        return self.opened is not None

    def serve(self, _timeout: float = 0) -> None: ...

    def check(self) -> bool:
        return not self.unfit

    def begin(self) -> None:
        self.log.append("begin")
        self.opened = 0.0

    def commit(self, offsets: Any, _metadata: bytes, _timeout: float, _note: Any = None) -> Outcome:
        self.log.append(("commit", dict(offsets)))
        self.opened = None
        outcome = self.outcomes.pop(0) if self.outcomes else Outcome.COMMITTED
        if isinstance(outcome, Exception):
            raise outcome
        self.in_doubt = outcome is Outcome.UNKNOWN
        return outcome

    def abort(self, _timeout: float) -> None:
        self.log.append("abort")
        self.opened = None

    def replace(self, _timeout: float) -> None:
        self.log.append("replace")
        self.opened, self.unfit, self.lost = None, False, False

    def discard(self, _timeout: float) -> None: ...


class FakeSink:
    """Acknowledges at once, but for the values that `refuse` maps to an error."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def send(self, batch: Batch, flight: Flight, idle: Any) -> None:
        for _ in range(self.lab.waits):
            idle()
        for value, report in zip(batch.values, flight.take_reports(batch), strict=False):
            error = self.lab.refuse.get(value)
            self.lab.sent.append(value)
            report(error, None)

    def explain(self, error: Any, where: str, _record: Any = None) -> KpipeError:
        return UndeliveredError(getattr(error, "reason", None) or error.name(), where=where)

    def refused(self, error: Any) -> bool:
        return isinstance(error, NotSent) or not error.name().startswith("_MSG_TIMED_OUT")

    def unwritten(self, error: Any) -> bool:
        return self.refused(error)

    def flush(self, _timeout: float) -> bool:
        return True

    def poll(self) -> None: ...
    def purge(self) -> None: ...
    def close(self, _timeout: float) -> None: ...


class FakeSource:
    """One partition of values; reading starts again where it is sent back to."""

    def __init__(self, values: list[bytes]) -> None:
        self.values = values
        self.position = 0
        self.finished = False
        self.owned = {PLACE}
        self.at_eof: dict[Any, int] = {}
        self.undecided: set[Any] = set()
        self.rewound: list[Any] = []
        self.hook: Any = lambda: None
        self.slow_again = False
        """Whether there is nothing at the first look after each way back."""
        self._looks = 0

    def read(self) -> Batch | None:
        self.hook()
        if self.slow_again and self._looks < len(self.rewound):
            self._looks += 1
            return None
        start, self.position = self.position, min(self.position + 2, len(self.values))
        self.finished = self.position == len(self.values)
        offsets = list(range(start, self.position))
        if not offsets:
            return None
        columns: dict[str, Any] = {
            "topics": ["orders"] * len(offsets),
            "partitions": [0] * len(offsets),
            "offsets": offsets,
        }
        return Batch(list(self.values[start : self.position]), **columns)

    def rewind(self, offsets: dict[Any, int], count: int) -> None:
        self.rewound.append((dict(offsets), count))
        self.position = offsets.get(PLACE, self.position)
        self.finished = False

    def keep_alive(self) -> None: ...
    def leave(self) -> None: ...
    def close(self, _timeout: float) -> None: ...


class FakeMember:
    generation = 3
    group: dict[Any, int]

    def metadata(self) -> bytes:
        return b"CGMDv2:" + self.generation.to_bytes(4, sys.byteorder, signed=True)

    def committed(self, _places: Any) -> dict[Any, int]:
        return self.group


class Lab:
    def __init__(self, *values: bytes, on_error: str = "stop", records: int = 2, stages: Any = ()) -> None:
        self.refuse: dict[bytes | None, Any] = {}
        self.sent: list[bytes | None] = []
        self.line, self.source, self.member = FakeLine(), FakeSource(list(values)), FakeMember()
        self.stop = Stop()
        self.now = 0.0
        self.once = ExactlyOnce(
            self.line,  # type: ignore[arg-type]
            lambda: FakeSink(self),  # type: ignore[arg-type,return-value]
            self.source,
            self.member,
            RunState(Ledger(keeps_offsets=True)),
            records=records,
            interval=100.0,
            on_error=on_error,
            stopped=lambda: self.stop.requested,
            forced=lambda: self.stop.forced,
            clock=lambda: self.now,
        )
        self.ledger = self.once.ledger
        self.waits = 0
        """How often a sink asks whether to go on waiting for room in its queue."""
        self.pipeline = Pipeline(
            self.source,  # type: ignore[arg-type]
            [*stages, self.once.leave_out_refused],
            self.once,
            self.once,
            self.ledger,
            self.stop,
            on_error=on_error,
            transaction=self.once,
            state=self.once.state,
        )
        self.once.began({PLACE: 0})

    def run(self) -> None:
        self.pipeline.run()
        assert self.ledger.balanced

    @property
    def commits(self) -> list[int]:
        return [entry[1][PLACE] for entry in self.line.log if isinstance(entry, tuple)]

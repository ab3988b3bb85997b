"""What a pipeline is put together from, as it sees them: a source, a sink, a committer, and what may stand beside them.

They are faces, but for what a sink passes on to the one behind it: nothing here reads, sends or commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.errors import KpipeError
    from kpipe.flight import Flight
    from kpipe.ledger import Ledger
    from kpipe.record import Batch

Sent: TypeAlias = "tuple[Flight, int]"
"""A record that was sent, by its place in its flight."""
Failed: TypeAlias = "tuple[Flight, int, object]"
"""A record that was not delivered, by its place in its flight, and what its delivery report said."""
Judge: TypeAlias = "Callable[[Flight, int, object], bool]"
"""Decides what becomes of a record that failed; says whether the run goes on."""


class Source(Protocol):
    """Where records come from."""

    finished: bool
    """True when no further record will come: end of input, or the end that was fixed at the start."""

    def read(self) -> Batch | None:
        """Wait up to 0.2 s for records; None when there were none. Raises KpipeError."""

    def keep_alive(self) -> None:
        """Take part in the group without reading; called while the sink is full."""

    def leave(self) -> None:
        """Stop reading for good; what was read so far stays valid."""

    def close(self, timeout: float) -> None:
        """Let go of the source within `timeout` seconds."""


class Sink(Protocol):
    """Where records go."""

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Hand over the batch; while the sink is full call `idle`, and give up when it returns False."""

    def poll(self) -> None:
        """Collect delivery reports that have come in."""

    def explain(self, error: object, where: str, record: Sent | None = None) -> KpipeError:
        """What a failed delivery report means, in words; with `record`, also what its headers have to do with it."""

    def refused(self, error: object) -> bool:
        """Whether a failed delivery report is a judgement on the record; only then `--on-error` may act."""

    def unwritten(self, error: object) -> bool:
        """Whether a failed delivery report proves that the record was not written."""

    def took_along(self, failures: Sequence[Failed], idle: Callable[[], bool]) -> bool:
        """Whether records failed with a batch and may be sent again; waits until no report of theirs is out."""

    def resend(self, failures: Sequence[Failed], judge: Judge, idle: Callable[[], bool]) -> Sequence[Failed]:
        """Send them again, in order, and have those judged that fail alone; returns the failures that stand."""

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for what was sent; True when nothing is left."""

    def purge(self) -> None:
        """Give up what is still in flight; its delivery reports come in with an error."""

    def close(self, timeout: float) -> None:
        """Let go of the target within `timeout` seconds."""


class SinkBefore:
    """A sink that stands before another one: it passes on what it does not change."""

    def __init__(self, inner: Sink) -> None:
        self.inner = inner

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Hand over the batch."""
        self.inner.send(batch, flight, idle)

    def poll(self) -> None:
        """As the sink behind it; so are the others."""
        self.inner.poll()

    def explain(self, error: object, where: str, record: Sent | None = None) -> KpipeError:  # noqa: D102
        return self.inner.explain(error, where, record)

    def refused(self, error: object) -> bool:  # noqa: D102
        return self.inner.refused(error)

    def unwritten(self, error: object) -> bool:  # noqa: D102
        return self.inner.unwritten(error)

    def took_along(self, failures: Sequence[Failed], idle: Callable[[], bool]) -> bool:  # noqa: D102
        return self.inner.took_along(failures, idle)

    def resend(self, failures: Sequence[Failed], judge: Judge, idle: Callable[[], bool]) -> Sequence[Failed]:  # noqa: D102
        return self.inner.resend(failures, judge, idle)

    def flush(self, timeout: float) -> bool:  # noqa: D102
        return self.inner.flush(timeout)

    def purge(self) -> None:  # noqa: D102
        self.inner.purge()

    def close(self, timeout: float) -> None:  # noqa: D102
        self.inner.close(timeout)


class SinkAtOnce:
    """A sink whose `send` settles what it wrote: nothing is reported later, so nothing is in flight or sent again."""

    def poll(self) -> None:
        """Nothing to collect: a write is its own acknowledgement."""

    def refused(self, error: object) -> bool:
        """Whether it is a judgement on the record; nothing is reported that could be one."""
        return False

    def unwritten(self, error: object) -> bool:
        """What failed was not written."""
        return True

    def took_along(self, failures: Sequence[Failed], idle: Callable[[], bool]) -> bool:
        """No batch is refused as a whole."""
        return False

    def resend(self, failures: Sequence[Failed], judge: Judge, idle: Callable[[], bool]) -> Sequence[Failed]:
        """All failures stand."""
        return failures

    def flush(self, timeout: float) -> bool:
        """Everything was written when `send` returned."""
        return True

    def purge(self) -> None:
        """Nothing is in flight."""

    def close(self, timeout: float) -> None:
        """What is written to belongs to the process."""


class Committer(Protocol):
    """Turns settled prefixes into committed offsets."""

    def tick(self, ledger: Ledger) -> None:
        """Commit if it is time to; called once a turn."""

    def finish(self, ledger: Ledger, timeout: float) -> None:
        """Commit what is settled, exactly, before the source is let go."""


class Spill(Protocol):
    """Keeps records that could not be delivered."""

    def write(self, lost: Sequence[tuple[Flight, int]]) -> int:
        """Write these records; returns how many."""


class DeadLetters(Protocol):
    """Takes records that failed."""

    refused: list[tuple[Flight, int]]
    """Records that were not taken."""

    def send(self, flight: Flight, index: int, error: KpipeError, idle: Callable[[], bool]) -> None:
        """Send one record as it was read, with its error; the flight settles when it is acknowledged.

        While the topic takes no more call `idle`, and give up when it returns False.
        """

    def poll(self) -> None:
        """Collect delivery reports; raises KpipeError when a record was not taken."""

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for what was sent; True when nothing is left."""

    def purge(self) -> None:
        """Give up what is still in flight."""

    def close(self, timeout: float) -> None:
        """Let go of the topic within `timeout` seconds."""


class Transaction(Protocol):
    """Makes what was sent and the offsets it came from visible together, or neither."""

    def take_back(self, failures: Sequence[tuple[Flight, int, object]]) -> bool:
        """Whether these failures were undone by going back: what they belong to is read again."""

    def commit_all(self) -> bool:
        """Commit because the run may be over; False when records failed or must be read again."""

    def conclude(self, timeout: float) -> None:
        """Commit or abort within `timeout` seconds, for good."""

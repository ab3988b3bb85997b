"""How `--resume-by-trace` stands in a run: a source that waits, a committer that carries the floor, a listener.

It looks at no record itself: what is left out is decided in `kpipe.delivery.resume`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from confluent_kafka import TopicPartition as ClientPartition

    from kpipe.delivery.resume import Resume
    from kpipe.flight import TopicPartition
    from kpipe.ledger import Ledger
    from kpipe.parts import Committer
    from kpipe.record import Batch
    from kpipe.sources.selection import GroupListener

LEAST = 0.1
"""Seconds for the commit when all time is used up."""


class Reader(Protocol):
    """What a reader of topics must be able to do here."""

    finished: bool

    def read(self) -> Batch | None:
        """Wait up to 0.1 s for records."""

    def keep_alive(self) -> None:
        """Take part in the group without reading."""

    def leave(self) -> None:
        """Stop reading for good."""

    def close(self, timeout: float) -> None:
        """Let go of the source."""

    @property
    def owned(self) -> set[TopicPartition]:
        """The partitions that are read here now."""

    @property
    def at_eof(self) -> dict[TopicPartition, int]:
        """Positions behind the last record of idle partitions."""


class ResumingSource:
    """A source that gives no record of a partition before it is known what of it is in the target.

    Meanwhile the loop goes on: the group is kept alive, commits are made, signals are seen.
    """

    def __init__(self, inner: Reader, resume: Resume) -> None:
        self.finished = False
        self._inner = inner
        self._resume = resume
        self._waiting: Batch | None = None

    def read(self) -> Batch | None:
        """Records, or a step of the look-up that they wait for."""
        if self._resume.pending:
            self._inner.keep_alive()
            self._resume.step()
            return None
        waiting, self._waiting = self._waiting, None
        batch = self._inner.read() if waiting is None else self._only_ours(waiting)
        if batch is not None and self._resume.pending:  # a rebalance in this very call
            self._waiting, batch = batch, None
        self.finished = self._inner.finished and self._waiting is None and not self._resume.pending
        return batch

    def _only_ours(self, batch: Batch) -> Batch:
        """What was read in a rebalance, without what went to another member since."""
        if batch.topics is None or batch.partitions is None:
            return batch
        owned = self._inner.owned
        mine = [place in owned for place in zip(batch.topics, batch.partitions, strict=True)]
        if not all(mine):
            batch.keep(mine)
            batch.index, batch.read = None, len(batch)
        return batch

    def keep_alive(self) -> None:
        """As the source behind it."""
        self._inner.keep_alive()

    def leave(self) -> None:
        """What still waits was never read as far as the group is concerned: its ends are not reached either."""
        if self._waiting is not None:
            for place in self._waiting.last_offsets():
                self._inner.at_eof.pop(place, None)
        self._inner.leave()

    def close(self, timeout: float) -> None:
        """As the source behind it."""
        self._inner.close(timeout)


@dataclass(slots=True, frozen=True)
class ResumingCommitter:
    """Keeps the floor up to date, and commits as `inner` does (None: there is no group)."""

    resume: Resume
    inner: Committer | None = None

    def tick(self, ledger: Ledger) -> None:
        """The floor first: a commit carries it."""
        self.resume.tick(ledger)
        if self.inner is not None:
            self.inner.tick(ledger)

    def finish(self, ledger: Ledger, timeout: float) -> None:
        """Commit, then let go of the target's tail."""
        deadline = time.monotonic() + timeout
        try:
            self.resume.end(ledger, timeout / 2)
            if self.inner is not None:
                self.inner.finish(ledger, max(LEAST, deadline - time.monotonic()))
        finally:
            self.resume.close()


@dataclass(slots=True, frozen=True)
class ResumingGroup:
    """Looks at the target whenever partitions are assigned: another member may have sent what it could not commit."""

    resume: Resume
    inner: GroupListener | None = None

    def began(self, starts: dict[TopicPartition, int]) -> None:
        """Find out what is there of these."""
        if self.inner is not None:
            self.inner.began(starts)
        self.resume.look(starts)

    def revoked(self, places: list[TopicPartition]) -> None:
        """Deliver and commit, then forget what is there of them."""
        try:
            if self.inner is not None:
                self.inner.revoked(places)
        finally:
            self.resume.forget(places)

    def lost(self, places: list[TopicPartition]) -> None:
        """Forget what is there of them."""
        try:
            if self.inner is not None:
                self.inner.lost(places)
        finally:
            self.resume.forget(places)

    def committed(self, error: Any, partitions: list[ClientPartition]) -> None:
        """What became of a commit."""
        if self.inner is not None:
            self.inner.committed(error, partitions)

"""At least once: what is settled is committed, and before partitions go, what was read of them is delivered first.

It never raises into the client: the source keeps an error for its next read.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kpipe.delivery.commit import Commits, GroupCommitter, Rebalancing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Consumer
    from confluent_kafka import TopicPartition as ClientPartition

    from kpipe.flight import TopicPartition
    from kpipe.shutdown import Stop
    from kpipe.sources.topic import TopicSource

REVOKE_TIMEOUT = 60.0
"""Seconds a revoke may wait for delivery reports: far below `max.poll.interval.ms` (5 min), after which the
coordinator gives the partitions away anyway."""


def group_committer(
    consumer: Consumer,
    source: TopicSource,
    where: str,
    commits: Commits,
    tail: Callable[[TopicPartition], str] = lambda _place: "",
) -> GroupCommitter:
    """Commits for the source's consumer, counted in `commits`; `tail` gives what is committed beside an offset."""
    return GroupCommitter(
        consumer,
        where,
        source.at_eof,
        note=source.note,
        tail=tail,
        is_awaited=lambda: source.share_is_done,
        commits=commits,
    )


class Flushing(Protocol):
    """What must be on its target before partitions go."""

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds; True when nothing is left."""


class Committing(Protocol):
    """What commits for the group: `GroupCommitter`."""

    def hasten(self) -> None:
        """Commit soon."""

    def commit_now(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit before partitions go; raises KpipeError."""

    def forget(self, places: list[TopicPartition]) -> None:
        """Partitions went away."""

    def note_answer(self, error: Any, partitions: list[ClientPartition]) -> None:
        """What became of a commit."""


class Positions(Protocol):
    """The ledger, or as much of it as is proven."""

    @property
    def read(self) -> int:
        """Records read."""

    def begin(self, starts: Mapping[TopicPartition, int]) -> None:
        """Partitions begin here."""

    def has_in_flight(self, places: Iterable[TopicPartition]) -> bool:
        """Whether a record of one of these partitions is on its way."""

    def prefix(self) -> dict[TopicPartition, int]:
        """What may be committed, exact to the record."""

    def revoke(self, places: Iterable[TopicPartition]) -> None:
        """Partitions went away."""


@dataclass(slots=True, frozen=True)
class AtLeastOnceGroup:
    """What a run hears of its group: it drains, commits, then lets go; a partition that was lost is only forgotten."""

    ledger: Positions
    waits_for: Flushing
    committer: Committing
    stop: Stop
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic

    def began(self, starts: dict[TopicPartition, int]) -> None:
        """Partitions begin here."""
        self.ledger.begin(starts)
        self.committer.hasten()

    def revoked(self, places: list[TopicPartition]) -> None:
        """Wait for what is on its way, for a minute at most, and commit what is settled."""
        deadline = self.clock() + REVOKE_TIMEOUT
        # Nothing left to flush and still in flight: the rest of a batch that is being sent right now, by our caller.
        while self.ledger.has_in_flight(places) and self.clock() < deadline and not self.stop.forced:
            if self.waits_for.flush(0.1):
                break
        prefix = self.ledger.prefix()
        try:
            self.committer.commit_now({place: prefix[place] for place in places if place in prefix})
        except Rebalancing as error:
            if self.ledger.read:  # of nothing that was read nothing is repeated: the reason is another one, told next
                self.say(str(error))  # the next owner repeats some records; that is no reason to end
        finally:
            self.lost(places)

    def lost(self, places: list[TopicPartition]) -> None:
        """Nothing of them is committed any more."""
        self.ledger.revoke(places)
        self.committer.forget(places)

    def committed(self, error: Any, partitions: list[ClientPartition]) -> None:
        """What became of a commit."""
        self.committer.note_answer(error, partitions)


@dataclass(slots=True, frozen=True)
class BothFlushed:
    """What a rebalance waits for: records on their way to the target, and those on their way to the dead letters."""

    sink: Flushing
    letters: Flushing

    def flush(self, timeout: float) -> bool:
        """True when nothing is left in either."""
        done = self.sink.flush(timeout)
        return self.letters.flush(timeout) and done


def both(sink: Flushing, letters: Flushing | None) -> Flushing:
    """The sink, and the dead letters where there are any."""
    return sink if letters is None else BothFlushed(sink, letters)

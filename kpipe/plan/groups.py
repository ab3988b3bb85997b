"""What a rebalance does to a run: before partitions go, what was read of them is delivered and committed.

It never raises into the client: the source keeps an error for its next read.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kpipe.clusters.address import place_name
from kpipe.delivery.commit import GroupCommitter, Rebalancing
from kpipe.kafka.client import label

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.clusters.profiles import Cluster
    from kpipe.ledger import Ledger, TopicPartition
    from kpipe.plan.source import OpenSource
    from kpipe.shutdown import Stop
    from kpipe.sources.topic import Hooks

REVOKE_TIMEOUT = 60.0
"""Seconds a revoke may wait for delivery reports: far below `max.poll.interval.ms` (5 min), after which the
coordinator gives the partitions away anyway."""


def group_committer(
    opened: OpenSource, group: str, cluster: Cluster, tail: Callable[[TopicPartition], str] = lambda _place: ""
) -> GroupCommitter:
    """Commits for the source's consumer; `tail` gives what is committed beside a partition's offset."""
    where = place_name(label(cluster), f"group {group}")
    source = opened.source
    committer = GroupCommitter(
        opened.consumer,
        where,
        source.at_eof,
        note=source.note,
        tail=tail,
        is_awaited=lambda: source.share_is_done,
    )
    committer.commits = opened.commits
    return committer


class Flushing(Protocol):
    """What must be on its target before partitions go."""

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds; True when nothing is left."""


def wire_group(hooks: Hooks, ledger: Ledger, sink: Flushing, committer: GroupCommitter, stop: Stop) -> None:
    """Drain, commit, then let go; a partition that was lost is only forgotten."""

    def revoked(places: list[TopicPartition]) -> None:
        deadline = time.monotonic() + REVOKE_TIMEOUT
        # Nothing left to flush and still in flight: the rest of a batch that is being sent right now, by our caller.
        while ledger.has_in_flight(places) and time.monotonic() < deadline and not stop.forced:
            if sink.flush(0.1):
                break
        prefix = ledger.prefix()
        try:
            committer.commit_now({place: prefix[place] for place in places if place in prefix})
        except Rebalancing as error:
            if ledger.read:  # of nothing that was read nothing is repeated: the reason is another one, and told next
                hooks.say(str(error))  # the next owner repeats some records; that is no reason to end
        finally:
            lost(places)

    def lost(places: list[TopicPartition]) -> None:
        ledger.revoke(places)
        committer.forget(places)

    hooks.began, hooks.revoked, hooks.lost = ledger.begin, revoked, lost
    hooks.committed = committer.note_answer


@dataclass(slots=True)
class BothFlushed:
    """What a rebalance waits for: records on their way to the target, and those on their way to the dead letters."""

    sink: Flushing
    letters: Flushing | None

    def flush(self, timeout: float) -> bool:
        """True when nothing is left in either."""
        done = self.sink.flush(timeout)
        return (self.letters is None or self.letters.flush(timeout)) and done

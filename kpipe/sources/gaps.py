"""What the log does not have: records deleted before they were read, topics that were truncated or made anew.

It never goes on silently: a gap stops the run, or is told and counted as the policy of `--on-gap` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage
from kpipe.sources.selection import where

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import TopicPartition
    from kpipe.kafka.lookups import Bounds


class Gaps:
    """The gaps met in a run. `policy` is a choice of --on-gap: stop, warn, earliest, latest.

    `warn` goes on behind records that retention deleted, as `earliest` does, but still stops at a topic that was
    truncated or created again: there, only a person knows where to go on.

    `missing` counts offsets that were skipped unread (an upper bound of records, where compaction or transaction
    markers left holes); `crossed` counts gaps that were passed. `undecided` are partitions that begin, or go on, where
    this run decided; until the group commits, the next run would decide anew, and may find another place.
    """

    def __init__(self, policy: str, cluster: str, say: Callable[[str], None]) -> None:
        self.missing = 0
        self.crossed = 0
        self.undecided: set[TopicPartition] = set()
        self._policy = policy
        self._cluster = cluster
        self._say = say

    def cross(self, place: TopicPartition, offset: int, bound: Bounds, *, created_again: bool = False) -> int:
        """Where to go on reading instead of `offset` (negative: none known); KpipeError under a policy that stops."""
        at = where(self._cluster, *place, offset if offset >= 0 else None)
        target = bound.high if self._policy == "latest" else bound.low
        lost = 0
        deleted = not created_again and offset < bound.low
        if created_again:
            what = f"the topic was deleted and created again (offsets {bound.low} to {bound.high} exist now)"
        elif deleted:
            lost = target - offset
            what = f"{bound.low - offset:,} offsets ({offset} to {bound.low - 1}) were deleted before they were read"
            if bound.low - offset == 1:
                what = f"1 offset ({offset}) was deleted before it was read"
        else:
            what = f"the next offset is past the end ({bound.high}): the topic was truncated or created again"
        if self._policy == "stop" or (self._policy == "warn" and not deleted):
            choices = "earliest|latest" if self._policy == "warn" or created_again else "warn|earliest|latest"
            raise KpipeError(f"{what}; go on with --on-gap {choices}", where=at, stage=Stage.READ)
        self.missing += lost
        self.crossed += 1
        self.undecided.add(place)
        self._say(f"read: {at}: {what}; going on at {target} (--on-gap {self._policy})")
        return target

    def facts(self) -> dict[str, object]:
        """What the summary says about them."""
        return {"gaps": self.crossed, "missing": self.missing} if self.crossed else {}

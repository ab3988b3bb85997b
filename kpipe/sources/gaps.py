"""What the log is not, or not any more: records deleted before they were read, topics truncated, deleted, made anew.

It never goes on silently: a gap stops the run, or is told and counted as the policy of `--on-gap` says. What else the
client tells between the records is put in a person's words here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.kafka.diagnosis import denied, plain_reason
from kpipe.kafka.errors import Cause, cause_of, is_gone, is_login, is_unauthorised
from kpipe.sources.selection import where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Message

    from kpipe.kafka.lookups import Bounds
    from kpipe.kafka.topic_ids import TopicIds
    from kpipe.ledger import TopicPartition
    from kpipe.sources.assignment import Assignment
    from kpipe.sources.fetching import Fetching
    from kpipe.sources.selection import Hooks, Selection


class Gaps:
    """The gaps met in a run. `policy` is a choice of --on-gap: stop, warn, earliest, latest.

    `warn` goes on behind records that retention deleted, as `earliest` does, but still stops at a topic that was
    truncated or created again: there, only a person knows where to go on.

    `missing` counts offsets that were skipped unread (an upper bound of records, where compaction or transaction
    markers left holes); `crossed` counts gaps that were passed.
    """

    def __init__(self, policy: str, cluster: str, say: Callable[[str], None]) -> None:
        self.missing = 0
        self.crossed = 0
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
        self._say(f"read: {at}: {what}; going on at {target} (--on-gap {self._policy})")
        return target

    def facts(self) -> dict[str, object]:
        """What the summary says about them."""
        return {"gaps": self.crossed, "missing": self.missing} if self.crossed else {}


class TopicWatch:
    """The topics of one source, as long as it reads them."""

    def __init__(
        self,
        selection: Selection,
        find_bounds: Callable[[Iterable[TopicPartition]], dict[TopicPartition, Bounds]],
        hooks: Hooks,
        ids: TopicIds,
        gaps: Gaps,
        assignment: Assignment,
        *,
        fetching: Fetching,
    ) -> None:
        self.gone: Callable[[list[TopicPartition]], None] = lambda _places: None
        """Who is told of partitions that no longer exist."""
        self._selection = selection
        self._find_bounds = find_bounds
        self._hooks = hooks
        self._ids = ids
        self._gaps = gaps
        self._assignment = assignment
        self._fetching = fetching

    @property
    def knows_topics(self) -> bool:
        """Whether there is anything to compare a topic with."""
        return bool(self._ids.known)

    def look(self) -> None:
        """Once in a while, without waiting. Raises KpipeError when a topic is gone, or is another one.

        Topics that were asked for by name count also without a partition: the group takes a deleted one's away first.
        """
        if time.monotonic() >= self._ids.next_look:
            named = self._ids.known.keys() & set(self._selection.topics)
            self._judge(*self._ids.look(named | {topic for topic, _ in self._assignment.assigned}))

    def check(self, topics: Iterable[str]) -> set[str]:
        """Now; the topics that were created again since they were last read here."""
        again, gone = self._ids.check(topics)
        self._judge(again, gone)
        return again

    def cross_gap(self, place: TopicPartition) -> None:
        """The broker does not have the offset to read next: records were deleted under us, or the topic was cut."""
        if place in self._assignment.assigned:
            self.check([place[0]])
            self._move([place], created_again=False)

    def _judge(self, again: set[str], gone: set[str]) -> None:
        """Topics that are not the ones that were opened: the client would go on silently in the new one."""
        for topic in sorted(gone):
            if topic in self._selection.topics:
                raise KpipeError("the topic was deleted", where=where(self._selection.cluster, topic), stage=Stage.READ)
            self._ids.known.pop(topic, None)
            self.gone([place for place in self._assignment.assigned if place[0] == topic])
        places = sorted(place for place in self._assignment.assigned if place[0] in again)
        if places:
            self._hooks.lost(places)  # offsets of the old topic must not be committed for the new one
            self._move(places, created_again=True)
            self._ids.accept({topic for topic, _ in places})

    def _move(self, places: list[TopicPartition], *, created_again: bool) -> None:
        """Go on where the policy says, if what was to be read next is not there."""
        assignment = self._assignment
        bounds = self._find_bounds(places)
        targets: dict[TopicPartition, int] = {}
        for place, reached in self._fetching.position(places).items():
            offset = reached if reached >= 0 else assignment.progress.starts.get(place, 0)
            if created_again or not bounds[place].low <= offset <= bounds[place].high:
                targets[place] = self._gaps.cross(place, offset, bounds[place], created_again=created_again)
        if targets:
            self._fetching.move(targets, shared=assignment.shared)
        if self._selection.group is not None:
            self._hooks.began(targets)
        for place, offset in targets.items():
            assignment.at_eof.pop(place, None)
            if assignment.is_past(place, offset):
                self._fetching.finish(place)


OTHER_MEMBERS = {
    Cause.NO_GROUP: "it has classic members, and the cluster does not convert it; "
    "join with --group-protocol classic, or stop them first",
    Cause.OTHER_PROTOCOL: "its members use another assignor; "
    "set partition.assignment.strategy as they do, or stop them first",
}
"""Why the coordinator does not let us into a group. It tells a member of the newer protocol (KIP-848) that a group of
the classic one does not exist."""
FATAL_WORDS = {
    "Group authorization failed": Cause.GROUP_DENIED,
    "The group id does not exist": Cause.NO_GROUP,
}
"""What the heartbeat of the newer protocol tells as a fatal error, by its text."""


class Events:
    """The client's events of one source."""

    def __init__(self, selection: Selection, say: Callable[[str], None]) -> None:
        self._selection = selection
        self._say = say
        self._cluster = selection.cluster
        self._group = selection.group

    def explain(self, message: Message) -> KpipeError | None:
        """What a message that is no record means; None when it passes."""
        error: Any = message.error()
        text, cause = str(error.str()), cause_of(error)
        if cause is Cause.FATAL:
            cause = next((found for words, found in FATAL_WORDS.items() if words in text), cause)
        at = self._cluster
        if message.topic() is not None:
            at = where(self._cluster, str(message.topic()), message.partition())
        if cause is Cause.GROUP_DENIED and not self._group:
            return None  # the client looks for its group's coordinator even where there is no group
        if cause is Cause.GROUP_DENIED or is_unauthorised(error):
            group = f"group {self._group}" if cause is Cause.GROUP_DENIED else ""
            return denied(group or f"topic {message.topic() or ''}".strip(), "READ").error(at, Stage.READ)
        if is_login(error):
            return UnreachableError(f"{plain_reason(text)}; check the login", where=at, stage=Stage.READ)
        if is_gone(error):
            return self._explain_gone(message.topic(), at)
        if cause in OTHER_MEMBERS:
            return KpipeError(OTHER_MEMBERS[cause], where=self._selection.group_place, stage=Stage.READ)
        if cause is Cause.POLLED_TOO_LATE:
            self._say(f"read: {at}: {text}; joining the group again")
            return None
        if error.retriable() and not error.fatal():
            return None
        return KpipeError(text, where=at, stage=Stage.READ)

    def _explain_gone(self, topic: str | None, at: str) -> KpipeError | None:
        """A topic that only a pattern meant may go: the others that match are read on."""
        selection = self._selection
        if selection.has_patterns and topic not in selection.topics:
            return None
        return KpipeError("the topic or partition is gone", where=at, stage=Stage.READ)

"""Whether the topics that are read are still those that were opened: one may be deleted, made anew, or cut short.

It moves the reading to where `--on-gap` says, and never goes on silently in another topic of the same name.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage
from kpipe.sources.selection import where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kpipe.flight import TopicPartition
    from kpipe.kafka.lookups import Bounds
    from kpipe.kafka.topic_ids import TopicIds
    from kpipe.sources.assignment import Assignment
    from kpipe.sources.fetching import Fetching
    from kpipe.sources.gaps import Gaps
    from kpipe.sources.selection import Hooks, Selection


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

"""How a reader comes by its partitions: as a member of a consumer group (`subscribe`), or on its own (`assign`).

It commits nothing. Callbacks never raise: an exception in one makes the binding drop records it had fetched. They note
an error instead.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError
from kpipe.sources.offsets import NoAnswer
from kpipe.sources.selection import BEGINNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer
    from confluent_kafka import TopicPartition as ClientPartition

    from kpipe.flight import TopicPartition
    from kpipe.kafka.lookups import Bounds
    from kpipe.sources.assignment import Assignment
    from kpipe.sources.fetching import Fetching
    from kpipe.sources.offsets import OffsetResolver, StartOffsets
    from kpipe.sources.selection import Discovery, Hooks, Selection
    from kpipe.sources.topic_watch import TopicWatch

FIRST_LOOK, REFRESH = 0.05, 1.0
"""Seconds between looks at what the other members have committed, for one that is done: doubled from one to the next.
One that has no partition yet may still be joining, and does not look soon: the answer would wait behind the join."""
SHORT = 0.3
"""Seconds for that answer. While the group is being joined none comes: the broker serves a connection in order, and
the join it holds back (up to a dead member's session timeout) stands before the question."""
PATIENCE = 10.0
"""Seconds without a partition after which a person may wonder."""
JOINING = 0.5
"""Seconds that a member which is still joining waits for the answer, so that it can leave: who leaves before its first
heartbeat is answered stays a member (KIP-848) until its session ends."""
POLL = 0.005
"""Seconds of one poll while leaving: the client does not return from it when it has called back."""


class Membership:
    """One member; `note` keeps an error of a callback for the next read."""

    def __init__(
        self,
        consumer: Consumer,
        selection: Selection,
        resolver: OffsetResolver,
        hooks: Hooks,
        assignment: Assignment,
        fetching: Fetching,
        start_offsets: StartOffsets,
        watch: TopicWatch,
        discovery: Discovery | None,
        note: Callable[[KpipeError], None],
    ) -> None:
        self._consumer = consumer
        self._selection = selection
        self._resolver = resolver
        self._hooks = hooks
        self._assignment = assignment
        self._fetching = fetching
        self._start_offsets = start_offsets
        self._topic_watch = watch
        self._discovery = discovery
        self._note = note
        self._between_looks = REFRESH
        self._next_look = time.monotonic() + REFRESH
        self._patience: float | None = time.monotonic() + PATIENCE
        self._joining = False
        self._leaving = False
        self.is_placed = False
        """Whether the group has given its partitions out, and this member its share, be it none."""
        self._topics: set[str] = set()

    def join(self, places: list[TopicPartition]) -> None:
        """Ask for partitions of these places' topics; they come in a callback of a later poll."""
        self._subscribe(places)

    def look(self) -> None:
        """Topics that a pattern means come and go; added partitions of a topic are the group's to give out."""
        if self._discovery is not None:
            self._discovery.look(self._subscribe)

    def _subscribe(self, places: list[TopicPartition]) -> None:
        """Subscribe to topics by name: what a pattern means is the same with a group and without."""
        topics = {topic for topic, _ in places}
        if topics == self._topics:
            return
        self._topics = topics
        if not topics:
            self._consumer.unsubscribe()
            return
        self._consumer.subscribe(
            sorted(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        self._joining = True

    def drop(self, _places: list[TopicPartition]) -> None:
        """Partitions are gone from the cluster: the group takes them away once nobody asks for their topic."""
        if self._discovery is not None:
            self._discovery.hasten()

    # --- callbacks ---------------------------------------------------------------------------------------------

    def _on_assign(self, _consumer: Consumer, partitions: list[ClientPartition]) -> None:
        self._joining = False
        self.is_placed = True
        try:
            if self._leaving:
                self._take_nothing()
            else:
                self._take_over([(entry.topic, entry.partition) for entry in partitions])
        except KpipeError as error:
            self._note(error)
        except Exception as error:
            self._note(KpipeError(f"cannot take over partitions: {error}", where=self._selection.cluster))

    def _take_nothing(self) -> None:
        """The join came to its end after all: to ask where to begin would wait for a client that is being closed."""
        if self._selection.incremental:
            self._consumer.incremental_assign([])
        else:
            self._consumer.assign([])

    def _take_over(self, places: list[TopicPartition]) -> None:
        again: set[str] = set()
        if self._topic_watch.knows_topics:
            again = self._topic_watch.check({topic for topic, _ in {*self._assignment.assigned, *places}})
        if places:
            self._patience = None
            self._between_looks = FIRST_LOOK
            self._next_look = time.monotonic() + FIRST_LOOK
        bounds = self._resolver.bounds(places)
        starts = self._start_offsets.find(bounds, again)
        self._hooks.began(starts)
        self._assignment.take(starts, bounds)
        self._fetching.assign(starts, shared=True)
        self._assignment.check_finished()

    def _on_revoke(self, _consumer: Consumer, partitions: list[ClientPartition]) -> None:
        self._let_go(partitions, self._hooks.revoked)

    def _on_lost(self, _consumer: Consumer, partitions: list[ClientPartition]) -> None:
        self.is_placed = False
        self._let_go(partitions, self._hooks.lost)

    def _let_go(self, partitions: list[ClientPartition], hook: Callable[[list[TopicPartition]], None]) -> None:
        try:
            places = [(entry.topic, entry.partition) for entry in partitions]
            self._fetching.forget(places)
            try:
                hook(places)
            finally:
                self._assignment.let_go(places)
                self._fetching.unassign(partitions)
        except KpipeError as error:
            self._note(error)
        except Exception as error:
            self._note(KpipeError(f"cannot let partitions go: {error}", where=self._selection.cluster))

    # --- the end -----------------------------------------------------------------------------------------------

    def idle(self) -> None:
        """Look whether the others have committed up to the ends, if the own share is done; say why there is none."""
        now = time.monotonic()
        if self._patience is not None and now >= self._patience:
            self._patience = None
            what = "no partition came yet: other members have them; one that died keeps them until its session ends"
            self._hooks.say(f"read: {self._selection.group_place}: {what}")
        if now >= self._next_look and self._assignment.ends and self._assignment.share_is_done:
            self._between_looks = min(2 * self._between_looks, REFRESH)
            self._next_look = now + self._between_looks
            others = self._assignment.others()
            with suppress(NoAnswer):
                committed = self._start_offsets.find_committed(others, timeout=SHORT)
                self._assignment.finished = all(committed[place][0] >= end for place, end in others.items())

    def close(self, timeout: float) -> None:
        """Leave first, then close: a client that is given partitions while it closes hangs (librdkafka#4527, #4884).

        A static member only closes: to leave would give its partitions away, which a restart must not.
        """
        from confluent_kafka import KafkaException

        self._leaving = True
        if not self._selection.instance:
            deadline = time.monotonic() + timeout
            joined = time.monotonic() + min(JOINING, timeout / 2)
            with suppress(KafkaException):  # a fatal error was told already; the rest is closed all the same
                while self._joining and time.monotonic() < joined:
                    self._consumer.poll(POLL)
                self._consumer.unsubscribe()
                while self._consumer.assignment() and time.monotonic() < deadline:
                    self._consumer.poll(POLL)
        with suppress(KafkaException, RuntimeError):
            self._consumer.close()


class Assigned:
    """A reader on its own; `widened` is told of partitions that are new."""

    def __init__(
        self,
        consumer: Consumer,
        resolver: OffsetResolver,
        hooks: Hooks,
        assignment: Assignment,
        fetching: Fetching,
        discovery: Discovery | None,
        widened: Callable[[list[TopicPartition]], None],
    ) -> None:
        self._consumer = consumer
        self._resolver = resolver
        self._hooks = hooks
        self._assignment = assignment
        self._fetching = fetching
        self._discovery = discovery
        self._widened = widened
        self.is_placed = True

    def start(self, starts: dict[TopicPartition, int], bounds: dict[TopicPartition, Bounds]) -> None:
        """Assign partitions at absolute offsets: OFFSET_BEGINNING costs 500 ms before the first record."""
        self._assignment.take(starts, bounds)
        self._fetching.assign(starts, shared=False)
        self._assignment.check_finished()

    def look(self) -> None:
        """Partitions added while following are read from their beginning: nothing written to them is missed."""
        if self._discovery is not None:
            self._discovery.look(self._widen)

    def _widen(self, places: list[TopicPartition]) -> None:
        topics = {topic for topic, _ in places}
        self.drop([place for place in self._assignment.assigned if place[0] not in topics])
        new = sorted(set(places) - self._assignment.assigned)
        if new:
            self._widened(new)
            bounds = self._resolver.bounds(new)
            starts = self._resolver.starts(BEGINNING, bounds)
            self._hooks.began(starts)
            self.start(starts, bounds)

    def idle(self) -> None:
        """There is nobody else to wait for."""

    def drop(self, places: list[TopicPartition]) -> None:
        """These are gone from the cluster; the others are read on."""
        if places:
            self._hooks.lost(places)
            self._fetching.drop(places)
            self._assignment.let_go(places)
            if self._discovery is not None:
                self._discovery.hasten()

    def close(self, _timeout: float) -> None:
        """There is nothing to leave."""
        from confluent_kafka import KafkaException

        with suppress(KafkaException, RuntimeError):
            self._consumer.close()

"""Opens and closes the client's fetching, partition by partition: assign, pause, go on, go back, go on elsewhere.

It looks at no record. What was fetched and not read yet (a stash, records that are too young) is dropped with its
partition.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError
from kpipe.sources.min_age import MinAge
from kpipe.sources.selection import where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Consumer, Message
    from confluent_kafka import TopicPartition as ClientPartition

    from kpipe.flight import TopicPartition
    from kpipe.sources.assignment import Assignment

BATCH = 500  # messages; 100-500 is the cheapest (325 ns each), 1000 and more lose to cache misses and the collector
WAIT = 0.1  # seconds for the first message
QUIET, LONG_WAIT = 10, 0.2
"""After so many waits for nothing each is so long, in seconds: a signal is answered between two of them, and each turn
costs 0.16 ms. A record ends a wait at once, however long it is."""
JOIN_WAIT, JOIN_GROWTH = 0.01, 1.25
"""The first wait of a member that has no partition yet, in seconds, and by how much the next one is longer, up to WAIT:
the client waits all of it, also when partitions come meanwhile, and a topic with nothing to read ends the run then."""
POLL_EVERY = 1.0
"""Seconds between polls while the sink takes nothing: how long a group may wait for this member's answer."""
MOST_STASHED, MOST_STASHED_BYTES = 64, 4 << 20
"""Records, and bytes of values, that polls may bring until the partitions are paused."""
SEEK_TIMEOUT = 10.0  # seconds


class Fetching:
    """The fetching of one consumer. `incremental`: the group takes and gives partitions one by one (KIP-429)."""

    def __init__(
        self,
        consumer: Consumer,
        assignment: Assignment,
        cluster: str,
        *,
        incremental: bool,
        min_age: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._consumer = consumer
        self._assignment = assignment
        self._cluster = cluster
        self._incremental = incremental
        self._min_age = MinAge(min_age, self.pause, self._go_on) if min_age else None
        self._stash: list[Message] = []
        self._rewinds: dict[TopicPartition, int] = {}
        self._stashed = 0
        self._next_poll: float | None = None
        self._paused = False
        self._join_wait = JOIN_WAIT
        self._vain = 0

    # --- fetching ----------------------------------------------------------------------------------------------

    # Hot path: `make bench` (consume, forward). `consume(n, t)` waits its whole t unless n messages came: two calls.
    def fetch(self, most: int = BATCH) -> list[Message]:
        """What is there already, up to `most` messages; none is a good moment to `wait`."""
        self._next_poll = None
        if self._paused:
            self._resume()
        if self._rewinds:
            self._go_back()
        if self._stash:
            messages, self._stash = self._stash, []
            self._stashed = 0
            return messages
        if self._vain >= QUIET:
            return []
        return self._consumer.consume(most, 0)

    def wait(self) -> list[Message]:
        """The next message, within 0.1 s, or 0.2 s when there was none for a second."""
        if self._assignment.assigned:
            messages = self._consumer.consume(1, LONG_WAIT if self._vain >= QUIET and self._min_age is None else WAIT)
            self._vain = 0 if messages else self._vain + 1
            return messages
        wait, self._join_wait = self._join_wait, min(WAIT, self._join_wait * JOIN_GROWTH)
        return self._consumer.consume(1, wait)

    def sift(self, messages: list[Message]) -> list[Message]:
        """Those that may be read now."""
        if self._rewinds:  # a rebalance in this very call took records back; these are read again
            messages = [m for m in messages if (m.topic(), m.partition()) not in self._rewinds]
        if self._min_age is not None:
            messages = [*self._min_age.release(), *self._min_age.sift(messages)]
        return messages

    @property
    def holds_back(self) -> bool:
        """Whether records are kept until they are old enough."""
        return self._min_age is not None and bool(self._min_age.held)

    def keep_alive(self) -> None:
        """Poll, so that a full sink never costs us our place in the group, and answer to its rebalances.

        A poll brings a record, if there is one; it is kept for the next fetch. Only a wait that has brought many pauses
        the partitions: the client throws away what it has fetched of a paused one, and fetches it again later. Pausing
        at each wait made it fetch 200 MB to forward 10.
        """
        now = self._clock()
        if self._next_poll is None:
            self._next_poll = now + POLL_EVERY
        if not self._paused and now < self._next_poll:
            return
        self._next_poll = now + POLL_EVERY
        if not self._paused and (len(self._stash) >= MOST_STASHED or self._stashed >= MOST_STASHED_BYTES):
            self._paused = True
            self._consumer.pause(self._consumer.assignment())
        message = self._consumer.poll(0)
        if message is not None:
            self._stash.append(message)
            self._stashed += len(message.value() or b"")

    # --- partitions --------------------------------------------------------------------------------------------

    def assign(self, starts: dict[TopicPartition, int], *, shared: bool) -> None:
        """Fetch these partitions from these offsets, but for those that are done.

        A group is given all of them back in the order of its protocol; alone, what is done is not fetched at all.
        """
        from confluent_kafka import TopicPartition

        done = self._assignment.done
        located = [TopicPartition(*place, offset) for place, offset in sorted(starts.items())]
        if not shared:
            located = [entry for entry in located if (entry.topic, entry.partition) not in done]
        if self._incremental or not shared:
            if located or shared:
                self._consumer.incremental_assign(located)
        else:
            self._consumer.assign(located)
        idle = located if self._paused else [entry for entry in located if (entry.topic, entry.partition) in done]
        if idle and shared:
            self._consumer.pause(idle)

    def drop(self, places: Iterable[TopicPartition]) -> None:
        """Stop fetching partitions that are gone, when there is no group that takes them away."""
        from confluent_kafka import TopicPartition

        gone = list(places)
        self.forget(gone)
        self._consumer.incremental_unassign([TopicPartition(*place) for place in gone])

    def unassign(self, partitions: list[ClientPartition]) -> None:
        """Stop fetching what the group takes away."""
        if self._incremental:
            self._consumer.incremental_unassign(partitions)
        else:
            self._consumer.unassign()

    def finish(self, place: TopicPartition) -> None:
        """A partition is read to its end."""
        assignment = self._assignment
        if place in assignment.done:
            return
        assignment.done.add(place)
        self.pause([place])
        assignment.check_finished()

    def pause(self, places: Iterable[TopicPartition]) -> None:
        """Stop fetching these for a while, if they are read here."""
        from confluent_kafka import TopicPartition

        ours = [TopicPartition(*place) for place in places if place in self._assignment.assigned]
        if ours:
            self._consumer.pause(ours)

    def _go_on(self, places: list[TopicPartition]) -> None:
        """These need not be held back any longer."""
        if not self._paused:
            self._resume_these(set(places))

    def _resume(self) -> None:
        self._paused = False
        self._resume_these(self._assignment.assigned - (self._min_age.paused if self._min_age is not None else set()))

    def _resume_these(self, places: set[TopicPartition]) -> None:
        from confluent_kafka import TopicPartition

        going = places & self._assignment.assigned - self._assignment.done
        if going:
            self._consumer.resume([TopicPartition(*place) for place in sorted(going)])

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """What was fetched of these partitions and not read: they went away, or are read again."""
        gone = set(places)
        self._stash = [m for m in self._stash if (m.topic(), m.partition()) not in gone]
        if self._min_age is not None:
            self._min_age.drop(gone)

    # --- elsewhere ---------------------------------------------------------------------------------------------

    def rewind(self, offsets: dict[TopicPartition, int]) -> None:
        """Read again from these offsets. It takes effect at the next fetch: a seek has no place in a callback."""
        self._rewinds.update(offsets)
        self.forget(offsets)

    def _go_back(self) -> None:
        """Kafka does not move a consumer back by itself when a transaction is aborted."""
        from confluent_kafka import TopicPartition

        rewinds = {place: offset for place, offset in self._rewinds.items() if place in self._assignment.assigned}
        self._rewinds = {}
        deadline = time.monotonic() + SEEK_TIMEOUT
        for place, offset in sorted(rewinds.items()):
            self._seek(place, offset, deadline)
        if rewinds:
            self._consumer.resume([TopicPartition(*place) for place in rewinds])

    def _seek(self, place: TopicPartition, offset: int, deadline: float) -> None:
        from confluent_kafka import KafkaException, TopicPartition

        while True:
            try:
                return self._consumer.seek(TopicPartition(*place, offset))
            except KafkaException as error:  # a partition that has just been assigned cannot be moved yet
                if time.monotonic() > deadline:
                    message = f"cannot go back: {error.args[0].str()}"
                    raise KpipeError(message, where=where(self._cluster, *place, offset)) from None
            time.sleep(0.02)

    def position(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset of each; negative before the first record."""
        from confluent_kafka import TopicPartition

        entries = self._consumer.position([TopicPartition(*place) for place in places])
        return {(entry.topic, entry.partition): entry.offset for entry in entries}

    def move(self, targets: dict[TopicPartition, int], *, shared: bool) -> None:
        """Go on at other offsets; a seek is refused once the client has stopped fetching a partition."""
        from confluent_kafka import TopicPartition

        self.forget(targets)
        moved = [TopicPartition(*place, offset) for place, offset in sorted(targets.items())]
        if self._incremental or not shared:
            self._consumer.incremental_unassign([TopicPartition(tp.topic, tp.partition) for tp in moved])
            self._consumer.incremental_assign(moved)
            return
        others = [tp for tp in self._consumer.assignment() if (tp.topic, tp.partition) not in targets]
        self._consumer.assign([*self._consumer.position(others), *moved] if others else moved)
        idle = [TopicPartition(*place) for place in self._assignment.done - targets.keys()]
        if idle:
            self._consumer.pause(idle)

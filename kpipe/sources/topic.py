"""Reads topics of one cluster in batches, within the bounds that were fixed at the start, alone or in a group.

It never commits, never stores offsets, never jumps: where the log was cut under it, it says so and stops.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError
from kpipe.formats.equal_headers import EqualHeaders, as_they_are
from kpipe.formats.header_names import read_headers
from kpipe.kafka.errors import Cause, cause_of
from kpipe.kafka.offsets import Offset, OffsetKind
from kpipe.record import Batch
from kpipe.shutdown import run_bounded
from kpipe.sources.assignment import Assignment
from kpipe.sources.client_events import Events
from kpipe.sources.fetching import BATCH, WAIT, Fetching
from kpipe.sources.gaps import Gaps
from kpipe.sources.membership import Assigned, Membership
from kpipe.sources.offsets import StartOffsets, find_ends
from kpipe.sources.selection import BEGINNING, Discovery, Hooks, Selection, find_places, match_topics
from kpipe.sources.topic_watch import TopicWatch
from kpipe.sources.transactions import OpenTransactions

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

    from kpipe.flight import TopicPartition
    from kpipe.kafka.topic_ids import TopicIds
    from kpipe.pace import Pace
    from kpipe.sources.assignment import Progress
    from kpipe.sources.offsets import OffsetResolver
    from kpipe.sources.transactions import Held

__all__ = ["BEGINNING", "Hooks", "Selection", "TopicSource", "match_topics"]


class TopicSource:
    """Records of one or more topics. Call `open` before the first `read`."""

    def __init__(
        self,
        consumer: Consumer,
        selection: Selection,
        resolver: OffsetResolver,
        hooks: Hooks,
        ids: TopicIds,
        *,
        pace: Pace | None = None,
    ) -> None:
        self.finished = False
        self._pace = pace
        self.cluster = cluster = selection.cluster
        self.ids = ids
        self.gaps = gaps = Gaps(selection.on_gap, cluster, hooks.say)
        self._selection = selection
        self._share = EqualHeaders() if selection.keeps_records else as_they_are
        self._resolver = resolver
        self._hooks = hooks
        self._assignment = assignment = Assignment(bounded=selection.at_end, shared=selection.shared)
        self._fetching = fetching = Fetching(
            consumer, assignment, cluster, incremental=selection.incremental, min_age=selection.min_age
        )
        self._start_offsets = starts = StartOffsets(consumer, selection, resolver, ids, gaps, hooks.say)
        self._topic_watch = watch = TopicWatch(
            selection, resolver.bounds, hooks, ids, gaps, assignment, fetching=fetching
        )
        self._events = Events(selection, hooks.say)
        self._transactions: OpenTransactions | None = None
        if resolver.open_reader is not None:
            self._transactions = OpenTransactions(consumer, cluster, resolver, assignment, hooks.say)
        discovery: Discovery | None = None
        if selection.has_patterns if selection.shared else selection.partitions is None:
            discovery = Discovery(selection, consumer, assignment, starts.known, hooks.say)
        self._subscription: Assigned | Membership
        if selection.shared:
            self._subscription = Membership(
                consumer, selection, resolver, hooks, assignment, fetching, starts, watch, discovery, self._note
            )
        else:
            self._subscription = Assigned(consumer, resolver, hooks, assignment, fetching, discovery, self._widen)
        watch.gone = self._subscription.drop
        self._error: KpipeError | None = None
        self._topic: str | None = None

    # --- opening -----------------------------------------------------------------------------------------------

    def open(self, metadata: Any) -> None:
        """Fix the ends, then join the group or assign the partitions at absolute offsets."""
        places = find_places(self._selection, metadata)
        self._start_offsets.known.update(places)
        names = {topic for topic, _ in places}
        if len(names) == 1 and not self._selection.has_patterns:
            self._topic = names.pop()
        bounds = self._resolver.bounds(places)
        ends, self._assignment.late_end = find_ends(self._selection, self._resolver, bounds, time.time() * 1000)
        self._assignment.fix(ends, bounds)
        if self._transactions is not None:
            self._transactions.expect(
                {place: end for place, end in ends.items() if place in bounds and end == bounds[place].high}
            )
        if isinstance(self._subscription, Membership):
            self._subscription.join(places)
        else:
            starts = self._start_offsets.find(bounds)
            self._hooks.began(starts)
            self._subscription.start(starts, bounds)
            if not self._assignment.ends:
                self.ids.learn(
                    {topic for topic, _ in places}
                )  # before anything is read of a topic that may be made anew
        self._finish()

    def _finish(self) -> None:
        self.finished = self._assignment.finished
        if self.finished:
            self.find_held_back()

    def note(self, topic: str) -> str:
        """What to commit beside a topic's offsets: which topic of that name it is, and how many partitions it had."""
        return self._start_offsets.note(topic)

    def _widen(self, places: list[TopicPartition]) -> None:
        """There are new partitions, maybe of new topics."""
        if {topic for topic, _ in places} != {self._topic}:
            self._topic = None

    def _note(self, error: KpipeError) -> None:
        self._error = error

    # --- reading -----------------------------------------------------------------------------------------------

    # Hot path: `make bench` (consume, forward).
    def read(self) -> Batch | None:
        """Up to 500 records; waits at most 0.2 s for the first."""
        self._topic_watch.look()
        self._subscription.look()
        fetching = self._fetching
        if self._pace is not None:
            return self._read_at_pace(self._pace)
        return self._read(fetching.fetch())

    def _read_at_pace(self, pace: Pace) -> Batch | None:
        """As many as the rate allows now: the rest waits in the client's queue, which a pause would throw away."""
        most, wait = pace.most(BATCH)
        if not most:
            time.sleep(min(WAIT, wait))
            self._fetching.keep_alive()
            return None
        batch = self._read(self._fetching.fetch(most))
        pace.note_read(batch.read if batch is not None else 0)
        return batch

    def _read(self, messages: list[Message]) -> Batch | None:
        fetching = self._fetching
        if not messages and self._error is None and not self._assignment.finished:
            messages = fetching.wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        messages = fetching.sift(messages)
        if self._start_offsets.not_before:
            messages = self._start_offsets.skip(messages)
        batch: Batch | None = None
        if not messages:
            self._look_around()
        elif not [None for message in messages if message.error() is not None]:
            batch = self._to_batch(messages)
        elif records := self._sort_out(messages):
            batch = self._to_batch(records)
        self._finish()
        return batch

    def _to_batch(self, messages: list[Message]) -> Batch | None:
        from confluent_kafka import Message

        columns, ends = self._selection.columns, self._assignment.ends
        if self._topic is None:
            topics: list[Any] = [message.topic() for message in messages]
        else:
            topics = [self._topic] * len(messages)
        batch = Batch(list(map(Message.value, messages)), cluster=self.cluster)
        if "keys" in columns:
            batch.keys = list(map(Message.key, messages))
        if "headers" in columns:
            headers = read_headers(lambda: list(map(Message.headers, messages)))
            batch.headers = self._share(headers) if any(headers) else None
        if "timestamps" in columns:
            batch.timestamps = list(map(Message.timestamp, messages))
        if "positions" in columns or ends:
            batch.topics = topics
            batch.partitions = list(map(Message.partition, messages))
            batch.offsets = list(map(Message.offset, messages))
        if ends:
            for place in self._assignment.cut(batch):
                self._fetching.finish(place)
        self._assignment.progress.count += len(batch)
        return batch if len(batch) else None

    def _sort_out(self, messages: list[Message]) -> list[Message]:
        """Take the client's events out of a batch; raises on those that end the run."""
        records: list[Message] = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
                continue
            place = (str(message.topic()), int(message.partition() or 0))
            cause = cause_of(error)
            if cause is Cause.PARTITION_END:
                if self._assignment.reach(place, int(message.offset() or 0)):
                    self._fetching.finish(place)
            elif cause is Cause.NO_START:
                self._cross_gap(place)
            elif explained := self._events.explain(message):
                if not records:
                    raise explained
                self._error = explained
        return records

    def _cross_gap(self, place: TopicPartition) -> None:
        try:
            self._topic_watch.cross_gap(place)
        except KpipeError as error:
            self._error = error  # after what was read before it

    def _look_around(self) -> None:
        """Things to do when there is nothing to read."""
        if self._transactions is not None:
            self._transactions.look()
        late = self._assignment.late_end
        if late is not None and time.time() * 1000 >= late and not self._fetching.holds_back:
            self._fix_late_ends(late)
        self._subscription.idle()
        if self._selection.idle:
            self._assignment.check_idle(self._selection.idle, time.monotonic(), holds_back=self._fetching.holds_back)

    def _fix_late_ends(self, until_ms: int) -> None:
        assignment = self._assignment
        assignment.late_end = None
        bounds = self._resolver.bounds(assignment.assigned)
        assignment.ends = self._resolver.ends(Offset(OffsetKind.TIME, until_ms), bounds)
        for place, offset in self._fetching.position(assignment.ends).items():
            if assignment.is_past(place, max(offset, assignment.at_eof.get(place, -1))):
                self._fetching.finish(place)
        assignment.check_finished()

    # --- for those who look on ---------------------------------------------------------------------------------

    @property
    def progress(self) -> Progress:
        """How far the reading is."""
        return self._assignment.progress

    def find_held_back(self) -> list[Held]:
        """At the ends that were fixed at the start: what open transactions keep behind them. Each is told."""
        return self._transactions.find_held_back() if self._transactions is not None else []

    @property
    def owned(self) -> set[TopicPartition]:
        """The partitions that are read here now."""
        return self._assignment.assigned

    @property
    def undecided(self) -> set[TopicPartition]:
        """Partitions of which the group does not know yet where this run began; whoever commits one takes it out."""
        return self.gaps.undecided

    @property
    def topics(self) -> tuple[str, ...]:
        """What was asked for, patterns too."""
        return self._selection.topics

    @property
    def is_placed(self) -> bool:
        """Whether it is known which partitions are read here, be it none: a group has given them out."""
        return self._subscription.is_placed

    @property
    def share_is_done(self) -> bool:
        """Whether all that is read here is read to an end that was fixed."""
        return bool(self._assignment.ends) and self._assignment.share_is_done

    @property
    def at_eof(self) -> dict[TopicPartition, int]:
        """Positions behind the last record of idle partitions."""
        return self._assignment.at_eof

    # --- going back, and the end -------------------------------------------------------------------------------

    def rewind(self, offsets: dict[TopicPartition, int], count: int) -> None:
        """Read again from these offsets, `count` records; what was fetched behind them is dropped."""
        self._fetching.rewind(offsets)
        self._assignment.reopen(offsets, count)
        self.finished = False

    def keep_alive(self) -> None:
        """Stay in the group without reading."""
        self._fetching.keep_alive()

    def leave(self) -> None:
        """Nothing to do: records are only taken by `read`."""

    def close(self, timeout: float) -> None:
        """Leave the group and close; a frozen broker does not hold us longer than `timeout` seconds."""
        run_bounded(lambda: self._subscription.close(timeout), timeout)

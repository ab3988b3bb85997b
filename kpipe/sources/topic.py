"""Reads topics of one cluster in batches, within the bounds that were fixed at the start, alone or in a group.

It never commits, never stores offsets, never jumps: where the log was cut under it, it says so and stops.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kpipe.clusters.diagnosis import MOVING, denied, plain_reason
from kpipe.clusters.offsets import Kind, Offset
from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.record import Batch
from kpipe.shutdown import run_bounded
from kpipe.sources.bounds import PAUSE
from kpipe.sources.gaps import Gaps
from kpipe.sources.hold import Hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from confluent_kafka import Consumer, Message
    from confluent_kafka import TopicPartition as ClientPartition

    from kpipe.clusters.client import Troubles
    from kpipe.ledger import TopicPartition
    from kpipe.sources.bounds import Bounds, OffsetResolver
    from kpipe.sources.identity import TopicIds

BATCH = 500  # messages; 100-500 is the cheapest (325 ns each), 1000 and more lose to cache misses and the collector
SEEK_TIMEOUT = 10.0  # seconds
REFRESH = 30.0  # seconds between looks at the metadata for new partitions, when there is no group to be told by
BEGINNING = Offset(Kind.BEGINNING, 0)


class NoAnswer(UnreachableError):
    """The group's coordinator did not say what is committed."""


@dataclass(slots=True, frozen=True)
class Selection:
    """What to read. `topics` may hold `^regex` patterns; `start` and `until` are offset specs.

    `at_end` stops at the end as it was at the start; `partitions` None means all; `columns` are the record fields
    somebody will look at.
    """

    topics: tuple[str, ...]
    start: Offset
    until: Offset | None = None
    at_end: bool = False
    partitions: frozenset[int] | None = None
    group: str | None = None
    incremental: bool = True
    on_gap: str = "stop"
    instance: str = ""
    protocol: str = "auto"
    columns: frozenset[str] = frozenset(("keys", "headers", "timestamps", "positions"))
    min_age: float = 0.0
    """Seconds that a record must be old before it is read."""
    joins: bool = True
    """Whether to join the group; without, its offsets are only looked at."""


@dataclass(slots=True)
class Hooks:
    """What a rebalance must do before partitions go (`revoked`, may drain and commit) or after they went (`lost`).

    `began` is told where each partition of a group starts, `committed` what became of an asynchronous commit.
    """

    began: Callable[[dict[TopicPartition, int]], None] = lambda _starts: None
    revoked: Callable[[list[TopicPartition]], None] = lambda _places: None
    lost: Callable[[list[TopicPartition]], None] = lambda _places: None
    committed: Callable[[Any, list[ClientPartition]], None] = lambda _error, _partitions: None
    say: Callable[[str], None] = lambda _text: None


class TopicSource:
    """Records of one or more topics. Call `open` before the first `read`."""

    def __init__(
        self,
        consumer: Consumer,
        cluster: str,
        troubles: Troubles,
        selection: Selection,
        resolver: OffsetResolver,
        hooks: Hooks,
        ids: TopicIds,
    ) -> None:
        self.finished = False
        self.cluster = cluster
        self.hooks = hooks
        self.ids = ids
        self.gaps = Gaps(selection.on_gap, cluster, hooks.say)
        self.at_eof: dict[TopicPartition, int] = {}
        self.progress = Progress()
        self._consumer = consumer
        self._troubles = troubles
        self._selection = selection
        self._resolver = resolver
        self._ends: dict[TopicPartition, int] = {}
        self._done: set[TopicPartition] = set()
        self._empty: set[TopicPartition] = set()
        self._assigned: set[TopicPartition] = set()
        self._error: KpipeError | None = None
        self._stash: list[Message] = []
        self._rewinds: dict[TopicPartition, int] = {}
        self._paused = False
        self._topic: str | None = None
        self._managed = selection.group is not None and selection.partitions is None and selection.joins
        self._hold = Hold(selection.min_age, self._pause, self._go_on) if selection.min_age else None
        self._until_ms: int | None = None
        self._next_look = time.monotonic() + REFRESH

    # --- opening -----------------------------------------------------------------------------------------------

    def open(self, metadata: Any) -> None:
        """Fix the ends, then join the group or assign the partitions at absolute offsets.

        An assignment at OFFSET_BEGINNING costs 500 ms before the first record; resolved offsets cost one request.
        """
        places = self._select(metadata)
        names = {topic for topic, _ in places}
        if len(names) == 1 and not any(topic.startswith("^") for topic in self._selection.topics):
            self._topic = names.pop()
        bounds = self._resolver.bounds(places)
        self._fix_ends(bounds)
        self._empty = {place for place, bound in bounds.items() if bound.low >= self._ends.get(place, bound.low + 1)}
        if self._managed:
            self._subscribe()
        else:
            self._assign(self._starts(bounds), bounds)

    def _select(self, metadata: Any) -> list[TopicPartition]:
        wanted = self._selection.partitions
        places: list[TopicPartition] = []
        for topic in match_topics(self._selection.topics, metadata.topics):
            if topic not in metadata.topics:  # a second look, and it was deleted meanwhile
                raise KpipeError("the topic is gone", where=f"{self.cluster}:{topic}", stage=Stage.READ)
            present = sorted(metadata.topics[topic].partitions)
            missing = sorted((wanted or frozenset()).difference(present))
            if missing:
                message = f"no partition {missing[0]}; the topic has {len(present)} (0 to {len(present) - 1})"
                raise KpipeError(message, where=f"{self.cluster}:{topic}", stage=Stage.CONFIG)
            places += [(topic, number) for number in present if wanted is None or number in wanted]
        if not places and not self._managed:
            raise KpipeError("no topic matches", where=f"{self.cluster}:{' '.join(self._selection.topics)}")
        return places

    def _fix_ends(self, bounds: dict[TopicPartition, Bounds]) -> None:
        until = self._selection.until
        if until is None:
            if self._selection.at_end:
                self._ends = {place: bound.high for place, bound in bounds.items()}
        elif until.kind is Kind.TIME and until.value > time.time() * 1000 and not self._selection.at_end:
            self._until_ms = until.value
        elif until.kind is Kind.ABSOLUTE and not self._selection.at_end:
            self._ends = dict.fromkeys(bounds, until.value)
        else:
            self._ends = self._resolver.ends(until, bounds)

    def _starts(self, bounds: dict[TopicPartition, Bounds]) -> dict[TopicPartition, int]:
        starts = self._resolver.starts(self._selection.start, bounds)
        if self._selection.group is not None:
            starts.update(self._committed(bounds))
        self.hooks.began(starts)
        return starts

    def _committed(self, bounds: dict[TopicPartition, Bounds]) -> dict[TopicPartition, int]:
        """Committed offsets of the group that still exist; a gap between them and the log is never passed silently."""
        self.ids.learn({topic for topic, _ in bounds})
        answers = self._ask_committed(bounds)
        found: dict[TopicPartition, int] = {}
        for place, (offset, metadata) in answers.items():
            bound = bounds[place]
            created_again = self.ids.contradicts(place[0], metadata)
            if offset < 0 or (bound.low <= offset <= bound.high and not created_again):
                found[place] = offset
            else:
                found[place] = self.gaps.cross(place, offset, bound, created_again=created_again)
        return {place: offset for place, offset in found.items() if offset >= 0}

    def _ask_committed(
        self, places: Iterable[TopicPartition], timeout: float = 10.0
    ) -> dict[TopicPartition, tuple[int, str]]:
        """Per partition the committed offset (negative: none) and what was committed beside it."""
        from confluent_kafka import KafkaException, TopicPartition

        asked = [TopicPartition(topic, partition) for topic, partition in places]
        deadline = time.monotonic() + timeout
        while True:
            try:
                left = max(0.1, deadline - time.monotonic())
                answers = self._consumer.committed(asked, timeout=left) if asked else []
                break
            except KafkaException as error:
                if error.args[0].name() not in MOVING or time.monotonic() >= deadline:
                    raise self._group_error(error.args[0]) from None
            time.sleep(PAUSE)
        for answer in answers:
            if answer.error is not None:
                raise self._group_error(answer.error)
        return {(answer.topic, answer.partition): (answer.offset, answer.metadata or "") for answer in answers}

    def _group_error(self, error: Any) -> KpipeError:
        where = f"{self.cluster}: group {self._selection.group}" if self.cluster else f"group {self._selection.group}"
        if "AUTHORIZATION" in error.name():
            return denied(f"group {self._selection.group}", "READ").error(where, Stage.READ)
        return NoAnswer(f"cannot read the group's offsets: {error.str()}; try again", where=where)

    def _assign(self, starts: dict[TopicPartition, int], bounds: dict[TopicPartition, Bounds]) -> None:
        from confluent_kafka import TopicPartition

        self._done |= {place for place in starts if self._is_past(place, starts[place])}
        self._assigned |= set(starts)
        self.progress.start(starts, self._ends, bounds)
        todo = [TopicPartition(t, p, starts[t, p]) for t, p in sorted(starts) if (t, p) not in self._done]
        if todo:
            self._consumer.incremental_assign(todo)
        self._check_finished()

    def _is_past(self, place: TopicPartition, offset: int) -> bool:
        return place in self._ends and offset >= self._ends[place]

    def _check_finished(self) -> None:
        """A member of a group is not finished with its own partitions: another one may be dead and hold the rest."""
        if (self._ends or self._selection.at_end) and self._assigned <= self._done and not self._until_ms:
            self.finished = not self._managed or self._ends.keys() <= self._done | self._empty

    # --- group membership --------------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            list(self._selection.topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def _on_assign(self, _consumer: Consumer, partitions: list[ClientPartition]) -> None:
        """Callbacks never raise: an exception in one makes the binding drop records it had fetched."""
        try:
            self._take_over([(entry.topic, entry.partition) for entry in partitions])
        except KpipeError as error:
            self._error = error
        except Exception as error:
            self._error = KpipeError(f"cannot take over partitions: {error}", where=self.cluster)

    def _take_over(self, places: list[TopicPartition]) -> None:
        from confluent_kafka import TopicPartition

        if self.ids.known:
            self._judge_topics(self.ids.check({topic for topic, _ in {*self._assigned, *places}}))
        bounds = self._resolver.bounds(places)
        for place in places:
            if place not in self._ends and self._selection.at_end:
                self._ends[place] = bounds[place].high
        starts = self._starts(bounds)
        self._done -= set(places)
        self._done |= {place for place in places if self._is_past(place, starts[place])}
        self._assigned |= set(places)
        self.progress.start(starts, self._ends, bounds)
        located = [TopicPartition(t, p, starts[t, p]) for t, p in places]
        if self._selection.incremental:
            self._consumer.incremental_assign(located)
        else:
            self._consumer.assign(located)
        idle = located if self._paused else [tp for tp in located if (tp.topic, tp.partition) in self._done]
        if idle:
            self._consumer.pause(idle)
        self._check_finished()

    def _on_revoke(self, _consumer: Consumer, partitions: list[ClientPartition]) -> None:
        self._let_go(partitions, self.hooks.revoked)

    def _on_lost(self, _consumer: Consumer, partitions: list[ClientPartition]) -> None:
        self._let_go(partitions, self.hooks.lost)

    def _let_go(self, partitions: list[ClientPartition], hook: Callable[[list[TopicPartition]], None]) -> None:
        try:
            places = [(entry.topic, entry.partition) for entry in partitions]
            self._forget_fetched(places)
            hook(places)
            self._assigned -= set(places)
            self._done -= set(places)
            for place in places:
                self.at_eof.pop(place, None)
                self.progress.forget(place)
            if self._selection.incremental:
                self._consumer.incremental_unassign(partitions)
            else:
                self._consumer.unassign()
        except KpipeError as error:
            self._error = error
        except Exception as error:
            self._error = KpipeError(f"cannot let partitions go: {error}", where=self.cluster)

    # --- reading -----------------------------------------------------------------------------------------------

    # Hot path: `make bench` (consume, forward). `consume(n, t)` waits its whole t unless n messages came: two calls.
    def read(self) -> Batch | None:
        """Up to 500 records; waits at most 0.1 s for the first."""
        if self._paused:
            self._resume()
        self._watch_topics()
        if self._rewinds:
            self._go_back()
        messages = self._stash or self._consumer.consume(BATCH, 0) or self._consumer.consume(1, 0.1)
        if self._stash:
            self._stash = []
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._rewinds:  # a rebalance in this very call took records back; these are read again
            messages = [m for m in messages if (m.topic(), m.partition()) not in self._rewinds]
        if self._hold is not None:
            messages = [*self._hold.release(), *self._hold.sift(messages)]
        if not messages:
            self._look_around()
            return None
        if [None for message in messages if message.error() is not None]:
            messages = self._sort_out(messages)
            if not messages:
                return None
        return self._to_batch(messages)

    def _to_batch(self, messages: list[Message]) -> Batch | None:
        from confluent_kafka import Message

        columns = self._selection.columns
        if self._topic is None:
            topics: list[Any] = [message.topic() for message in messages]
        else:
            topics = [self._topic] * len(messages)
        positions = "positions" in columns or self._ends
        batch = Batch(list(map(Message.value, messages)), cluster=self.cluster)
        if "keys" in columns:
            batch.keys = list(map(Message.key, messages))
        if "headers" in columns:
            headers: list[Any] = list(map(Message.headers, messages))
            batch.headers = headers if any(headers) else None
        if "timestamps" in columns:
            batch.timestamps = list(map(Message.timestamp, messages))
        if positions:
            batch.topics = topics
            batch.partitions = list(map(Message.partition, messages))
            batch.offsets = list(map(Message.offset, messages))
            if self._ends:
                return self._within_ends(batch)
        self.progress.count += len(messages)
        return batch

    def _within_ends(self, batch: Batch) -> Batch | None:
        """Cut off what lies past an end; such records were not read as far as anyone is concerned."""
        topics, partitions, offsets = batch.topics or [], batch.partitions or [], batch.offsets or []
        last = dict(zip(zip(topics, partitions, strict=True), offsets, strict=True))
        over = False
        for place, offset in last.items():
            end = self._ends.get(place)  # type: ignore[arg-type]
            if end is not None and offset >= end - 1:  # type: ignore[operator]
                over = over or offset >= end  # type: ignore[operator]
                self._finish_partition(place)  # type: ignore[arg-type]
        if over:
            places = zip(topics, partitions, offsets, strict=True)
            far = 1 << 63
            batch.keep([offset < self._ends.get((topic, number), far) for topic, number, offset in places])  # type: ignore[operator,arg-type]
            batch.index, batch.read = None, len(batch)
        self.progress.count += len(batch)
        return batch if len(batch) else None

    def _finish_partition(self, place: TopicPartition) -> None:
        if place in self._done:
            return
        from confluent_kafka import TopicPartition

        self._done.add(place)
        if place in self._assigned:
            self._consumer.pause([TopicPartition(*place)])
        self._check_finished()

    def _sort_out(self, messages: list[Message]) -> list[Message]:
        """Take the client's events out of a batch; raises on those that end the run."""
        records: list[Message] = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.name() == "_PARTITION_EOF":
                place = (str(message.topic()), int(message.partition() or 0))
                reached = int(message.offset() or 0)
                self.at_eof[place] = min(reached, self._ends.get(place, reached))
                if self._is_past(place, reached):
                    self._finish_partition(place)
            elif error.name() == "_AUTO_OFFSET_RESET":
                self._cross_running_gap((str(message.topic()), int(message.partition() or 0)))
            elif records:
                self._error = self._explain(message)
            else:
                self._raise_unless_passing(message)
        return records

    def _cross_running_gap(self, place: TopicPartition) -> None:
        """The broker does not have the offset to read next: records were deleted under us, or the topic was cut."""
        try:
            if place in self._assigned:
                self._judge_topics(self.ids.check([place[0]]))
                self._move([place], created_again=False)
        except KpipeError as error:
            self._error = error

    def _watch_topics(self) -> None:
        if time.monotonic() >= self.ids.next_look:
            self._judge_topics(self.ids.look({topic for topic, _ in self._assigned}))

    def _judge_topics(self, changed: tuple[set[str], set[str]]) -> None:
        """Topics that are not the ones that were opened: the client would go on silently in the new one."""
        again, gone = changed
        for topic in sorted(gone):
            raise KpipeError("the topic was deleted", where=f"{self.cluster}:{topic}", stage=Stage.READ)
        if again:
            places = sorted(place for place in self._assigned if place[0] in again)
            self.hooks.lost(places)  # offsets of the old topic must not be committed for the new one
            self._move(places, created_again=True)
            self.ids.accept(again)

    def _move(self, places: list[TopicPartition], *, created_again: bool) -> None:
        """Go on where the policy says, if what was to be read next is not there."""
        from confluent_kafka import TopicPartition as Asked

        bounds = self._resolver.bounds(places)
        positions = self._consumer.position([Asked(*place) for place in places])
        reached = {(entry.topic, entry.partition): entry.offset for entry in positions}
        targets: dict[TopicPartition, int] = {}
        for place in places:
            offset = reached[place] if reached[place] >= 0 else self.progress.starts.get(place, 0)
            if created_again or not bounds[place].low <= offset <= bounds[place].high:
                targets[place] = self.gaps.cross(place, offset, bounds[place], created_again=created_again)
        moved = [Asked(topic, partition, offset) for (topic, partition), offset in sorted(targets.items())]
        if moved:
            self._forget_fetched(targets)
            self._assign_anew(moved)
        if self._selection.group is not None:
            self.hooks.began(targets)
        for place, offset in targets.items():
            self.at_eof.pop(place, None)
            if self._is_past(place, offset):
                self._finish_partition(place)

    def _assign_anew(self, moved: list[ClientPartition]) -> None:
        """Let these partitions go on at other offsets; a seek is refused once the client has stopped fetching them."""
        from confluent_kafka import TopicPartition

        if self._selection.incremental or not self._managed:
            self._consumer.incremental_unassign([TopicPartition(tp.topic, tp.partition) for tp in moved])
            self._consumer.incremental_assign(moved)
        else:
            places = {(tp.topic, tp.partition) for tp in moved}
            others = [tp for tp in self._consumer.assignment() if (tp.topic, tp.partition) not in places]
            self._consumer.assign([*self._consumer.position(others), *moved] if others else moved)
            idle = [TopicPartition(*place) for place in self._done - places]
            if idle:
                self._consumer.pause(idle)

    def _raise_unless_passing(self, message: Message) -> None:
        error = self._explain(message)
        if error is not None:
            raise error

    def _explain(self, message: Message) -> KpipeError | None:
        error: Any = message.error()
        name, text = str(error.name()), str(error.str())
        if name == "_FATAL" and "Group authorization failed" in text:
            name = "GROUP_AUTHORIZATION_FAILED"  # as the heartbeat of the newer protocol (KIP-848) tells it
        where = self.cluster
        if message.topic() is not None:
            where = f"{self.cluster}:{message.topic()}[{message.partition()}]"
        if name == "GROUP_AUTHORIZATION_FAILED" and self._selection.group is None:
            return None  # the client looks for its group's coordinator even where there is no group
        if "AUTHORIZATION" in name:
            group = f"group {self._selection.group}" if name.startswith("GROUP") else ""
            return denied(group or f"topic {message.topic() or ''}".strip(), "READ").error(where, Stage.READ)
        if "AUTHENTICATION" in name:
            return UnreachableError(f"{plain_reason(text)}; check the login", where=where, stage=Stage.READ)
        if name in ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION"):
            return KpipeError("the topic or partition is gone", where=where, stage=Stage.READ)
        if name == "_MAX_POLL_EXCEEDED":
            self.hooks.say(f"read: {where}: {text}; joining the group again")
            return None
        if error.retriable() and not error.fatal():
            return None
        return KpipeError(text, where=where, stage=Stage.READ)

    def _look_around(self) -> None:
        """Things to do when there is nothing to read."""
        holding = self._hold is not None and self._hold.held
        if self._until_ms is not None and time.time() * 1000 >= self._until_ms and not holding:
            self._fix_late_ends(self._until_ms)
        if self._managed and self._ends and self._assigned <= self._done and self._is_due(1.0):
            self.finished = self._others_have_finished()
        if not self._managed and not self._ends and self._selection.partitions is None and self._is_due(REFRESH):
            self._find_new_partitions()

    def _others_have_finished(self) -> bool:
        """Whether the group's other members have committed up to the ends, for a member whose own share is done.

        While the group is being joined no answer comes: the broker serves a connection in order, and the join it holds
        back (up to a dead member's session timeout) stands before the question.
        """
        try:
            others = {p: end for p, end in self._ends.items() if p not in self._done and p not in self._empty}
            committed = self._ask_committed(others, timeout=0.3)
        except NoAnswer:
            return False
        return all(committed[place][0] >= end for place, end in others.items())

    def _is_due(self, interval: float) -> bool:
        if time.monotonic() < self._next_look - REFRESH + interval:
            return False
        self._next_look = time.monotonic() + REFRESH
        return True

    def _fix_late_ends(self, until_ms: int) -> None:
        from confluent_kafka import TopicPartition

        self._until_ms = None
        bounds = self._resolver.bounds(self._assigned)
        self._ends = self._resolver.ends(Offset(Kind.TIME, until_ms), bounds)
        asked = [TopicPartition(*place) for place in self._ends]
        for entry in self._consumer.position(asked):
            place = (entry.topic, entry.partition)
            if self._is_past(place, max(entry.offset, self.at_eof.get(place, -1))):
                self._finish_partition(place)
        self._check_finished()

    def _find_new_partitions(self) -> None:
        """Partitions added while following are read from their beginning: nothing written to them is missed."""
        from confluent_kafka import KafkaException

        try:
            metadata = self._consumer.list_topics(timeout=1.0)
            new = set(self._select(metadata)) - self._assigned
            if new:
                self._topic = self._topic if {topic for topic, _ in new} == {self._topic} else None
                bounds = self._resolver.bounds(sorted(new))
                self._assign(self._resolver.starts(BEGINNING, bounds), bounds)
        except (KafkaException, KpipeError):
            return  # looked at again; what is assigned goes on

    # --- going back --------------------------------------------------------------------------------------------

    @property
    def owned(self) -> set[TopicPartition]:
        """The partitions that are read here now."""
        return self._assigned

    def rewind(self, offsets: dict[TopicPartition, int], count: int) -> None:
        """Read again from these offsets, `count` records; what was fetched behind them is dropped.

        It takes effect at the next read: a seek has no place in a rebalance callback.
        """
        self._rewinds.update(offsets)
        self._forget_fetched(offsets)
        self._done -= set(offsets)
        for place in offsets:
            self.at_eof.pop(place, None)
        self.progress.count -= count
        self.finished = False

    def _go_back(self) -> None:
        """Kafka does not move a consumer back by itself when a transaction is aborted."""
        from confluent_kafka import KafkaException, TopicPartition

        rewinds = {place: offset for place, offset in self._rewinds.items() if place in self._assigned}
        self._rewinds = {}
        deadline = time.monotonic() + SEEK_TIMEOUT
        for (topic, partition), offset in sorted(rewinds.items()):
            while True:
                try:
                    self._consumer.seek(TopicPartition(topic, partition, offset))
                    break
                except KafkaException as error:  # a partition that has just been assigned cannot be moved yet
                    if time.monotonic() > deadline:
                        where = f"{self.cluster}:{topic}[{partition}]@{offset}"
                        raise KpipeError(f"cannot go back: {error.args[0].str()}", where=where) from None
                    time.sleep(0.02)
        if rewinds:
            self._consumer.resume([TopicPartition(*place) for place in rewinds])

    # --- backpressure and the end ------------------------------------------------------------------------------

    def keep_alive(self) -> None:
        """Pause what is assigned and poll, so that a full sink never costs us our place in the group.

        `max.poll.interval.ms` (5 min) would; prefetched data of paused partitions is fetched again later.
        """
        if not self._paused:
            self._paused = True
            self._consumer.pause(self._consumer.assignment())
        message = self._consumer.poll(0)
        if message is not None:
            self._stash.append(message)

    def _resume(self) -> None:
        from confluent_kafka import TopicPartition

        self._paused = False
        held = set(self._hold.held) if self._hold is not None else set()
        going = [TopicPartition(*place) for place in sorted(self._assigned - self._done - held)]
        if going:
            self._consumer.resume(going)

    def _pause(self, places: list[TopicPartition]) -> None:
        from confluent_kafka import TopicPartition as Asked

        self._consumer.pause([Asked(*place) for place in places if place in self._assigned])

    def _go_on(self, places: list[TopicPartition]) -> None:
        from confluent_kafka import TopicPartition as Asked

        going = [Asked(*place) for place in places if place in self._assigned - self._done]
        if going and not self._paused:
            self._consumer.resume(going)

    def _forget_fetched(self, places: Iterable[TopicPartition]) -> None:
        """What was fetched of these partitions and not read: they went away, or are read again."""
        gone = set(places)
        self._stash = [m for m in self._stash if (m.topic(), m.partition()) not in gone]
        if self._hold is not None:
            self._hold.drop(gone)

    def leave(self) -> None:
        """Nothing to do: records are only taken by `read`."""

    def close(self, timeout: float) -> None:
        """Leave the group and close; a frozen broker does not hold us longer than `timeout` seconds."""
        run_bounded(lambda: self._leave_and_close(timeout), timeout)

    def _leave_and_close(self, timeout: float) -> None:
        """Leave first, then close: a client that is given partitions while it closes hangs (librdkafka#4527, #4884).

        A static member only closes: to leave would give its partitions away, which a restart must not.
        """
        from confluent_kafka import KafkaException

        if self._managed and not self._selection.instance:
            deadline = time.monotonic() + timeout
            with suppress(KafkaException):  # a fatal error was told already; the rest is closed all the same
                self._consumer.unsubscribe()
                while self._consumer.assignment() and time.monotonic() < deadline:
                    self._consumer.poll(0.05)
        with suppress(KafkaException, RuntimeError):
            self._consumer.close()


@dataclass(slots=True)
class Progress:
    """How far the reading is: records read, and where each partition began and ends."""

    count: int = 0
    starts: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)

    def start(
        self,
        starts: dict[TopicPartition, int],
        ends: dict[TopicPartition, int],
        bounds: dict[TopicPartition, Bounds],
    ) -> None:
        """Note where partitions begin, and their end when it is known."""
        self.starts.update(starts)
        self.ends.update({place: ends.get(place, bounds[place].high) for place in starts if place in bounds})

    def forget(self, place: TopicPartition) -> None:
        """A partition went to another member."""
        self.starts.pop(place, None)
        self.ends.pop(place, None)

    def expected(self) -> int:
        """Offsets between start and end: an upper bound of records, for compaction and markers leave holes."""
        return sum(max(0, end - self.starts.get(place, end)) for place, end in self.ends.items())


def match_topics(wanted: Sequence[str], known: Iterable[str]) -> list[str]:
    """The topics meant by names and `^regex` patterns, without the cluster's internal ones for a pattern."""
    names = sorted(known)
    found: list[str] = []
    for topic in wanted:
        if topic.startswith("^"):
            pattern = re.compile(topic)
            found += [name for name in names if pattern.search(name) and not name.startswith("__")]
        else:
            found.append(topic)
    return list(dict.fromkeys(found))

"""Leaves out records that are in the target already, as their trace headers there say (`--resume-by-trace`).

It never trusts a highest offset: with several target partitions the records behind a lost one may have landed, so what
is left out is a set, and holes are filled.

How far back the target must be read is proven, not guessed. The set only has to hold offsets from the group's committed
one on. With every commit goes the `floor`: positions in the target before which no such record can be. At first it is
where one was found, or the end that was looked at; later it is the end of each target partition at a moment, once all
that was read before that moment is committed: the rest was sent later, and lies behind it. Without a floor (no group,
or commits of another tool) the target is read from its beginning, up to a limit.
"""

from __future__ import annotations

import time
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Protocol

from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.formats.header_names import read_headers
from kpipe.kafka.errors import PARTITION_END
from kpipe.shutdown import run_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from confluent_kafka import Consumer

    from kpipe.ledger import Ledger, TopicPartition
    from kpipe.record import Batch

PAGE = 8192
"""Offsets per page of a set: 1 KiB of bits, made only where there are any."""

INTERVAL = 10.0
"""Seconds between moments that may become a floor: what a restart reads of the target is about twice that."""

SILENCE = 30.0
"""Seconds without a record after which reading the target's tail is given up."""

_HEADERS = methodcaller("headers")

ANSWER, SLICE, CLOSING, LEAST = 10.0, 0.5, 2.0, 0.1
"""Seconds for an answer of the target's cluster, for one question, for a goodbye, and for each when time is used up."""

MARK = "tail="
MAX_METADATA = 4000
"""Bytes of a commit's metadata: brokers take 4096 (offset.metadata.max.bytes)."""


class OffsetSet:
    """Offsets of one partition, one bit each."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self.highest = -1

    def add(self, offset: int) -> None:
        """Put an offset in."""
        page, bit = divmod(offset, PAGE)
        if page not in self._pages:
            self._pages[page] = bytearray(PAGE // 8)
        self._pages[page][bit >> 3] |= 1 << (bit & 7)
        self.highest = max(self.highest, offset)

    def __contains__(self, offset: int) -> bool:
        page, bit = divmod(offset, PAGE)
        held = self._pages.get(page)
        return held is not None and bool(held[bit >> 3] & (1 << (bit & 7)))


class TargetTail:
    """Reads the end of the target topic; `open_consumer` gives a consumer for an isolation level."""

    def __init__(
        self,
        topic: str,
        where: str,
        open_consumer: Callable[[str], Consumer],
        limit: int,
        stopped: Callable[[], bool],
        remaining: Callable[[float], float] = lambda otherwise: otherwise,
    ) -> None:
        self.topic = topic
        self.where = where
        self._open_consumer = open_consumer
        self._limit = limit
        self._stopped = stopped
        self._remaining = remaining
        self._asking: Consumer | None = None

    def ends(self, timeout: float = ANSWER) -> dict[int, int]:
        """The end of each partition, open transactions included. UnreachableError after `timeout` seconds."""
        return {partition: high for partition, (_, high) in self._bounds(timeout).items()}

    def _bounds(self, timeout: float = ANSWER) -> dict[int, tuple[int, int]]:
        from confluent_kafka import KafkaException, TopicPartition

        if self._asking is None:
            self._asking = self._open_consumer("read_uncommitted")
        try:
            deadline = time.monotonic() + timeout
            found = self._asking.list_topics(self.topic, timeout=self._left(deadline))
            places = [
                TopicPartition(self.topic, partition) for partition in sorted(found.topics[self.topic].partitions)
            ]
            return {
                place.partition: self._asking.get_watermark_offsets(place, timeout=self._left(deadline)) or (0, 0)
                for place in places
            }
        except KafkaException as error:
            message = f"cannot find the end of the target: {error.args[0].str()}; try again"
            raise UnreachableError(message, where=self.where, stage=Stage.READ) from None

    def _left(self, deadline: float) -> float:
        """Seconds for one answer, which the deadline of a signal leaves to it, too."""
        return max(LEAST, self._remaining(deadline - time.monotonic()))

    def search(
        self, floors: Mapping[int, int], take: Callable[[list[Any]], None]
    ) -> Generator[None, None, dict[int, int]]:
        """Give every committed record behind the floors to `take`; returns the ends up to which it has looked.

        It yields every 0.1 to 0.5 s, so that the reader of the sources stays in its group meanwhile.
        """
        bounds = yield from self._find_bounds()
        starts = {p: min(max(floors.get(p, 0), low), high) for p, (low, high) in bounds.items()}
        todo = {p: bounds[p][1] for p, start in starts.items() if start < bounds[p][1]}
        count = sum(high - starts[p] for p, high in todo.items())
        if count > self._limit:
            what = f"{count:,} records would have to be read to know what is there already"
            advice = f"raise --resume-limit ({self._limit:,}), or commit with -G so that the next start needs less"
            raise KpipeError(f"{what}; {advice}", where=self.where, stage=Stage.READ)
        if todo:
            yield from self._read_to_ends(starts, todo, take)
        return {partition: high for partition, (_, high) in bounds.items()}

    def _find_bounds(self) -> Generator[None, None, dict[int, tuple[int, int]]]:
        from confluent_kafka import TopicPartition

        if self._asking is None:
            self._asking = self._open_consumer("read_uncommitted")
        asking, deadline = self._asking, time.monotonic() + ANSWER
        found = yield from self._ask(lambda: asking.list_topics(self.topic, timeout=SLICE), deadline)
        bounds: dict[int, tuple[int, int]] = {}
        for partition in sorted(found.topics[self.topic].partitions):
            place = TopicPartition(self.topic, partition)
            known = yield from self._ask(partial(asking.get_watermark_offsets, place, timeout=SLICE), deadline)
            bounds[partition] = known or (0, 0)
        return bounds

    def _ask(self, question: Callable[[], Any], deadline: float) -> Generator[None, None, Any]:
        """The answer to a question of half a second that is asked until the deadline."""
        from confluent_kafka import KafkaException

        while True:
            try:
                return question()
            except KafkaException as error:
                if time.monotonic() >= deadline or self._stopped():
                    message = f"cannot find the end of the target: {error.args[0].str()}; try again"
                    raise UnreachableError(message, where=self.where, stage=Stage.READ) from None
            yield

    def _read_to_ends(
        self, starts: Mapping[int, int], todo: dict[int, int], take: Callable[[list[Any]], None]
    ) -> Generator[None, None, None]:
        from confluent_kafka import TopicPartition

        consumer = self._open_consumer("read_committed")
        try:
            consumer.assign([TopicPartition(self.topic, p, starts[p]) for p in todo])
            deadline = time.monotonic() + SILENCE
            while todo:
                messages = consumer.consume(500, 0) or consumer.consume(1, 0.1)
                if messages:
                    deadline = time.monotonic() + SILENCE
                if time.monotonic() > deadline:
                    what = (
                        "the end of the target was not reached; is a transaction open there? wait for it, or abort it"
                    )
                    raise UnreachableError(what, where=self.where, stage=Stage.READ)
                take([message for message in messages if message.error() is None])
                self._cross_off(messages, todo)
                yield
        finally:
            run_bounded(consumer.close, max(LEAST, self._remaining(CLOSING)))

    def _cross_off(self, messages: Sequence[Any], todo: dict[int, int]) -> None:
        """Partitions whose end was reached; one that ends with transaction markers only says so itself."""
        for message in messages:
            error = message.error()
            if error is not None and error.name() != PARTITION_END:
                if error.retriable():
                    continue
                raise UnreachableError(error.str(), where=self.where, stage=Stage.READ)
            reached = message.offset() + (error is None)
            if reached >= todo.get(message.partition(), reached + 1):
                todo.pop(message.partition(), None)

    def close(self) -> None:
        """Let go of the target."""
        if self._asking is not None:
            run_bounded(self._asking.close, max(LEAST, self._remaining(CLOSING)))
            self._asking = None


class Resume:
    """The stage that leaves out what is there, and the floor that makes the next start cheap.

    `committed_with` gives the metadata that partitions were committed with. `skipped` counts records left out.
    `there_at_start`: the partitions of the source, and the target's ends as they were before that was asked.
    """

    def __init__(
        self,
        tail: TargetTail,
        cluster_id: str,
        target_id: str,
        committed_with: Callable[[Iterable[TopicPartition]], Mapping[TopicPartition, str]],
        *,
        prefix: str = "",
        clock: Callable[[], float] = time.monotonic,
        there_at_start: tuple[frozenset[TopicPartition], dict[int, int]] | None = None,
    ) -> None:
        self.skipped = 0
        self._tail = tail
        self._cluster = cluster_id.encode()
        self._mark = f"{MARK}{target_id}/{tail.topic}/"
        self._committed_with = committed_with
        self._names = tuple(
            prefix + name for name in ("source_cluster", "source_topic", "source_partition", "source_offset")
        )
        self._clock = clock
        self._there: dict[TopicPartition, OffsetSet] = {}
        self._floors: dict[TopicPartition, dict[int, int]] = {}
        self._candidate: tuple[int, dict[int, int]] | None = None
        self._due = clock() + INTERVAL
        self._searches: list[Generator[None, None, None]] = []
        self._sought: set[TopicPartition] = set()
        self._there_at_start = there_at_start

    # --- what is there -----------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether it is still being found out what is there: until then, nothing that was read may go on."""
        return bool(self._searches)

    def look(self, starts: Mapping[TopicPartition, int]) -> None:
        """Partitions begin at these offsets: which of the records from there on are in the target, `step` finds out.

        A member that is given no partition has nothing to look for. Called in a rebalance, so it reads nothing itself.
        """
        if not starts:
            return
        notes = self._committed_with(starts)
        floors = {place: self._floor_of(place, notes.get(place, "")) for place in starts}
        self._sought.update(starts)
        for place in starts:
            self._there[place] = OffsetSet()
        known = [floor for floor in floors.values() if floor is not None]
        lowest: dict[int, int] = {}
        if known and len(known) == len(floors):
            lowest = {p: min(floor.get(p, 0) for floor in known) for p in set().union(*known)}
        self._searches.append(self._search(dict(starts), lowest))

    def _floor_of(self, place: TopicPartition, metadata: str) -> dict[int, int] | None:
        """Of a partition that was added since the start nothing lies before the end that the target had then."""
        floor = self._parse(metadata)
        if floor is None and self._there_at_start is not None and place not in self._there_at_start[0]:
            return self._there_at_start[1]
        return floor

    def step(self) -> None:
        """Look a little further, for half a second at most. Raises KpipeError."""
        try:
            next(self._searches[0])
        except StopIteration:
            self._searches.pop(0)

    def _search(self, starts: dict[TopicPartition, int], lowest: dict[int, int]) -> Generator[None, None, None]:
        wanted = {(topic.encode(), b"%d" % partition): (topic, partition) for topic, partition in starts}
        firsts: dict[TopicPartition, dict[int, int]] = {place: {} for place in starts}
        ends = yield from self._tail.search(lowest, lambda messages: self._take(messages, wanted, starts, firsts))
        for place in self._sought.intersection(starts):
            if self._there[place].highest < 0:
                del self._there[place]
            self._floors[place] = {**ends, **firsts[place]}
        self._sought.difference_update(starts)
        self._candidate = None

    def _take(
        self,
        messages: list[Any],
        wanted: Mapping[tuple[bytes, bytes], TopicPartition],
        starts: Mapping[TopicPartition, int],
        firsts: Mapping[TopicPartition, dict[int, int]],
    ) -> None:
        cluster_name, topic_name, partition_name, offset_name = self._names
        carried = read_headers(lambda: list(map(_HEADERS, messages)))
        for message, headers in zip(messages, carried, strict=True):
            known = dict(headers or ())
            if known.get(cluster_name) != self._cluster:
                continue
            place = wanted.get((known.get(topic_name) or b"", known.get(partition_name) or b""))
            offset = known.get(offset_name) or b""
            if place in self._there and offset.isdigit() and int(offset) >= starts[place]:
                self._there[place].add(int(offset))
                firsts[place].setdefault(message.partition(), message.offset())

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """Partitions went to somebody else."""
        for place in places:
            self._there.pop(place, None)
            self._floors.pop(place, None)
            self._sought.discard(place)

    def leave_out(self, batch: Batch) -> None:
        """The first stage: records that are there already are filtered."""
        if not self._there or batch.topics is None:
            return
        there = self._there
        places = list(zip(batch.topics, batch.partitions or [], strict=True))
        offsets = batch.offsets or []
        keep = [
            (found := there.get(place)) is None or offset not in found  # type: ignore[arg-type,operator]
            for place, offset in zip(places, offsets, strict=True)
        ]
        self.skipped += keep.count(False)
        for place, offset in dict(zip(places, offsets, strict=True)).items():
            if place in there and offset is not None and offset >= there[place].highest:
                del there[place]
        if not all(keep):
            batch.keep(keep)

    # --- the floor ---------------------------------------------------------------------------------------------

    def tick(self, ledger: Ledger) -> None:
        """Take note of the target's end now and then; it is the floor once what was read until then is committed."""
        if self._candidate is not None and ledger.read - ledger.in_flight >= self._candidate[0]:
            _, ends = self._candidate
            self._floors = dict.fromkeys(self._floors, ends)
            self._candidate = None
        if self._candidate is None and not (self._there or self._searches) and self._clock() >= self._due:
            self._due = self._clock() + INTERVAL
            try:
                self._candidate = (ledger.read, self._tail.ends())
            except UnreachableError:
                return  # the old floor is still right

    def end(self, ledger: Ledger, timeout: float = ANSWER) -> None:
        """The last commit: with everything settled, the target's end is the floor, if it is told in time."""
        if not (self._there or self._searches or ledger.in_flight):
            try:
                self._floors = dict.fromkeys(self._floors, self._tail.ends(timeout))
            except UnreachableError:
                return

    def note(self, place: TopicPartition) -> str:
        """What to commit beside an offset; nothing when it would be too long for a broker to take."""
        floor = self._floors.get(place)
        if floor is None:
            return ""
        text = self._mark + ",".join(f"{partition}:{position}" for partition, position in sorted(floor.items()))
        return text if len(text) <= MAX_METADATA else ""

    def _parse(self, metadata: str) -> dict[int, int] | None:
        """The floor in a commit's metadata; None when there is none for this target."""
        found = next((word for word in metadata.split(" ") if word.startswith(self._mark)), None)
        if found is None:
            return None
        floor: dict[int, int] = {}
        for entry in found.removeprefix(self._mark).split(","):
            partition, _, position = entry.partition(":")
            if not (partition.isdigit() and position.isdigit()):
                return None
            floor[int(partition)] = int(position)
        return floor

    def close(self) -> None:
        """Let go of the target."""
        self._tail.close()


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
        batch = self._take_waiting() if self._waiting is not None else self._inner.read()
        if batch is not None and self._resume.pending:  # a rebalance in this very call
            self._waiting, batch = batch, None
        self.finished = self._inner.finished and self._waiting is None and not self._resume.pending
        return batch

    def _take_waiting(self) -> Batch | None:
        """What was read in a rebalance, without what went to another member since."""
        batch, self._waiting = self._waiting, None
        if batch is None or batch.topics is None or batch.partitions is None:
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

"""`kpipe find`: the records with a key, or of which something is true, newest first; and how much was searched for it.

A key is looked for where clients put it: Java's hash first, then librdkafka's. Nothing is committed and nobody joins.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import compress, repeat
from operator import eq, methodcaller
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage
from kpipe.kafka import questions
from kpipe.kafka.hashing import partitions_for
from kpipe.kafka.questions import Failure
from kpipe.kafka.ranges import RangeReader, to_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection
    from kpipe.record import Batch

FIRST_WINDOW, GROWTH, LARGEST_WINDOW = 1_000, 8, 262_144
"""Offsets of a partition that are read at once, from the end backwards: most of what is looked for is recent."""
_KEY = methodcaller("key")
LATEST, ALL, FIRST = "latest", "all", "first"


@dataclass(slots=True)
class Wanted:
    """What is looked for. `key` None: any; `tests` keep the records of a batch that are meant, as transforms do."""

    key: bytes | None = None
    tests: Sequence[Callable[[Batch], None]] = ()
    since_ms: int | None = None
    until_ms: int | None = None

    def choose(self, messages: Iterable[Message], cluster: str) -> tuple[list[Message], int]:
        """Those that are meant, and how many could not be judged: a program that wants JSON met something else."""
        chosen = list(messages)
        if self.key is not None:
            chosen = list(compress(chosen, map(eq, map(_KEY, chosen), repeat(self.key))))
        if self.since_ms is not None or self.until_ms is not None:
            since, until = self.since_ms or 0, self.until_ms if self.until_ms is not None else 1 << 63
            chosen = [message for message in chosen if since <= message.timestamp()[1] < until]
        if not chosen or not self.tests:
            return chosen, 0
        batch = to_batch(chosen, cluster)
        for test in self.tests:
            test(batch)
        kept = range(len(chosen)) if batch.index is None else batch.index
        return [chosen[place] for place in kept], len(batch.bad)


@dataclass(slots=True)
class Search:
    """How far it got: offsets looked at, and of how many; `where` are the partitions that were searched."""

    where: list[TopicPartition] = field(default_factory=list)
    partitions: int = 0
    """How many the topics have."""
    scanned: int = 0
    records: int = 0
    total: int = 0
    found: int = 0
    unjudged: int = 0
    complete: bool = False
    failed: dict[TopicPartition, Failure] = field(default_factory=dict)
    """Partitions that could not be looked at, or not to their end."""
    started: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Offsets a second."""
        return self.scanned / max(1e-9, time.monotonic() - self.started)

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes, if it goes on like this."""
        return (self.total - self.scanned) / self.rate if self.scanned else None


class Finder:
    """Looks through partitions of topics on one cluster. `show` is called after each step with how far it got."""

    def __init__(
        self, connection: Connection, topics: Sequence[str], wanted: Wanted, show: Callable[[Search], None]
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._wanted = wanted
        self._show = show
        self.search = Search()

    def places(self, numbers: frozenset[int] | None, *, everywhere: bool) -> list[TopicPartition]:
        """The partitions to search: those asked for, those the key hashes to, or all."""
        metadata = self._connection.metadata()
        key = self._wanted.key
        places = []
        for topic in self._topics:
            partitions = metadata.topics[topic].partitions
            self.search.partitions += len(partitions)
            chosen = sorted(partitions)
            if numbers is not None:
                missing = sorted(numbers - set(partitions))
                if missing:
                    what = f"no partition {missing[0]}; the topic has {len(partitions)} (0 to {len(partitions) - 1})"
                    raise KpipeError(what, where=self._connection.where(topic), stage=Stage.CONFIG)
                chosen = sorted(numbers)
            elif key and not everywhere:
                chosen = partitions_for(key, len(partitions))
            places += [(topic, number) for number in chosen]
        self.search.where = places
        return places

    def run(self, places: Sequence[TopicPartition], mode: str) -> Iterator[list[Message]]:
        """The records that are meant, in blocks: newest first, for `first` oldest first."""
        lows, highs = self._bounds(places)
        self.search.total = sum(max(0, high - lows[place]) for place, high in highs.items())
        reader = RangeReader(self._connection)
        try:
            if mode == FIRST:
                yield from self._forwards(reader, lows, highs)
            elif mode == ALL:
                yield from self._backwards(reader, lows, highs)
            else:
                yield from self._newest(reader, lows, highs)
        finally:
            reader.close()

    def _bounds(self, places: Sequence[TopicPartition]) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """Where each partition is searched from and to, as it was at the start."""
        connection, wanted = self._connection, self._wanted
        lows, highs = {}, {}
        for place, extent in questions.extents(connection, places).items():
            if isinstance(extent, Failure):
                self.search.failed[place] = extent
            else:
                lows[place], highs[place] = extent.start, extent.stable
        if wanted.since_ms is not None:
            for place, found in questions.at_time(connection, lows, wanted.since_ms).items():
                if isinstance(found, Failure):
                    self.search.failed[place] = found
                    del highs[place], lows[place]
                else:
                    lows[place] = max(lows[place], found.offset) if found.offset >= 0 else highs[place]
        return lows, highs

    def _open(self, ranges: Mapping[TopicPartition, tuple[int, int]]) -> dict[TopicPartition, tuple[int, int]]:
        """The ranges that hold offsets, without those of partitions that failed."""
        failed = self.search.failed
        return {place: bounds for place, bounds in ranges.items() if bounds[0] < bounds[1] and place not in failed}

    def _step(
        self, reader: RangeReader, ranges: Mapping[TopicPartition, tuple[int, int]]
    ) -> dict[TopicPartition, list[Message]]:
        """What is meant of these ranges, by partition and in the order of the log."""
        found: dict[TopicPartition, list[Message]] = {}
        search = self.search
        before, total = search.scanned, sum(end - start for start, end in ranges.values())
        for messages in reader.records(ranges, search.failed):
            chosen, unjudged = self._wanted.choose(messages, self._connection.name)
            for message in chosen:
                found.setdefault((str(message.topic()), int(message.partition() or 0)), []).append(message)
            search.unjudged += unjudged
            search.records += len(messages)
            search.scanned = min(before + total, search.scanned + len(messages))
            self._show(search)
        search.scanned = before + total  # compaction and transactions leave offsets without a record
        return found

    def _backwards(
        self, reader: RangeReader, lows: dict[TopicPartition, int], highs: dict[TopicPartition, int]
    ) -> Iterator[list[Message]]:
        """All that is meant, block by block from the ends."""
        uppers, window = dict(highs), FIRST_WINDOW
        while ranges := self._open({p: (max(lows[p], upper - window), upper) for p, upper in uppers.items()}):
            found = self._step(reader, ranges)
            block = [message for messages in found.values() for message in messages]
            block.sort(key=_moment, reverse=True)
            self.search.found += len(block)
            if block:
                yield block
            uppers |= {place: start for place, (start, _) in ranges.items()}
            window = min(LARGEST_WINDOW, window * GROWTH)
        self.search.complete = not self.search.failed

    def _newest(
        self, reader: RangeReader, lows: dict[TopicPartition, int], highs: dict[TopicPartition, int]
    ) -> Iterator[list[Message]]:
        """The one that is newest by its timestamp: behind one that was found, only later times are of interest."""
        lows, uppers, window = dict(lows), dict(highs), FIRST_WINDOW
        best: Message | None = None
        while ranges := self._open({p: (max(lows[p], upper - window), upper) for p, upper in uppers.items()}):
            found = self._step(reader, ranges)
            uppers |= {place: start for place, (start, _) in ranges.items()}
            for place, messages in found.items():
                uppers[place] = lows[place]  # the log's last one is this partition's newest
                candidate = messages[-1]
                if best is None or _moment(candidate) > _moment(best):
                    best = candidate
            if best is not None and found:
                self._raise_lows(lows, uppers, best)
            window = min(LARGEST_WINDOW, window * GROWTH)
        self.search.complete = not self.search.failed
        if best is not None:
            self.search.found = 1
            yield [best]

    def _raise_lows(self, lows: dict[TopicPartition, int], uppers: Mapping[TopicPartition, int], best: Message) -> None:
        """No record before the first one at or after a time can be later than that time."""
        others = [place for place, upper in uppers.items() if upper > lows[place]]
        for place, answer in questions.at_time(self._connection, others, best.timestamp()[1]).items():
            if not isinstance(answer, Failure):  # else all of it is read
                lows[place] = max(lows[place], answer.offset if answer.offset >= 0 else uppers[place])

    def _forwards(
        self, reader: RangeReader, lows: dict[TopicPartition, int], highs: dict[TopicPartition, int]
    ) -> Iterator[list[Message]]:
        """The oldest: of each partition's first one, the one with the smallest timestamp."""
        starts, window = dict(lows), FIRST_WINDOW
        firsts: dict[TopicPartition, Message] = {}
        while ranges := self._open(
            {p: (start, min(highs[p], start + window)) for p, start in starts.items() if p not in firsts}
        ):
            for place, messages in self._step(reader, ranges).items():
                firsts[place] = messages[0]
            starts |= {place: end for place, (_, end) in ranges.items()}
            window = min(LARGEST_WINDOW, window * GROWTH)
        self.search.complete = not self.search.failed
        if firsts:
            self.search.found = 1
            yield [min(firsts.values(), key=_moment)]


def at(connection: Connection, topic: str, partition: int, offset: int) -> Message:
    """The record at one offset; KpipeError says why there is none."""
    entry = connection.metadata().topics[topic]
    where = connection.where(topic, partition, offset)
    if partition not in entry.partitions:
        what = f"no partition {partition}; the topic has {len(entry.partitions)} (0 to {len(entry.partitions) - 1})"
        raise KpipeError(what, where=connection.where(topic), stage=Stage.CONFIG)
    place = (topic, partition)
    extent = questions.extents(connection, [place])[place]
    if isinstance(extent, Failure):
        raise extent.error(connection.where(*place))
    low, high = extent.start, extent.end
    if not low <= offset < high:
        what = (
            f"not there: the partition holds {low} to {high - 1}" if low < high else "not there: the partition is empty"
        )
        raise KpipeError(f"{what}{' (older ones were deleted)' if offset < low else ''}", where=where)
    reader = RangeReader(connection, committed=False, peeking=True)
    found = reader.first({place: (offset, high)}, connection.deadline())[place]
    reader.close()
    if isinstance(found, Failure):
        raise found.error(where)
    if found is None or found.offset() != offset:
        raise KpipeError("no record at that offset: it was compacted away, or marks a transaction", where=where)
    return found


def _moment(message: Message) -> tuple[int, int]:
    return message.timestamp()[1], int(message.offset() or 0)

"""`kpipe tail`: the last records of each partition, then what comes, of several topics and clusters, merged by time.

No group is joined and nothing is committed. No record is left out: who reads slowly slows the reading.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage
from kpipe.kafka import questions
from kpipe.kafka.errors import Cause, cause_of
from kpipe.kafka.questions import Failure
from kpipe.kafka.ranges import BATCH, RangeReader, to_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from confluent_kafka import Consumer, Message

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection
    from kpipe.record import Batch

WINDOW = 0.25
"""Seconds in which records are put in the order of their timestamps; what comes later keeps its place of arrival."""
GROWTH = 4
"""By how much the range grows in which the last records are looked for: markers and compaction leave holes."""
LOOK = 30.0
"""Seconds between looks for partitions that were added."""


@dataclass(slots=True)
class Followed:
    """What is read of one cluster. `next_offsets` is where the following starts, behind what was shown."""

    connection: Connection
    topics: list[str]
    partitions: frozenset[int] | None = None
    next_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    consumer: Consumer | None = None
    next_look: float = 0.0

    def places(self, *, fresh: bool = False) -> list[TopicPartition]:
        """The partitions that are meant; what has no leader is left out."""
        metadata = self.connection.metadata(fresh=fresh)
        return [
            (topic, number)
            for topic in self.topics
            if topic in metadata.topics
            for number, partition in sorted(metadata.topics[topic].partitions.items())
            if (self.partitions is None or number in self.partitions) and partition.leader in metadata.brokers
        ]


def records_from(followed: Followed, starts: Mapping[TopicPartition, int]) -> Iterator[Batch]:
    """All records from `starts` to the end of now, put in order as they come; where following goes on is noted."""
    connection = followed.connection
    ends = _known(questions.latest(connection, followed.places(), committed=True))
    followed.next_offsets = ends
    reader = RangeReader(connection)
    try:
        for messages in reader.records({place: (start, ends[place]) for place, start in starts.items()}):
            yield from merged([(connection, message) for message in messages])
    finally:
        reader.close()


def last_records(followed: Followed, count: int) -> list[tuple[Connection, Message]]:
    """The last `count` records of each partition; where following goes on is noted."""
    connection = followed.connection
    places = followed.places()
    lows, ends = (
        _known(questions.earliest(connection, places)),
        _known(questions.latest(connection, places, committed=True)),
    )
    followed.next_offsets = ends
    kept: dict[TopicPartition, deque[Message]] = {}
    reader = RangeReader(connection)
    try:
        _walk_back(reader, kept, count, lows, ends)
    finally:
        reader.close()
    return [(connection, message) for messages in kept.values() for message in messages]


def _walk_back(
    reader: RangeReader,
    kept: dict[TopicPartition, deque[Message]],
    count: int,
    lows: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> None:
    """Read ranges before the ends until each partition has `count` records or none are left; newest ranges first."""
    uppers = dict(ends)
    reach = count
    while reach:
        ranges = {
            place: (max(lows[place], upper - reach), upper)
            for place, upper in uppers.items()
            if upper > lows[place] and len(kept.get(place, ())) < count
        }
        if not ranges:
            return
        found: dict[TopicPartition, deque[Message]] = {place: deque(maxlen=count) for place in ranges}
        for messages in reader.records(ranges):
            for message in messages:
                found[_place(message)].append(message)
        for place, messages_found in found.items():
            older = list(messages_found)[-(count - len(kept.get(place, ()))) :]
            kept[place] = deque([*older, *kept.get(place, ())])
            uppers[place] = ranges[place][0]
        reach *= GROWTH


def merged(records: Sequence[tuple[Connection, Message]]) -> Iterator[Batch]:
    """Batches in the order of timestamps: each of one cluster, and of neighbours."""
    ordered = sorted(records, key=lambda each: each[1].timestamp()[1])
    start = 0
    for place in range(1, len(ordered) + 1):
        if place == len(ordered) or ordered[place][0] is not ordered[start][0]:
            connection = ordered[start][0]
            yield to_batch([message for _, message in ordered[start:place]], connection.name)
            start = place


def follow(everything: Sequence[Followed], watch: Callable[[], None] = lambda: None) -> Iterator[Batch]:
    """What comes from now on, for ever; `watch` is called once a turn.

    Raises KpipeError when a topic goes, or reading is refused.
    """
    for followed in everything:
        _start(followed)
    waiting: list[tuple[Connection, Message]] = []
    flush_at = 0.0
    while True:
        quiet = True
        for followed in everything:
            messages = _fetch(followed, wait=not waiting)
            quiet = quiet and not messages
            if messages and not waiting:
                flush_at = time.monotonic() + (WINDOW if _has_several(everything) else 0)
            waiting += [(followed.connection, message) for message in messages]
            _look_for_more(followed)
        watch()
        if waiting and time.monotonic() >= flush_at:
            yield from merged(waiting)
            waiting = []
        elif waiting and quiet:
            time.sleep(min(0.02, max(0.0, flush_at - time.monotonic())))


def _has_several(everything: Sequence[Followed]) -> bool:
    """Whether there is an order to be made: one partition alone has its own."""
    return sum(len(followed.next_offsets) for followed in everything) > 1


def _start(followed: Followed) -> None:
    from confluent_kafka import TopicPartition as Asked

    followed.consumer = followed.connection.consumer(queued_max_messages_kbytes=8192)
    followed.consumer.assign([Asked(*place, offset) for place, offset in sorted(followed.next_offsets.items())])
    followed.next_look = time.monotonic() + LOOK


def _fetch(followed: Followed, *, wait: bool) -> list[Message]:
    """Records that are there; the client's own events are taken out, and what ends the reading is raised."""
    consumer = followed.consumer
    if consumer is None:
        return []
    found = consumer.consume(BATCH, 0) or (consumer.consume(1, 0.05) if wait else [])
    records = []
    for message in found:
        error = message.error()
        if error is None:
            records.append(message)
        elif cause_of(error) is Cause.PARTITION_END or (error.retriable() and not error.fatal()):
            continue
        else:
            failure = questions.fail(error, f"topic {message.topic()}", "READ")
            raise failure.error(followed.connection.where(str(message.topic()), message.partition()))
    return records


def _look_for_more(followed: Followed) -> None:
    """Partitions that were added are read from their beginning: nothing written to them is missed."""
    from confluent_kafka import TopicPartition as Asked

    if time.monotonic() < followed.next_look or followed.consumer is None:
        return
    followed.next_look = time.monotonic() + LOOK
    new = [place for place in followed.places(fresh=True) if place not in followed.next_offsets]
    lows = _known(questions.earliest(followed.connection, new))
    if lows:
        followed.next_offsets |= lows
        followed.consumer.incremental_assign([Asked(*place, offset) for place, offset in sorted(lows.items())])


def _place(message: Message) -> TopicPartition:
    return str(message.topic()), int(message.partition() or 0)


def _known(answers: Mapping[TopicPartition, questions.Listed | Failure]) -> dict[TopicPartition, int]:
    """The offsets; the first failure is raised: a tail that leaves out a partition would not be one."""
    for (topic, partition), answer in answers.items():
        if isinstance(answer, Failure):
            raise answer.error(f"{topic}[{partition}]")
    return {place: answer.offset for place, answer in answers.items() if not isinstance(answer, Failure)}


def check_partitions(followed: Followed) -> None:
    """KpipeError for a partition that no topic has."""
    metadata = followed.connection.metadata()
    for topic in followed.topics:
        present = metadata.topics[topic].partitions
        for number in sorted((followed.partitions or frozenset()) - set(present)):
            what = f"no partition {number}; the topic has {len(present)} (0 to {len(present) - 1})"
            raise KpipeError(what, where=followed.connection.where(topic), stage=Stage.CONFIG)

"""`kpipe topics`: what there is, how much of it, until when it is kept, and whether it is well.

Sizes on disk are not told: librdkafka has no DescribeLogDirs (2.16).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kpipe.kafka import questions
from kpipe.kafka.errors import Kind
from kpipe.kafka.questions import Failure, Listed
from kpipe.kafka.ranges import RangeReader
from kpipe.ops.places import choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection

STANDING = 3.0
"""Seconds between two looks at a last stable offset that is below the end: a transaction may just be running."""
PROVEN = 20_000
"""Offsets that are read to prove that each holds a record; more would be no quick look."""
PROVING = 1.0
"""Seconds for that."""
OFFLINE, UNDER, UNDER_MIN, AT_MIN, OPEN = (
    "offline",
    "under-replicated",
    "under-min-isr",
    "at-min-isr",
    "open-transaction",
)


@dataclass(slots=True)
class Partition:
    """One partition. Offsets and times are None where nobody knows them; `problem` says why."""

    partition: int
    leader: int | None = None
    replicas: list[int] = field(default_factory=list)
    isr: list[int] = field(default_factory=list)
    start: int | None = None
    end: int | None = None
    stable_end: int | None = None
    first_ms: int | None = None
    newest_ms: int | None = None
    health: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def offsets(self) -> int | None:
        """Offsets between start and end: an upper bound of records."""
        return None if self.start is None or self.end is None else max(0, self.end - self.start)


@dataclass(slots=True)
class Topic:
    """One topic. `records` is an upper bound unless `exact`: compaction and transactions leave offsets without one."""

    topic: str
    partitions: list[Partition]
    configuration: dict[str, str] | None = None
    """What differs from the defaults; None where it is not known."""
    settings: dict[str, str] = field(default_factory=dict)
    """Effective values."""
    exact: bool = False
    counted: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def replication(self) -> int | None:
        """The replicas of the partitions that have fewest."""
        return min((len(each.replicas) for each in self.partitions), default=None)

    @property
    def records(self) -> int | None:
        """How many, or how many at most."""
        if self.counted is not None:
            return self.counted
        known = [each.offsets for each in self.partitions]
        return None if None in known or not known else sum(count for count in known if count is not None)

    @property
    def newest_ms(self) -> int | None:
        """The largest timestamp."""
        return max((each.newest_ms for each in self.partitions if each.newest_ms is not None), default=None)

    @property
    def health(self) -> list[str]:
        """What is wrong with any partition."""
        return sorted({word for each in self.partitions for word in each.health})

    @property
    def cleanup(self) -> str | None:
        """cleanup.policy."""
        return self.settings.get("cleanup.policy")

    @property
    def retention_ms(self) -> int | None:
        """retention.ms, -1 for ever; None where it is not known."""
        return int(self.settings["retention.ms"]) if "retention.ms" in self.settings else None


def find(connection: Connection, patterns: Iterable[str]) -> list[Topic]:
    """The topics that are meant, with what the metadata says of them."""
    metadata = connection.metadata()
    names = choose(patterns, metadata.topics, connection.label, "topic")
    return [_from_metadata(metadata.topics[name], set(metadata.brokers)) for name in names]


def _from_metadata(entry: Any, brokers: set[int]) -> Topic:
    topic = Topic(
        str(entry.topic),
        [
            Partition(
                number,
                leader=each.leader if each.leader is not None and each.leader in brokers else None,
                replicas=list(each.replicas),
                isr=list(each.isrs),
            )
            for number, each in sorted(entry.partitions.items())
        ],
    )
    if entry.error is not None:
        topic.problems.append(questions.fail(entry.error, f"topic {entry.topic}").text)
    for partition in topic.partitions:
        if partition.leader is None:
            partition.health.append(OFFLINE)
            partition.problem = "no leader"
        if len(partition.isr) < len(partition.replicas):
            partition.health.append(UNDER)
    return topic


def places_of(topics: Iterable[Topic]) -> dict[TopicPartition, Partition]:
    """The partitions that somebody leads."""
    return {(t.topic, p.partition): p for t in topics for p in t.partitions if p.leader is not None}


def add_offsets(connection: Connection, topics: Sequence[Topic], *, times: bool) -> None:
    """Start, end, last stable offset and newest time of each partition; with `times` that of the first record, too."""
    places = places_of(topics)
    for place, extent in questions.extents(connection, places).items():
        if isinstance(extent, Failure):
            places[place].problem = extent.text
        else:
            places[place].start, places[place].end, places[place].stable_end = extent
    filled = {place: partition for place, partition in places.items() if partition.offsets}
    for place, found in questions.newest(connection, filled).items():
        if isinstance(found, Listed) and found.offset >= 0:
            filled[place].newest_ms = found.timestamp
    if times:
        for place, found in questions.at_time(connection, filled, 0).items():
            if isinstance(found, Listed) and found.offset >= 0:
                filled[place].first_ms = found.timestamp
    for topic in topics:
        topic.problems += sorted({each.problem for each in topic.partitions if each.problem})


def add_settings(connection: Connection, topics: Sequence[Topic]) -> None:
    """Effective settings, what differs from the defaults, and how many replicas in sync are enough."""
    answers = questions.configurations(connection, [topic.topic for topic in topics])
    for topic in topics:
        found = answers[topic.topic]
        if isinstance(found, Failure):
            if found is not questions.UNCONFIGURED:
                topic.problems.append(found.text)
            continue
        topic.settings = {name: str(entry.value) for name, entry in found.items() if entry.value is not None}
        topic.configuration = {
            name: "(secret)" if entry.is_sensitive else str(entry.value)
            for name, entry in sorted(found.items())
            if entry.source == questions.client_names().ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        }
        least = int(topic.settings.get("min.insync.replicas", 1))
        for partition in topic.partitions:
            if len(partition.isr) < least:
                partition.health.append(UNDER_MIN)
            elif len(partition.isr) == least < len(partition.replicas):
                partition.health.append(AT_MIN)


def add_open_transactions(connection: Connection, topics: Sequence[Topic]) -> None:
    """Partitions whose last stable offset stands below the end: a transaction that nobody ends holds it."""

    def below(partition: Partition) -> bool:
        return partition.stable_end is not None and partition.end is not None and partition.stable_end < partition.end

    held = {place: partition for place, partition in places_of(topics).items() if below(partition)}
    if not held:
        return
    time.sleep(STANDING)
    for place, found in questions.latest(connection, held, committed=True).items():
        if isinstance(found, Listed) and found.offset == held[place].stable_end:
            held[place].health.append(OPEN)


def prove_exact(connection: Connection, topics: Sequence[Topic]) -> None:
    """Find out by reading where every offset holds a record; what is compacted, or too much for a look, is a bound."""
    budget = PROVEN
    chosen: dict[str, Topic] = {}
    for topic in sorted(topics, key=lambda each: each.records or 0):
        if topic.problems or topic.records is None:
            continue
        if topic.records == 0:
            topic.exact = True
        elif (topic.cleanup == "delete" or connection.is_embedded) and topic.records <= budget:
            budget -= topic.records
            chosen[topic.topic] = topic
    if chosen:
        counts = _count(connection, chosen, time.monotonic() + PROVING, committed=False)
        for name, count in (counts or {}).items():
            chosen[name].exact = count == chosen[name].records


def count(connection: Connection, topics: Sequence[Topic]) -> None:
    """Count the records by reading all of them: those that a `read_committed` reader is given."""
    readable = {topic.topic: topic for topic in topics if not topic.problems}
    counts = _count(connection, readable, None, committed=True)
    for name, found in (counts or {}).items():
        readable[name].counted, readable[name].exact = found, True


def _count(
    connection: Connection, topics: Mapping[str, Topic], deadline: float | None, *, committed: bool
) -> dict[str, int] | None:
    """Records by topic; None when the time was over before."""
    ranges = {
        place: (each.start, (each.stable_end if committed else each.end) or 0)
        for place, each in places_of(topics.values()).items()
        if each.start is not None and each.offsets
    }
    counts = dict.fromkeys(topics, 0)
    reader = RangeReader(connection, committed=committed)
    try:
        for messages in reader.records(ranges):
            for message in messages:
                counts[str(message.topic())] += 1
            if deadline is not None and time.monotonic() > deadline:
                return None
    finally:
        reader.close()
    return counts


def offsets_at(connection: Connection, topics: Sequence[Topic], ms: int) -> dict[TopicPartition, Listed | Failure]:
    """For each partition the first offset with a time of `ms` or later; (the end, -1) where every record is older."""
    places = places_of(topics)
    answers = questions.at_time(connection, places, ms)
    late = [place for place, found in answers.items() if isinstance(found, Listed) and found.offset < 0]
    for place, found in questions.latest(connection, late).items():
        answers[place] = Listed(found.offset, -1) if isinstance(found, Listed) else found
    answers |= {
        (topic.topic, each.partition): Failure(Kind.AWAY, "no leader")
        for topic in topics
        for each in topic.partitions
        if each.leader is None
    }
    return answers

"""What to read of which topics, now and as topics and partitions come and go, and whom to tell of it.

It reads no record and assigns nothing. kpipe looks for changes itself because the client looks at topics it reads only
every 5 min, and because no engine but kpipe's own may decide what a pattern means.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kpipe.clusters.address import place_name
from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.kafka.metadata import try_metadata
from kpipe.kafka.offsets import Offset, OffsetKind
from kpipe.transform.patterns import find_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Sequence

    from confluent_kafka import Consumer
    from confluent_kafka import TopicPartition as ClientPartition

    from kpipe.flight import TopicPartition
    from kpipe.sources.assignment import Assignment

ANSWER = 1.0
"""Seconds for the answer to a look for changes; without one the next look asks again."""
BEGINNING = Offset(OffsetKind.BEGINNING, 0)
REFRESH = 10.0
"""Seconds between looks for topics and partitions that are new, without a group and in a classic one."""
INTERNAL = "__"
"""What the names of a cluster's own topics begin with: `__consumer_offsets`, `__transaction_state`. A pattern leaves
them out: each commit of a group that read them would make the next record."""


@dataclass(slots=True, frozen=True)
class Selection:
    """What to read. `topics` may hold `^regex` patterns; `start` and `until` are offset specs.

    `at_end` stops at the end as it was at the start; `partitions` None means all; `columns` are the record fields
    somebody will look at.
    """

    topics: tuple[str, ...]
    start: Offset
    until: Offset | None = None
    given_start: bool = False
    """Whether -o was typed, and not `stored`: a group that has offsets passes it over, which is told."""
    at_end: bool = False
    partitions: frozenset[int] | None = None
    group: str | None = None
    incremental: bool = True
    on_gap: str = "stop"
    instance: str = ""
    protocol: str = "auto"
    columns: frozenset[str] = frozenset(("keys", "headers", "timestamps", "positions"))
    idle: float = 0.0
    """Seconds without a record after which the reading is over; 0: never."""
    min_age: float = 0.0
    """Seconds that a record must be old before it is read."""
    refresh: float = REFRESH
    """Seconds between looks for topics and partitions that are new."""
    joins: bool = True
    """Whether to join the group; without, its offsets are only looked at."""
    keeps_records: bool = False
    """Whether many are held until they are acknowledged, so that equal headers are worth sharing."""
    cluster: str = ""
    """The cluster's name for messages, maybe empty."""
    left_out: set[str] = field(default_factory=set, compare=False)
    """Topics that no pattern means, because this run writes to them; complete when the source is opened."""

    @property
    def shared(self) -> bool:
        """Whether the group decides which partitions are read here."""
        return self.group is not None and self.partitions is None and self.joins

    @property
    def group_place(self) -> str:
        """The group for messages: `prod: group billing`; empty without one."""
        name = f"group {self.group}" if self.group is not None else ""
        return f"{self.cluster}: {name}" if self.cluster and name else name

    @property
    def has_patterns(self) -> bool:
        """Whether a topic is a pattern, of which there may be more tomorrow."""
        return any(is_pattern(topic) for topic in self.topics)


class GroupListener(Protocol):
    """What hears of a consumer group's partitions (Kafka's ConsumerRebalanceListener). It may raise KpipeError."""

    def began(self, starts: dict[TopicPartition, int]) -> None:
        """Partitions are read here from now on, from these offsets."""

    def revoked(self, places: list[TopicPartition]) -> None:
        """Partitions are about to go to another member: the last moment to deliver and to commit."""

    def lost(self, places: list[TopicPartition]) -> None:
        """Partitions went away; their offsets are somebody else's."""

    def committed(self, error: Any, partitions: list[ClientPartition]) -> None:
        """What became of a commit that was not waited for; called by the client, so it never raises."""


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


def is_pattern(topic: str) -> bool:
    """Whether it stands for all topics that match: a topic's name never begins with `^`."""
    return topic.startswith("^")


def match_topics(wanted: Sequence[str], known: Iterable[str], left_out: Container[str] = ()) -> list[str]:
    """The topics meant by names and `^regex` patterns; a pattern means no internal topic, and none that is left out.

    kpipe matches patterns itself, with a group too: the client has an engine of its own, and brokers have another.
    """
    names = sorted(known)
    found: list[str] = []
    for topic in wanted:
        if is_pattern(topic):
            found += [
                name for name in _matching(topic, names) if not name.startswith(INTERNAL) and name not in left_out
            ]
        else:
            found.append(topic)
    return list(dict.fromkeys(found))


def _matching(pattern: str, names: Sequence[str]) -> list[str]:
    try:
        return find_matches(pattern, names)
    except ValueError as error:
        raise UsageError(str(error), where=repr(pattern)) from None


def find_places(selection: Selection, metadata: Any) -> list[TopicPartition]:
    """The partitions that a selection means; KpipeError for a topic or partition that is not there."""
    wanted, cluster, left_out = selection.partitions, selection.cluster, selection.left_out
    places: list[TopicPartition] = []
    for topic in match_topics(selection.topics, metadata.topics, left_out):
        if topic not in metadata.topics:  # a second look, and it was deleted meanwhile
            raise KpipeError("the topic is gone", where=where(cluster, topic), stage=Stage.READ)
        present = sorted(metadata.topics[topic].partitions)
        missing = sorted((wanted or frozenset()).difference(present))
        if missing:
            message = f"no partition {missing[0]}; the topic has {len(present)} (0 to {len(present) - 1})"
            raise KpipeError(message, where=where(cluster, topic), stage=Stage.CONFIG)
        places += [(topic, number) for number in present if wanted is None or number in wanted]
    if not places and (selection.at_end or not selection.shared):
        besides = " besides the target" if left_out else ""
        raise KpipeError(f"no topic matches{besides}", where=where(cluster, " ".join(selection.topics)))
    return places


def where(cluster: str, topic: str, partition: int | None = None, offset: int | None = None) -> str:
    """A place for people: `prod:orders[3]@42`."""
    number = "" if partition is None else f"[{partition}]"
    reached = "" if offset is None else f"@{offset}"
    return place_name(cluster, f"{topic}{number}{reached}") if cluster else f"{topic}{number}{reached}"


class Discovery:
    """Asks every `selection.refresh` seconds, with or without records to read. `known` are the places at the start."""

    def __init__(
        self,
        selection: Selection,
        consumer: Consumer,
        assignment: Assignment,
        known: Collection[TopicPartition],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._selection = selection
        self._consumer = consumer
        self._assignment = assignment
        self._known = known
        self._say = say
        self._clock = clock
        self._next = clock() + selection.refresh
        self._topics: set[str] | None = None

    def look(self, found: Callable[[list[TopicPartition]], None]) -> None:
        """Tell `found` all places there are, if it is time to ask.

        Unless the ends were fixed at the start: what is added later lies behind them.
        """
        now, selection = self._clock(), self._selection
        if now < self._next:
            return
        self._next = now + selection.refresh
        if self._assignment.ends or self._assignment.bounded:
            return
        named = len(selection.topics) == 1 and not selection.has_patterns
        metadata = try_metadata(self._consumer, ANSWER, selection.topics[0] if named else "")
        if metadata is None:
            return  # looked at again; what is assigned goes on
        from confluent_kafka import KafkaException

        with suppress(KafkaException, KpipeError):
            places = find_places(selection, metadata)
            self._say_change({topic for topic, _ in places})
            found(places)

    def hasten(self) -> None:
        """Look at the next occasion."""
        self._next = self._clock()

    def _say_change(self, topics: set[str]) -> None:
        if self._topics is None:
            self._topics = {topic for topic, _ in self._known}
        for topic in sorted(topics - self._topics):
            what = "a new topic that matches; read from its beginning"
            self._say(f"read: {where(self._selection.cluster, topic)}: {what}")
        for topic in sorted(self._topics - topics):
            what = "the topic was deleted; the others that match are read on"
            self._say(f"read: {where(self._selection.cluster, topic)}: {what}")
        self._topics = topics

"""`kpipe admin` on topics and groups: what a change would do, told before it is done.

Everything here looks; `kpipe.kafka.changes` does what was decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kpipe.errors import UsageError
from kpipe.kafka import questions
from kpipe.kafka.groups import committed_offsets, list_groups
from kpipe.kafka.hashing import java_partition
from kpipe.kafka.questions import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection


def parse_new_topic(text: str) -> tuple[str, int]:
    """`NAME[:PARTITIONS]`; UsageError for what is no number of partitions."""
    name, colon, number = text.partition(":")
    if colon and not (number.isdigit() and 0 < int(number) <= 200_000):
        raise UsageError(f"{text!r}: {number!r} is no number of partitions; write NAME:PARTITIONS")
    return name, int(number) if colon else -1


def moved_share(before: int, after: int, sample: int = 10_000) -> float:
    """The share of keys that hash to another partition when there are more, as Java's clients compute it."""
    keys = [b"%d" % number for number in range(sample)]
    return sum(java_partition(key, before) != java_partition(key, after) for key in keys) / sample


class Loss(NamedTuple):
    """A group that would lose records it has not read."""

    group: str
    topic: str
    partition: int
    records: int


def losses(connection: Connection, befores: Mapping[TopicPartition, int]) -> tuple[list[Loss], list[str]]:
    """Which groups stand before the offsets that records are to be deleted to, and what could not be asked."""
    listed, troubles = list_groups(connection)
    names = [each.group for each in listed if each.kind in ("consumer", "simple")]
    found = []
    lows = questions.earliest(connection, befores)
    for group, answer in committed_offsets(connection, names):
        if isinstance(answer, Failure):
            troubles.append(f"group {group}: {answer.text}")
            continue
        for place, before in befores.items():
            commit, low = answer.get(place), lows.get(place)
            if commit is None or isinstance(commit, Failure) or low is None or isinstance(low, Failure):
                continue
            lost = before - max(commit.offset, low.offset)
            if lost > 0:
                found.append(Loss(group, *place, lost))
    return sorted(found), troubles


def readers(connection: Connection, topic: str) -> tuple[list[str], list[str]]:
    """The groups that have committed on a topic, and what could not be asked."""
    listed, troubles = list_groups(connection)
    names = [each.group for each in listed if each.kind in ("consumer", "simple")]
    found = []
    for group, answer in committed_offsets(connection, names):
        if isinstance(answer, Failure):
            troubles.append(f"group {group}: {answer.text}")
        elif any(place[0] == topic for place in answer):
            found.append(group)
    return sorted(found), troubles


def records_of(connection: Connection, topics: Sequence[str]) -> int | None:
    """How many records (offsets) topics hold; None where nobody can tell."""
    metadata = connection.metadata()
    places = [(topic, number) for topic in topics for number in metadata.topics[topic].partitions]
    lows, highs = questions.earliest(connection, places), questions.latest(connection, places)
    total = 0
    for place in places:
        low, high = lows[place], highs[place]
        if isinstance(low, Failure) or isinstance(high, Failure):
            return None
        total += high.offset - low.offset
    return total

"""`reset-offsets --to trace:CLUSTER:GROUP`: a group of one cluster put at the same records on another.

The trace headers of the copies say which source record each was made from. In each target partition the group is put
before the first copy of a record that it has not read: whatever lies behind is read, so nothing is skipped, and the
copies behind it that were read already are repeated. Both are counted, by reading the target once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError, Stage
from kpipe.kafka import questions
from kpipe.kafka.questions import Commit, Failure
from kpipe.kafka.ranges import RangeReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import Message

    from kpipe.kafka.connection import Connection
    from kpipe.ledger import TopicPartition


@dataclass(slots=True)
class Translation:
    """What was found. `repeats` are copies behind the new positions that the group has read already."""

    positions: dict[TopicPartition, int | None] = field(default_factory=dict)
    read: dict[TopicPartition, int] = field(default_factory=dict)
    """Copies of records that the group has read, seen so far in each partition."""
    repeats: int = 0
    foreign: int = 0
    """Records before the new positions that were not made from the source: the group passes them."""
    scanned: int = 0


def committed_on(source: Connection, group: str) -> dict[TopicPartition, int]:
    """Where the group stands on its own cluster; KpipeError when it stands nowhere."""
    (_, answer), *_ = questions.committed(source, [group])
    where = source.where(group)
    if isinstance(answer, Failure):
        raise answer.error(where, Stage.CONFIG)
    for (topic, partition), commit in answer.items():
        if isinstance(commit, Failure):
            raise commit.error(source.where(topic, partition), Stage.CONFIG)
    found = {place: commit.offset for place, commit in answer.items() if isinstance(commit, Commit)}
    if not found:
        raise KpipeError("the group has committed nothing there", where=where, stage=Stage.CONFIG)
    return found


class Copies:
    """Says which source record a copy was made from, by its last hop or its first one."""

    def __init__(self, cluster_id: str, topics: set[str], prefix: str = "") -> None:
        self._cluster = cluster_id.encode()
        self._topics = {topic.encode(): topic for topic in topics}
        self._hops = [
            tuple(f"{prefix}{hop}_{name}" for name in ("topic", "partition", "offset", "cluster"))
            for hop in ("source", "origin")
        ]

    def __call__(self, message: Message) -> tuple[TopicPartition, int] | None:
        """(place, offset) of the record on the source, or None for one that was not made from it."""
        headers = message.headers()
        if not headers:
            return None
        known: dict[str, Any] = dict(headers)
        for topic_name, partition_name, offset_name, cluster_name in self._hops:
            topic = self._topics.get(known.get(topic_name) or b"")
            cluster, partition, offset = known.get(cluster_name), known.get(partition_name), known.get(offset_name)
            if topic is None or (cluster is not None and cluster != self._cluster):
                continue
            if partition and offset and partition.isdigit() and offset.isdigit():
                return (topic, int(partition)), int(offset)
        return None


def translate(
    target: Connection,
    topics: Sequence[str],
    committed: Mapping[TopicPartition, int],
    copies: Copies,
    tick: Callable[[int], None],
) -> Translation:
    """Read the target topics once and find where the group has to go on.

    A source partition without a committed offset counts as unread.
    """
    metadata = target.metadata(fresh=True)
    places = [(topic, number) for topic in topics for number in sorted(metadata.topics[topic].partitions)]
    lows, ends = (_known(answers) for answers in (questions.earliest(target, places), questions.latest(target, places)))
    stable = _known(questions.latest(target, places, committed=True))
    found = Translation(dict.fromkeys(places), dict.fromkeys(places, 0))
    foreign = dict.fromkeys(places, 0)
    reader = RangeReader(target)
    for messages in reader.records({place: (lows[place], stable[place]) for place in places}):
        for message in messages:
            place = (str(message.topic()), int(message.partition() or 0))
            origin = copies(message)
            if origin is None:
                foreign[place] += found.positions[place] is None
            elif origin[1] >= committed.get(origin[0], 0):
                if found.positions[place] is None:
                    found.positions[place] = int(message.offset() or 0)
            elif found.positions[place] is None:
                found.read[place] += 1
            else:
                found.repeats += 1
        found.scanned += len(messages)
        tick(found.scanned)
    reader.close()
    for place in places:
        if found.positions[place] is None:
            found.positions[place] = min(ends[place], stable[place])
    found.foreign = sum(foreign.values())
    if not any(found.read.values()) and not found.repeats and found.foreign == found.scanned and found.scanned:
        what = "no record there was made from what the group reads, as far as their trace headers say"
        raise KpipeError(what, where=target.where(" ".join(topics)), stage=Stage.CONFIG)
    return found


def _known(answers: Mapping[TopicPartition, questions.Listed | Failure]) -> dict[TopicPartition, int]:
    for (topic, partition), answer in answers.items():
        if isinstance(answer, Failure):
            raise answer.error(f"{topic}[{partition}]", Stage.CONFIG)
    return {place: answer.offset for place, answer in answers.items() if not isinstance(answer, Failure)}

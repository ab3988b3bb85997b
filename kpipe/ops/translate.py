"""`reset-offsets --to trace:CLUSTER:GROUP`: a group of one cluster put at the same records on another.

The trace headers of the copies say which source record each was made from; the target is read once. Where the group
goes on among the copies is decided in `kpipe.ops.placement`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError, Stage
from kpipe.formats.header_names import read_headers
from kpipe.kafka import questions
from kpipe.kafka.groups import Commit, committed_offsets
from kpipe.kafka.questions import Failure
from kpipe.kafka.ranges import RangeReader, headers_of
from kpipe.ops.placement import Placement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection
    from kpipe.ops.placement import Spot
    from kpipe.record import Headers


def committed_on(source: Connection, group: str) -> dict[TopicPartition, int]:
    """Where the group stands on its own cluster; KpipeError when it stands nowhere."""
    (_, answer), *_ = committed_offsets(source, [group])
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

    def __call__(self, headers: Headers | None) -> tuple[TopicPartition, int] | None:
        """(place, offset) of the record on the source, or None for one that was not made from it."""
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
    places: Sequence[TopicPartition],
    groups: Mapping[str, Mapping[TopicPartition, int]],
    copies: Copies,
    tick: Callable[[int], None],
) -> tuple[dict[str, dict[TopicPartition, Spot]], int]:
    """Read partitions of copies once and find where groups go on; also how many records were read.

    `groups`: what each has committed on the source. Raises KpipeError where nothing was made from what they read.
    """
    lows, ends = (_known(answers) for answers in (questions.earliest(target, places), questions.latest(target, places)))
    stable = _known(questions.latest(target, places, committed=True))
    placement = Placement(groups, lows)
    foreign = 0
    reader = RangeReader(target)
    try:
        for messages in reader.records({place: (lows[place], stable[place]) for place in places}):
            for message, headers in zip(messages, read_headers(partial(headers_of, messages)), strict=True):
                origin = copies(headers)
                foreign += origin is None
                place = (str(message.topic()), int(message.partition() or 0))
                placement.take(place, int(message.offset() or 0), origin)
            tick(placement.scanned)
    finally:
        reader.close()
    if placement.scanned and foreign == placement.scanned:
        what = "no record there was made from what the group reads, as far as their trace headers say"
        raise KpipeError(what, where=target.where(" ".join(sorted({topic for topic, _ in places}))), stage=Stage.CONFIG)
    return placement.conclude({place: min(ends[place], stable[place]) for place in places}), placement.scanned


def _known(answers: Mapping[TopicPartition, questions.Listed | Failure]) -> dict[TopicPartition, int]:
    for (topic, partition), answer in answers.items():
        if isinstance(answer, Failure):
            raise answer.error(f"{topic}[{partition}]", Stage.CONFIG)
    return {place: answer.offset for place, answer in answers.items() if not isinstance(answer, Failure)}

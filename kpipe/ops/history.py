"""`kpipe trace`: the way of one record back over the clusters, hop by hop, and onward to its copies.

What a hop wrote into the headers is followed, by cluster id. A hop that is gone, unreachable or unknown is said to be
so; nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from kpipe.clusters.address import place_name
from kpipe.errors import KpipeError, UnreachableError
from kpipe.formats.header_names import read_headers
from kpipe.formats.lineage import TraceNames
from kpipe.kafka import questions
from kpipe.kafka.questions import Failure
from kpipe.kafka.ranges import RangeReader
from kpipe.ops.find import at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from confluent_kafka import Message

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection
    from kpipe.record import Headers

MAX_HOPS = 64
"""More hops than this are a circle in somebody's headers."""
UNREACHABLE, UNKNOWN, GONE = "unreachable", "unknown", "gone"


class Told(NamedTuple):
    """What the headers of a copy say of one hop; None and "" are what they do not say."""

    topic: str
    partition: int | None
    offset: int | None
    cluster_id: str
    group: str
    timestamp: int | None


@dataclass(slots=True)
class Visit:
    """One place of a record's way. `record` is None where it could not be read, `problem` says why.

    `group` read it here, and so made the copy before it in the list; `changed` is what that hop changed.
    """

    cluster: str
    cluster_id: str
    topic: str
    partition: int | None
    offset: int | None
    record: Message | None = None
    timestamp: int | None = None
    group: str = ""
    changed: list[str] | None = None
    problem: str = ""
    kind: str = ""

    @property
    def where(self) -> str:
        """The place for people."""
        cluster = self.cluster or (f"cluster {self.cluster_id}" if self.cluster_id else "an unknown cluster")
        number = "?" if self.partition is None else self.partition
        offset = "?" if self.offset is None else self.offset
        return place_name(cluster, f"{self.topic}[{number}]@{offset}")


class Atlas:
    """The configured clusters by their ids, each asked when it is needed, and at most once."""

    def __init__(self, clusters: Sequence[Connection]) -> None:
        self._clusters = list(clusters)
        self._ids: dict[str, Connection] = {}
        self._waiting = list(clusters)
        self.problems: dict[str, str] = {}
        """The clusters that could not be asked, and why."""

    def find(self, cluster_id: str) -> Connection | None:
        """The cluster with an id, None where no cluster that answers has it."""
        while cluster_id not in self._ids and self._waiting:
            self._ask(self._waiting.pop(0))
        return self._ids.get(cluster_id)

    def reachable(self) -> list[Connection]:
        """All that answer, each once though it may have several names."""
        while self._waiting:
            self._ask(self._waiting.pop(0))
        return list(self._ids.values())

    def _ask(self, cluster: Connection) -> None:
        try:
            self._ids.setdefault(cluster.cluster_id, cluster)
        except KpipeError as error:
            self.problems[cluster.label] = error.what


class HopReader:
    """Reads a hop in the headers of a record."""

    def __init__(self, prefix: str = "") -> None:
        self.names = TraceNames(prefix)

    def last_hop(self, headers: Headers) -> Told | None:
        """Where a copy was read from; None for a record that nobody copied."""
        return self._read(headers, self.names.source)

    def first_hop(self, headers: Headers) -> Told | None:
        """Where the first copy was read from; None when that is the last hop, too."""
        return self._read(headers, self.names.origin)

    @staticmethod
    def _read(headers: Headers, names: dict[str, str]) -> Told | None:
        known = dict(headers)
        topic = known.get(names["topic"])
        if topic is None:
            return None

        def text(field: str) -> str:
            return (known.get(names[field]) or b"").decode(errors="replace")

        def number(field: str) -> int | None:
            return int(text(field)) if text(field).isdigit() else None

        return Told(
            topic.decode(errors="replace"), number("partition"), number("offset"), text("cluster"),
            text("consumer_group"), number("timestamp"),
        )  # fmt: skip


def headers_of(message: Message) -> Headers:
    """The headers of a message, [] for none; names may be any bytes."""
    found: Any = read_headers(message.headers)
    return found or []


def back(start: Connection, topic: str, partition: int, offset: int, atlas: Atlas, prefix: str = "") -> Iterator[Visit]:
    """The record, then what it was made from, and so on; KpipeError when the record itself is not there."""
    reader = HopReader(prefix)
    record = at(start, topic, partition, offset)
    yield (hop := _hop(start, topic, partition, offset, record))
    for _ in range(MAX_HOPS):
        headers = headers_of(record)
        told = reader.last_hop(headers)
        if told is None:
            return
        hop = _follow(told, atlas)
        if hop.record is None:
            yield hop
            first = reader.first_hop(headers)
            if first is not None and first[:4] != told[:4]:
                yield _follow(first, atlas)
            return
        hop.changed = changes(reader.names, hop.record, record)
        record = hop.record
        yield hop


def _hop(cluster: Connection, topic: str, partition: int, offset: int, record: Message) -> Visit:
    kind, ms = record.timestamp()
    return Visit(cluster.label, cluster.cluster_id, topic, partition, offset, record, ms if kind else None)


def _follow(told: Told, atlas: Atlas) -> Visit:
    """The record that headers tell of, read where it is; or why it cannot be."""
    hop = Visit("", told.cluster_id, told.topic, told.partition, told.offset, None, told.timestamp, told.group)
    if told.partition is None or told.offset is None:
        hop.kind, hop.problem = UNKNOWN, "its headers do not say which record"
        return hop
    if not told.cluster_id:
        hop.kind, hop.problem = UNKNOWN, "its headers do not say on which cluster"
        return hop
    cluster = atlas.find(told.cluster_id)
    if cluster is None:
        hop.kind = UNREACHABLE if atlas.problems else UNKNOWN
        hop.problem = "no configured cluster has this id"
        if atlas.problems:
            hop.problem += f"; not reached: {', '.join(sorted(atlas.problems))}"
        return hop
    hop.cluster = cluster.label
    if told.topic not in cluster.metadata().topics:
        hop.kind, hop.problem = GONE, "the topic is not there any more, or not visible"
        return hop
    try:
        hop.record = at(cluster, told.topic, told.partition, told.offset)
    except UnreachableError as error:
        hop.kind, hop.problem = UNREACHABLE, error.what
    except KpipeError as error:
        hop.kind, hop.problem = GONE, error.what
    else:
        kind, ms = hop.record.timestamp()
        hop.timestamp = ms if kind else told.timestamp
    return hop


def changes(names: TraceNames, before: Message, after: Message) -> list[str]:
    """What a hop changed: `key`, `value`, `headers` (but for the trace), `timestamp`."""
    changed = []
    if before.key() != after.key():
        changed.append("key")
    if before.value() != after.value():
        changed.append("value")
    if names.without_trace(headers_of(before)) != names.without_trace(headers_of(after)):
        changed.append("headers")
    if before.timestamp()[1] != after.timestamp()[1]:
        changed.append("timestamp")
    return changed


@dataclass(slots=True)
class Onward:
    """The copies of one record on other topics, and what was searched for them."""

    copies: list[Visit] = field(default_factory=list)
    scanned: int = 0
    topics: int = 0
    problems: list[str] = field(default_factory=list)


def onward(
    record: Visit, atlas: Atlas, wanted: Callable[[Connection, str], bool], window_ms: int, prefix: str = ""
) -> Onward:
    """Copies of a record, by what their headers say they were made from, last or first.

    A copy keeps the timestamp or gets a later one, so it stands at or behind the first record of that time; what was
    written up to `window_ms` later is read.
    """
    found = Onward()
    reader = HopReader(prefix)
    for cluster in atlas.reachable():
        topics = [name for name in cluster.metadata().topics if not name.startswith("__") and wanted(cluster, name)]
        found.topics += len(topics)
        try:
            _search(cluster, topics, record, reader, window_ms, found)
        except KpipeError as error:
            found.problems.append(f"{cluster.label}: {error.what}")
    found.copies.sort(key=lambda hop: (hop.timestamp or 0, hop.where))
    found.problems += [f"{name}: {problem}" for name, problem in sorted(atlas.problems.items())]
    return found


def _search(
    cluster: Connection, topics: Sequence[str], record: Visit, reader: HopReader, window_ms: int, found: Onward
) -> None:
    metadata = cluster.metadata()
    places = [(topic, number) for topic in topics for number in metadata.topics[topic].partitions]
    ms = record.timestamp or 0
    ends = questions.latest(cluster, places, committed=True)
    starts = questions.at_time(cluster, places, ms)
    stops = questions.at_time(cluster, places, ms + window_ms)
    ranges = {}
    for place in places:
        start, stop, end = starts[place], stops[place], ends[place]
        if isinstance(start, Failure) or isinstance(stop, Failure) or isinstance(end, Failure):
            text = next(answer.text for answer in (start, stop, end) if isinstance(answer, Failure))
            found.problems.append(f"{cluster.where(*place)}: {text}")
        elif start.offset >= 0:
            ranges[place] = (start.offset, stop.offset if stop.offset >= 0 else end.offset)
    ranges = {place: bounds for place, bounds in ranges.items() if bounds[0] < bounds[1]}
    consumer = RangeReader(cluster)
    failed: dict[TopicPartition, Failure] = {}
    try:
        for messages in consumer.records(ranges, failed):
            found.scanned += len(messages)
            for message in messages:
                headers = headers_of(message)
                if headers and _made_from(reader, headers, record):
                    topic, number = str(message.topic()), int(message.partition() or 0)
                    found.copies.append(_hop(cluster, topic, number, int(message.offset() or 0), message))
    finally:
        consumer.close()
    found.problems += [f"{cluster.where(*place)}: {failure.text}" for place, failure in sorted(failed.items())]


def _made_from(reader: HopReader, headers: Headers, record: Visit) -> bool:
    place = (record.topic, record.partition, record.offset)
    for told in (reader.last_hop(headers), reader.first_hop(headers)):
        if told is not None and told[:3] == place and told.cluster_id in ("", record.cluster_id):
            return True
    return False

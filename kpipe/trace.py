"""Stamps each record with where it came from, and stops records that would run in a circle.

It changes headers only; keys, values and all other headers pass untouched, in order, duplicates kept.

    source_topic source_partition source_offset source_consumer_group source_cluster source_timestamp   the last hop
    origin_topic origin_partition origin_offset origin_cluster origin_timestamp                         the first hop
    trace_hops                                                                                          hops so far

The `source_` names are those of Karafka's piping, so its consumers understand them. Clusters are written as their
cluster id: a profile's name means different clusters on different machines, and a loop guard must not guess.
"""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from kpipe.errors import BadRecord, Exit, Stage
from kpipe.record import NO_TIMESTAMP

if TYPE_CHECKING:
    from kpipe.record import Batch, Headers

Header = tuple[str, bytes | None]

SOURCE = ("topic", "partition", "offset", "consumer_group", "cluster", "timestamp", "host", "file", "line")
ORIGIN = ("topic", "partition", "offset", "cluster", "timestamp", "host", "file", "line")
HOPS = "trace_hops"
MAX_HOPS = 16
_NAME = itemgetter(0)


class LoopingRecord(BadRecord):
    """A record that has been at its target before, or made too many hops: refused, not forwarded."""

    exit_code = Exit.UNDELIVERED
    stage = Stage.TRACE
    code = "LOOP"


class Hop(NamedTuple):
    """One hop, ours: `cluster` is the source cluster's id, `target_*` where the records go.

    `prefix` stands before every name; `host` is set only for `--trace full`.
    """

    cluster: str = ""
    group: str | None = None
    target_cluster: str = ""
    target_topic: str = ""
    max_hops: int = MAX_HOPS
    prefix: str = ""
    host: str = ""


class Tracer:
    """The trace stage. Records without coordinates (plain lines) get a trace only when `host` is given."""

    def __init__(self, hop: Hop) -> None:
        self._hop = hop
        name = hop.prefix.__add__
        self._source = {field: name(f"source_{field}") for field in SOURCE}
        self._origin = {field: name(f"origin_{field}") for field in ORIGIN}
        self._hops = name(HOPS)
        self._replaced = frozenset((*self._source.values(), self._hops))
        self._names = self._replaced | frozenset(self._origin.values())
        self._first_hop: Header = (self._hops, b"1")
        self._fixed: dict[tuple[object, object], tuple[list[Header], list[Header]]] = {}
        self._cluster = hop.cluster.encode()
        self._target = (hop.target_cluster.encode(), hop.target_topic.encode())

    def __call__(self, batch: Batch) -> None:
        """Stamp the batch; looping records are rejected."""
        if not len(batch):
            return
        if batch.topics is None:
            if self._hop.host and batch.lines is not None:
                self._stamp_lines(batch)
            return
        self._stamp(batch)

    # Hot path: `make bench` (forward). One list per record; what neighbours share (a partition, often a ms) is kept.
    def _stamp(self, batch: Batch) -> None:
        topics, partitions, offsets = batch.topics or [], batch.partitions, batch.offsets
        if partitions is None or offsets is None:
            return
        source_offset, origin_offset = self._source["offset"], self._origin["offset"]
        source_time, origin_time = self._source["timestamp"], self._origin["timestamp"]
        names, first_hop = self._names, self._first_hop
        size = len(batch)
        stamps = batch.timestamps if batch.source_timestamps is None else batch.source_timestamps
        stamps = [NO_TIMESTAMP] * size if stamps is None else stamps
        carried = batch.headers if batch.headers is not None else [None] * size
        # One pass over all names of the batch: asking each record for its own costs a quarter of the whole stage.
        traced = batch.headers is not None and not names.isdisjoint(
            map(_NAME, chain.from_iterable(filter(None, carried)))
        )
        stamped: list[Headers | None] = []
        loops: dict[int, BadRecord] = {}
        last_topic, last_partition, last_ms = None, None, None
        source: list[Header] = []
        origin: list[Header] = []
        source_at = origin_at = first_hop
        for topic, partition, offset, (kind, ms), headers in zip(
            topics, partitions, offsets, stamps, carried, strict=True
        ):
            if topic is None or partition is None or offset is None:
                stamped.append(headers)
                continue
            if partition != last_partition or topic != last_topic:
                last_topic, last_partition = topic, partition
                source, origin = self._fixed.get((topic, partition)) or self._fix(topic, partition)
            if ms != last_ms:
                last_ms, time = ms, b"%d" % ms
                source_at, origin_at = (source_time, time), (origin_time, time)
            at, own = b"%d" % offset, () if traced or headers is None else headers
            if kind:
                trace = [
                    *own, *source, (source_offset, at), source_at, *origin, (origin_offset, at), origin_at, first_hop,
                ]  # fmt: skip
            else:
                trace = [*own, *source, (source_offset, at), *origin, (origin_offset, at), first_hop]
            if traced and headers:
                trace = self._carry_on(headers, trace, len(stamped), loops, batch)
            stamped.append(trace)
        batch.headers = stamped
        if self._hop.cluster and self._hop.cluster == self._hop.target_cluster:
            self._find_direct_loops(batch, loops)
        batch.reject(loops)

    def _fix(self, topic: str, partition: int) -> tuple[list[Header], list[Header]]:
        """The headers that all records of one source partition share."""
        source: list[Header] = [
            (self._source["topic"], topic.encode()),
            (self._source["partition"], b"%d" % partition),
        ]
        origin: list[Header] = [
            (self._origin["topic"], topic.encode()),
            (self._origin["partition"], b"%d" % partition),
        ]
        if self._hop.group is not None:
            source.append((self._source["consumer_group"], self._hop.group.encode()))
        if self._cluster:
            source.append((self._source["cluster"], self._cluster))
            origin.append((self._origin["cluster"], self._cluster))
        self._fixed[topic, partition] = source, origin
        return source, origin

    def _carry_on(
        self, headers: Headers, trace: Headers, place: int, loops: dict[int, BadRecord], batch: Batch
    ) -> Headers:
        """A record that was traced before: this hop replaces the last one, the origin stays, the hops count on."""
        known = dict(headers)
        if self._names.isdisjoint(known):
            return headers + trace
        hops = _count(known.get(self._hops)) + 1
        self._guard(known, hops, place, loops, batch)
        has_origin = self._origin["topic"] in known or self._origin["file"] in known
        origin = frozenset(self._origin.values())
        kept = [header for header in headers if header[0] not in self._replaced]
        fresh = [h for h in trace[:-1] if not (has_origin and h[0] in origin)]
        return [*kept, *fresh, (self._hops, b"%d" % hops)]

    def _guard(
        self, known: dict[str, bytes | None], hops: int, place: int, loops: dict[int, BadRecord], batch: Batch
    ) -> None:
        cluster, topic = self._target
        if batch.targets is not None and batch.targets[place] is not None:
            topic = str(batch.targets[place]).encode()
        if cluster:
            for kind, names in (("origin", self._origin), ("previous source", self._source)):
                if known.get(names["cluster"]) == cluster and known.get(names["topic"]) == topic:
                    what = f"would loop: {topic.decode()} is its {kind}; forward to another topic"
                    loops[place] = LoopingRecord(what)
                    return
        if hops > self._hop.max_hops:
            what = f"made {hops - 1} hops already (--max-hops {self._hop.max_hops}); find the circle or raise it"
            loops[place] = LoopingRecord(what)

    def _find_direct_loops(self, batch: Batch, loops: dict[int, BadRecord]) -> None:
        """Records read from the very topic they go to: a pattern that matches the target, or a route back."""
        targets, topics, target = batch.targets, batch.topics or [], self._hop.target_topic
        if targets is None and target not in topics:
            return
        for place, topic in enumerate(topics):
            if topic == ((targets[place] if targets is not None else None) or target):
                loops[place] = LoopingRecord(f"would loop: it comes from {topic} itself; exclude it from the sources")

    def _stamp_lines(self, batch: Batch) -> None:
        host, file = self._hop.host.encode(), (batch.file or "").encode()
        shared: list[Header] = [(self._source["host"], host), (self._source["file"], file)]
        first: list[Header] = [(self._origin["host"], host), (self._origin["file"], file)]
        source_line, origin_line, hop = self._source["line"], self._origin["line"], self._first_hop
        trace = [
            [*shared, (source_line, b"%d" % line), *first, (origin_line, b"%d" % line), hop]
            for line in batch.lines or ()
        ]
        if batch.headers is None:
            batch.headers = list(trace)
        else:
            batch.headers = [[*(headers or []), *own] for headers, own in zip(batch.headers, trace, strict=True)]


def _count(value: bytes | None) -> int:
    """Hops so far; a value that is not a number was not written by us and counts as none."""
    return int(value) if value is not None and value.isdigit() and len(value) < 10 else 0

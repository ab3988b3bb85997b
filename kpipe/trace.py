"""Stamps each record with where it came from, and stops records that would run in a circle.

It changes headers only; keys, values and all other headers pass untouched, in order, duplicates kept.

    source_topic source_partition source_offset source_consumer_group source_cluster    where the last hop read it
    source_timestamp                                             only where the record's own timestamp is not kept
    origin_…                                 from the second hop on: what the first hop's `source_…` were
    trace_hops                               from the second hop on: hops so far

A record without `origin_…` and `trace_hops` has made one hop, and its source is its origin. `full` writes all of it at
every hop. The `source_` names are those of Karafka's piping, so its consumers understand them.
Clusters are written as their cluster id: a profile's name means different clusters on different machines, and a loop
guard must not guess. `kpipe.formats.lineage` reads what stands here.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import chain, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from kpipe.errors import BadRecord, Exit, Stage
from kpipe.formats.lineage import TraceNames
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kpipe.formats.lineage import Shape
    from kpipe.record import Batch, Headers

MAX_HOPS = 16
_NAME = itemgetter(0)


class LoopingRecord(BadRecord):
    """A record that has been at its target before, or made too many hops: refused, not forwarded."""

    exit_code = Exit.UNDELIVERED
    stage = Stage.TRACE
    code = "LOOP"


class Destination(NamedTuple):
    """Where a route leads: a cluster's id and a topic, and whether the topic keeps timestamps (CreateTime)."""

    cluster: str
    topic: str
    keeps_time: bool = True


class Hop(NamedTuple):
    """One hop, ours: `cluster` is the source cluster's id, `target_*` where the records go.

    `prefix` stands before every name; `full` writes everything at every hop; `times` tells each record's time, because
    its own is not kept; `host` is set for plain lines that are to have a trace.
    """

    cluster: str = ""
    group: str | None = None
    target_cluster: str = ""
    target_topic: str = ""
    max_hops: int = MAX_HOPS
    prefix: str = ""
    host: str = ""
    full: bool = False
    times: bool = False


class Tracer:
    """The trace stage. Records without coordinates (plain lines) get a trace only when `host` is given.

    `routed` are the places that routes chose so far, by their name among a batch's targets; more come while it runs.
    """

    def __init__(self, hop: Hop, routed: Mapping[str, Destination] | None = None) -> None:
        self._hop = hop
        self._names = TraceNames(hop.prefix)
        self._prefixes = _ByTopic(self._fix)
        self._routed: Mapping[str, Destination] = {} if routed is None else routed
        self._target = Destination(hop.target_cluster, hop.target_topic)

    def __call__(self, batch: Batch) -> None:
        """Stamp the batch; looping records are rejected."""
        if not len(batch):
            return
        if batch.topics is None:
            if self._hop.host and batch.lines is not None:
                self._stamp_lines(batch)
            return
        self._stamp(batch)

    def _stamp(self, batch: Batch) -> None:
        topics, partitions, offsets = batch.topics or [], batch.partitions, batch.offsets
        if partitions is None or offsets is None:
            return
        headers = batch.headers
        # One pass over all names of the batch: asking each record for its own costs a quarter of the whole stage.
        traced = headers is not None and not self._names.all.isdisjoint(
            map(_NAME, chain.from_iterable(filter(None, headers)))
        )
        times = self._times_to_tell(batch)
        loops: dict[int, BadRecord] = {}
        stamped: list[Headers | None] | None = None
        if not (traced or times is not None or self._hop.full or None in topics):
            with suppress(
                TypeError
            ):  # some have no partition or no offset, which no topic's records lack: look at each
                stamped = self._stamp_alike(topics, partitions, offsets, headers)  # type: ignore[arg-type]
        batch.headers = stamped or self._stamp_each(batch, times or repeat(None), loops, traced=traced)
        if self._hop.cluster:
            self._find_direct_loops(batch, loops)
        batch.reject(loops)

    # Hot path: `make bench` (forward). What the records of a source partition share is made once.
    def _stamp_alike(
        self,
        topics: Sequence[str],
        partitions: Sequence[int],
        offsets: Sequence[int],
        headers: Sequence[Headers | None] | None,
    ) -> list[Headers | None]:
        """First hops of records that keep their time: the offset is all that differs within a partition."""
        topic, partition, name = topics[0], partitions[0], self._names.source["offset"]
        shared: Iterable[Headers]
        if topics.count(topic) < len(topics):
            shared = [self._prefixes[topic][number] for topic, number in zip(topics, partitions, strict=True)]
        elif partitions.count(partition) < len(partitions):
            shared = map(self._prefixes[topic].__getitem__, partitions)
        else:
            shared = repeat(self._prefixes[topic][partition], len(partitions))
        if headers is None:
            return [[*same, (name, b"%d" % offset)] for same, offset in zip(shared, offsets, strict=True)]
        return [
            [*own, *same, (name, b"%d" % offset)] if own else [*same, (name, b"%d" % offset)]
            for own, same, offset in zip(headers, shared, offsets, strict=True)
        ]

    def _stamp_each(
        self, batch: Batch, times: Iterable[bytes | None], loops: dict[int, BadRecord], *, traced: bool
    ) -> list[Headers | None]:
        """Further hops, and whatever asks for more than the shortest trace."""
        names, targets = self._names, batch.targets
        offset_name, time_name = names.source["offset"], names.source["timestamp"]
        size = len(batch)
        stamped: list[Headers | None] = []
        for place, (topic, partition, offset, time, own) in enumerate(
            zip(
                batch.topics or (),
                batch.partitions or (),
                batch.offsets or (),
                times,
                batch.headers or repeat(None, size),
                strict=False,
            )
        ):
            if topic is None or partition is None or offset is None:
                stamped.append(own)
                continue
            kept, hops = own or [], 0
            if traced and own:
                shape = names.shape_of(own)
                kept, hops = names.carry_on(own, shape)
                if why := self._why_refused(own, shape, hops, None if targets is None else targets[place]):
                    loops[place] = LoopingRecord(why)
            source = [*self._prefixes[topic][partition], (offset_name, b"%d" % offset)]
            if time is not None:
                source.append((time_name, time))
            stamped.append(self._join(kept, source, hops))
        return stamped

    def _join(self, kept: Headers, source: Headers, hops: int) -> Headers:
        """What the record carries, this hop and, where there is something to count, the number of hops."""
        names = self._names
        if hops:  # there is an origin by now, or nobody knows it
            return [*kept, *source, (names.hops, b"%d" % (hops + 1))]
        if self._hop.full:
            return [*kept, *source, *names.as_origin(source), (names.hops, b"1")]
        return [*kept, *source]

    def _times_to_tell(self, batch: Batch) -> list[bytes | None] | None:
        """The times at the source that a record itself will not have any more; None when every record keeps its own."""
        new, old, targets = batch.timestamps, batch.source_timestamps, batch.targets
        stamps = new if old is None else old
        if stamps is None:
            return None
        if self._hop.times or self._hop.full:
            return [b"%d" % ms if kind else None for kind, ms in stamps]
        lost = set() if targets is None else {name for name, place in self._routed.items() if not place.keeps_time}
        if old is None and not lost:
            return None
        told: Iterable[bool] = repeat(True)
        if new is not None:
            told = [stamp[1] != own[1] for stamp, own in zip(stamps, new, strict=True)]
        if targets is not None:
            told = [target in lost or changed for target, changed in zip(targets, told, strict=False)]
        times = [b"%d" % stamp[1] if tell and stamp[0] else None for tell, stamp in zip(told, stamps, strict=False)]
        return times if any(times) else None

    def _fix(self, topic: str, partition: int) -> Headers:
        """The headers that all records of one source partition share."""
        source, hop = self._names.source, self._hop
        fixed: Headers = [(source["topic"], topic.encode()), (source["partition"], b"%d" % partition)]
        if hop.group is not None:
            fixed.append((source["consumer_group"], hop.group.encode()))
        if hop.cluster:
            fixed.append((source["cluster"], hop.cluster.encode()))
        return fixed

    def _destination(self, target: str | None) -> Destination:
        """Where a record goes that has this entry among the targets: a routed place, or a topic beside the main one."""
        if target is None:
            return self._target
        return self._routed.get(target) or Destination(self._hop.target_cluster, target)

    def _why_refused(self, headers: Headers, shape: Shape, hops: int, target: str | None) -> str:
        """Why a record may not go to its target: it was made from one of it, or made too many hops; empty if it may."""
        to = self._destination(target)
        if to.cluster and (kind := self._names.been_at(headers, shape, to.cluster.encode(), to.topic.encode())):
            return f"would loop: {to.topic} is its {kind}; forward to another topic"
        if hops >= self._hop.max_hops:
            return f"made {counted(hops, 'hop')} already (--max-hops {self._hop.max_hops}); find the circle or raise it"
        return ""

    def _find_direct_loops(self, batch: Batch, loops: dict[int, BadRecord]) -> None:
        """Records read from the very topic they go to: a pattern that matches the target, or a route back."""
        cluster, topics, targets = self._hop.cluster, batch.topics or [], batch.targets
        if targets is None:
            if self._target.cluster != cluster or self._target.topic not in topics:
                return
            targets = [None] * len(topics)
        homes = {
            target: home.topic for target in set(targets) if (home := self._destination(target)).cluster == cluster
        }
        for place, (topic, target) in enumerate(zip(topics, targets, strict=True)):
            if target in homes and homes[target] == topic:
                loops[place] = LoopingRecord(f"would loop: it comes from {topic} itself; exclude it from the sources")

    def _stamp_lines(self, batch: Batch) -> None:
        names = self._names
        shared: Headers = [
            (names.source["host"], self._hop.host.encode()),
            (names.source["file"], (batch.file or "").encode()),
        ]
        stamped: list[Headers | None] = []
        for line, own in zip(batch.lines or (), batch.headers or repeat(None), strict=False):
            kept, hops = names.carry_on(own, names.shape_of(own)) if own else ([], 0)
            source = [*shared, (names.source["line"], b"%d" % line)]
            stamped.append(self._join(kept, source, hops))
        batch.headers = stamped


class _ByTopic(dict[str, "_ByPartition"]):
    """What the records of a topic's partitions share, made when first asked for."""

    def __init__(self, make: Callable[[str, int], Headers]) -> None:
        self._make = make

    def __missing__(self, topic: str) -> _ByPartition:
        found = self[topic] = _ByPartition(topic, self._make)
        return found


class _ByPartition(dict[int, "Headers"]):
    def __init__(self, topic: str, make: Callable[[str, int], Headers]) -> None:
        self._topic, self._make = topic, make

    def __missing__(self, partition: int) -> Headers:
        found = self[partition] = self._make(self._topic, partition)
        return found

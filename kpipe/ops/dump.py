"""`kpipe dump`: a topic becomes a folder, partition by partition, up to its end as it is at the start.

No group is joined, nothing is committed. A further run goes on behind the last whole segment.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from kpipe.archive.compression import check_codec
from kpipe.archive.manifest import Contents, Journal, check_sizes, write_manifest
from kpipe.archive.writing import SegmentSink
from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.kafka import blueprints, questions
from kpipe.kafka.groups import committed_offsets, list_groups
from kpipe.kafka.questions import Failure
from kpipe.kafka.ranges import RangeReader, to_batch
from kpipe.ledger import Ledger
from kpipe.ops.places import Clusters, is_pattern, unknown
from kpipe.pipeline import Pipeline
from kpipe.plan import Planned
from kpipe.units import counted, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection
    from kpipe.ops.options import DumpOptions
    from kpipe.options import ConnectionOptions
    from kpipe.record import Batch
    from kpipe.shutdown import Stop

LEAST_SEGMENT = 1 << 10


class RangesSource:
    """Reads ranges of offsets one partition after the other, so that one segment is open at a time."""

    def __init__(self, connection: Connection, ranges: Mapping[TopicPartition, tuple[int, int]]) -> None:
        self.finished = False
        self.total = sum(end - start for start, end in ranges.values())
        self.done = 0
        """Offsets passed."""
        self._reader = RangeReader(connection)
        self._name = connection.label
        self._batches = self._read(ranges)

    def _read(self, ranges: Mapping[TopicPartition, tuple[int, int]]) -> Iterator[Batch | None]:
        for place, (start, end) in sorted(ranges.items()):
            before = self.done
            for messages in self._reader.records({place: (start, end)}):
                if messages:
                    self.done = before + int(messages[-1].offset() or 0) + 1 - start
                yield to_batch(messages, self._name) if messages else None
            self.done = before + end - start  # compaction and transactions leave offsets without a record

    def read(self) -> Batch | None:
        """The next records, None for a moment without one."""
        try:
            return next(self._batches)
        except StopIteration:
            self.finished = True
            return None

    def keep_alive(self) -> None:
        """Nobody waits for this reader."""

    def leave(self) -> None:
        """Read no further."""

    def close(self, timeout: float) -> None:
        """Let go of the consumer."""
        from kpipe.shutdown import run_bounded

        run_bounded(self._reader.close, timeout)


class ManifestWriter:
    """Writes the manifest when all that there was to read is in whole segments."""

    def __init__(self, folder: Path, contents: Contents, source: RangesSource, ends: dict[int, int]) -> None:
        self._folder, self._contents, self._source, self._ends = folder, contents, source, ends
        self.written = False

    def tick(self, ledger: Ledger) -> None:
        """The manifest comes last."""

    def finish(self, ledger: Ledger, timeout: float) -> None:
        """Write it, unless something is missing."""
        ledger.settle()
        if not (self._source.finished and ledger.complete):
            return
        self._contents.ends = self._ends
        self._contents.taken_ms = int(time.time() * 1000)
        try:
            write_manifest(self._folder, self._contents)
        except OSError as error:
            raise KpipeError(f"cannot write the manifest: {error.strerror}", where=str(self._folder)) from None
        self.written = True


def plan_dump(
    source: str,
    folder: str,
    connection: ConnectionOptions,
    options: DumpOptions,
    stop: Stop,
    say: Callable[[str], None],
) -> Planned:
    """Find out what there is and where an earlier run got to; UsageError before anything is written."""
    size = parse_size(options.segment, "--segment")
    if size < LEAST_SEGMENT:
        raise UsageError(f"--segment {options.segment!r}: too little; give 1K or more")
    check_codec(options.codec)
    (entry,) = Clusters(connection, say).asked([source])
    cluster, topic = entry.connection, entry.patterns[0]
    cluster.stopped = lambda: stop.requested
    if is_pattern(topic):
        raise UsageError(f"{topic!r}: a dump is of one topic; name it, and run one kpipe dump for each")
    known = cluster.metadata().topics
    if topic not in known:
        raise unknown(topic, sorted(known), cluster.label, "topic")
    numbers = sorted(known[topic].partitions)
    contents = Contents(cluster.label, cluster.cluster_id, topic)
    _describe(cluster, contents, say)  # before the ends are asked: no group stands behind them
    lows, ends = _bounds(cluster, topic, numbers)
    path = Path(folder)
    journal = Journal(path)
    resumed = journal.resume(contents)
    check_sizes(path, contents.segments)
    ranges = _ranges(cluster, contents, journal, lows, ends, say)
    if resumed:
        say(f"read: {folder}: going on behind {counted(contents.records, 'record')} there")
    for leftover in path.glob("*.part"):
        leftover.unlink()
    reading = RangesSource(cluster, ranges)
    writer = ManifestWriter(path, contents, reading, ends)
    sink = SegmentSink(path, contents, journal, options.codec, size)
    pipeline = Pipeline(reading, [], sink, writer, Ledger(), stop, say=say)
    planned = Planned(pipeline, lambda: float(reading.done), lambda: float(reading.total) or None)
    planned.outcome = "dumped"
    planned.facts = lambda: {
        "segments": len(contents.segments),
        "records_in_dump": contents.records,
        "bytes_in_dump": contents.bytes,
        "whole": writer.written,
    }
    planned.notes = lambda: _notes(folder, contents, whole=writer.written)
    return planned


def _notes(folder: str, contents: Contents, *, whole: bool) -> list[str]:
    there = f"{counted(contents.records, 'record')} in {counted(len(contents.segments), 'segment')}"
    there = f"{there}, {counted(contents.bytes, 'byte')}"
    if whole:
        return [f"{folder}: whole: {there}, {counted(len(contents.ends), 'partition')} of {contents.topic}"]
    return [f"{folder}: not whole yet: {there}; the same command goes on behind them"]


def _bounds(cluster: Connection, topic: str, numbers: list[int]) -> tuple[dict[int, int], dict[int, int]]:
    """First offset and end of each partition; a dump that cannot look at a partition would claim too much."""
    places = [(topic, number) for number in numbers]
    found: list[dict[int, int]] = []
    for answers in (questions.earliest(cluster, places), questions.latest(cluster, places, committed=True)):
        found.append({})
        for (_, number), answer in answers.items():
            if isinstance(answer, Failure):
                raise answer.error(cluster.where(topic, number))
            found[-1][number] = answer.offset
    return found[0], found[1]


def _ranges(
    cluster: Connection,
    contents: Contents,
    journal: Journal,
    lows: dict[int, int],
    ends: dict[int, int],
    say: Callable[[str], None],
) -> dict[TopicPartition, tuple[int, int]]:
    """What is still to be read; partitions of which there is nothing yet begin where they begin now."""
    for number, low in lows.items():
        if number not in contents.starts:
            contents.starts[number] = low
            journal.begin(number, low)
    ranges = {}
    for number, start in contents.next_offsets().items():
        where = cluster.where(contents.topic, number)
        if start > ends.get(number, -1):
            what = f"the dump goes to {start}, beyond its end: the topic was made anew, or is another one; name another"
            raise KpipeError(f"{what} folder", where=where, stage=Stage.CONFIG)
        if lows[number] > start:
            gone = counted(lows[number] - start, "offset")
            say(f"read: {where}: deleted before they were dumped: {gone} from {start} on")
        ranges[contents.topic, number] = (max(start, lows[number]), ends[number])
    return ranges


def _describe(cluster: Connection, contents: Contents, say: Callable[[str], None]) -> None:
    """The topic's own settings and where groups stand; what cannot be asked is told and left out."""
    topic = contents.topic
    try:
        contents.config = blueprints.like(cluster, topic).config
    except KpipeError as error:
        say(f"read: {cluster.where(topic)}: its settings are not in the dump: {error.what}")
    if cluster.is_embedded:
        return
    listed, troubles = list_groups(cluster)
    names = [each.group for each in listed if each.kind in ("consumer", "simple")]
    for group, answer in committed_offsets(cluster, names):
        if isinstance(answer, Failure):
            troubles.append(f"group {group}: {answer.text}")
            continue
        for (name, number), commit in sorted(answer.items()):
            if name != topic:
                continue
            if isinstance(commit, Failure):
                troubles.append(f"group {group}: {commit.text}")
                continue
            contents.groups.append(
                {"group": group, "partition": number, "offset": commit.offset, "metadata": commit.metadata}
            )
    contents.groups.sort(key=lambda each: (each["group"], each["partition"]))
    for trouble in troubles:
        say(f"read: {cluster.where(topic)}: where groups stand is not wholly in the dump: {trouble}")

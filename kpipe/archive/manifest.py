"""What is in a dump: the manifest (`manifest.json`, there when the dump is whole) and the journal before it.

The journal (`journal.jsonl`) has a line for each partition (where its dump begins) and one for each segment that is
whole and on the disk; a run that was killed leaves at most a torn last line, which is dropped.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from kpipe.errors import KpipeError, Stage, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANIFEST, JOURNAL = "manifest.json", "journal.jsonl"
FORMAT, VERSION = "kpipe-dump", 1
BLOCK = 1 << 20


@dataclass(slots=True, frozen=True)
class Segment:
    """One file: `records` envelopes of one partition, from offset `first` to offset `last`, `bytes` as they lie.

    `oldest_ms` and `newest_ms` are timestamps of its records; None in a dump of a kpipe that did not note them.
    """

    file: str
    partition: int
    first: int
    last: int
    records: int
    bytes: int
    sha256: str
    oldest_ms: int | None = None
    newest_ms: int | None = None


@dataclass(slots=True)
class Contents:
    """What was dumped: the offsets [start, end) of each partition of one topic, and in which files they are.

    `config` are the topic's own settings (None: nobody may know them). `groups`: where groups stood, each a `group`,
    `partition`, `offset` and `metadata`. `ends` is empty until the dump is whole.
    """

    cluster: str
    cluster_id: str
    topic: str
    starts: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    config: dict[str, str] | None = None
    groups: list[dict[str, Any]] = field(default_factory=list)
    taken_ms: int = 0

    @property
    def records(self) -> int:
        """How many records are in the segments."""
        return sum(segment.records for segment in self.segments)

    @property
    def bytes(self) -> int:
        """How large the segment files are."""
        return sum(segment.bytes for segment in self.segments)

    def next_offsets(self) -> dict[int, int]:
        """Where each partition goes on: behind its last whole segment."""
        return {**self.starts, **{segment.partition: segment.last + 1 for segment in self.segments}}


# --- the manifest --------------------------------------------------------------------------------------------------


def write_manifest(folder: Path, contents: Contents) -> None:
    """Put the manifest in place in one step, when everything that it names is on the disk."""
    counts = dict.fromkeys(contents.ends, 0)
    for segment in contents.segments:
        counts[segment.partition] += segment.records
    fields = {
        "format": FORMAT,
        "version": VERSION,
        "cluster": contents.cluster,
        "cluster_id": contents.cluster_id,
        "topic": contents.topic,
        "taken_ms": contents.taken_ms,
        "records": contents.records,
        "bytes": contents.bytes,
        "partitions": [
            {"partition": number, "start": contents.starts[number], "end": end, "records": counts[number]}
            for number, end in sorted(contents.ends.items())
        ],
        "config": contents.config,
        "groups": contents.groups,
        "segments": [asdict(segment) for segment in contents.segments],
    }
    text = orjson.dumps(fields, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    part = folder / f"{MANIFEST}.part"
    with part.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / MANIFEST)
    sync_folder(folder)


def read_manifest(folder: Path) -> Contents:
    """What a whole dump holds; UsageError where there is none, KpipeError where the manifest contradicts itself."""
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if (folder / JOURNAL).exists():
            raise UsageError("this dump is not whole; run its kpipe dump again", where=str(folder)) from None
        raise UsageError(f"no dump is there: it has no {MANIFEST}", where=str(folder)) from None
    except OSError as error:
        raise UsageError(f"cannot open: {error.strerror}", where=str(path)) from None
    try:
        fields = orjson.loads(text)
        known = (fields["format"], fields["version"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise _damaged(path, "is damaged: not the JSON that kpipe dump writes") from None
    if known != (FORMAT, VERSION):
        raise UsageError(f"is of version {known[1]!r}, and this kpipe reads {VERSION}", where=str(path))
    try:
        return _contents(path, fields)
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, "is damaged: a field is missing or of another kind") from None


def _contents(path: Path, fields: dict[str, Any]) -> Contents:
    segments = [Segment(**each) for each in fields["segments"]]
    partitions = {int(each["partition"]): each for each in fields["partitions"]}
    reached = {number: int(each["start"]) for number, each in partitions.items()}
    counts = dict.fromkeys(partitions, 0)
    for segment in segments:
        if segment.partition not in reached or not reached[segment.partition] <= segment.first <= segment.last:
            raise _damaged(path, f"is damaged: segment {segment.file} does not follow the one before it")
        reached[segment.partition] = segment.last + 1
        counts[segment.partition] += segment.records
    for number, each in partitions.items():
        if counts[number] != each["records"] or reached[number] > each["end"]:
            raise _damaged(path, f"is damaged: partition {number} has {each['records']} records in it, not those named")
    if sorted(partitions) != list(range(len(partitions))):
        raise _damaged(path, "is damaged: a partition is missing")
    return Contents(
        str(fields["cluster"]),
        str(fields["cluster_id"]),
        str(fields["topic"]),
        {number: int(each["start"]) for number, each in partitions.items()},
        {number: int(each["end"]) for number, each in partitions.items()},
        segments,
        None if fields["config"] is None else {str(name): str(value) for name, value in fields["config"].items()},
        list(fields["groups"]),
        int(fields["taken_ms"]),
    )


def check_segments(folder: Path, segments: list[Segment], stopped: Callable[[], bool]) -> None:
    """Read every file, and compare it with its size and SHA-256; KpipeError names the first that is not as written."""
    for segment in segments:
        path = folder / segment.file
        if Path(segment.file).name != segment.file:
            raise _damaged(path, "is damaged: a segment is a file of the folder")
        digest, size = hashlib.sha256(), 0
        try:
            with path.open("rb") as file:
                while not stopped() and (block := file.read(BLOCK)):
                    digest.update(block)
                    size += len(block)
        except OSError as error:
            raise _damaged(path, f"is missing or cannot be read: {error.strerror}") from None
        if stopped():
            return
        if size != segment.bytes or digest.hexdigest() != segment.sha256:
            raise _damaged(path, f"is damaged: {size:,} bytes that are not the {segment.bytes:,} that were written")


def check_sizes(folder: Path, segments: list[Segment]) -> None:
    """That every file is there in the size that was written, for a run that goes on behind them; KpipeError if not.

    What is in them is compared when they are loaded: to read a year of segments for a day more would be too dear.
    """
    for segment in segments:
        path = folder / segment.file
        try:
            size = path.stat().st_size
        except OSError as error:
            raise _damaged(path, f"is missing or cannot be read: {error.strerror}") from None
        if size != segment.bytes:
            raise _damaged(path, f"is damaged: {size:,} bytes that are not the {segment.bytes:,} that were written")


def _damaged(path: Path, what: str) -> KpipeError:
    return KpipeError(f"{what}; fetch it again from where the dump was kept", where=str(path), stage=Stage.READ)


# --- the journal ---------------------------------------------------------------------------------------------------


class Journal:
    """The journal of one dump, locked: two runs into one folder would write each other's files."""

    def __init__(self, folder: Path) -> None:
        import fcntl

        self.folder = folder
        path = folder / JOURNAL
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UsageError(f"cannot write there: {error.strerror}", where=str(error.filename or folder)) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError("another kpipe dump writes there now; wait for it", where=str(folder)) from None

    def resume(self, contents: Contents) -> bool:
        """Read what earlier runs have written into `contents`; False when there is nothing. UsageError: another topic.

        Behind the last whole line the journal is cut off.
        """
        rows, end = [], 0
        for row, size in _whole_lines(os.pread(self._fd, os.fstat(self._fd).st_size, 0)):
            rows.append(row)
            end += size
        os.ftruncate(self._fd, end)
        os.lseek(self._fd, end, os.SEEK_SET)
        if not rows:
            strangers = [each.name for each in self.folder.iterdir() if each.name != JOURNAL]
            if strangers:
                (self.folder / JOURNAL).unlink()
                raise UsageError("the folder is not empty and holds no dump; name another", where=str(self.folder))
            self._write({"version": VERSION, "cluster_id": contents.cluster_id, "topic": contents.topic})
            return False
        if (rows[0]["cluster_id"], rows[0]["topic"]) != (contents.cluster_id, contents.topic):
            what = f"holds a dump of topic {rows[0]['topic']} of another cluster, or another topic; name another folder"
            raise UsageError(what, where=str(self.folder))
        for row in rows[1:]:
            if "start" in row:
                contents.starts[row["partition"]] = row["start"]
            else:
                contents.segments.append(Segment(**row))
        return True

    def begin(self, partition: int, start: int) -> None:
        """The dump of a partition begins at this offset."""
        self._write({"partition": partition, "start": start})

    def add(self, segment: Segment) -> None:
        """A segment is whole, and on the disk."""
        self._write(asdict(segment))

    def _write(self, row: dict[str, Any]) -> None:
        line = memoryview(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        while line:
            line = line[os.write(self._fd, line) :]
        os.fsync(self._fd)

    def close(self) -> None:
        """Let the next run in."""
        os.close(self._fd)


def _whole_lines(text: bytes) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows of a journal with their lengths, up to the first that is torn."""
    for line in text.splitlines(keepends=True):
        try:
            row = orjson.loads(line) if line.endswith(b"\n") else None
        except orjson.JSONDecodeError:
            return
        if row is None:
            return
        yield row, len(line)


def sync_folder(folder: Path) -> None:
    """Make the names of new files last."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

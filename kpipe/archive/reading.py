"""The source of a load: segments become batches again, with the places that their records had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.archive.compression import open_segment
from kpipe.errors import KpipeError, Stage
from kpipe.formats.envelope import EnvelopeDecoder
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kpipe.archive.manifest import Contents, Segment
    from kpipe.record import Batch

NO_LIMIT = 1 << 31
BLOCK = 1 << 18
"""Bytes of envelopes that become one batch."""


class ArchiveSource:
    """Reads the segments of a dump in the order of their partitions; KpipeError where one does not hold its records."""

    def __init__(self, folder: Path, contents: Contents) -> None:
        self.finished = False
        self.count = 0
        """Records read."""
        self._batches = self._read(folder, contents)

    def _read(self, folder: Path, contents: Contents) -> Iterator[Batch]:
        for segment in contents.segments:
            yield from _batches(folder, segment, contents)

    def read(self) -> Batch | None:
        """The next records."""
        batch = next(self._batches, None)
        if batch is None:
            self.finished = True
        else:
            self.count += len(batch)
        return batch

    def keep_alive(self) -> None:
        """A file waits."""

    def leave(self) -> None:
        """Read no further."""
        self._batches.close()  # type: ignore[attr-defined]

    def close(self, timeout: float) -> None:
        """Nothing is open."""


def _batches(folder: Path, segment: Segment, contents: Contents) -> Iterator[Batch]:
    path = folder / segment.file
    decoder, count = EnvelopeDecoder(str(path), max_record_bytes=NO_LIMIT), 0
    try:
        with open_segment(path) as file:
            while block := file.read(BLOCK):
                batch = decoder.feed(block)
                count += batch.read
                if batch.read:
                    yield _placed(batch, segment, contents, path)
        batch = decoder.finish()
        count += batch.read
        if batch.read:
            yield _placed(batch, segment, contents, path)
    except (OSError, EOFError) as error:
        raise KpipeError(f"cannot be read: {error}; fetch it again", where=str(path), stage=Stage.READ) from None
    if count != segment.records:
        what = f"holds {counted(count, 'record')}, and the manifest says {segment.records:,}; fetch the dump again"
        raise KpipeError(what, where=str(path), stage=Stage.READ)


def _placed(batch: Batch, segment: Segment, contents: Contents, path: Path) -> Batch:
    """A batch as a topic's source gives it: its records are called by where they were, not by their line."""
    places = set(batch.partitions or [None])
    if batch.bad or places != {segment.partition} or set(batch.topics or ()) != {contents.topic} or not batch.offsets:
        what = batch.bad[0].error.what if batch.bad else "records of another place are in it"
        raise KpipeError(f"{what}; fetch it again", where=str(path), stage=Stage.READ)
    batch.file, batch.lines, batch.cluster = None, None, contents.cluster
    return batch

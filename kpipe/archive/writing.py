"""The sink of a dump: records become segment files, and count as delivered when their file is whole and on the disk."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from kpipe.archive.compression import check_codec, write_to
from kpipe.archive.manifest import Segment, sync_folder
from kpipe.errors import Stage, UndeliveredError
from kpipe.formats.envelope_output import EnvelopeEncoder
from kpipe.parts import SinkAtOnce

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kpipe.archive.manifest import Contents, Journal
    from kpipe.errors import KpipeError
    from kpipe.flight import Flight
    from kpipe.parts import Sent
    from kpipe.record import Batch

RECORDS = 100_000
"""Records of a segment: what a run that is killed has to read again, and how much stays in flight."""


class _Counted:
    """A file whose bytes are counted and hashed as they are written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, block: bytes) -> int:
        """As a file's."""
        self.digest.update(block)
        self.size += len(block)
        return self.file.write(block)

    def flush(self) -> None:
        """As a file's."""
        self.file.flush()


class SegmentSink(SinkAtOnce):
    """Writes batches of one partition after the other; `size` is how many bytes of envelopes a segment holds at most.

    What is written is in a `.part` file until it is whole; a file of that name is a leftover of a run that was killed.
    """

    def __init__(self, folder: Path, contents: Contents, journal: Journal, codec: str, size: int) -> None:
        self._folder, self._contents, self._journal = folder, contents, journal
        self._codec, self._size = codec, size
        self._suffix = ".jsonl" + check_codec(codec)
        self._encode = EnvelopeEncoder()
        self._part: Path | None = None
        self._file: IO[bytes] | None = None
        self._counted: Any = None
        self._stream: Any = None
        self._place = (-1, -1, -1)  # partition, first and last offset
        self._records = self._content = 0
        self._times: tuple[int, int] | None = None  # of the oldest and the newest record
        self._flights: list[Flight] = []

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Write the batch, whose records are of one partition."""
        numbers, offsets = batch.partitions or [], batch.offsets or []
        partition, first, last = int(numbers[0] or 0), int(offsets[0] or 0), int(offsets[-1] or 0)
        try:
            if self._stream is not None and self._place[0] != partition:
                self._finish()
            if self._stream is None:
                self._begin(partition, first)
            self._flights.append(flight)
            block = self._encode(batch)
            self._stream.write(block)
            self._place = (partition, self._place[1], last)
            self._records += len(batch)
            self._note_times(batch)
            self._content += len(block)
            if self._content >= self._size or self._records >= RECORDS:
                self._finish()
        except OSError as error:
            if flight not in self._flights:
                self._flights.append(flight)
            raise self._give_up(error) from None

    def _begin(self, partition: int, first: int) -> None:
        name = f"{partition:05d}-{first:020d}{self._suffix}"
        self._part = self._folder / f"{name}.part"
        self._place, self._records, self._content, self._times = (partition, first, first), 0, 0, None
        self._file = self._part.open("wb")
        self._counted = _Counted(self._file)
        self._stream = write_to(self._counted, self._codec)

    def _note_times(self, batch: Batch) -> None:
        times = [ms for _, ms in batch.timestamps or () if ms >= 0]
        if times:
            known = self._times or (times[0], times[0])
            self._times = min(known[0], *times), max(known[1], *times)

    def _finish(self) -> None:
        """The segment is whole: on the disk, under its name, in the journal; its records are settled."""
        if self._part is None or self._file is None:
            return
        if self._stream is not self._counted:
            self._stream.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        whole = self._part.with_suffix("")
        self._part.replace(whole)
        sync_folder(self._folder)
        counted, (partition, first, last) = self._counted, self._place
        hashed, times = counted.digest.hexdigest(), self._times or (None, None)
        segment = Segment(whole.name, partition, first, last, self._records, counted.size, hashed, *times)
        self._journal.add(segment)
        self._contents.segments.append(segment)
        for flight in self._flights:
            flight.settled += range(flight.read)
        self._flights.clear()
        self._part = self._file = self._stream = None

    def _give_up(self, error: OSError) -> KpipeError:
        """The segment cannot be finished: its records are not in the dump."""
        where = str(self._part or self._folder)
        if self._file is not None:
            self._stream = None
            with suppress(OSError):  # what is in its buffer cannot be written either
                self._file.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)
        self._part = self._file = self._stream = None
        for flight in self._flights:
            flight.leave_unsent(range(flight.read))
        self._flights.clear()
        what = f"cannot write: {error.strerror}; make room, and run it again: it goes on behind the last whole segment"
        return UndeliveredError(what, where=where, stage=Stage.SEND)

    def flush(self, timeout: float) -> bool:
        """What is written so far becomes a whole segment, shorter than others."""
        try:
            self._finish()
        except OSError as error:
            raise self._give_up(error) from None
        return True

    def explain(self, error: object, where: str, record: Sent | None = None) -> KpipeError:
        """Only the disk fails, and it has been told."""
        return UndeliveredError(str(error), where=where)

    def close(self, timeout: float) -> None:
        """Let the next run in."""
        self._journal.close()

"""A whole file is the value of one record, an empty file an empty value; and nothing is cut off its end.

It never returns a record before the file has ended.
"""

from __future__ import annotations

from kpipe.formats.splitting import MAX_RECORD_BYTES, oversized
from kpipe.record import Batch


class WholeDecoder:
    """One record per file; its position is line 1."""

    def __init__(self, file: str, *, max_record_bytes: int = MAX_RECORD_BYTES) -> None:
        self._file = file
        self._limit = max_record_bytes
        self._chunks: list[bytes] = []
        self.pending = 0
        self._rejected = False

    def feed(self, block: bytes) -> Batch:
        """Hold the block; report the record as soon as it is too long, and hold no more of it."""
        if self._rejected:
            return Batch([], file=self._file, lines=[])
        self._chunks.append(block)
        self.pending += len(block)
        if self.pending <= self._limit:
            return Batch([], file=self._file, lines=[])
        self._rejected = True
        self._chunks.clear()
        self.pending = 0
        batch = Batch([b""], file=self._file, lines=[1])
        batch.reject({0: oversized(self._limit)})
        return batch

    def finish(self) -> Batch:
        """Return the record."""
        if self._rejected:
            return Batch([], file=self._file, lines=[])
        value = b"".join(self._chunks)
        self._chunks.clear()
        self.pending = 0
        return Batch([value], file=self._file, lines=[1])

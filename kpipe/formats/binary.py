"""Length-prefixed records: key length, key, value length, value; lengths are big-endian int32, -1 is null.

Exact for every key and value; headers, timestamps and coordinates do not travel in it.
"""

from __future__ import annotations

from itertools import chain, repeat
from struct import Struct
from typing import TYPE_CHECKING

from kpipe.errors import BadRecord
from kpipe.formats.rows import unless_empty
from kpipe.formats.splitting import MAX_RECORD_BYTES, RAISE
from kpipe.record import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable

_INT32 = Struct(">i")
_NULL = _INT32.pack(-1)


class BinaryDecoder:
    """Length-prefixed input; positions are record numbers.

    After an impossible length nobody knows where the next record begins: that record is bad, and further calls raise.
    """

    def __init__(self, file: str, *, max_record_bytes: int = MAX_RECORD_BYTES) -> None:
        self._file = file
        self._limit = max_record_bytes
        self._chunks: list[bytes] = []
        self.pending = 0
        self._needed = 1
        self._read = 0
        self._lost: BadRecord | None = None

    def feed(self, block: bytes) -> Batch:
        """Return the records that `block` completes."""
        if self._lost is not None:
            raise self._lost
        self._chunks.append(block)
        self.pending += len(block)
        if self.pending < self._needed:  # a record over many blocks: join once, not per block
            return self._batch([], [], None)
        return self._cut(b"".join(self._chunks))

    def finish(self) -> Batch:
        """End of input: an unfinished record is a bad one."""
        if self._lost is not None:
            raise self._lost
        held, self.pending = self.pending, 0
        self._chunks.clear()
        error = BadRecord(f"the input ends inside a record, {held} bytes after its beginning; is it cut off?")
        return self._batch([], [], error if held else None)

    def _cut(self, data: bytes) -> Batch:
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        start, end, error = 0, len(data), None
        try:
            while start < end:
                key, middle = self._field(data, start, start, "key")
                value, after = self._field(data, middle, start, "value")
                keys.append(key)
                values.append(value)
                start = after
            self._needed = 1
        except _IncompleteError as incomplete:
            self._needed = incomplete.needed
        except BadRecord as bad:
            error = bad
            self._lost = BadRecord(
                "no record after a bad length can be found; correct the input",
                where=f"{self._file}:{self._read + len(keys) + 1}",
            )
            start = end
        self._chunks = [data[start:]]
        self.pending = end - start
        return self._batch(keys, values, error)

    def _field(self, data: bytes, at: int, start: int, name: str) -> tuple[bytes | None, int]:
        """Return the field at `at` and the place behind it."""
        body = at + 4
        if body > len(data):
            raise _IncompleteError(body - start)
        (length,) = _INT32.unpack_from(data, at)
        if length == -1:
            return None, body
        if length < 0 or length > self._limit:
            hint = f" {RAISE}" if length > 0 else ""
            raise BadRecord(f"{name} length is {length}; is this length-prefixed input (big-endian int32)?{hint}")
        if body + length > len(data):
            raise _IncompleteError(body + length - start)
        return data[body : body + length], body + length

    def _batch(self, keys: list[bytes | None], values: list[bytes | None], error: BadRecord | None) -> Batch:
        if error is not None:
            keys, values = [*keys, None], [*values, b""]
        first = self._read + 1
        self._read += len(values)
        batch = Batch(values, keys=unless_empty(keys), file=self._file, lines=range(first, self._read + 1))
        if error is not None:
            batch.reject({len(values) - 1: error})
        return batch


class _IncompleteError(Exception):
    """The record needs `needed` bytes, counted from its beginning, to get further."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


class BinaryEncoder:
    """Length-prefixed output."""

    def __call__(self, batch: Batch) -> bytes:
        """Return the batch as one block."""
        keys: Iterable[bytes | None] = repeat(None, len(batch)) if batch.keys is None else batch.keys
        key_lengths = [_NULL if key is None else _INT32.pack(len(key)) for key in keys]
        value_lengths = [_NULL if value is None else _INT32.pack(len(value)) for value in batch.values]
        filled = [key or b"" for key in batch.keys] if batch.keys is not None else repeat(b"")
        values = [value or b"" for value in batch.values]
        return b"".join(chain.from_iterable(zip(key_lengths, filled, value_lengths, values, strict=False)))

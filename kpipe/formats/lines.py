"""A delimited piece of input is a record, and a record is its value and a delimiter; optionally a key stands first.

Nothing is trimmed, decoded or guessed: only the delimiter is cut (a CR before it stays), an empty piece is an empty
value, and no text means null unless the user names one.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import cast

from kpipe.errors import UsageError
from kpipe.formats.pieces import PieceDecoder
from kpipe.formats.splitting import MAX_RECORD_BYTES, Splitter, oversized
from kpipe.record import Batch


class LineDecoder(PieceDecoder[bytes]):
    """Delimited input.

    `key_delimiter`: its first occurrence splits key and value; a piece without it is a value with a null key (the
    rule of kcat's -K). `null_marker`: a value, or a key that was split off, equal to it becomes null (b"" is a
    marker too, and then does what kcat's -Z does on input); a tombstone when the value does.
    """

    def __init__(
        self,
        file: str,
        *,
        delimiter: bytes = b"\n",
        key_delimiter: bytes | None = None,
        null_marker: bytes | None = None,
        max_record_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        check_delimiters(delimiter, key_delimiter)
        self._splitter = Splitter(delimiter, max_record_bytes)
        super().__init__(file, self._splitter)
        self._key_delimiter = key_delimiter
        self._null_marker = null_marker

    def _batch(self, lines: list[bytes]) -> Batch:
        values = cast("list[bytes | None]", lines)
        keys: list[bytes | None] | None = None
        if self._key_delimiter is not None:
            cut = [line.partition(self._key_delimiter) for line in lines]
            keys = [head if found else None for head, found, _ in cut]
            values = [tail if found else head for head, found, tail in cut]
        if self._null_marker is not None:
            values = nulled(values, self._null_marker)
            keys = None if keys is None else nulled(keys, self._null_marker)
        batch = Batch(values, keys=keys, file=self._file, lines=self._number(len(lines)))
        if self._splitter.oversized:
            batch.reject({place: oversized(self._splitter.limit) for place in self._splitter.oversized})
        return batch


class LineEncoder:
    """Delimited output: value, delimiter; with `key_delimiter` key, key delimiter, value, delimiter.

    Null is written as `null_marker`, else as nothing. What a reader of such output cannot tell apart is counted for
    a note at the end of the run: `ambiguous` records (the value holds the delimiter), `ambiguous_keys` (the key holds
    either delimiter), and `nulls`, the keys and values that were null and written as nothing.
    """

    def __init__(
        self, delimiter: bytes = b"\n", *, key_delimiter: bytes | None = None, null_marker: bytes | None = None
    ) -> None:
        check_delimiters(delimiter, key_delimiter)
        self._delimiter = delimiter
        self._key_delimiter = key_delimiter
        self._null_marker = null_marker
        self._bordered = has_border(delimiter)
        self._key_bordered = key_delimiter is not None and has_border(key_delimiter)
        self.ambiguous = self.ambiguous_keys = 0
        self.nulls = 0
        self.keeps_apart = "-J" if delimiter == b"\0" else "-0 or -J"
        """What tells records apart where this delimiter does not."""

    def __call__(self, batch: Batch) -> bytes:
        """Return the batch as one block."""
        if not batch.values:
            return b""
        if self._key_delimiter is None:
            return self._value_lines(batch.values)
        return self._pair_lines(batch, self._key_delimiter)

    def _value_lines(self, column: list[bytes | None]) -> bytes:
        values = cast("list[bytes]", column)
        try:
            block = self._delimiter.join([*values, b""])
        except TypeError:  # a null; asking for one first would cost more than the join
            values = self._filled(column)
            block = self._delimiter.join([*values, b""])
        if self._bordered or block.count(self._delimiter) != len(values):
            self.ambiguous += sum(map(self._ends_early, values))
        return block

    def _pair_lines(self, batch: Batch, key_delimiter: bytes) -> bytes:
        values = self._filled(batch.values)
        keys = self._filled(batch.keys if batch.keys is not None else [None] * len(values))
        columns = zip(keys, repeat(key_delimiter), values, repeat(self._delimiter), strict=False)
        block = b"".join(chain.from_iterable(columns))
        # One search per batch settles the usual case; a match across two joined keys only costs the exact count.
        if (
            self._bordered
            or self._key_bordered
            or block.count(self._delimiter) != len(values)
            or key_delimiter in b"".join(keys)
        ):
            for key, value in zip(keys, values, strict=True):
                if (key + key_delimiter).find(key_delimiter) != len(key) or self._delimiter in key:
                    self.ambiguous_keys += 1
                elif self._ends_early(key + key_delimiter + value):
                    self.ambiguous += 1
        return block

    def _filled(self, column: list[bytes | None]) -> list[bytes]:
        nulls = column.count(None)
        if not nulls:
            return cast("list[bytes]", column)
        if self._null_marker is None:
            self.nulls += nulls
        marker = self._null_marker or b""
        return [marker if entry is None else entry for entry in column]

    def _ends_early(self, text: bytes) -> bool:
        """Whether a reader sees the record end before its end (`a:` before `::` ends at the first colon)."""
        return (text + self._delimiter).find(self._delimiter) != len(text)


def check_delimiters(delimiter: bytes, key_delimiter: bytes | None) -> None:
    """UsageError for delimiters that can never be told apart."""
    if not delimiter:
        raise UsageError("the delimiter is empty; give at least one byte, or use --whole-file")
    if key_delimiter is None:
        return
    if not key_delimiter:
        raise UsageError("the key delimiter is empty; give at least one byte")
    if delimiter in key_delimiter:
        raise UsageError("the key delimiter holds the record delimiter, so no key could be found; choose another one")


def has_border(delimiter: bytes) -> bool:
    """Whether a delimiter begins as it ends (`::`), so that a value's last bytes may run into it."""
    return any(delimiter.startswith(delimiter[-length:]) for length in range(1, len(delimiter)))


def nulled(column: list[bytes | None], marker: bytes) -> list[bytes | None]:
    """Return the column with entries equal to the marker made null."""
    return [None if entry == marker else entry for entry in column]

"""What decoders share whose input is first cut into pieces: blocks in, pieces out, and each piece has a number.

It decodes nothing: a format only says how pieces become a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from kpipe.record import Batch

Piece = TypeVar("Piece")


class Cutter(Protocol[Piece]):
    """Cuts a stream of blocks, wherever their borders fall."""

    @property
    def pending(self) -> int:
        """Bytes of the unfinished piece held now."""

    def feed(self, block: bytes) -> list[Piece]:
        """Take a block; return the pieces that it completes."""

    def finish(self) -> list[Piece]:
        """End of input: what is left."""


class PieceDecoder(Generic[Piece]):
    """A decoder of one file. At the end of the input an unterminated last piece is a piece like any other."""

    def __init__(self, file: str, cutter: Cutter[Piece]) -> None:
        self._file = file
        self._cutter = cutter
        self._read = 0

    @property
    def pending(self) -> int:
        """Bytes of the unfinished record held now."""
        return self._cutter.pending

    def feed(self, block: bytes) -> Batch:
        """Return the records that `block` completes."""
        return self._batch(self._cutter.feed(block))

    def finish(self) -> Batch:
        """End of input: what is left is a record, or a bad one."""
        return self._batch(self._cutter.finish())

    def _batch(self, pieces: list[Piece]) -> Batch:
        raise NotImplementedError

    def _number(self, count: int) -> range:
        """The positions of the next `count` pieces, from 1."""
        first = self._read + 1
        self._read += count
        return range(first, self._read + 1)

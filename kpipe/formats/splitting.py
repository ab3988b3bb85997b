"""Cuts a stream of byte blocks into delimited pieces, wherever the block borders fall.

It never looks into a piece, never changes one, and never holds more than one unfinished piece (up to a limit).
"""

from __future__ import annotations

from kpipe.errors import BadRecord, UsageError
from kpipe.units import counted

MAX_RECORD_BYTES = 128 << 20
"""Default bound of one record in memory: far above what brokers take, far below what a machine has."""


RAISE = "--max-record-bytes raises the limit"


def oversized(limit: int) -> BadRecord:
    """Return the verdict on a record of more than `limit` bytes."""
    return BadRecord(
        f"record is longer than {counted(limit, 'byte')}; is the delimiter or the input format right? {RAISE}"
    )


class Splitter:
    """Pieces between delimiters, as `bytes.split` would cut the whole stream (leftmost first).

    `oversized` lists the places, in the pieces returned last, of those over `limit` bytes. Such a piece stands there
    empty, once, as soon as it is known to be too long; the rest of it is dropped up to its delimiter.
    """

    def __init__(self, delimiter: bytes, limit: int = MAX_RECORD_BYTES) -> None:
        if not delimiter:
            raise UsageError("the delimiter is empty; give at least one byte, or read the whole file as one record")
        self.delimiter = delimiter
        self.limit = limit
        self.oversized: list[int] = []
        # A delimiter may be split across blocks: its possible beginning waits in `_edge`, the rest of the unfinished
        # piece in `_held`. A list of chunks, joined once: joining per block would be quadratic for a long record.
        self._overlap = len(delimiter) - 1
        self._edge = b""
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._dropping = False

    @property
    def pending(self) -> int:
        """Bytes of the unfinished piece held now."""
        return 0 if self._dropping else self._held_bytes + len(self._edge)

    def feed(self, block: bytes) -> list[bytes]:
        """Take a block; return the pieces that it completes."""
        if self._edge:
            block = self._edge + block
        self.oversized = []
        pieces = block.split(self.delimiter)
        tail = pieces.pop()
        if pieces:
            self._complete(pieces, len(block))
        self._hold(tail)
        if self._held_bytes > self.limit:
            self._dropping = True
            self._clear()
            self.oversized.append(len(pieces))
            pieces.append(b"")
        return pieces

    def take(self, block: bytes) -> bytes | None:
        """Take a block; return the pieces that it completes uncut, with a delimiter of one byte behind each.

        None, and nothing is taken, where one of them may be too long or the delimiter is longer: `feed` tells.
        """
        if self._overlap or self._dropping or self._held_bytes + len(block) > self.limit:
            return None
        self.oversized = []
        end = block.rfind(self.delimiter) + 1
        whole = b""
        if end:
            whole = b"".join([*self._held, block[:end]])
            self._clear()
        self._hold(block[end:])
        return whole

    def finish(self) -> list[bytes]:
        """End of input: the unterminated last piece, if there is one."""
        self.oversized = []
        pieces = [b"".join([*self._held, self._edge])] if self.pending else []
        self._clear()
        self._edge, self._dropping = b"", False
        self._empty_oversized(pieces)
        return pieces

    def _complete(self, pieces: list[bytes], block_bytes: int) -> None:
        """Put what was held before the first piece; forget the end of a piece that was dropped."""
        bound = self._held_bytes + block_bytes
        if self._dropping:
            del pieces[0]
            self._dropping = False
        elif self._held:
            pieces[0] = b"".join([*self._held, pieces[0]])
            self._clear()
        if bound > self.limit:
            self._empty_oversized(pieces)

    def _empty_oversized(self, pieces: list[bytes]) -> None:
        for place, piece in enumerate(pieces):
            if len(piece) > self.limit:
                self.oversized.append(place)
                pieces[place] = b""

    def _hold(self, tail: bytes) -> None:
        if self._overlap:
            cut = max(len(tail) - self._overlap, 0)
            tail, self._edge = tail[:cut], tail[cut:]
        if tail and not self._dropping:
            self._held.append(tail)
            self._held_bytes += len(tail)

    def _clear(self) -> None:
        self._held.clear()
        self._held_bytes = 0

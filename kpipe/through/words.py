"""What another process says on stderr, cut into lines that can be shown; nothing of it is left out.

It reads no pipe and shows nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 1 << 16
"""Bytes of a line behind which the rest is a line of its own: one may never end."""


class Words:
    """Blocks in, lines out."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, block: bytes) -> list[str]:
        """The lines that are whole with this block; an empty block is the end, and makes a line of what is left."""
        *lines, rest = (self._rest + block).split(b"\n")
        if not block:
            lines, rest = ([rest] if rest else []), b""
        told = [piece for line in lines for piece in _pieces(line)]
        if len(rest) > LONGEST:
            *begun, rest = _pieces(rest)
            told += begun
        self._rest = rest
        return [line.decode(errors="replace") for line in told]


def _pieces(line: bytes) -> Iterator[bytes]:
    """A line in pieces of at most LONGEST bytes; no character of UTF-8 is cut in two."""
    start = 0
    while len(line) - start > LONGEST:
        end = start + LONGEST
        while end > start + LONGEST - 4 and line[end] & 0xC0 == 0x80:
            end -= 1
        yield line[start:end]
        start = end
    yield line[start:]

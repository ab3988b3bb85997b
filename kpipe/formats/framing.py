"""Finds the JSON values in a text where they may span lines (pretty-printed) or stand behind each other on one.

It never decides what a value means: it hands out texts and the line that each begins on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kpipe.formats.splitting import MAX_RECORD_BYTES, Splitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A JSON string cannot hold a raw line end, so every line can be scanned by itself; bytes that are not UTF-8 pass.
_MARK = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]')


class ValueFramer:
    """Texts of JSON values, each with the number of the line it begins on; None instead of a text that is too long.

    `whole` tells whether a text is a complete value: it is asked about lines like `{...}`, the usual case.
    A `{` in the first column begins a new value, so that one broken value does not swallow those behind it.
    """

    def __init__(self, whole: Callable[[bytes], bool], limit: int = MAX_RECORD_BYTES) -> None:
        self._whole = whole
        self._splitter = Splitter(b"\n", limit)
        self.limit = limit
        self._line = 0
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._start = 0
        self._depth = 0
        self._dropping = False

    @property
    def pending(self) -> int:
        """Bytes of the unfinished value held now."""
        return self._parts_bytes + self._splitter.pending

    def feed(self, block: bytes) -> list[tuple[int, bytes | None]]:
        """Return the values that `block` completes."""
        return list(self._frame(self._splitter.feed(block)))

    def finish(self) -> list[tuple[int, bytes | None]]:
        """End of input: what is left, complete or not."""
        return [*self._frame(self._splitter.finish()), *self._cut()]

    def _frame(self, lines: list[bytes]) -> Iterator[tuple[int, bytes | None]]:
        too_long = set(self._splitter.oversized)
        for place, text in enumerate(lines):
            self._line += 1
            line = text.removeprefix(b"\xef\xbb\xbf") if self._line == 1 else text
            if place in too_long:
                yield from self._cut()
                yield self._line, None
                continue
            if line.startswith(b"{"):
                yield from self._cut()
                self._dropping = False
                if line.rstrip().endswith(b"}") and self._whole(line):
                    yield self._line, line
                    continue
            if not self._dropping and (self._parts or line.strip()):
                yield from self._scan(line)

    def _scan(self, line: bytes) -> Iterator[tuple[int, bytes | None]]:
        """Follow the brackets through a line; a value ends where none is open any more."""
        done = 0
        for match in _MARK.finditer(line):
            mark = match[0]
            self._depth += (mark in b"{[") - (mark in b"}]")
            if self._depth <= 0 and mark in b"}]":
                self._hold(line[done : match.end()])
                done = match.end()
                yield from self._cut()
        rest = line[done:]
        if self._depth > 0 or rest.strip():
            self._hold(rest + b"\n")
        if self._parts and self._depth == 0:
            yield from self._cut()
        elif self._parts_bytes > self.limit:
            yield self._start, None
            self._clear()
            self._dropping = True

    def _hold(self, part: bytes) -> None:
        if not self._parts:
            self._start = self._line
        self._parts.append(part)
        self._parts_bytes += len(part)

    def _cut(self) -> Iterator[tuple[int, bytes | None]]:
        if self._parts:
            yield self._start, b"".join(self._parts)
        self._clear()

    def _clear(self) -> None:
        self._parts.clear()
        self._parts_bytes = self._depth = 0

r"""Makes what a record holds safe to print on a terminal, as ls does with names of files: ESC becomes `\x1b`.

It changes nothing that is printed anywhere else, and nothing that a person typed (delimiters, text of a format).
What it escapes: control characters but TAB (also those of C1, two bytes in UTF-8), line breaks, characters that turn
the direction of writing, and bytes that are no UTF-8.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.formats import Encoder
    from kpipe.record import Batch

_HARMLESS = re.compile(rb"[\t\x20-\x7e]*")
_UNSAFE = re.compile("[\0-\x08\n-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_LINES = re.compile(_UNSAFE.pattern.replace("\n-", "\x0b-"))


def show(content: bytes) -> bytes:
    """One key, value or name, on one line."""
    if _HARMLESS.fullmatch(content):
        return content
    return _UNSAFE.sub(_escape, content.decode("utf-8", "surrogateescape")).encode()


def show_json(block: bytes) -> bytes:
    """Lines of JSON, which stay JSON: an encoder escapes what is below U+0020, and nothing else."""
    if block.isascii() and b"\x7f" not in block:
        return block
    return (
        _UNSAFE_IN_LINES.sub(lambda match: json.dumps(match[0])[1:-1], block.decode())
        .replace("\x7f", "\\u007f")
        .encode()
    )


class ShownBlocks:
    """Blocks of a stream of lines, cut anywhere: its line breaks are its own, and stay."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode

    def __call__(self, block: bytes) -> bytes:
        """The next block; b"" is the end, and gives what is left of a character that was cut."""
        return _UNSAFE_IN_LINES.sub(_escape, self._decode(block, not block)).encode()


class ShownLines:
    """An encoder of delimited records whose keys and values are shown; what it counts is as if they were so."""

    def __init__(self, inner: Encoder) -> None:
        self.inner = inner

    def __call__(self, batch: Batch) -> bytes:
        """Return the batch as one block."""
        copy = batch.snapshot()
        copy.values = [None if value is None else show(value) for value in batch.values]
        copy.keys = None if batch.keys is None else [None if key is None else show(key) for key in batch.keys]
        return self.inner(copy)


class ShownWhole:
    """An encoder whose blocks are shown as a whole."""

    def __init__(self, inner: Encoder, show_block: Callable[[bytes], bytes]) -> None:
        self.inner = inner
        self._show = show_block

    def __call__(self, batch: Batch) -> bytes:
        """Return the batch as one block."""
        return self._show(self.inner(batch))


def _escape(match: re.Match[str]) -> str:
    r"""`\n`, `\x1b`, `\u202e`; a byte that is no UTF-8 as `\xff`."""
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()

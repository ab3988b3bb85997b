"""Records for people: time, place, key, headers and value; coloured and folded on a terminal, plain lines elsewhere.

It is made to be looked at, never to be read back: use envelopes for that. Nothing in a record can drive a terminal.

    2026-11-28 05:48:52.378  orders[0]@3  key=ada  team=fraud  {"amount":12}
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from typing import TYPE_CHECKING, TypeAlias

import orjson

from kpipe.formats.lineage import TraceNames
from kpipe.record import NO_TIMESTAMP
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kpipe.record import Batch, Headers, Timestamp

Span: TypeAlias = tuple[str, str]
"""A text and its style."""

STYLES = {
    "time": "2", "null": "2;3", "key": "1", "name": "38;5;30", "trace": "2", "field": "38;5;31", "text": "38;5;64",
    "number": "38;5;133", "word": "38;5;130", "hex": "2", "bad": "31", "": "",
}  # fmt: skip
"""Of the 256 colours of xterm those that are read on white and on black alike: of the first 16 yellow, green and cyan
vanish on white, and blue on black."""
PLACES = tuple(f"38;5;{number}" for number in (30, 130, 133, 64, 62, 68, 97, 66, 101, 132))
"""Colours, none of them red, that tell topics and clusters apart; the same name has the same one in every run."""
LEAST_WIDTH = 24
TAB = "  "
HEX_ROW = 16
HEX_SHOWN = 4096
"""Bytes of a value that a terminal shows in hexadecimal."""
_TOKEN = re.compile(
    r'(?P<field>"(?:[^"\\]|\\.)*"(?=\s*:))|(?P<text>"(?:[^"\\]|\\.)*")'
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<word>true|false|null)|(?P<rest>.)",
    re.DOTALL,
)


class PrettyEncoder:
    """Batches as text. `width` is the terminal's (None: a pipe), `expand` indents JSON values."""

    def __init__(self, *, width: int | None = None, color: bool = False, expand: bool = False) -> None:
        self._width = None if width is None else max(LEAST_WIDTH, width)
        self._color = color
        self._expand = expand
        self._names = TraceNames()
        self._clocks: dict[int, str] = {}

    def __call__(self, batch: Batch) -> bytes:
        """The records, each ended by a newline."""
        return "".join(self._record(batch, place) for place in range(len(batch))).encode("utf-8", "replace")

    def _record(self, batch: Batch, place: int) -> str:
        head: list[Span] = []
        stamp = batch.timestamps[place] if batch.timestamps is not None else NO_TIMESTAMP
        head.append((self._time(stamp), "time"))
        head.append((batch.where(place) or "-", f"place:{self._name(batch, place)}"))
        head += self._pair("key", batch.keys[place] if batch.keys is not None else None, "key")
        head += self._headers(batch.header(place))
        value = batch.values[place]
        body = self._value(value)
        if self._width is None:
            return "  ".join(text for text, _ in [*head, ("".join(text for text, _ in body), "")]) + "\n"
        return self._lay_out(head, body, self._width)

    def _name(self, batch: Batch, place: int) -> str:
        topic = batch.topics[place] if batch.topics is not None else ""
        return f"{batch.cluster}:{topic}"

    def _time(self, stamp: Timestamp) -> str:
        kind, ms = stamp
        if not kind or ms < 0:
            return "-" * 23
        from datetime import datetime

        try:
            return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S.") + f"{ms % 1000:03}"
        except (OverflowError, OSError, ValueError):
            return f"{ms} ms"

    def _pair(self, name: str, value: bytes | None, style: str) -> list[Span]:
        """`key=ada`; null and empty are told apart."""
        if value is None:
            return [(f"{name}=null", "null")]
        return [(f"{name}={_word(value)}", style)]

    def _headers(self, headers: Headers) -> list[Span]:
        """On a terminal the trace is one word: `<-orders[0]@3`."""
        spans: list[Span] = []
        shape = self._names.shape_of(headers) if headers else None
        folded = self._width is not None and shape is not None and shape.traced
        names = self._names.all if folded else ()
        for name, value in headers:
            if name not in names:
                spans += self._pair(shown(name), value, "name")
        if folded:
            last = {name: value or b"" for name, value in headers}
            for kind, found in (("origin", self._names.origin), ("source", self._names.source)):
                if found["topic"] in last:
                    at = [
                        last.get(found[field], b"?").decode(errors="replace")
                        for field in ("topic", "partition", "offset")
                    ]
                    arrow = "<-" if kind == "source" else "<<-"
                    spans.append((f"{arrow}{shown(at[0])}[{shown(at[1])}]@{shown(at[2])}", "trace"))
        return spans

    def _value(self, value: bytes | None) -> list[Span]:
        if value is None:
            return [("null", "null")]
        if not value:
            return [('""', "null")]
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return self._hexadecimal(value)
        if text[:1] in "{[" and (self._color or self._expand):
            try:
                orjson.loads(value)
            except orjson.JSONDecodeError:
                return [(shown(text), "")]
            return list(_expanded(text) if self._expand else _highlighted(text))
        return [(shown(text), "")]

    def _hexadecimal(self, value: bytes) -> list[Span]:
        """Rows with a gutter on a terminal; one number in a pipe."""
        if self._width is None:
            return [(f"0x{value.hex()}", "hex")]
        per_row = HEX_ROW if self._width >= 4 * HEX_ROW + 14 else HEX_ROW // 2
        rows = []
        for start in range(0, min(len(value), HEX_SHOWN), per_row):
            row = value[start : start + per_row]
            gutter = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
            rows.append(f"\n{TAB}{start:06x}  {row.hex(' '):<{per_row * 3}} |{gutter}|")
        if len(value) > HEX_SHOWN:
            rows.append(f"\n{TAB}... {counted(len(value) - HEX_SHOWN, 'more byte')}; -J or -f shows all")
        return [(row, "hex") for row in rows]

    # --- laying out on a terminal ----------------------------------------------------------------------------------

    def _lay_out(self, head: Sequence[Span], body: Sequence[Span], width: int) -> str:
        """The head on lines of `width`, then the value: behind it when it fits, else folded below it."""
        lines: list[list[Span]] = [[]]
        used = 0
        for text, style in head:
            gap = 2 if used else 0
            if used and used + gap + columns(text) > width:
                lines.append([])
                used, gap = 0, 2
            lines[-1].append((" " * gap, ""))
            used = self._fold([(text, style)], lines, used + gap, width)
        several = any("\n" in text for text, _ in body)
        if not several and used + 2 + sum(columns(text) for text, _ in body) <= width:
            lines[-1] += [("  ", ""), *body]
        else:
            if not (body and body[0][0].startswith("\n")):
                lines.append([(TAB, "")])
            self._fold(body, lines, len(TAB), width)
        return "".join("".join(self._paint(*span) for span in line).rstrip() + "\n" for line in lines)

    def _fold(self, spans: Iterable[Span], lines: list[list[Span]], used: int, width: int) -> int:
        """Put spans on lines, breaking them at the width; returns the columns used of the last line."""
        for text, style in spans:
            for number, part in enumerate(text.split("\n")):
                if number:
                    lines.append([])
                    used = 0
                rest = part
                while rest:
                    room = width - used
                    fits = cut(rest, room)
                    if not fits and used <= len(TAB):
                        fits = rest[:1]
                    if fits:
                        lines[-1].append((fits, style))
                        used += columns(fits)
                        rest = rest[len(fits) :]
                    if rest:
                        lines.append([(TAB, "")])
                        used = len(TAB)
        return used

    def _paint(self, text: str, style: str) -> str:
        if not self._color or not style or not text:
            return text
        is_place = style.startswith("place:")
        code = PLACES[zlib.crc32(style.encode()) % len(PLACES)] if is_place else STYLES[style]
        return f"\x1b[{code}m{text}\x1b[0m"


def _highlighted(text: str) -> Iterator[Span]:
    """The tokens of a JSON text, byte for byte."""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        yield shown(match[0]), "" if kind == "rest" else kind


def _expanded(text: str) -> Iterator[Span]:
    """The same with a line for each member: blanks between tokens are made anew, and no token is touched."""
    depth, opened = 0, False
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        mark = match[0] if kind == "rest" else ""
        if mark.isspace():
            continue
        closing = mark in ("}", "]")
        depth -= closing
        if opened != closing:
            yield f"\n{TAB}{TAB * depth}", ""
        opened = mark in ("{", "[")
        depth += opened
        yield shown(match[0]), "" if mark else kind
        if mark == ",":
            yield f"\n{TAB}{TAB * depth}", ""
        elif mark == ":":
            yield " ", ""


def _word(value: bytes) -> str:
    """A key or a header's value: as it is when it is one plain word, else quoted or in hexadecimal."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"
    if text and not re.search(r'[\s"=]', text):
        return shown(text)
    return '"' + shown(text.replace('"', '\\"')) + '"'


def shown(text: str) -> str:
    """A text whose control characters are escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int) -> str:
    """As much of a text as fits into so many columns."""
    if text.isascii():
        return text[: max(0, width)]
    used = 0
    for place, letter in enumerate(text):
        used += columns(letter)
        if used > width:
            return text[:place]
    return text

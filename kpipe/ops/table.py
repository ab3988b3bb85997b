"""Tables for people: numbers to the right, long names cut in the middle where a terminal is narrow, never in a pipe.

Nothing in a cell can drive a terminal: control characters are made visible.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kpipe.errors import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

GAP = 2
LEAST, ENOUGH = 12, 16
"""Columns below which a name is not cut, and below which it is not while there is other room."""
MOMENT = re.compile(r"(\d{4}-|)(\d\d-\d\d \d\d:\d\d)(:\d\d|)")
"""A cell that is a time, as `moment` writes it, or shorter."""
STYLES = {"bad": "1;31", "warn": "35", "head": "1", "": ""}


@dataclass(slots=True, frozen=True)
class Look:
    """How an answer is shown: `width` is the terminal's (None: no limit), `color` whether escapes are written.

    `year` is this one: where a terminal is narrow, times of it go without it, and then without their seconds.
    """

    width: int | None = None
    color: bool = False
    header: bool = True
    year: int | None = None

    def paint(self, text: str, style: str) -> str:
        """A text in a style, or as it is."""
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self.color and style else text


@dataclass(slots=True)
class Table:
    """Rows under `columns`; `>NAME` is aligned to the right, `NAME?` is left out where every cell is empty.

    Where a terminal is narrow, `NAME|SHORT` has its short head, and columns of `spare` go, the first one first.
    """

    columns: Sequence[str]
    spare: Sequence[str] = ()
    rows: list[Sequence[str]] = field(default_factory=list)
    styles: list[Mapping[int, str]] = field(default_factory=list)

    def add(self, *cells: object, styles: Mapping[int, str] | None = None) -> None:
        """One row; `styles` by column."""
        self.rows.append([visible(str(cell)) for cell in cells])
        self.styles.append(styles or {})

    def text(self, look: Look) -> str:
        """The table as lines."""
        kept = [
            place
            for place, name in enumerate(self.columns)
            if not name.endswith("?") or any(row[place] for row in self.rows)
        ]
        if len(kept) < len(self.columns):
            return self._of(kept).text(look)
        heads = [self._head(place) for place in range(len(self.columns))]
        lines = [heads, *self.rows] if look.header else list(self.rows)
        gap = GAP
        times = {place for place in range(len(heads)) if any(MOMENT.fullmatch(row[place]) for row in self.rows)}
        texts = [at for at, name in enumerate(self.columns) if not name.startswith(">") and at not in times]
        widths = _widths(lines, len(heads))
        if look.width is not None:

            def fits(least: int) -> bool:
                cut = [min(width, least) if at in texts else width for at, width in enumerate(widths)]
                return _total(cut, gap) <= look.width  # type: ignore[operator]

            for make in self._shorter_lines(times, look):
                if not fits(look.width):
                    lines = make(lines)
                    widths = _widths(lines, len(heads))
            if not fits(ENOUGH) and (spared := self._without_spare()) is not None:
                return spared.text(look)
            gap = GAP if fits(ENOUGH) else 1
            _shrink(widths, look.width, texts, gap)
        styles = [dict.fromkeys(range(len(heads)), "head"), *self.styles] if look.header else self.styles
        shown = [self._line(line, widths, look, style, gap) for line, style in zip(lines, styles, strict=True)]
        return "".join(f"{line}\n" for line in shown)

    def _head(self, place: int, *, short: bool = False) -> str:
        long, _, brief = self.columns[place].removeprefix(">").removesuffix("?").partition("|")
        return brief if short and brief else long

    def _shorter_lines(self, times: set[int], look: Look) -> list[Callable[[list[Sequence[str]]], list[Sequence[str]]]]:
        """What makes lines narrower, in this order: times without a year, short heads, times without seconds."""

        def times_as(form: str) -> Callable[[list[Sequence[str]]], list[Sequence[str]]]:
            return lambda lines: [
                [_shorter(cell, form, look.year) if at in times else cell for at, cell in enumerate(row)]
                for row in lines
            ]

        def short_heads(lines: list[Sequence[str]]) -> list[Sequence[str]]:
            if not look.header:
                return lines
            return [[self._head(place, short=True) for place in range(len(self.columns))], *lines[1:]]

        return [times_as(r"\2\3"), short_heads, times_as(r"\2")]

    def _without_spare(self) -> Table | None:
        """The table without the first column that can be spared; None where there is none."""
        for name in self.spare:
            kept = [place for place in range(len(self.columns)) if self._head(place) != name]
            if len(kept) < len(self.columns):
                return self._of(kept)
        return None

    def _of(self, kept: Sequence[int]) -> Table:
        """The table of these columns alone."""
        styles = [{new: each[old] for new, old in enumerate(kept) if old in each} for each in self.styles]
        columns = [self.columns[place].removesuffix("?") for place in kept]
        return Table(columns, self.spare, [[row[place] for place in kept] for row in self.rows], list(styles))

    def _line(
        self, cells: Sequence[str], widths: Sequence[int], look: Look, styles: Mapping[int, str], gap: int
    ) -> str:
        parts: list[str] = []
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            text = shorten(cell, width)
            blank = " " * (width - _width(text))
            text = look.paint(text, styles.get(place, ""))
            parts.append(f"{blank}{text}" if self.columns[place].startswith(">") else f"{text}{blank}")
        return (" " * gap).join(parts).rstrip()


def _widths(lines: Sequence[Sequence[str]], columns: int) -> list[int]:
    return [max((_width(line[place]) for line in lines), default=0) for place in range(columns)]


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _shrink(widths: list[int], limit: int, texts: Sequence[int], gap: int) -> None:
    """Take what is too much from the widest column of text, as long as it is wide."""
    while texts and _total(widths, gap) > limit:
        widest = max(texts, key=lambda place: widths[place])
        if widths[widest] <= LEAST:
            return
        widths[widest] -= 1


def _shorter(cell: str, form: str, year: int | None) -> str:
    """A time of this year without what `form` leaves out; any other text as it is."""
    found = MOMENT.fullmatch(cell)
    return found.expand(form) if found is not None and found[1] in ("", f"{year}-") else cell


def shorten(text: str, width: int) -> str:
    """A text cut in the middle to so many columns: what tells names apart is mostly at their ends."""
    if _width(text) <= width:
        return text
    left, right = (width - 1 + 1) // 2, (width - 1) // 2
    while left and _width(text[:left]) + _width(text[len(text) - right :]) + 1 > width:
        left, right = left - 1, max(0, right - 1)
    return f"{text[:left]}…{text[len(text) - right :]}"


def _width(text: str) -> int:
    """Terminal columns: wide letters (East Asian) take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def number(value: int | None) -> str:
    """`1,234,567`; `-` for what is not known."""
    return "-" if value is None else f"{value:,}"


def duration(ms: float | None) -> str:
    """`1.5 s`, `3m 20s`, `2h 5m`, `3d 4h`: two units at most; `-` for what is not known."""
    if ms is None:
        return "-"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f}s" if 0 < seconds < 10 else f"{seconds:.0f}s"
    units = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
    parts: list[str] = []
    rest = round(seconds)
    for unit, size in units:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def moment(ms: int | None) -> str:
    """A time of the local zone, to the second; `-` for what is not known."""
    if ms is None or ms < 0:
        return "-"
    from datetime import datetime

    try:
        return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return f"{ms} ms"


def rfc3339(ms: int | None) -> str | None:
    """A time for programs: UTC, to the millisecond; None for what is not known or beyond the year 9999."""
    if ms is None or ms < 0:
        return None
    from datetime import UTC, datetime, timedelta

    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    except OverflowError:
        return None


def size(count: float) -> str:
    """`1.2 MB`: bytes in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""

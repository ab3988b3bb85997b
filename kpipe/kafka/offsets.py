"""Reads where in a partition to start or stop, as people write it: `-o beginning`, `-o -10`, `--until @-15m`.

Never asks a cluster and never looks at the clock: what is returned says what to look up, and `now` is a parameter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kpipe.errors import UsageError
from kpipe.units import parse_time

if TYPE_CHECKING:
    from datetime import tzinfo


class OffsetKind(StrEnum):
    """What an Offset's value means."""

    BEGINNING = "beginning"
    """The first record there is."""
    END = "end"
    """After the last record there is."""
    STORED = "stored"
    """What the group has committed."""
    ABSOLUTE = "absolute"
    """value is an offset."""
    TAIL = "tail"
    """value is how many offsets before the end."""
    TIME = "time"
    """value is ms since the epoch: the first record at or after it."""


class RangeEnd(StrEnum):
    """Which end of a range the text itself named, as kcat's `s@` and `e@` do."""

    START = "start"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Offset:
    """A place in a partition, not yet looked up; `side` is None unless the text said `s@` or `e@`."""

    kind: OffsetKind
    value: int = 0
    side: RangeEnd | None = None

    def __str__(self) -> str:
        prefix = {None: "", RangeEnd.START: "s", RangeEnd.STOP: "e"}[self.side]
        match self.kind:
            case OffsetKind.TIME:
                return f"{prefix}@{self.value}"
            case OffsetKind.ABSOLUTE:
                return str(self.value)
            case OffsetKind.TAIL:
                return f"-{self.value}"
            case _:
                return self.kind.value


FORMS = "beginning, end, stored, N, -N (from the end), or a time: @03:10, @2025-11-23T10:00, @-15m, @EPOCH_MS"

_WORDS = {
    "beginning": OffsetKind.BEGINNING,
    "earliest": OffsetKind.BEGINNING,
    "oldest": OffsetKind.BEGINNING,
    "start": OffsetKind.BEGINNING,
    "end": OffsetKind.END,
    "latest": OffsetKind.END,
    "newest": OffsetKind.END,
    "stored": OffsetKind.STORED,
}
_INT64_MAX = 2**63 - 1
_NUMBER = re.compile(r"(-?)([0-9]{1,19})")
_SIDES = {"s@": RangeEnd.START, "e@": RangeEnd.STOP}


def parse_offset(text: str, now_ms: int, *, zone: tzinfo | None = None) -> Offset:
    """The grammar of -o and --until; UsageError for anything else.

    beginning | earliest | oldest | start      end | latest | newest      stored
    N            that offset
    -N           N offsets before the end
    @TIME        a time, see `kpipe.units.parse_time`; the @ may be left out where TIME is not a bare number
    s@... e@...  a time that says itself whether it starts or stops the reading (kcat)
    """
    if text in _WORDS:
        return Offset(_WORDS[text])
    side = _SIDES.get(text[:2])
    if side is not None or text.startswith("@"):
        time = text[1:] if side is None else text[2:]
        return Offset(OffsetKind.TIME, parse_time(time, now_ms, zone=zone, name=text[: -len(time) or None]), side)
    number = _NUMBER.fullmatch(text)
    if number is None:
        return Offset(OffsetKind.TIME, _time_without_mark(text, now_ms, zone))
    value = int(number[2])
    if value > _INT64_MAX:
        raise UsageError("no offset is that large; the largest is 9223372036854775807", where=repr(text))
    if not number[1]:
        return Offset(OffsetKind.ABSOLUTE, value)
    if value == 0:
        raise UsageError("-0 could be the first offset or the end; write 0 or end", where=repr(text))
    return Offset(OffsetKind.TAIL, value)


def _time_without_mark(text: str, now_ms: int, zone: tzinfo | None) -> int:
    """`-5m`, `yesterday`: what cannot be an offset may be a time; what is neither is told with both grammars."""
    try:
        return parse_time(text, now_ms, zone=zone)
    except UsageError as error:
        if "not a time" not in error.what:
            raise
        raise UsageError(f"not an offset; write {FORMS}", where=repr(text)) from None

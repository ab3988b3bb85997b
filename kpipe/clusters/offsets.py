"""Reads where in a partition to start or stop, as people write it: `-o beginning`, `-o -10`, `--until @-15m`.

Never asks a cluster and never looks at the clock: what is returned says what to look up, and `now` is a parameter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from datetime import tzinfo


class Kind(StrEnum):
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


class Side(StrEnum):
    """Which end of a range the text itself named, as kcat's `s@` and `e@` do."""

    START = "start"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Offset:
    """A place in a partition, not yet looked up; `side` is None unless the text said `s@` or `e@`."""

    kind: Kind
    value: int = 0
    side: Side | None = None

    def __str__(self) -> str:
        prefix = {None: "", Side.START: "s", Side.STOP: "e"}[self.side]
        match self.kind:
            case Kind.TIME:
                return f"{prefix}@{self.value}"
            case Kind.ABSOLUTE:
                return str(self.value)
            case Kind.TAIL:
                return f"-{self.value}"
            case _:
                return self.kind.value


FORMS = "beginning, end, stored, N, -N (from the end), @2025-11-23T10:00, @EPOCH_MS, @-15m or @now"

_WORDS = {
    "beginning": Kind.BEGINNING,
    "earliest": Kind.BEGINNING,
    "end": Kind.END,
    "latest": Kind.END,
    "stored": Kind.STORED,
}
_INT64_MAX = 2**63 - 1
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_NUMBER = re.compile(r"(-?)([0-9]{1,19})")
_EPOCH = re.compile(r"([0-9]{1,19})(ms|s)?")
_AGO = re.compile(r"-((?:[0-9]{1,15}(?:ms|[smhdw]))+)")
_AGO_PART = re.compile(r"([0-9]+)(ms|[smhdw])")
_SIDES = {"s@": Side.START, "e@": Side.STOP}


def parse_offset(text: str, now_ms: int, *, zone: tzinfo | None = None) -> Offset:
    """The grammar of -o and --until; UsageError for anything else.

        beginning | earliest     end | latest     stored
        N            that offset
        -N           N offsets before the end
        @EPOCH_MS    also @NUMBERms, @NUMBERs
        @ISO8601     a date, or a date and time; without a zone it is in `zone`, which is the local one when None
        @-15m        that long before `now_ms`: ms s m h d w, also @-1h30m; a day is 24 hours, a week 7 days
        @now
        s@... e@...  a time that says itself whether it starts or stops the reading (kcat)

    A bare number of 8-10 digits after @ is refused: it is a date without hyphens or seconds, not January to April 1970.
    """
    if text in _WORDS:
        return Offset(_WORDS[text])
    side = _SIDES.get(text[:2])
    if side is not None:
        return Offset(Kind.TIME, _parse_time(text[2:], text, now_ms, zone), side)
    if text.startswith("@"):
        return Offset(Kind.TIME, _parse_time(text[1:], text, now_ms, zone))
    number = _NUMBER.fullmatch(text)
    if number is None:
        raise UsageError(f"not an offset; write {FORMS}", where=repr(text))
    value = int(number[2])
    if value > _INT64_MAX:
        raise UsageError("no offset is that large; the largest is 9223372036854775807", where=repr(text))
    if not number[1]:
        return Offset(Kind.ABSOLUTE, value)
    if value == 0:
        raise UsageError("-0 could be the first offset or the end; write 0 or end", where=repr(text))
    return Offset(Kind.TAIL, value)


def _parse_time(time: str, text: str, now_ms: int, zone: tzinfo | None) -> int:
    """What stands after the @, as ms since the epoch, never negative (-1 and -2 mean end and beginning to Kafka)."""
    if time == "now":
        return now_ms
    if match := _EPOCH.fullmatch(time):
        ms = _epoch_ms(int(match[1]), match[2], text)
    elif match := _AGO.fullmatch(time):
        ms = now_ms - sum(int(count) * _UNIT_MS[unit] for count, unit in _AGO_PART.findall(match[1]))
    else:
        ms = _iso_ms(time, text, zone)
    if ms < 0:
        raise UsageError("the time is before 1970; write beginning", where=repr(text))
    if ms > _INT64_MAX:
        raise UsageError("the time is beyond what Kafka can count; write end", where=repr(text))
    return ms


def _epoch_ms(value: int, unit: str | None, text: str) -> int:
    """A number of ms or s; without a unit, refuse what is surely not ms (1970 or after the year 5138)."""
    if unit is not None:
        return value * _UNIT_MS[unit]
    if 10**8 <= value < 10**10:
        raise UsageError(
            f"that many milliseconds is in 1970; write @{value}s for seconds, or @{value}ms", where=repr(text)
        )
    if 10**7 <= value < 10**8:
        raise UsageError(
            f"that many milliseconds is in 1970; write a date as @2025-11-23, or @{value}ms", where=repr(text)
        )
    if value >= 10**14:
        raise UsageError(f"that looks like micro- or nanoseconds; write milliseconds, or @{value}ms", where=repr(text))
    return value


def _iso_ms(time: str, text: str, zone: tzinfo | None) -> int:
    """ISO 8601 as datetime reads it; a local time that a clock change repeats is the first of the two."""
    from datetime import UTC, datetime, timedelta

    try:
        moment = datetime.fromisoformat(time)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone) if zone is not None else moment.astimezone()
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"not a time; write {FORMS}", where=repr(text)) from None

"""Durations, sizes, rates and times as people write them: one grammar each, for every option that takes one.

It never looks at the clock, nor at the machine's time zone where one is given: `now_ms` and `zone` are parameters.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

DURATIONS = "500ms, 30s, 5m, 2h, 7d, 1h30m, or seconds"
SIZES = "512K, 32M or 1G (powers of 1024), 64kB or 2MB (powers of 1000), or bytes"
RATES = "records as 500/s, bytes as 2MB/s or 64KB/s"
TIMES = "03:10, 'yesterday 03:10', 2025-11-23T10:00, -15m, now, or ms since 1970"
"""What people can write, for messages and help."""

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_NUMBER = r"(?:\d{1,15}(?:\.\d{1,9})?|\.\d{1,9})"
_PART = rf"{_NUMBER}(?:ms|[smhdw])"
_DURATION = re.compile(rf"(?:{_PART})+", re.ASCII)
_PARTS = re.compile(r"([\d.]+)(ms|[smhdw])", re.ASCII)
_PLAIN = re.compile(_NUMBER, re.ASCII)

_SIZE = re.compile(rf"({_NUMBER}) ?(?:([kmgt])(i?b)?|b)?", re.ASCII | re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}

_EPOCH = re.compile(r"([0-9]{1,19})(ms|s)?", re.ASCII)
_CLOCK = re.compile(r"(?:(today|yesterday|tomorrow)(?:$|[ T]))?(?:(\d\d?:\d\d.*))?", re.ASCII)
_DAYS = {"": 0, "today": 0, "yesterday": -1, "tomorrow": 1}
_INT64_MAX = 2**63 - 1


def parse_duration(text: str, name: str = "") -> float:
    """Seconds of `500ms`, `30s`, `1h30m`, `7d`, `2w`, or of a bare number, which is seconds; a day is 24 hours.

    UsageError, which names the option `name`, for anything else.
    """
    if _PLAIN.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise _refusal(name, text, f"not a duration; write {DURATIONS}")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PARTS.findall(text))


def parse_size(text: str, name: str = "") -> int:
    """Bytes, at least one: `32M` and `32MiB` count in powers of 1024, `32MB` in powers of 1000, as dd and ls do."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise _refusal(name, text, f"not a size; write {SIZES}")
    number, unit, suffix = match.groups()
    base = 1000 if (suffix or "").lower() == "b" else 1024
    size = int(float(number) * base ** _POWERS.get((unit or "").lower(), 0))
    if size < 1:
        raise _refusal(name, text, "a size is at least one byte")
    return size


def parse_rate(text: str, name: str = "") -> tuple[float | None, float | None]:
    """(records, bytes) a second; one of them is None: `500/s` counts records, `2MB/s` and `64KiB/s` bytes."""
    amount, slash, second = text.partition("/")
    if slash and second == "s":
        if _PLAIN.fullmatch(amount) and float(amount) > 0:
            return float(amount), None
        if amount[-1:] in ("b", "B") and _SIZE.fullmatch(amount):
            return None, float(parse_size(amount, name))
    raise _refusal(name, text, f"not a rate; write {RATES}")


def parse_time(text: str, now_ms: int, *, zone: tzinfo | None = None, name: str = "") -> int:
    """Ms since the epoch, never negative; without a zone in the text it is in `zone`, or the machine's when None.

        now | today | yesterday | tomorrow         the latter at 00:00
        03:10[:00] | yesterday 03:10               of this day, or that one; maybe with Z or +01:00
        2025-11-23 | 2025-11-23T10:00[Z]           ISO 8601
        EPOCH_MS | NUMBERms | NUMBERs
        -15m | 15m ago | +5m                       before and after `now_ms`

    A bare number of 8-10 digits is refused: it is a date without hyphens or seconds, not January to April 1970.
    """
    if text == "now":
        return now_ms
    if match := _EPOCH.fullmatch(text):
        ms = _epoch_ms(int(match[1]), match[2], text, name)
    elif text[:1] in ("-", "+") and _DURATION.fullmatch(text[1:]):
        ms = now_ms + _signed_ms(text)
    elif text.endswith(" ago") and _DURATION.fullmatch(text.removesuffix(" ago")):
        ms = now_ms + _signed_ms(f"-{text.removesuffix(' ago')}")
    else:
        ms = _calendar_ms(text, now_ms, zone, name)
    if ms < 0:
        raise _refusal(name, text, "the time is before 1970; write beginning")
    if ms > _INT64_MAX:
        raise _refusal(name, text, "the time is beyond what Kafka can count; write end")
    return ms


def format_time(ms: int, zone: tzinfo | None = None) -> str:
    """A moment for people, with its zone: `2026-11-28T03:10:00+01:00`."""
    from datetime import UTC, datetime, timedelta

    try:
        moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).astimezone(zone)
    except (OverflowError, OSError, ValueError):
        return f"{ms} ms since 1970"
    return moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds")


def zone_name(now_ms: int) -> str:
    """The machine's time zone at that moment, for messages: `CET, UTC+01:00`, or `UTC`."""
    from datetime import UTC, datetime

    here = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone()
    offset = f"UTC{here:%z}"
    offset = f"{offset[:6]}:{offset[6:8]}"
    name = here.tzname() or offset
    return name if name == "UTC" else f"{name}, {offset}"


def short(number: float) -> str:
    """702k, 1.4M: three digits are enough for a rate."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            scaled = number / limit
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{number:.0f}"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 record`, `1,234 records`; `many` where it is not `one` with an s, as `1 record is`, `2 records are`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def clock_time(seconds: float) -> str:
    """Seconds left, for people: 4 s, 3:20, 2:05:00."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _refusal(name: str, text: str, what: str) -> UsageError:
    return UsageError(f"{name} {text!r}: {what}") if name else UsageError(what, where=repr(text))


def _signed_ms(text: str) -> int:
    """`-15m` in ms, exact for whole numbers of any size."""
    from decimal import Decimal

    scale = {unit: Decimal(str(seconds)) * 1000 for unit, seconds in _SECONDS.items()}
    total = sum((Decimal(number) * scale[unit] for number, unit in _PARTS.findall(text[1:])), Decimal(0))
    return int(-total if text[0] == "-" else total)


def _epoch_ms(value: int, unit: str | None, text: str, name: str) -> int:
    """A number of ms or s; without a unit, refuse what is surely not ms (1970 or after the year 5138)."""
    if unit is not None:
        return value * (1 if unit == "ms" else 1000)
    if 10**8 <= value < 10**10:
        raise _refusal(name, text, f"that many milliseconds is in 1970; write {value}s for seconds, or {value}ms")
    if 10**7 <= value < 10**8:
        raise _refusal(name, text, f"that many milliseconds is in 1970; write a date as 2025-11-23, or {value}ms")
    if value >= 10**14:
        raise _refusal(name, text, f"that looks like micro- or nanoseconds; write milliseconds, or {value}ms")
    return value


def _calendar_ms(text: str, now_ms: int, zone: tzinfo | None, name: str) -> int:
    """A day's name, a time of day or ISO 8601; a local time that a clock change repeats is the first of the two."""
    from datetime import UTC, datetime, timedelta

    try:
        match = _CLOCK.fullmatch(text)
        if text and match is not None:
            moment = _of_day(match[1] or "", match[2] or "00:00", datetime.fromtimestamp(now_ms / 1000, zone))
        else:
            moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone) if zone is not None else moment.astimezone()
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    except (ValueError, OverflowError, OSError):
        what = f"not a time; write {TIMES}; a time without a zone is local ({zone_name(now_ms)})"
        raise _refusal(name, text, what) from None


def _of_day(day: str, clock: str, now: datetime) -> datetime:
    """A time of day on the day of `now`, or a neighbour; without a zone of its own it has none."""
    from datetime import datetime, time, timedelta

    if clock[1:2] == ":":
        clock = f"0{clock}"
    at = time.fromisoformat(clock)
    return datetime.combine(now.date() + timedelta(days=_DAYS[day]), at, at.tzinfo)

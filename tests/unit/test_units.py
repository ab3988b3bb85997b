"""Durations, sizes, rates and times as people write them."""

from __future__ import annotations

import time
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.errors import UsageError
from kpipe.units import counted, format_time, parse_duration, parse_rate, parse_size, parse_time, zone_name

NOW = 1_763_884_800_000  # 2025-11-23T08:00:00Z, a Sunday
BERLIN = timezone(timedelta(hours=1))
NINE = NOW  # 09:00 in Berlin
DAY = 86_400_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("30", 30),
        ("0.25", 0.25),
        (".5s", 0.5),
        ("0", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "5 m", "5y", "1e9", "inf", "nan", "٣s", "5m ", "m", "1:30"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match=r"--min-age .*: not a duration; write 500ms, 30s"):
        parse_duration(text, "--min-age")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("100B", 100),
        ("512K", 512 << 10),
        ("32M", 32 << 20),
        ("32MiB", 32 << 20),
        ("32MB", 32_000_000),
        ("64kB", 64_000),
        ("1g", 1 << 30),
        ("2T", 2 << 40),
        ("1.5M", 3 << 19),
        ("2 GB", 2_000_000_000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0.1", "M", "-1M", "1X", "1P", "1 KM", "1e3", "1iB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--buffer "):
        parse_size(text, "--buffer")


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("500/s", (500, None)),
        ("0.5/s", (0.5, None)),
        ("2MB/s", (None, 2_000_000)),
        ("64KiB/s", (None, 65_536)),
        ("800B/s", (None, 800)),
    ],
)
def test_rates(text: str, rate: tuple[float | None, float | None]) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "5", "0/s", "5/m", "MB/s", "-1/s", "5k/s", "2M/s", "/s"])
def test_no_rates(text: str) -> None:
    with pytest.raises(UsageError, match=r"--rate .*not a rate"):
        parse_rate(text, "--rate")


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("now", NOW),
        ("1763884800000", NOW),
        ("1763884800s", NOW),
        ("-15m", NOW - 900_000),
        ("15m ago", NOW - 900_000),
        ("+1h30m", NOW + 5_400_000),
        ("-0.5s", NOW - 500),
        ("today", NINE - 9 * 3_600_000),
        ("yesterday", NINE - 9 * 3_600_000 - DAY),
        ("tomorrow", NINE - 9 * 3_600_000 + DAY),
        ("09:00", NINE),
        ("9:00", NINE),
        ("03:10", NINE - 5 * 3_600_000 - 50 * 60_000),
        ("09:00:30.5", NINE + 30_500),
        ("yesterday 09:00", NINE - DAY),
        ("yesterdayT09:00", NINE - DAY),
        ("today 23:00", NINE + 14 * 3_600_000),
        ("08:00Z", NINE),
        ("yesterday 08:00Z", NINE - DAY),
        ("10:00+02:00", NINE),
        ("2025-11-23", NINE - 9 * 3_600_000),
        ("2025-11-23T09:00", NINE),
        ("2025-11-23 08:00Z", NINE),
    ],
)
def test_times(text: str, ms: int) -> None:
    assert parse_time(text, NOW, zone=BERLIN) == ms


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a time"),
        ("soon", "not a time; write 03:10"),
        ("25:00", "not a time"),
        ("9", None),
        ("yesterday noon", "not a time"),
        ("03", None),
        ("-5", "not a time"),
        ("1763884800", "write 1763884800s"),
        ("1969-12-31T00:00Z", "before 1970"),
        ("-99999w", "before 1970"),
        ("9999999999999999999s", "beyond"),
    ],
)
def test_no_times_say_why(text: str, says: str | None) -> None:
    if says is None:
        assert parse_time(text, NOW) == int(text)
        return
    with pytest.raises(UsageError, match=says):
        parse_time(text, NOW)


@given(st.text())
def test_any_text_is_a_unit_or_a_usage_error(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_rate, lambda some: parse_time(some, NOW)):
        try:
            parse(text)
        except UsageError:
            continue


def test_a_time_says_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert format_time(NOW, BERLIN) == "2025-11-23T09:00:00+01:00"
    assert format_time(NOW + 1, BERLIN) == "2025-11-23T09:00:00.001+01:00"
    assert format_time(10**17) == f"{10**17} ms since 1970"
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    try:
        assert zone_name(NOW) == "CET, UTC+01:00"
        assert parse_time("09:00", NOW) == NOW
        monkeypatch.setenv("TZ", "UTC")
        time.tzset()
        assert zone_name(NOW) == "UTC"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("record",), "0 records"),
        (1, ("record",), "1 record"),
        (12_345, ("record",), "12,345 records"),
        (1, ("entry is", "entries are"), "1 entry is"),
        (2, ("entry is", "entries are"), "2 entries are"),
    ],
)
def test_one_is_not_many(number: int, words: tuple[str, ...], text: str) -> None:
    assert counted(number, *words) == text

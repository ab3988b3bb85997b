from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.errors import UsageError
from kpipe.kafka.offsets import Offset, OffsetKind, RangeEnd, parse_offset

NOW = 1_763_884_800_000  # 2025-11-23T08:00:00Z
BERLIN = timezone(timedelta(hours=1))
AT_10 = 1_763_888_400_000  # 2025-11-23T09:00:00Z


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("beginning", Offset(OffsetKind.BEGINNING)),
        ("earliest", Offset(OffsetKind.BEGINNING)),
        ("end", Offset(OffsetKind.END)),
        ("latest", Offset(OffsetKind.END)),
        ("stored", Offset(OffsetKind.STORED)),
        ("0", Offset(OffsetKind.ABSOLUTE, 0)),
        ("42", Offset(OffsetKind.ABSOLUTE, 42)),
        ("9223372036854775807", Offset(OffsetKind.ABSOLUTE, 2**63 - 1)),
        ("-1", Offset(OffsetKind.TAIL, 1)),
        ("-10", Offset(OffsetKind.TAIL, 10)),
        ("@1763884800000", Offset(OffsetKind.TIME, NOW)),
        ("s@1763884800000", Offset(OffsetKind.TIME, NOW, RangeEnd.START)),
        ("e@1763884800000", Offset(OffsetKind.TIME, NOW, RangeEnd.STOP)),
        ("@1763884800s", Offset(OffsetKind.TIME, NOW)),
        ("@1763884800ms", Offset(OffsetKind.TIME, 1763884800)),
        ("@0", Offset(OffsetKind.TIME, 0)),
        ("@now", Offset(OffsetKind.TIME, NOW)),
        ("@-500ms", Offset(OffsetKind.TIME, NOW - 500)),
        ("@-30s", Offset(OffsetKind.TIME, NOW - 30_000)),
        ("@-15m", Offset(OffsetKind.TIME, NOW - 900_000)),
        ("@-2h", Offset(OffsetKind.TIME, NOW - 7_200_000)),
        ("@-3d", Offset(OffsetKind.TIME, NOW - 3 * 86_400_000)),
        ("@-1w", Offset(OffsetKind.TIME, NOW - 7 * 86_400_000)),
        ("e@-1h30m", Offset(OffsetKind.TIME, NOW - 5_400_000, RangeEnd.STOP)),
        ("@2025-11-23T08:00:00Z", Offset(OffsetKind.TIME, NOW)),
        ("@2025-11-23T09:00:00+01:00", Offset(OffsetKind.TIME, NOW)),
        ("@2025-11-23T08:00:00.123456Z", Offset(OffsetKind.TIME, NOW + 123)),
        ("@2025-11-23T10:00", Offset(OffsetKind.TIME, AT_10)),
        ("@2025-11-23 10:00", Offset(OffsetKind.TIME, AT_10)),
        ("@2025-11-23", Offset(OffsetKind.TIME, AT_10 - 36_000_000)),
        ("s@20251123T100000", Offset(OffsetKind.TIME, AT_10, RangeEnd.START)),
        ("oldest", Offset(OffsetKind.BEGINNING)),
        ("start", Offset(OffsetKind.BEGINNING)),
        ("newest", Offset(OffsetKind.END)),
        ("-15m", Offset(OffsetKind.TIME, NOW - 900_000)),
        ("-1h30m", Offset(OffsetKind.TIME, NOW - 5_400_000)),
        ("yesterday", Offset(OffsetKind.TIME, AT_10 - 36_000_000 - 86_400_000)),
        ("10:00", Offset(OffsetKind.TIME, AT_10)),
        ("2025-11-23T10:00", Offset(OffsetKind.TIME, AT_10)),
        ("now", Offset(OffsetKind.TIME, NOW)),
    ],
)
def test_offset(text, offset):
    assert parse_offset(text, NOW, zone=BERLIN) == offset


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not an offset"),
        ("begin", "not an offset"),
        ("+5", "not an offset"),
        ("1.5", "not an offset"),
        ("٣", "not an offset"),
        ("-0", "write 0 or end"),
        ("9223372036854775808", "the largest is"),
        ("", "@03:10"),
        ("@", "not a time"),
        ("s@", "not a time"),
        ("@someday", "not a time"),
        ("@25:00", "not a time"),
        ("@", "local ("),
        ("@2025-13-01", "not a time"),
        ("@-5", "not a time"),
        ("@-5y", "not a time"),
        ("@9999-12-31T23:59:59-23:00", None),
        ("@1763884800", "write 1763884800s for seconds"),
        ("@999999999", "write 999999999s for seconds"),
        ("@20251123", "write a date as 2025-11-23"),
        ("@1763884800000000", "micro- or nanoseconds"),
        ("@1969-12-31T23:00:00Z", "before 1970"),
        ("@-99999w", "before 1970"),
        ("@9999999999999999999s", "beyond"),
    ],
)
def test_what_is_no_offset_says_why(text, says):
    if says is None:
        assert parse_offset(text, NOW).kind is OffsetKind.TIME
        return
    with pytest.raises(UsageError) as caught:
        parse_offset(text, NOW)
    assert says in str(caught.value)


def test_a_time_without_zone_is_local(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "UTC-5")  # POSIX: five hours east
    time.tzset()
    try:
        assert parse_offset("@2025-11-23T13:00", NOW).value == NOW
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_every_moment_is_the_millisecond_it_is_in(moment):
    ms = parse_offset(f"@{moment.isoformat()}", NOW).value
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert timedelta() <= since - timedelta(milliseconds=ms) < timedelta(milliseconds=1)


@given(st.text())
def test_any_text_is_an_offset_or_a_usage_error(text):
    for prefix in ("", "@", "s@", "@-"):
        with suppress(UsageError):
            assert 0 <= parse_offset(prefix + text, NOW).value < 2**63


@pytest.mark.parametrize("text", ["beginning", "end", "stored", "7", "-7", "@5", "s@5", "e@5"])
def test_an_offset_is_shown_as_it_is_written(text):
    assert str(parse_offset(text, NOW)) == text

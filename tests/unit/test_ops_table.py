"""Tables: aligned, cut in the middle where a terminal is narrow, never in a pipe, and no cell drives a terminal."""

from __future__ import annotations

import pytest

from kpipe.ops.table import Look, Table, duration, moment, number, rfc3339, shorten, size


def table() -> Table:
    made = Table(("NAME", ">COUNT", "NOTE?"))
    made.add("a-very-long-name-of-a-topic-in-production", 12, "")
    made.add("b", 3, "")
    return made


def test_numbers_stand_right_and_empty_columns_are_left_out() -> None:
    lines = table().text(Look()).splitlines()
    assert lines[0] == "NAME                                       COUNT"
    assert lines[2] == "b                                              3"


def test_a_narrow_terminal_cuts_the_middle_of_names() -> None:
    lines = table().text(Look(width=30)).splitlines()
    assert max(map(len, lines)) == 30
    assert "…" in lines[1]
    assert lines[1].startswith("a-very-")


def test_a_column_of_numbers_is_never_cut() -> None:
    assert table().text(Look(width=5)).splitlines()[1].endswith("12")


def test_control_characters_are_shown_and_wide_letters_counted() -> None:
    made = Table(("NAME", ">N"))
    made.add("\x1b[2Jx", 1)
    made.add("日本", 2)
    lines = made.text(Look(color=True)).splitlines()
    assert "\x1b[2J" not in lines[1]
    assert lines[2] == "日本      2"


def test_color_only_where_it_is_asked_for() -> None:
    made = Table(("NAME",))
    made.add("x", styles={0: "bad"})
    assert "\x1b" not in made.text(Look())
    assert "\x1b[1;31mx\x1b[0m" in made.text(Look(color=True))
    assert made.text(Look(header=False)) == "x\n"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "-"),
        (0, "0s"),
        (1500, "1.5s"),
        (59_000, "59s"),
        (200_000, "3m 20s"),
        (7_500_000, "2h 5m"),
        (273_600_000, "3d 4h"),
        (86_400_000, "1d"),
    ],
)
def test_durations_have_two_units_at_most(ms: int | None, text: str) -> None:
    assert duration(ms) == text


def test_what_is_not_known_is_a_dash_for_people_and_null_for_programs() -> None:
    assert (number(None), moment(None), moment(-1), rfc3339(-1)) == ("-", "-", "-", None)
    assert rfc3339(1_700_000_000_123) == "2023-11-14T22:13:20.123+00:00"
    assert (moment(10**17), rfc3339(10**17)) == (f"{10**17} ms", None)
    assert (number(1234567), size(999), size(1_500_000)) == ("1,234,567", "999 B", "1.5 MB")


@pytest.mark.parametrize("width", range(3, 12))
def test_a_cut_name_is_as_wide_as_asked(width: int) -> None:
    assert len(shorten("abcdefghijklmnop", width)) == width


def test_times_lose_their_year_and_seconds_before_a_name_is_cut_and_only_this_year() -> None:
    table = Table(("TOPIC", "FIRST", "NEWEST"))
    table.add("a-topic-of-a-long-name", "2019-01-02 03:04:05", "2026-11-28 03:10:00")

    def shown(width: int) -> str:
        return table.text(Look(width=width, header=False, year=2026)).rstrip()

    assert shown(70) == "a-topic-of-a-long-name  2019-01-02 03:04:05  2026-11-28 03:10:00"
    assert shown(60) == "a-topic-of-a-long-name  2019-01-02 03:04:05  11-28 03:10:00"
    assert shown(56) == "a-topic-of-a-long-name  2019-01-02 03:04:05  11-28 03:10"
    assert shown(50) == "a-topic-…ng-name  2019-01-02 03:04:05  11-28 03:10"


def test_a_narrow_terminal_takes_short_heads_then_columns_that_can_be_spared_then_blanks() -> None:
    def shown(width: int) -> list[str]:
        made = Table(("NAME", ">PARTITION|PART", ">END", "HOST?"), spare=("HOST",))
        made.add("a-topic-of-16-le", 3, "1,234", "10.0.0.1")
        return made.text(Look(width=width)).splitlines()

    assert shown(46) == ["NAME              PARTITION    END  HOST", "a-topic-of-16-le          3  1,234  10.0.0.1"]
    assert shown(43) == ["NAME              PART    END  HOST", "a-topic-of-16-le     3  1,234  10.0.0.1"]
    assert shown(36) == ["NAME              PARTITION    END", "a-topic-of-16-le          3  1,234"]
    assert shown(29) == ["NAME              PART    END", "a-topic-of-16-le     3  1,234"]
    assert shown(28) == ["NAME             PART   END", "a-topic-of-16-le    3 1,234"]
    assert shown(25) == ["NAME           PART   END", "a-topic…-16-le    3 1,234"]

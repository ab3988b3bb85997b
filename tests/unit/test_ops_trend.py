"""Rates and forecasts from repeated looks, and how long unread records are kept."""

from __future__ import annotations

import pytest

from kpipe.ops.groups import Group, PartitionLag
from kpipe.ops.trend import Trend, Trends, margin_ms, smallest


def trend(*looks: tuple[float, int, int]) -> Trend:
    made = Trend()
    for look in looks:
        made.add(*look)
    return made


def test_one_look_gives_no_rate() -> None:
    assert trend((0, 5, 10)).rates() is None


def test_rates_and_time_to_catch_up() -> None:
    rates = trend((0, 0, 100), (10, 50, 120)).rates()
    assert rates is not None
    assert (rates.incoming, rates.outgoing) == (2, 5)
    assert rates.catch_up_s == pytest.approx(70 / 3)
    assert not rates.still


def test_a_lag_that_grows_is_never_caught_up() -> None:
    rates = trend((0, 0, 100), (10, 10, 200)).rates()
    assert rates is not None
    assert rates.catch_up_s is None


def test_standing_still_needs_something_that_waits() -> None:
    waiting, idle = trend((0, 5, 9), (10, 5, 9)).rates(), trend((0, 9, 9), (10, 9, 9)).rates()
    assert waiting is not None
    assert idle is not None
    assert (waiting.still, idle.still, idle.catch_up_s) == (True, False, 0)


def test_commits_in_steps_are_smoothed() -> None:
    looks = [(float(second), second // 5 * 50, 1000) for second in range(30)]
    rates = trend(*looks).rates()
    assert rates is not None
    assert rates.outgoing == pytest.approx(10, abs=4)


@pytest.mark.parametrize("last", [(10, 3, 100), (10, 60, 90)])
def test_an_offset_that_went_back_gives_no_rate(last: tuple[float, int, int]) -> None:
    assert trend((0, 50, 100), last).rates() is None


def test_a_group_stands_still_when_each_lagging_partition_does() -> None:
    trends = Trends()
    for at, moved in ((0.0, 0), (5.0, 10)):
        rows = [
            PartitionLag("t", 0, committed=5, start=0, end=9),
            PartitionLag("t", 1, committed=moved, start=0, end=50),
        ]
        group = Group("g", rows=rows)
        trends.look(group, at)
    assert trends.of("g", rows[0]).still  # type: ignore[union-attr]
    assert not trends.sum(group).still  # type: ignore[union-attr]


def test_the_margin_is_what_is_sure() -> None:
    row = PartitionLag("t", 0, waiting_ms=1000)
    assert margin_ms(row, {"cleanup.policy": "delete", "retention.ms": "5000"}, 3000) == 3000
    assert margin_ms(row, {"cleanup.policy": "delete", "retention.ms": "5000"}, 30_000) == 0
    assert margin_ms(row, {"cleanup.policy": "delete", "retention.ms": "-1"}, 0) is None
    assert margin_ms(row, {"cleanup.policy": "compact", "retention.ms": "5000"}, 0) is None
    assert margin_ms(row, {"retention.ms": "5000", "retention.bytes": "10"}, 0) is None
    assert smallest([None, 5, 3]) == 3
    assert smallest([None]) is None


def test_sums_leave_out_what_is_not_known() -> None:
    group = Group(
        "g",
        rows=[
            PartitionLag("t", 0, committed=2, start=0, end=5),
            PartitionLag("t", 1, start=0, end=9),
            PartitionLag("t", 2),
        ],
    )
    assert (group.lag, group.without_offset, group.behind_ms) == (3, 2, None)
    assert Group("g").lag is None

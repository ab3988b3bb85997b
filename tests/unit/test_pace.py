"""What --rate lets through: the reading of a topic asks how many records it may take, and the sending uses them up."""

from __future__ import annotations

import pytest

from kpipe.pace import Pace


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def drive(
    pace: Pace, time: Time, seconds: float, *, size: int = 100, passing: float = 1.0, turn: float = 0.0001
) -> int:
    """Read and send at the pace, as the pipeline does; how many records were sent."""
    sent = 0
    while time.now < seconds:
        most, wait = pace.most(500)
        if not most:
            time.now += min(0.1, wait)
            continue
        count = int(most * passing)
        pace.note_read(most)
        pace.take(count, count * size)
        sent += count
        time.now += turn
    return sent


@pytest.mark.parametrize("rate", [100, 510, 2000, 20_000])
def test_records_a_second(rate: int) -> None:
    time = Time()
    assert drive(Pace(rate, None, lambda: False, time), time, 10) == pytest.approx(rate * 10, rel=0.05)


@pytest.mark.parametrize(("rate", "size"), [(100_000, 1000), (100_000, 300_000), (2_000_000, 50), (50_000_000, 10_000)])
def test_bytes_a_second(rate: int, size: int) -> None:
    time = Time()
    sent = drive(Pace(None, rate, lambda: False, time), time, 30, size=size)
    assert sent * size == pytest.approx(rate * 30, rel=0.1)


def test_what_a_filter_drops_does_not_count() -> None:
    time = Time()
    assert drive(Pace(1000, None, lambda: False, time), time, 10, passing=0.1) == pytest.approx(10_000, rel=0.1)


def test_slow_turns_do_not_make_the_rate_a_lower_one() -> None:
    time = Time()
    assert drive(Pace(2000, None, lambda: False, time), time, 10, turn=0.15) == pytest.approx(20_000, rel=0.1)


def test_a_batch_is_worth_its_turn() -> None:
    """At 20,000 records a second a turn a record would take a whole core."""
    time = Time()
    pace = Pace(20_000, None, lambda: False, time)
    pace.note_read(400)
    pace.take(400, 0)
    assert pace.most(500)[0] == 0
    time.now = 0.03
    assert pace.most(500)[0] >= 350


def test_a_run_that_must_end_waits_for_nothing_and_reads_nothing() -> None:
    time = Time()
    pace = Pace(1, 1, lambda: True, time)
    pace.take(1000, 1000)
    assert pace.most(500) == (0, 0.0)
    assert pace.wait() == 0.0

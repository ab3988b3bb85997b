"""The balance as people and as scripts read it."""

from __future__ import annotations

import io
import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from kpipe.cli.live import LiveLine
from kpipe.errors import KpipeError
from kpipe.ledger import Ledger
from kpipe.run.summary import Summary
from kpipe.units import clock_time, short

if TYPE_CHECKING:
    from pathlib import Path


def summary(seconds: float = 1.4, **counts: int) -> Summary:
    ledger = Ledger()
    for name, count in counts.items():
        setattr(ledger, name, count)
    return Summary(ledger, clock=lambda: 100.0 + seconds, started=100.0)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            summary(read=1_000_000, delivered=1_000_000),
            "1,000,000 read, 1,000,000 delivered, 0 failed in 1.4 s (714k/s)",
        ),
        (
            summary(10.0, read=9, delivered=2, filtered=1, dead_lettered=3, failed=1, unknown=2),
            "9 read, 2 delivered, 1 filtered, 3 dead-lettered, 1 failed, 2 unknown in 10.0 s (1/s)",
        ),
        (summary(0.0), "0 read, 0 delivered, 0 failed in 0.0 s (0/s)"),
    ],
)
def test_the_line(told: Summary, line: str) -> None:
    assert told.line() == line


def test_the_file_is_replaced_in_one_step_with_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")
    before = os.umask(0o027)
    try:
        summary(read=5, delivered=3, filtered=1, unknown=1).write(str(path), signal="SIGTERM")
    finally:
        os.umask(before)

    told = json.loads(path.read_bytes())
    assert told == {
        "read": 5, "delivered": 3, "filtered": 1, "dead_lettered": 0, "failed": 0, "unknown": 1,
        "seconds": 1.4, "signal": "SIGTERM",
    }  # fmt: skip
    assert told["read"] == sum(told[name] for name in ("delivered", "filtered", "dead_lettered", "failed", "unknown"))
    assert path.read_bytes().endswith(b"}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["summary.json"]


def test_a_fifo_or_device_is_written_to_and_not_replaced() -> None:
    out, into = os.pipe()
    summary(read=1, delivered=1).write(f"/proc/self/fd/{into}")
    assert json.loads(os.read(out, 4096))["delivered"] == 1
    os.close(out)
    os.close(into)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(KpipeError, match="cannot write the summary: No such file or directory"):
        summary().write(str(tmp_path / "missing" / "summary.json"))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (99_940, "99.9k"), (702_345, "702k"), (1.4e6, "1.4M"), (2e9, "2.0G")],
)
def test_rates(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(4.9, "4 s"), (59, "59 s"), (200, "3:20"), (7500, "2:05:00")])
def test_times_left(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text


def test_the_live_line_has_rate_share_and_time_left() -> None:
    now = [100.0]
    ledger = Ledger()
    told = Summary(ledger, clock=lambda: now[0], started=100.0)
    stream = io.StringIO()
    live = LiveLine(told, stream, done=lambda: float(ledger.read), total=lambda: 4000.0)
    live()
    now[0] = 102.0
    ledger.read, ledger.in_flight = 1000, 7
    live()
    live.close()

    assert live._text(102.0).startswith("kpipe: 1,000 read, ")
    assert "7 in flight, 25%, 6 s left" in live._text(102.0)


def test_a_live_line_that_never_started_closes() -> None:
    stream = io.StringIO()
    LiveLine(summary(), stream, done=lambda: 0.0, total=lambda: None).close()
    assert stream.getvalue() == ""

"""The page that `make faults` writes at the end of a long run."""

from __future__ import annotations

from kpipe import __version__
from tests.faults.table import Row, render


def test_the_page_has_a_row_for_each_fault_under_its_command() -> None:
    rows = [Row("produce", "a", 1, "fine", "fine", 10), Row("forward", "b", 50, "0 lost", "0 lost", 500)]

    page = render(rows, 7, 90.0)

    assert f"kpipe {__version__}, " in page
    assert "2 faults, 51 runs, 510 records, 2 minutes." in page
    assert page.index("## forward") < page.index("| b | 50 | 0 lost | 0 lost |") < page.index("## produce")

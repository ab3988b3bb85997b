"""What is said of records that were not delivered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from kpipe.cli.run import _conclude, _list_lost
from kpipe.ledger import Ledger
from kpipe.options import RunOptions
from kpipe.run.summary import SHOWN, Summary

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("spill", "advice"),
    [
        (None, "; --spill FILE keeps them all"),
        (SimpleNamespace(path="kept.jsonl", written=0), "; --spill FILE keeps them all"),
        (SimpleNamespace(path="kept.jsonl", written=100), "; kept.jsonl keeps 100"),
    ],
)
def test_the_list_ends_with_where_the_records_are(
    capsys: pytest.CaptureFixture[str], spill: object, advice: str
) -> None:
    lost = [(f"stdin:{number}", "unknown") for number in range(1, 101)]
    _list_lost(SimpleNamespace(lost=lost, spill=spill, sink=None))  # type: ignore[arg-type]
    *listed, last = capsys.readouterr().err.splitlines()
    assert len(listed) == SHOWN
    assert last == f"kpipe: not delivered: 90 more, from stdin:{SHOWN + 1} to stdin:100{advice}"


def test_a_summary_that_cannot_be_written_does_not_keep_observers_from_their_end(tmp_path: Path) -> None:
    """--metrics-file and others are left behind, too; the code is that of the run, or 1."""
    ended: list[int] = []
    observer = SimpleNamespace(finish=ended.append)
    pipeline = SimpleNamespace(ledger=Ledger(), error=None, sink=None)
    planned = SimpleNamespace(pipeline=pipeline, notes=list, fell_short=lambda: False)
    options = RunOptions(summary=str(tmp_path / "no" / "such" / "folder"), quiet=True)
    stop = SimpleNamespace(signal=None)
    code = _conclude(planned, Summary(Ledger()), options, stop, [observer], fail_if_empty=False)  # type: ignore[arg-type,list-item]
    assert (code, ended) == (1, [1])

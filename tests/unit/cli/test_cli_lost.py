"""What is said of records that were not delivered."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kpipe.cli.run import _list_lost
from kpipe.run.summary import SHOWN


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

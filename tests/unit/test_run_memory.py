"""Memory that was freed is given back now and then, and not at every turn."""

from __future__ import annotations

import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from kpipe.run.memory import EVERY, Trimmer, open_trimmer, trim


def test_once_a_minute_of_turns() -> None:
    now, given = [1000.0], []
    trimmer = Trimmer(lambda: given.append(now[0]), lambda: now[0])
    let_go: list[float] = []
    ledger = SimpleNamespace(let_go=lambda: let_go.append(now[0]))
    run: Any = SimpleNamespace(pipeline=SimpleNamespace(ledger=ledger))
    trimmer.begin(run, None)
    for _ in range(int(EVERY) * 10):
        now[0] += 1.0
        trimmer()
    assert len(given) == 10
    assert let_go == given, "what the ledger keeps is let go first"
    assert all(later - before >= EVERY for before, later in pairwise(given))


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_what_is_called_is_there() -> None:
    import ctypes

    assert (ctypes.CDLL(None).malloc_trim, ctypes.CDLL(None).mallopt) != (None, None)
    trim()
    assert open_trimmer(None, None, None) is not None

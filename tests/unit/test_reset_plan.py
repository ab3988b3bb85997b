"""Moving a group: what is known without a cluster."""

from __future__ import annotations

from kpipe.ops.reset import Reset


def test_a_plan_without_moves_asks_and_writes_nothing() -> None:
    reset = Reset.__new__(Reset)  # without a connection: whatever it asked of one would fail
    reset.moves, reset.problems = [], ["3 partitions, t[0] first, have no committed offset and are left alone"]
    assert reset.execute() == []

"""How long a consumer is waited for."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from kpipe.sources.tap import JOIN_WAIT, WAIT, Tap


class Client:
    """Gives nothing, and notes how long it was waited for."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def consume(self, _count: int, timeout: float) -> list[Any]:
        self.waits.append(timeout)
        return []


def test_partitions_that_come_in_the_middle_of_a_wait_are_noticed_soon_after_but_a_spare_member_does_not_spin() -> None:
    """The client waits to the end of its time, whatever a rebalance brings meanwhile."""
    client, extents = Client(), SimpleNamespace(assigned=set())
    tap = Tap(client, extents, "c", incremental=True, min_age=0)  # type: ignore[arg-type]
    for _ in range(100):
        tap.wait()
    waits = client.waits
    assert (waits[0], waits[-1]) == (JOIN_WAIT, WAIT)
    assert waits == sorted(waits)
    assert max(after / before for before, after in pairwise(waits)) < 1.3
    assert waits.count(WAIT) > 85
    extents.assigned.add(("t", 0))
    tap.wait()
    assert client.waits[-1] == WAIT


def test_a_consumer_that_has_its_partitions_waits_for_records_at_once() -> None:
    client = Client()
    tap = Tap(client, SimpleNamespace(assigned={("t", 0)}), "c", incremental=True, min_age=0)  # type: ignore[arg-type]
    tap.wait()
    assert client.waits == [WAIT]

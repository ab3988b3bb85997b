"""How long a consumer is waited for."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from kpipe.sources.fetching import JOIN_WAIT, LONG_WAIT, QUIET, WAIT, Fetching


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
    fetching = Fetching(client, extents, "c", incremental=True, min_age=0)  # type: ignore[arg-type]
    for _ in range(100):
        fetching.wait()
    waits = client.waits
    assert (waits[0], waits[-1]) == (JOIN_WAIT, WAIT)
    assert waits == sorted(waits)
    assert max(after / before for before, after in pairwise(waits)) < 1.3
    assert waits.count(WAIT) > 85
    extents.assigned.add(("t", 0))
    fetching.wait()
    assert client.waits[-1] == WAIT


def test_who_waits_in_vain_for_a_second_waits_longer_with_one_call_until_something_comes() -> None:
    client, extents = Client(), SimpleNamespace(assigned={("t", 0)})
    fetching = Fetching(client, extents, "c", incremental=True, min_age=0)  # type: ignore[arg-type]
    for _ in range(QUIET + 2):
        assert fetching.fetch() == fetching.wait() == []
    assert client.waits == [0, WAIT] * QUIET + [LONG_WAIT] * 2
    client.consume = lambda _count, timeout: client.waits.append(timeout) or ["message"]  # type: ignore[method-assign]
    assert fetching.fetch() == []
    assert fetching.wait() == fetching.fetch() == ["message"]
    assert client.waits[-2:] == [LONG_WAIT, 0]


def test_records_that_are_held_back_are_looked_at_ten_times_a_second() -> None:
    client, extents = Client(), SimpleNamespace(assigned={("t", 0)})
    fetching = Fetching(client, extents, "c", incremental=True, min_age=5.0)  # type: ignore[arg-type]
    for _ in range(QUIET + 2):
        fetching.wait()
    assert set(client.waits) == {WAIT}


class Flowing(Client):
    """Has a record for every poll, and notes what it was asked for."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._size = size

    def poll(self, _timeout: float) -> Any:
        self.calls.append("poll")
        return SimpleNamespace(value=lambda: b"x" * self._size, topic=lambda: "t", partition=lambda: 0)

    def assignment(self) -> list[Any]:
        return []

    def pause(self, _partitions: list[Any]) -> None:
        self.calls.append("pause")

    def resume(self, _partitions: list[Any]) -> None:
        self.calls.append("resume")


@pytest.mark.parametrize(("size", "polls"), [(100, 64), (1 << 20, 4)])
def test_a_wait_for_the_sink_polls_once_a_second_and_pauses_only_when_polls_have_brought_much(
    size: int, polls: int
) -> None:
    """The client throws away what it has fetched of a paused partition: pausing at each wait fetched it all again."""
    now = [1000.0]
    client = Flowing(size)
    extents = SimpleNamespace(assigned={("t", 0)}, done=set())
    fetching = Fetching(client, extents, "c", incremental=True, min_age=0, clock=lambda: now[0])  # type: ignore[arg-type]
    for _ in range(16 * polls):
        now[0] += 0.0625
        fetching.keep_alive()
    assert client.calls.count("pause") == 0
    assert polls - 2 <= client.calls.count("poll") <= polls
    for _ in range(48):
        now[0] += 0.0625
        fetching.keep_alive()
    assert client.calls.count("pause") == 1
    assert len(fetching.fetch()) == client.calls.count("poll")
    assert client.calls[-1] == "resume"


def test_a_consumer_that_has_its_partitions_waits_for_records_at_once() -> None:
    client = Client()
    fetching = Fetching(client, SimpleNamespace(assigned={("t", 0)}), "c", incremental=True, min_age=0)  # type: ignore[arg-type]
    fetching.wait()
    assert client.waits == [WAIT]

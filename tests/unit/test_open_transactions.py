"""A wait for an open transaction is told as a fact, once, and only when the cluster says that it is one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kpipe.errors import UnreachableError
from kpipe.sources.transactions import LOOK, OpenTransactions

PLACE = ("t", 0)


class Consumer:
    """Has fetched up to `end`; the cluster says that `stable` is the end of what is committed."""

    def __init__(self, end: int, stable: int) -> None:
        self.end, self.stable = end, stable
        self.asked = 0

    def get_watermark_offsets(self, _place: Any, *, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, self.end

    def offsets_for_times(self, asked: list[Any], timeout: float) -> list[Any]:
        assert timeout <= 2.0, "the run stands still meanwhile"
        self.asked += 1
        if self.stable < 0:
            raise UnreachableError("no answer", where="c")
        return [
            SimpleNamespace(topic=each.topic, partition=each.partition, offset=self.stable, error=None)
            for each in asked
        ]


class Watched:
    def __init__(self, at: int, end: int, stable: int) -> None:
        def no_reader() -> Any:
            raise UnreachableError("not to be had", where="c")

        self.now = 0.0
        self.told: list[str] = []
        self.assignment = SimpleNamespace(at_eof={PLACE: at}, assigned=[PLACE])
        self.consumer: Any = Consumer(end, stable)
        resolver: Any = SimpleNamespace(open_reader=no_reader)
        assignment: Any = self.assignment
        self.transactions = OpenTransactions(
            self.consumer, "c", resolver, assignment, self.told.append, lambda: self.now
        )
        self.transactions._first_times = lambda _firsts: {PLACE: 1_000}  # type: ignore[method-assign]

    def look(self, times: int) -> None:
        for _ in range(times):
            self.now += LOOK + 0.1
            self.transactions.look()


def test_what_stands_for_two_looks_is_told_once() -> None:
    watched = Watched(at=5, end=8, stable=5)
    watched.look(1)
    assert watched.told == [], "a transaction of a moment is no news"
    watched.look(5)
    assert [line.startswith("read: c:t[0]@5: 3 offsets are held back") for line in watched.told] == [True]


@pytest.mark.parametrize("stable", [8, 7, -1])
def test_records_that_have_only_not_come_yet_are_no_transaction(stable: int) -> None:
    """Behind an outage the client knows of an end that it has not read to: the soak, without any transaction."""
    watched = Watched(at=5, end=8, stable=stable)
    watched.look(3)
    assert watched.told == []
    assert watched.consumer.asked > 0
    watched.consumer.stable = 5
    watched.look(1)
    assert len(watched.told) == 1, "a doubt is no verdict"


def test_nobody_is_asked_while_all_is_read() -> None:
    watched = Watched(at=8, end=8, stable=8)
    watched.look(3)
    assert (watched.told, watched.consumer.asked) == ([], 0)

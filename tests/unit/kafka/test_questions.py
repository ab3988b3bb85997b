"""Questions about partitions while their leaders move."""

from __future__ import annotations

import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.errors import Stage, UnreachableError
from kpipe.kafka import questions
from kpipe.kafka.questions import Extent, Failure
from tests.fakes import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Cluster:
    """One topic of two partitions; `errors` are what is answered for partition 1 before it has an offset."""

    def __init__(self, *errors: str, away: bool = False) -> None:
        self.errors = list(errors)
        self.away = away
        self.refreshed = 0
        self.asked: list[list[int]] = []
        self.admin = self
        self.patience = 5.0
        self.silent = False
        self.silent_leaders: set[int] = set()

    def deadline(self) -> float:
        return time.monotonic() + self.patience

    def leader_of(self, _topic: str, partition: int) -> int:
        return partition

    def metadata(self, *, fresh: bool) -> None:
        assert fresh
        if self.away:
            raise UnreachableError("no answer", where="prod", stage=Stage.CONNECT)
        self.refreshed += 1

    def list_offsets(self, wanted: Mapping[Any, Any], **_: object) -> dict[Any, Future[Any]]:
        self.asked.append([each.partition for each in wanted])
        return {each: self._answer(each.partition) for each in wanted}

    def _answer(self, partition: int) -> Future[Any]:
        future: Future[Any] = Future()
        if partition == 1 and self.errors:
            future.set_exception(Exception(ClientError(self.errors.pop(0))))
        else:
            future.set_result(SimpleNamespace(offset=7, timestamp=-1))
        return future


def ends(cluster: Any) -> dict[tuple[str, int], Any]:
    return questions.latest(cluster, [("t", 0), ("t", 1)])


def test_who_leads_no_longer_is_asked_again_and_nobody_else() -> None:
    cluster = Cluster("NOT_LEADER_FOR_PARTITION", "FENCED_LEADER_EPOCH")
    found = ends(cluster)
    assert {place: answer.offset for place, answer in found.items()} == {("t", 0): 7, ("t", 1): 7}
    assert cluster.asked == [[0, 1], [1], [1]]
    assert cluster.refreshed == 2, "the client keeps the leader that it knew"


def test_each_bound_is_asked_again_for_itself() -> None:
    cluster: Any = Cluster("NOT_LEADER_FOR_PARTITION")
    assert questions.extents(cluster, [("t", 0), ("t", 1)]) == {("t", 0): Extent(7, 7, 7), ("t", 1): Extent(7, 7, 7)}
    assert cluster.asked == [[0, 1]] * 3 + [[1]]


@pytest.mark.parametrize("code", ["LEADER_NOT_AVAILABLE", "TOPIC_AUTHORIZATION_FAILED"])
def test_what_a_moment_does_not_mend_is_not_waited_for(code: str) -> None:
    cluster = Cluster(code)
    assert isinstance(ends(cluster)["t", 1], Failure)
    assert cluster.asked == [[0, 1]]


def test_a_leader_that_is_not_found_in_time_is_a_failure() -> None:
    cluster = Cluster(*["NOT_LEADER_FOR_PARTITION"] * 100)
    cluster.patience = 0.5
    assert "LEADER" in ends(cluster)["t", 1].text
    assert 2 <= len(cluster.asked) <= 6


def test_a_cluster_that_goes_meanwhile_ends_the_question() -> None:
    cluster = Cluster("NOT_LEADER_FOR_PARTITION", away=True)
    assert isinstance(ends(cluster)["t", 1], Failure)
    assert cluster.asked == [[0, 1]]

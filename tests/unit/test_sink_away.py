"""A cluster that a route chose and that cannot be asked: it is waited for, told of once, and never a record's fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from kpipe.clusters.profiles import Cluster
from kpipe.errors import KpipeError, UnreachableError
from kpipe.kafka.diagnosis import denied
from kpipe.kafka.troubles import Troubles
from kpipe.sinks.away import Away
from kpipe.sinks.producing import Producing
from kpipe.sinks.target import Target
from kpipe.transform.patterns import Patience

if TYPE_CHECKING:
    from collections.abc import Callable


class Answering:
    """A client whose cluster answers each time."""

    def list_topics(self, _topic: str, timeout: float) -> object:
        assert timeout > 0
        return object()


def base() -> Target:
    cluster = Cluster("eu", {"bootstrap.servers": "eu:9092"})
    return Target("", cluster, "id", Producing(Answering(), Troubles("eu")), 0)


def failing(times: int, error: Callable[[], KpipeError]) -> Callable[[], Target]:
    left = [times]

    def look_up() -> Target:
        if left[0]:
            left[0] -= 1
            raise error()
        return base()

    return look_up


def away(said: list[str], *, turns: int = 1000, limit: float | None = None) -> Away:
    patience, left, now = Patience(), [turns], [0.0]

    def go_on() -> bool:
        left[0] -= 1
        return left[0] >= 0

    def clock() -> float:
        now[0] += 10
        return now[0]

    patience.go_on = go_on
    return Away(said.append, patience, lambda: False, limit, clock)


def unreachable() -> KpipeError:
    return UnreachableError("no answer", where="eu")


def test_it_is_waited_for_and_told_of_once() -> None:
    said: list[str] = []
    assert away(said).wait_for(base(), "orders", failing(5, unreachable)).cluster.name == "eu"
    assert said == ["send: eu:orders: records go there, and no answer; still trying"]


def test_the_wait_ends_when_nobody_waits_any_longer() -> None:
    with pytest.raises(UnreachableError, match="no answer"):
        away([], turns=2).wait_for(base(), "orders", failing(5, unreachable))


def test_the_wait_ends_at_its_limit() -> None:
    with pytest.raises(UnreachableError, match="no answer"):
        away([], limit=45).wait_for(base(), "orders", failing(50, unreachable))


def test_what_no_wait_changes_is_not_waited_for() -> None:
    said: list[str] = []
    with pytest.raises(KpipeError, match="not authorised"):
        away(said).wait_for(base(), "orders", failing(1, lambda: denied("topic orders", "DESCRIBE").error("eu:orders")))
    with pytest.raises(KpipeError, match="no such topic"):
        away(said).wait_for(base(), "orders", failing(1, lambda: KpipeError("no such topic")))
    assert said == []


def test_answers_are_those_of_the_look_up() -> None:
    found = cast("Any", base())
    assert away([]).wait_for(base(), "orders", lambda: found) is found

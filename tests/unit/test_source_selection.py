"""What names and patterns mean, and what is said when topics come and go while they are read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kpipe.errors import KpipeError, UsageError
from kpipe.sources.assignment import Assignment
from kpipe.sources.selection import BEGINNING, Discovery, Selection, find_places, match_topics, where


def cluster(**topics: int) -> Any:
    """Metadata of a cluster with so many partitions in each topic."""
    return SimpleNamespace(
        topics={name.replace("_", "-"): SimpleNamespace(partitions=range(count)) for name, count in topics.items()}
    )


def selection(*topics: str, **more: Any) -> Selection:
    return Selection(topics, BEGINNING, cluster="prod", **more)


def test_a_pattern_means_all_that_match_but_no_internal_topic_and_none_that_is_left_out() -> None:
    known = ["b-1", "a-1", "__offsets", "c"]
    assert match_topics(["^.*-1"], known) == ["a-1", "b-1"]
    assert match_topics(["^.*", "a-1", "gone"], known, {"c"}) == ["a-1", "b-1", "gone"]
    assert match_topics(["__offsets"], known) == ["__offsets"]
    with pytest.raises(UsageError):
        match_topics(["^("], known)


def test_places_are_the_partitions_that_were_asked_for() -> None:
    assert find_places(selection("t"), cluster(t=2)) == [("t", 0), ("t", 1)]
    assert find_places(selection("t", partitions=frozenset((1,))), cluster(t=2)) == [("t", 1)]
    with pytest.raises(KpipeError, match=r"prod:t: no partition 5; the topic has 2 \(0 to 1\)"):
        find_places(selection("t", partitions=frozenset((5,))), cluster(t=2))
    with pytest.raises(KpipeError, match="prod:t: the topic is gone"):
        find_places(selection("t"), cluster(u=1))


def test_a_pattern_without_a_topic_is_an_error_unless_a_group_waits_for_one() -> None:
    for more in ({}, {"group": "g", "at_end": True}):
        with pytest.raises(KpipeError, match="no topic matches"):
            find_places(selection("^x", **more), cluster(t=1))
    assert find_places(selection("^x", group="g"), cluster(t=1)) == []


@pytest.mark.parametrize(
    ("place", "shown"),
    [(("prod", "t"), "prod:t"), (("prod", "t", 3), "prod:t[3]"), (("", "t", 3, 42), "t[3]@42")],
)
def test_a_place_for_people(place: Any, shown: str) -> None:
    assert where(*place) == shown


class Look:
    """A discovery that knew the partition 0 of a topic at the start; `found` is what it has told of."""

    def __init__(self, *topics: str, assignment: Assignment | None = None, known: str = "a-1") -> None:
        self.now, self.metadata, self.found, self.said = 0.0, cluster(a_1=1), [], []
        self.asked: list[Any] = []
        client: Any = SimpleNamespace(list_topics=self._list_topics)
        self.discovery = Discovery(
            selection(*topics, refresh=10.0),
            client,
            assignment or Assignment(bounded=False, shared=False),
            {(known, 0)},
            self.said.append,
            lambda: self.now,
        )

    def _list_topics(self, topic: str | None, timeout: float) -> Any:
        self.asked.append(topic)
        return self.metadata

    def at(self, now: float) -> None:
        self.now = now
        self.discovery.look(self.found.append)


def test_it_looks_every_so_many_seconds_and_sooner_when_something_went() -> None:
    look = Look("a-1")
    for now in (0.0, 9.9, 10.0, 19.9, 20.0):
        look.at(now)
    assert len(look.asked) == 2
    look.discovery.hasten()
    look.at(20.1)
    assert look.asked == ["a-1"] * 3
    assert look.found == [[("a-1", 0)]] * 3


def test_topics_that_come_and_go_are_told_of_once() -> None:
    look = Look("^a")
    look.at(10.0)
    look.metadata = cluster(a_1=1, a_2=1, b=1)
    look.at(20.0)
    look.at(30.0)
    look.metadata = cluster(a_2=1)
    look.at(40.0)
    assert look.asked == [None] * 4
    assert look.said == [
        "read: prod:a-2: a new topic that matches; read from its beginning",
        "read: prod:a-1: the topic was deleted; the others that match are read on",
    ]
    assert look.found[-1] == [("a-2", 0)]


def test_where_all_topics_went_the_next_look_asks_again() -> None:
    look = Look("^a")
    look.metadata = cluster(b=1)
    look.at(10.0)
    assert look.found == []
    look.metadata = cluster(a_1=2)
    look.at(20.0)
    assert look.found == [[("a-1", 0), ("a-1", 1)]]


def test_ends_that_were_fixed_at_the_start_leave_nothing_to_look_for() -> None:
    look = Look("^a", assignment=Assignment(bounded=True, shared=False))
    look.at(10.0)
    assert look.asked == []

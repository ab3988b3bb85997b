"""Topics that change under a reader: it never goes on silently in another topic, or past records that are gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.errors import KpipeError, Stage
from kpipe.kafka.lookups import Bounds
from kpipe.sources.gaps import Gaps
from kpipe.sources.selection import BEGINNING, Hooks, Selection
from kpipe.sources.topic_watch import TopicWatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpipe.flight import TopicPartition


class Ids:
    """Topic ids: `again` were made anew, `gone` are deleted; notes for which topics it was asked."""

    def __init__(self) -> None:
        self.known, self.next_look = {"t": "id"}, float("-inf")
        self.again: set[str] = set()
        self.gone: set[str] = set()
        self.asked: list[set[str]] = []
        self.accepted: set[str] = set()

    def check(self, topics: Iterable[str]) -> tuple[set[str], set[str]]:
        self.asked.append(set(topics))
        return self.again, self.gone

    look = check

    def accept(self, topics: set[str]) -> None:
        self.accepted |= topics


class Watched:
    """A watch over partitions that are read at these offsets, between these bounds; notes what becomes of them."""

    def __init__(
        self,
        at: dict[TopicPartition, int],
        bounds: tuple[int, int] = (10, 20),
        *,
        policy: str = "earliest",
        topics: tuple[str, ...] = ("t",),
        group: str | None = "g",
        end: int = 99,
    ) -> None:
        self.said: list[str] = []
        self.events: list[Any] = []
        self.ids = Ids()
        note = self.events.append
        self.assignment = SimpleNamespace(
            assigned=set(at),
            progress=SimpleNamespace(starts=dict.fromkeys(at, 5)),
            at_eof=dict.fromkeys(at, 20),
            shared=True,
            is_past=lambda _place, offset: offset >= end,
        )
        fetching = SimpleNamespace(
            position=lambda places: {place: at[place] for place in places},
            move=lambda targets, *, shared: note(("move", targets, shared)),
            finish=lambda place: note(("finish", place)),
        )
        hooks = Hooks(began=lambda starts: note(("began", starts)), lost=lambda places: note(("lost", places)))
        find: Any = lambda places: dict.fromkeys(places, Bounds(*bounds))  # noqa: E731
        parts: Any = (find, hooks, self.ids, Gaps(policy, "c", self.said.append), self.assignment)
        self.watch = TopicWatch(Selection(topics, BEGINNING, group=group, cluster="c"), *parts, fetching=fetching)  # type: ignore[arg-type]


PLACE = ("t", 0)


def test_a_topic_that_is_as_it_was_is_read_on() -> None:
    run = Watched({PLACE: 15})
    assert run.watch.knows_topics
    run.watch.look()
    assert run.watch.check(["t"]) == set()
    assert (run.events, run.said) == ([], [])
    assert run.ids.asked == [{"t"}, {"t"}]


def test_who_knows_no_topic_says_so() -> None:
    run = Watched({PLACE: 15})
    run.ids.known.clear()
    assert not run.watch.knows_topics


def test_it_is_asked_once_in_a_while() -> None:
    run = Watched({PLACE: 15})
    run.ids.next_look = float("inf")
    run.watch.look()
    assert run.ids.asked == []


def test_a_topic_of_ones_own_is_asked_for_also_without_a_partition() -> None:
    """The group takes a deleted topic's partitions away first; a topic that only a pattern means goes with them."""
    run = Watched({("other", 0): 15}, topics=("t", "^o.*"))
    run.ids.known["matched"] = "id"
    run.watch.look()
    assert run.ids.asked == [{"t", "other"}]


def test_a_topic_that_was_named_and_is_gone_ends_the_run() -> None:
    run = Watched({PLACE: 15})
    run.ids.gone = {"t"}
    with pytest.raises(KpipeError, match="the topic was deleted") as caught:
        run.watch.look()
    assert (caught.value.where, caught.value.stage) == ("c:t", Stage.READ)


def test_of_a_pattern_the_others_are_read_on() -> None:
    run = Watched({PLACE: 15, ("u", 0): 15, ("u", 1): 15}, topics=("^.*",))
    gone: list[Any] = []
    run.watch.gone = gone.append
    run.ids.gone = {"t"}
    run.watch.look()
    assert gone == [[PLACE]]
    assert run.ids.known == {}
    assert run.events == []
    Watched({PLACE: 15}, topics=("^.*",)).watch._judge(set(), {"t"})  # nobody has to listen


@pytest.mark.parametrize("offset", [5, 15, 25])
def test_a_topic_that_was_made_anew_is_read_where_the_policy_says_wherever_one_was(offset: int) -> None:
    run = Watched({("t", 1): offset, PLACE: offset, ("u", 0): 15}, topics=("t", "u"))
    run.ids.again = {"t"}
    assert run.watch.check(["t", "u"]) == {"t"}
    moved = {PLACE: 10, ("t", 1): 10}
    assert run.events == [("lost", [PLACE, ("t", 1)]), ("move", moved, True), ("began", moved)]
    assert run.ids.accepted == {"t"}
    assert all("deleted and created again" in line for line in run.said)
    assert len(run.said) == 2
    assert run.assignment.at_eof == {("u", 0): 20}


def test_under_a_policy_that_stops_nothing_is_moved() -> None:
    run = Watched({PLACE: 15}, policy="stop")
    run.ids.again = {"t"}
    with pytest.raises(KpipeError, match="go on with --on-gap"):
        run.watch.look()
    assert [event[0] for event in run.events] == ["lost"]
    assert run.ids.accepted == set()


@pytest.mark.parametrize(("offset", "target"), [(9, 10), (21, 10), (-1, 10), (10, None), (15, None), (20, None)])
def test_an_offset_that_the_broker_does_not_have_is_a_gap(offset: int, target: int | None) -> None:
    """Without a position yet, it is the start that is not there."""
    run = Watched({PLACE: offset})
    run.watch.cross_gap(PLACE)
    moved = {} if target is None else {PLACE: target}
    assert run.events == ([] if target is None else [("move", moved, True)]) + [("began", moved)]
    assert run.ids.asked == [{"t"}]
    assert len(run.said) == len(moved)


def test_the_first_record_of_a_partition_is_a_position_too() -> None:
    run = Watched({PLACE: 0}, (0, 3))
    run.watch.cross_gap(PLACE)
    assert run.events == [("began", {})]
    run = Watched({PLACE: -1}, (0, 0))
    run.assignment.progress.starts.clear()
    run.watch.cross_gap(PLACE)
    assert run.events == [("began", {})], "what has no start begins at 0"


def test_without_a_group_nobody_hears_of_a_gap() -> None:
    run = Watched({PLACE: 5}, group=None)
    run.watch.cross_gap(PLACE)
    assert run.events == [("move", {PLACE: 10}, True)]


def test_a_partition_that_is_not_read_here_has_no_gap() -> None:
    run = Watched({PLACE: 5})
    run.watch.cross_gap(("t", 7))
    assert (run.events, run.ids.asked) == ([], [])


def test_a_partition_whose_rest_lies_behind_the_end_is_done() -> None:
    run = Watched({PLACE: 5}, end=10)
    run.watch.cross_gap(PLACE)
    assert run.events[-1] == ("finish", PLACE)

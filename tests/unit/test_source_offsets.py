"""Where a source starts and ends: what was asked for, what a group left off at, and what is said where neither is there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.kafka.lookups import Bounds
from kpipe.kafka.offsets import Offset, OffsetKind
from kpipe.sources.gaps import Gaps
from kpipe.sources.offsets import OffsetResolver, StartOffsets, find_ends
from kpipe.sources.selection import BEGINNING, Selection
from kpipe.units import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

A, B, NEW = ("t", 0), ("t", 1), ("t", 2)
BOUNDS = {A: Bounds(10, 20), B: Bounds(0, 0)}
END = Offset(OffsetKind.END)
LATER = 4_000_000_000_000


class Ids:
    """The ids of topics: those in `known` are known, and a commit with another one is of another topic."""

    def __init__(self, **known: str) -> None:
        self.known = known

    def accept(self, topics: object) -> None: ...

    def learn(self, topics: object) -> None: ...

    def metadata(self, topic: str) -> str:
        return f"topic-id={self.known[topic]}" if topic in self.known else ""

    def contradicts(self, topic: str, metadata: str) -> bool:
        return metadata.startswith("topic-id=") and metadata.split(" ", maxsplit=1)[0] != self.metadata(topic)


class Group:
    """A consumer whose group has committed this; what is not named has no commit."""

    def __init__(self, committed: Mapping[tuple[str, int], tuple[int, str]]) -> None:
        self._committed = committed

    def committed(self, asked: Any, timeout: float) -> list[Any]:
        rows = [(entry, *self._committed.get((entry.topic, entry.partition), (-1001, ""))) for entry in asked]
        return [
            SimpleNamespace(topic=e.topic, partition=e.partition, offset=offset, metadata=note, error=None)
            for e, offset, note in rows
        ]


class Run:
    """`StartOffsets` of a group that knew the partitions A and B at the start; `said` is what people are told."""

    def __init__(self, start: Offset = BEGINNING, committed: Any = (), *, on_gap: str = "stop", **more: Any) -> None:
        self.said: list[str] = []
        more = {"group": "g", **more}
        selection = Selection(("t",), start, cluster="prod", on_gap=on_gap, **more)
        consumer: Any = Group(dict(committed))
        self.gaps = gaps = Gaps(on_gap, "prod", self.said.append)
        ids: Any = Ids(t="one")
        resolver = OffsetResolver(consumer, "prod", 1.0)
        self.starts = StartOffsets(consumer, selection, resolver, ids, gaps, self.said.append)
        self.starts.known.update((A, B))

    def find(self, bounds: Any = None, again: tuple[str, ...] = ()) -> dict[tuple[str, int], int]:
        return self.starts.find(bounds or BOUNDS, again)


@pytest.mark.parametrize(
    ("spec", "starts", "ends"),
    [
        (BEGINNING, {A: 10, B: 0}, {A: 10, B: 0}),
        (END, {A: 20, B: 0}, {A: 20, B: 0}),
        (Offset(OffsetKind.TAIL, 3), {A: 17, B: 0}, {A: 17, B: -3}),
        (Offset(OffsetKind.TAIL, 30), {A: 10, B: 0}, {A: -10, B: -30}),
        (Offset(OffsetKind.ABSOLUTE, 15), {A: 15, B: 15}, {A: 15, B: 0}),
        (Offset(OffsetKind.ABSOLUTE, 5), {A: 10, B: 5}, {A: 5, B: 0}),
        (Offset(OffsetKind.TIME, 99), {A: 12, B: 0}, {A: 12, B: 0}),
    ],
)
def test_a_start_is_not_below_what_exists_and_an_end_not_beyond(spec: Offset, starts: Any, ends: Any) -> None:
    consumer: Any = None
    resolver = OffsetResolver(consumer, "prod", 1.0)
    resolver.find_time = lambda _bounds, ms: {A: 12, B: -1} if ms == 99 else {}
    assert resolver.starts(spec, BOUNDS) == starts
    assert resolver.ends(spec, BOUNDS) == ends


@pytest.mark.parametrize(
    ("until", "at_end", "expected"),
    [
        (None, False, ({}, None)),
        (None, True, ({A: 20, B: 0}, None)),
        (Offset(OffsetKind.ABSOLUTE, 99), False, ({A: 99, B: 99}, None)),  # followed until it is there
        (Offset(OffsetKind.ABSOLUTE, 99), True, ({A: 20, B: 0}, None)),
        (Offset(OffsetKind.TAIL, 4), False, ({A: 16, B: -4}, None)),
        (Offset(OffsetKind.TIME, LATER), False, ({}, LATER)),  # known when that moment has come
        (Offset(OffsetKind.TIME, LATER), True, ({A: 20, B: 0}, None)),
    ],
)
def test_ends_are_fixed_at_the_start_as_far_as_they_are_known(
    until: Offset | None, at_end: bool, expected: Any
) -> None:
    consumer: Any = None
    resolver = OffsetResolver(consumer, "prod", 1.0)
    resolver.find_time = lambda bounds, _ms: dict.fromkeys(bounds, -1)
    assert find_ends(Selection(("t",), BEGINNING, until, at_end=at_end), resolver, BOUNDS, 1000.0) == expected


def test_a_group_goes_on_where_it_left_off_and_begins_where_it_has_no_commit() -> None:
    run = Run(END, {A: (12, "topic-id=one")}, given_start=True)
    assert run.find() == {A: 12, B: 0}
    assert run.find() == {A: 12, B: 0}
    (told,) = run.said
    assert told.startswith("read: prod: group g: goes on where it left off; -o is only for partitions")


def test_the_group_does_not_know_yet_where_partitions_begin_that_only_an_option_places() -> None:
    run = Run(END, {A: (12, "topic-id=one")})
    run.find()
    assert run.gaps.undecided == {B}
    beginning = Run(BEGINNING)
    beginning.find()
    assert beginning.gaps.undecided == set(), "it would begin there again"


def test_the_group_does_not_know_yet_where_a_run_goes_on_behind_a_gap() -> None:
    """At a later end, with `latest`, if it is not committed."""
    run = Run(BEGINNING, {A: (5, "topic-id=one"), B: (0, "topic-id=one")}, on_gap="latest")
    assert run.find() == {A: 20, B: 0}
    assert run.gaps.undecided == {A}


def test_a_partition_that_was_added_is_read_from_its_beginning_whatever_was_asked_for() -> None:
    assert Run(END).find({A: Bounds(10, 20), NEW: Bounds(0, 5)}) == {A: 20, NEW: 0}


def test_a_partition_that_was_added_while_nobody_read_is_known_by_the_count_beside_a_commit() -> None:
    bounds = {A: Bounds(10, 20), B: Bounds(0, 5)}
    for note, expected in (("topic-id=one partitions=1", 0), ("topic-id=one partitions=2", 5), ("partitions=x", 5)):
        assert Run(END, {A: (12, note)}).find(bounds) == {A: 12, B: expected}, note


@pytest.mark.parametrize(
    ("committed", "again", "said"),
    [
        ((5, ""), (), "5 offsets (5 to 9) were deleted before they were read"),
        ((25, ""), (), "the next offset is past the end (20)"),
        ((12, "topic-id=another"), (), "the topic was deleted and created again"),
        ((-1001, ""), ("t",), "the topic was deleted and created again"),
    ],
)
def test_what_a_group_left_off_at_and_is_not_there_is_a_gap(committed: Any, again: tuple[str, ...], said: str) -> None:
    run = Run(END, {A: committed, B: (0, "topic-id=one")}, on_gap="earliest")
    assert run.find(again=again)[A] == 10
    assert said in run.said[0]


def test_an_offset_that_does_not_exist_yet_is_waited_for_and_told() -> None:
    run = Run(Offset(OffsetKind.ABSOLUTE, 30), group=None)
    assert run.find() == {A: 20, B: 0}
    assert run.said == [
        "read: prod:t[0]: -o 30 is past the end (20); nothing is read before it comes",
        "read: prod:t[1]: -o 30 is past the end (0); nothing is read before it comes",
    ]
    rows = [(A, 29, None), (A, 30, None), (("u", 0), 1, None), (A, 5, "an event of the client")]
    messages: list[Any] = [
        SimpleNamespace(
            topic=lambda place=place: place[0],
            partition=lambda place=place: place[1],
            offset=lambda offset=offset: offset,
            error=lambda error=error: error,
        )
        for place, offset, error in rows
    ]
    assert run.starts.skip(messages) == messages[1:]


def test_a_time_that_has_not_come_starts_at_the_end_of_now_and_is_told_once() -> None:
    run = Run(Offset(OffsetKind.TIME, LATER), group=None)
    run.starts._resolver.find_time = lambda bounds, _ms: dict.fromkeys(bounds, -1)
    assert [run.find(), run.find()] == [{A: 20, B: 0}] * 2
    assert run.said == [f"read: -o: {format_time(LATER)} is in the future; reading starts at the end of now"]


@pytest.mark.parametrize(
    ("topic", "partitions", "note"),
    [("t", None, "topic-id=one partitions=2"), ("t", frozenset((0,)), "topic-id=one"), ("u", None, "")],
)
def test_a_commit_says_which_topic_it_was_and_how_many_partitions_it_had(
    topic: str, partitions: Any, note: str
) -> None:
    assert Run(partitions=partitions).starts.note(topic) == note

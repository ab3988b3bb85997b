"""Where partitions end, what of a batch lies before that, and when a reader has come to its end."""

from __future__ import annotations

import pytest

from kpipe.kafka.lookups import Bounds
from kpipe.record import Batch
from kpipe.sources.assignment import Assignment

A, B = ("t", 0), ("t", 1)
BOUNDS = {A: Bounds(0, 10), B: Bounds(5, 5)}
ENDS = {A: 10, B: 5}


def assignment(*, shared: bool = False, bounded: bool = True) -> Assignment:
    made = Assignment(bounded=bounded, shared=shared)
    made.fix(dict(ENDS) if bounded else {}, BOUNDS)
    return made


def batch(*offsets: tuple[int, int]) -> Batch:
    return Batch(
        [b"%d-%d" % place for place in offsets],
        topics=["t"] * len(offsets),
        partitions=[partition for partition, _ in offsets],
        offsets=[offset for _, offset in offsets],
    )


@pytest.mark.parametrize(
    ("offsets", "kept", "reached"),
    [
        (((0, 7), (0, 8)), 2, []),
        (((0, 8), (0, 9)), 2, [A]),
        (((0, 8), (1, 5), (0, 10)), 1, [A, B]),  # 9 was a marker: 10 is past the end all the same
        (((0, 12),), 0, [A]),
        (((2, 99),), 1, []),
    ],
)
def test_a_batch_is_cut_at_the_ends(offsets: tuple[tuple[int, int], ...], kept: int, reached: list[object]) -> None:
    read = batch(*offsets)
    assert sorted(assignment().cut(read)) == reached
    assert (len(read), read.read, read.index) == (kept, kept, None)
    assert read.offsets == [offset for _, offset in offsets][:kept]


def test_alone_the_own_partitions_are_all() -> None:
    mine = assignment()
    mine.take({A: 0, B: 5}, BOUNDS)
    mine.check_finished()
    assert mine.done == {B}
    assert not mine.finished
    mine.done.add(A)
    mine.check_finished()
    assert mine.finished


def test_in_a_group_the_partitions_of_others_count_unless_they_are_empty() -> None:
    mine = assignment(shared=True)
    mine.take({B: 5}, BOUNDS)
    mine.check_finished()
    assert mine.share_is_done
    assert not mine.finished
    assert mine.others() == {A: 10}
    other = assignment(shared=True)
    other.take({A: 10}, BOUNDS)
    other.check_finished()
    assert other.finished


def test_without_an_end_there_is_none() -> None:
    mine = assignment(bounded=False)
    mine.take({A: 10}, BOUNDS)
    mine.check_finished()
    assert not mine.finished


def test_what_is_read_again_is_not_done() -> None:
    mine = assignment()
    mine.take({A: 10, B: 5}, BOUNDS)
    mine.check_finished()
    assert mine.finished
    mine.reopen([A], 3)
    assert not mine.finished
    assert mine.done == {B}
    assert mine.progress.count == -3


def test_a_partition_that_went_away_is_forgotten() -> None:
    mine = assignment(shared=True)
    mine.take({A: 3}, BOUNDS)
    assert mine.progress.expected() == 7
    assert not mine.reach(A, 9)
    assert mine.reach(A, 12)
    assert mine.at_eof == {A: 10}  # never past the end that was fixed
    mine.let_go([A])
    assert (mine.assigned, mine.at_eof, mine.progress.expected()) == (set(), {}, 0)


def test_a_partition_that_comes_late_ends_where_it_was_then() -> None:
    mine = assignment(shared=True)
    mine.take({("t", 2): 0}, {("t", 2): Bounds(0, 4)})
    assert mine.ends[("t", 2)] == 4


def test_a_reader_ends_when_nothing_came_for_so_long() -> None:
    quiet = assignment(bounded=False)
    quiet.take({A: 0}, BOUNDS)
    for now, count, holds_back, finished in (
        (0.0, 0, False, False),
        (4.9, 0, False, False),
        (4.95, 1, False, False),  # a record came
        (9.9, 1, False, False),
        (10.0, 1, True, False),  # others are held back until they are old enough
        (10.0, 1, False, True),
    ):
        quiet.progress.count = count
        quiet.check_idle(5.0, now, holds_back=holds_back)
        assert quiet.finished is finished, now


def test_the_wait_for_a_first_partition_does_not_count_as_silence() -> None:
    joining = assignment(bounded=False, shared=True)
    for now, finished in ((0.0, False), (5.0, False), (14.9, False), (15.0, True)):
        joining.check_idle(5.0, now, holds_back=False)
        assert joining.finished is finished, now

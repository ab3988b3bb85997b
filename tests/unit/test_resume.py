"""What is left out and where the next start must look, over a scripted target: sets, floors, and what proves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.delivery.resume import INTERVAL, MAX_METADATA, OffsetSet, Resume
from kpipe.delivery.resuming import ResumingSource
from kpipe.errors import UnreachableError
from kpipe.ledger import Ledger
from kpipe.record import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

PLACE, OTHER = ("orders", 0), ("orders", 1)


class Found:
    """A message of the target."""

    def __init__(self, source_offset: int, partition: int, offset: int, cluster: bytes = b"A") -> None:
        self._headers = [
            ("source_cluster", cluster),
            ("source_topic", b"orders"),
            ("source_partition", b"0"),
            ("source_offset", b"%d" % source_offset),
        ]
        self._place = (partition, offset)

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]


class FakeTail:
    topic, where = "copy", "b:copy"

    def __init__(self, messages: list[Found], ends: dict[int, int]) -> None:
        self.messages = messages
        self.end = ends
        self.floors: dict[int, int] = {}
        self.searched = 0

    def search(
        self, floors: dict[int, int], take: Callable[[list[Any]], None]
    ) -> Generator[None, None, dict[int, int]]:
        self.floors = floors
        self.searched += 1
        yield
        take(self.messages)
        return self.end

    def ends(self) -> dict[int, int]:
        return self.end


def resume(tail: FakeTail, notes: dict[Any, str] | None = None, clock: Callable[[], float] = lambda: 0.0) -> Resume:
    return Resume(tail, "A", "B", lambda _places: notes or {}, clock=clock)  # type: ignore[arg-type]


def look(stage: Resume, starts: dict[Any, int]) -> None:
    stage.look(starts)
    while stage.pending:
        stage.step()


def batch(*offsets: int) -> Batch:
    count = len(offsets)
    return Batch([b"v"] * count, topics=["orders"] * count, partitions=[0] * count, offsets=list(offsets))


@given(st.sets(st.integers(0, 1 << 40), max_size=50), st.sets(st.integers(0, 1 << 14), max_size=50))
def test_the_set_holds_what_was_put_in_and_nothing_else(held: set[int], others: set[int]) -> None:
    offsets = OffsetSet()
    for offset in held:
        offsets.add(offset)
    for offset in held | others | {offset + 1 for offset in held}:
        assert (offset in offsets) == (offset in held)
    assert offsets.highest == max(held, default=-1)


def test_holes_are_filled_and_only_what_is_there_is_left_out() -> None:
    stage = resume(
        FakeTail([Found(5, 0, 50), Found(7, 1, 9), Found(8, 1, 10, b"other"), Found(2, 0, 49)], {0: 60, 1: 20})
    )
    look(stage, {PLACE: 4})
    taken = batch(4, 5, 6, 7, 8)
    stage.leave_out(taken)
    assert taken.offsets == [4, 6, 8]
    assert stage.skipped == 2


def test_the_floor_is_where_the_first_was_found_or_the_end() -> None:
    stage = resume(FakeTail([Found(5, 0, 50), Found(6, 0, 55)], {0: 60, 1: 20}))
    look(stage, {PLACE: 4})
    assert stage.note(PLACE) == "tail=B/copy/0:50,1:20"


def test_a_start_reads_from_the_floor_of_the_commit() -> None:
    tail = FakeTail([], {0: 60, 1: 20})
    look(resume(tail, {PLACE: "topic-id=x tail=B/copy/0:50,1:20"}), {PLACE: 4})
    assert tail.floors == {0: 50, 1: 20}


def test_a_partition_without_a_floor_needs_all_of_the_target() -> None:
    tail = FakeTail([], {0: 60})
    look(resume(tail, {PLACE: "tail=B/copy/0:50"}), {PLACE: 4, ("orders", 1): 0})
    assert tail.floors == {}


def test_a_floor_of_another_target_or_a_damaged_one_is_none() -> None:
    for note in ("tail=B/other/0:50", "tail=C/copy/0:50", "tail=B/copy/0:x", ""):
        tail = FakeTail([], {0: 60})
        look(resume(tail, {PLACE: note}), {PLACE: 4})
        assert tail.floors == {}


def test_a_moment_is_the_floor_only_when_all_that_was_read_before_is_settled() -> None:
    now = [0.0]
    tail = FakeTail([], {0: 10})
    stage, ledger = resume(tail, clock=lambda: now[0]), Ledger(keeps_offsets=True)
    look(stage, {PLACE: 0})
    records = batch(0, 1)
    flight = ledger.track(records, records.snapshot())
    now[0], tail.end = INTERVAL, {0: 11}
    stage.tick(ledger)  # the moment: two records are on their way
    tail.end = {0: 13}
    stage.tick(ledger)
    assert stage.note(PLACE) == "tail=B/copy/0:10"
    flight.settle_sent(records)
    ledger.settle()
    stage.tick(ledger)
    assert stage.note(PLACE) == "tail=B/copy/0:11"


def test_no_moment_counts_while_older_copies_are_still_ahead() -> None:
    now = [0.0]
    stage, ledger = resume(FakeTail([Found(5, 0, 50)], {0: 60}), clock=lambda: now[0]), Ledger(keeps_offsets=True)
    look(stage, {PLACE: 4})
    now[0] = INTERVAL
    stage.tick(ledger)
    stage.tick(ledger)
    stage.end(ledger)
    assert stage.note(PLACE) == "tail=B/copy/0:50"


def test_a_note_that_a_broker_would_not_take_is_left_out() -> None:
    stage = resume(FakeTail([], dict.fromkeys(range(1000), 10**12)))
    look(stage, {PLACE: 0})
    assert stage.note(PLACE) == ""
    assert MAX_METADATA < 4096


# --- looking without holding the loop up --------------------------------------------------------------------------


def test_a_member_that_is_given_nothing_reads_nothing() -> None:
    """A second member gets an empty assignment: it read the whole target in the rebalance."""
    tail = FakeTail([], {0: 60})
    stage = resume(tail)
    stage.look({})
    assert not stage.pending
    assert tail.searched == 0


def test_a_rebalance_only_notes_what_is_to_be_looked_for() -> None:
    tail = FakeTail([Found(5, 0, 50)], {0: 60})
    stage = resume(tail)
    stage.look({PLACE: 4})
    assert (stage.pending, tail.searched) == (True, 0)
    stage.step()
    assert (stage.pending, tail.searched) == (True, 1)
    stage.step()
    assert not stage.pending
    taken = batch(4, 5)
    stage.leave_out(taken)
    assert taken.offsets == [4]


def test_two_rebalances_in_a_row_look_for_both() -> None:
    other = ("orders", 1)
    stage = resume(FakeTail([Found(5, 0, 50)], {0: 60}))
    stage.look({other: 0})
    look(stage, {PLACE: 4})
    taken = batch(4, 5)
    stage.leave_out(taken)
    assert taken.offsets == [4]
    assert stage.note(other) == "tail=B/copy/0:60"


def test_a_partition_that_goes_while_it_is_looked_for_leaves_no_floor() -> None:
    stage = resume(FakeTail([Found(5, 0, 50)], {0: 60}))
    stage.look({PLACE: 4})
    stage.step()
    stage.forget([PLACE])
    while stage.pending:
        stage.step()
    assert stage.note(PLACE) == ""
    taken = batch(5)
    stage.leave_out(taken)
    assert taken.offsets == [5]


def test_of_a_partition_that_was_added_only_what_was_sent_since_is_read() -> None:
    tail = FakeTail([], {0: 90})
    stage = Resume(tail, "A", "B", lambda _places: {}, there_at_start=(frozenset({PLACE}), {0: 60}))  # type: ignore[arg-type]
    look(stage, {("orders", 1): 0})
    assert tail.floors == {0: 60}
    look(stage, {PLACE: 0})
    assert tail.floors == {}


def test_the_first_offset_of_a_partition_is_looked_for_too() -> None:
    stage = resume(FakeTail([Found(4, 0, 50), Found(3, 0, 49)], {0: 60}))
    look(stage, {PLACE: 4})
    taken = batch(4)
    stage.leave_out(taken)
    assert taken.offsets == []


def test_the_set_is_kept_until_its_last_record_has_come_by() -> None:
    stage = resume(FakeTail([Found(5, 0, 50), Found(8, 0, 51)], {0: 60}))
    look(stage, {PLACE: 4})
    for offsets, left in (((4, 5), [4]), ((6, 7), [6, 7]), ((8, 9), [9])):
        taken = batch(*offsets)
        stage.leave_out(taken)
        assert taken.offsets == left
    again = batch(5)
    stage.leave_out(again)
    assert again.offsets == [5]  # forgotten: an offset comes by once


class FakeSource:
    """Gives its batches in turn; `meanwhile` happens in the read that gives the first."""

    def __init__(self, batches: list[Batch], meanwhile: Callable[[], None] = lambda: None) -> None:
        self.finished = False
        self.alive = 0
        self.owned = {PLACE}
        self.at_eof = {PLACE: 9}
        self._batches, self._meanwhile = batches, meanwhile

    def read(self) -> Batch | None:
        self._meanwhile()
        self._meanwhile = lambda: None
        taken = self._batches.pop(0) if self._batches else None
        self.finished = not self._batches
        return taken

    def keep_alive(self) -> None:
        self.alive += 1

    def leave(self) -> None:
        self.left = True

    def close(self, timeout: float) -> None:
        self.closed = timeout


def test_nothing_is_read_and_the_group_is_kept_while_it_is_looked() -> None:
    stage = resume(FakeTail([Found(4, 0, 50)], {0: 60}))
    stage.look({PLACE: 4})
    source = FakeSource([batch(4, 5)])
    reader = ResumingSource(source, stage)
    assert [reader.read(), reader.read()] == [None, None]
    assert (source.alive, reader.finished) == (2, False)
    taken = reader.read()
    assert taken is not None
    assert (taken.offsets, reader.finished) == ([4, 5], True)


def test_what_a_rebalance_brings_in_the_same_read_waits_for_the_answer() -> None:
    stage = resume(FakeTail([Found(4, 0, 50)], {0: 60}))
    source = FakeSource([batch(4, 5)], lambda: stage.look({PLACE: 4}))
    reader = ResumingSource(source, stage)
    assert reader.read() is None
    assert not reader.finished
    while stage.pending:
        assert reader.read() is None
    taken = reader.read()
    assert taken is not None
    assert taken.offsets == [4, 5]
    assert reader.finished


def test_what_waited_and_went_to_another_member_is_not_given_out() -> None:
    stage = resume(FakeTail([], {0: 60}))
    source = FakeSource([batch(4, 5)], lambda: stage.look({PLACE: 4}))
    reader = ResumingSource(source, stage)
    reader.read()
    source.owned = set()
    while stage.pending:
        reader.read()
    taken = reader.read()
    assert taken is not None
    assert (len(taken), taken.read) == (0, 0)


def test_a_run_that_ends_in_the_look_up_commits_no_end_behind_what_waits() -> None:
    stage = resume(FakeTail([], {0: 60}))
    source = FakeSource([batch(4, 5)], lambda: stage.look({PLACE: 4}))
    reader = ResumingSource(source, stage)
    reader.read()
    reader.leave()
    assert source.at_eof == {}


# --- promises that mutants of it broke and no test saw -------------------------------------------------------------


def test_a_partition_that_comes_back_while_it_is_looked_for_is_looked_for_anew() -> None:
    """The search of its first stay ended with "nothing there", and what the second one found was sent again."""
    stage = resume(FakeTail([Found(5, 0, 50)], {0: 60}))
    stage.look({PLACE: 10})
    stage.step()
    stage.forget([PLACE])
    look(stage, {PLACE: 4})
    taken = batch(4, 5, 6)
    stage.leave_out(taken)
    assert taken.offsets == [4, 6]
    assert stage.note(PLACE) == "tail=B/copy/0:50"


def test_the_very_first_offset_may_be_all_that_is_there() -> None:
    stage = resume(FakeTail([Found(0, 0, 50)], {0: 60}))
    look(stage, {PLACE: 0})
    taken = batch(0)
    stage.leave_out(taken)
    assert taken.offsets == []


def test_floors_of_different_partitions_of_the_target_leave_none_of_them_out() -> None:
    tail = FakeTail([], {0: 60, 1: 60})
    look(resume(tail, {PLACE: "tail=B/copy/0:50", OTHER: "tail=B/copy/1:20"}), {PLACE: 4, OTHER: 0})
    assert tail.floors == {0: 0, 1: 0}


def test_a_partition_that_was_added_goes_on_from_its_own_floor_once_it_has_one() -> None:
    tail = FakeTail([], {0: 90})
    notes = {OTHER: "tail=B/copy/0:80"}
    stage = Resume(tail, "A", "B", lambda _places: notes, there_at_start=(frozenset({PLACE}), {0: 60}))  # type: ignore[arg-type]
    look(stage, {OTHER: 3})
    assert tail.floors == {0: 80}


class Bare(Found):
    """A message with these headers."""

    def __init__(self, headers: Any) -> None:
        super().__init__(0, 0, 48)
        self._headers = headers


def test_records_of_others_in_the_target_are_nobodys_copies() -> None:
    """Without headers, without an offset, with one that is no number: they are passed."""
    whole = dict(Found(5, 0, 50).headers())
    messages = [
        Bare(None),
        Bare([*whole.items()][:-1]),
        *(Bare(list({**whole, "source_offset": value}.items())) for value in (None, b"", b"x", b"-5")),
        Bare(list({**whole, "source_topic": None}.items())),
        Bare(list({**whole, "source_partition": b"1"}.items())),
        Found(3, 0, 49),
        Found(5, 0, 50),
    ]
    stage = resume(FakeTail(messages, {0: 60}))
    look(stage, {PLACE: 4})
    assert stage.note(PLACE) == "tail=B/copy/0:50", "what lies before the start moves no floor"
    taken = batch(4, 5)
    stage.leave_out(taken)
    assert taken.offsets == [4]


def test_a_partition_that_went_leaves_no_floor() -> None:
    stage = resume(FakeTail([Found(5, 0, 50)], {0: 60}))
    look(stage, {PLACE: 4})
    stage.forget([PLACE])
    assert stage.note(PLACE) == ""
    taken = batch(5)
    stage.leave_out(taken)
    assert taken.offsets == [5], "what is there of it is its next owner's to know"


def test_only_records_of_a_topic_can_be_there() -> None:
    stage = resume(FakeTail([Found(5, 0, 50), Found(7, 0, 51)], {0: 60}))
    look(stage, {PLACE: 4})
    lines = Batch([b"v"], lines=[1], file="stdin")
    stage.leave_out(lines)
    assert len(lines) == 1
    mixed = Batch(
        [b"v"] * 4, topics=["orders", "others", None, "orders"], partitions=[0, 0, None, 0], offsets=[5, 5, None, 6]
    )
    stage.leave_out(mixed)
    assert mixed.topics == ["others", None, "orders"]
    last = batch(7)
    stage.leave_out(last)
    assert last.offsets == []
    again = batch(7)
    stage.leave_out(again)
    assert again.offsets == [7], "its last record came by: the set is gone"


class CountingTail(FakeTail):
    def __init__(self, messages: list[Found], ends: dict[int, int]) -> None:
        super().__init__(messages, ends)
        self.asked: list[float | None] = []
        self.away = False

    def ends(self, timeout: float | None = None) -> dict[int, int]:
        self.asked.append(timeout)
        if self.away:
            raise UnreachableError("away")
        return dict(self.end)

    def close(self) -> None:
        self.closed = True


def running(*messages: Found) -> tuple[Resume, CountingTail, list[float], Ledger]:
    now, tail = [0.0], CountingTail(list(messages), {0: 10})
    stage = resume(tail, clock=lambda: now[0])
    look(stage, {PLACE: 4})
    return stage, tail, now, Ledger()


def test_the_target_is_asked_for_its_end_once_an_interval() -> None:
    stage, tail, now, ledger = running()
    now[0] = INTERVAL - 0.1
    stage.tick(ledger)
    assert tail.asked == []
    now[0] = INTERVAL
    stage.tick(ledger)  # the moment
    tail.end = {0: 20}
    stage.tick(ledger)  # it is the floor
    now[0] = 2 * INTERVAL - 0.1
    stage.tick(ledger)
    assert (len(tail.asked), stage.note(PLACE)) == (1, "tail=B/copy/0:10")
    now[0] = 2 * INTERVAL
    stage.tick(ledger)
    stage.tick(ledger)
    assert (len(tail.asked), stage.note(PLACE)) == (2, "tail=B/copy/0:20")


def test_a_moment_is_kept_until_what_was_read_before_it_is_settled() -> None:
    stage, tail, now, ledger = running()
    records = batch(4)
    flight = ledger.track(records, records.snapshot())
    now[0] = INTERVAL
    stage.tick(ledger)
    now[0], tail.end = 3 * INTERVAL, {0: 30}
    stage.tick(ledger)
    assert len(tail.asked) == 1
    flight.settle_sent(records)
    ledger.settle()
    stage.tick(ledger)
    assert stage.note(PLACE) == "tail=B/copy/0:10"


def test_while_it_is_looked_no_moment_is_taken() -> None:
    stage, tail, now, ledger = running()
    now[0] = INTERVAL
    stage.look({OTHER: 0})
    stage.forget([OTHER])
    stage.tick(ledger)
    stage.end(ledger)
    assert tail.asked == []


def test_a_moment_before_a_rebalance_is_no_floor_of_what_came_with_it() -> None:
    """Copies of the new partition may lie before that moment: another member sent them."""
    stage, tail, now, ledger = running()
    records = batch(4)
    flight = ledger.track(records, records.snapshot())
    now[0] = INTERVAL
    stage.tick(ledger)  # the moment: the end is 10
    tail.messages, tail.end = [Found(5, 0, 7)], {0: 12}
    stage.forget([PLACE])
    look(stage, {PLACE: 4})
    flight.settle_sent(records)
    ledger.settle()
    stage.tick(ledger)
    assert stage.note(PLACE) == "tail=B/copy/0:7"


@pytest.mark.parametrize("held_back", ["nothing", "in flight", "there", "away"])
def test_at_the_end_the_floor_is_the_end_only_with_everything_settled(held_back: str) -> None:
    stage, tail, _, ledger = running(*([Found(5, 0, 7)] if held_back == "there" else []))
    if held_back == "in flight":
        ledger.track(batch(4), batch(4))
    tail.away = held_back == "away"
    tail.end = {0: 50}
    stage.end(ledger, 3.0)
    assert stage.note(PLACE) == {"nothing": "tail=B/copy/0:50", "there": "tail=B/copy/0:7"}.get(
        held_back, "tail=B/copy/0:10"
    )
    assert tail.asked == ([3.0] if held_back in {"nothing", "away"} else [])


def test_a_target_that_is_away_leaves_the_floor_as_it_was_and_is_asked_later() -> None:
    stage, tail, now, ledger = running()
    tail.away, now[0] = True, INTERVAL
    stage.tick(ledger)
    stage.tick(ledger)
    assert (len(tail.asked), stage.note(PLACE)) == (1, "tail=B/copy/0:10")
    tail.away, tail.end, now[0] = False, {0: 15}, 2 * INTERVAL
    stage.tick(ledger)
    stage.tick(ledger)
    assert stage.note(PLACE) == "tail=B/copy/0:15"


def test_a_damaged_partition_number_is_no_floor() -> None:
    tail = FakeTail([], {0: 60})
    look(resume(tail, {PLACE: "tail=B/copy/x:50"}), {PLACE: 4})
    assert tail.floors == {}


def test_what_was_left_out_is_told_and_the_target_let_go() -> None:
    stage, tail, _, _ = running(Found(5, 0, 7), Found(6, 0, 8))
    assert stage.told("b:copy") == []
    stage.leave_out(batch(4, 5, 6))
    assert stage.told("b:copy") == ["resume: b:copy: 2 records were there already, and left out"]
    stage.close()
    assert tail.closed


def test_the_names_of_a_trace_with_a_prefix_are_read() -> None:
    found = Found(5, 0, 50)
    found._headers = [(f"x-{name}", value) for name, value in found.headers()]
    stage = Resume(FakeTail([found], {0: 60}), "A", "B", lambda _places: {}, prefix="x-")  # type: ignore[arg-type]
    look(stage, {PLACE: 4})
    assert stage.note(PLACE) == "tail=B/copy/0:50"

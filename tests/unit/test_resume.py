"""What is left out and where the next start must look, over a scripted target: sets, floors, and what proves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from kpipe.ledger import Ledger
from kpipe.record import Batch
from kpipe.resume import INTERVAL, MAX_METADATA, OffsetSet, Resume

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = ("orders", 0)


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

    def read(self, floors: dict[int, int], take: Callable[[list[Any]], None]) -> dict[int, int]:
        self.floors = floors
        take(self.messages)
        return self.end

    def ends(self) -> dict[int, int]:
        return self.end


def resume(tail: FakeTail, notes: dict[Any, str] | None = None, clock: Callable[[], float] = lambda: 0.0) -> Resume:
    return Resume(tail, "A", "B", lambda _places: notes or {}, clock=clock)  # type: ignore[arg-type]


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
    stage.look({PLACE: 4})
    taken = batch(4, 5, 6, 7, 8)
    stage.leave_out(taken)
    assert taken.offsets == [4, 6, 8]
    assert stage.skipped == 2


def test_the_floor_is_where_the_first_was_found_or_the_end() -> None:
    stage = resume(FakeTail([Found(5, 0, 50), Found(6, 0, 55)], {0: 60, 1: 20}))
    stage.look({PLACE: 4})
    assert stage.note(PLACE) == "tail=B/copy/0:50,1:20"


def test_a_start_reads_from_the_floor_of_the_commit() -> None:
    tail = FakeTail([], {0: 60, 1: 20})
    resume(tail, {PLACE: "topic-id=x tail=B/copy/0:50,1:20"}).look({PLACE: 4})
    assert tail.floors == {0: 50, 1: 20}


def test_a_partition_without_a_floor_needs_all_of_the_target() -> None:
    tail = FakeTail([], {0: 60})
    resume(tail, {PLACE: "tail=B/copy/0:50"}).look({PLACE: 4, ("orders", 1): 0})
    assert tail.floors == {}


def test_a_floor_of_another_target_or_a_damaged_one_is_none() -> None:
    for note in ("tail=B/other/0:50", "tail=C/copy/0:50", "tail=B/copy/0:x", ""):
        tail = FakeTail([], {0: 60})
        resume(tail, {PLACE: note}).look({PLACE: 4})
        assert tail.floors == {}


def test_a_moment_is_the_floor_only_when_all_that_was_read_before_is_settled() -> None:
    now = [0.0]
    tail = FakeTail([], {0: 10})
    stage, ledger = resume(tail, clock=lambda: now[0]), Ledger(keeps_offsets=True)
    stage.look({PLACE: 0})
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
    stage.look({PLACE: 4})
    now[0] = INTERVAL
    stage.tick(ledger)
    stage.tick(ledger)
    stage.end(ledger)
    assert stage.note(PLACE) == "tail=B/copy/0:50"


def test_a_note_that_a_broker_would_not_take_is_left_out() -> None:
    stage = resume(FakeTail([], dict.fromkeys(range(1000), 10**12)))
    stage.look({PLACE: 0})
    assert stage.note(PLACE) == ""
    assert MAX_METADATA < 4096

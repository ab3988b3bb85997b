"""The balance and the prefix, under any order in which reports may come in."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kpipe.errors import BadRecord
from kpipe.flight import DeliveryReport, Flight
from kpipe.ledger import Ledger
from kpipe.record import Batch

PLACES = [("t", 0), ("t", 1), ("u", 0)]


@dataclass
class Read:
    """One record as the model knows it: `missing` is how many reports it still waits for."""

    offset: int
    missing: int = 1


@dataclass
class Sent:
    """A report that has not come in yet."""

    flight: Flight
    index: int
    report: DeliveryReport
    record: Read


@dataclass
class Stay:
    """One stay of a partition with us, from assignment to revocation."""

    start: int | None = None
    records: list[Read] = field(default_factory=list)

    def prefix(self) -> int | None:
        """The offset after the last of the leading records that are settled."""
        end = self.start
        for record in self.records:
            if record.missing:
                break
            end = record.offset + 1
        return end


class Bookkeeping(RuleBasedStateMachine):
    """Random batches, filters, splits, fan-outs, failures, cuts and revocations against a naive model."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(keeps_offsets=True)
        self.stays = {place: Stay() for place in PLACES}
        self.next = dict.fromkeys(PLACES, 0)
        self.on_the_way: list[Sent] = []
        self.never: list[Read] = []
        self.read = self.filtered = self.failed = 0

    @rule(
        places=st.lists(st.sampled_from(PLACES), min_size=1, max_size=6),
        seed=st.integers(0, 2**16),
        cut=st.integers(0, 6),
        again=st.booleans(),
    )
    def read_a_batch(self, places: list[tuple[str, int]], seed: int, cut: int, again: bool) -> None:
        rng = random.Random(seed)
        offsets = []
        for place in places:
            self.next[place] += rng.choice((1, 1, 3))  # holes: compaction, markers
            offsets.append(self.next[place] - 1)
        batch = Batch(
            [b"v"] * len(places),
            topics=[topic for topic, _ in places],
            partitions=[number for _, number in places],
            offsets=list(offsets),
        )
        flight = self.ledger.track(batch, batch.snapshot())
        kept = len(places) if not cut else min(cut, len(places))
        batch.truncate(kept)
        self.ledger.cut(flight, kept)
        records = [Read(offset) for offset in offsets[:kept]]
        for place, record in zip(places, records, strict=False):
            self.stays[place].records.append(record)
        for place in set(places[kept:]):  # what was not read comes again
            self.next[place] = min(o for p, o in zip(places[kept:], offsets[kept:], strict=True) if p == place)
        self.read += kept

        copies = [rng.choice((0, 1, 1, 1, 2, 3)) for _ in records]
        index = [number for number, count in enumerate(copies) for _ in range(count)]
        for column in ("values", "topics", "partitions", "offsets"):
            entries = getattr(batch, column)
            setattr(batch, column, [entries[number] for number in index])
        batch.index = index
        flight.settle_filtered(batch)
        self.filtered += copies.count(0)
        targets = 1 + again
        if again:
            flight.expect_again(batch)
        for record, count in zip(records, copies, strict=True):
            record.missing = count * targets
        reports = flight.take_reports(batch)[: len(index)]
        for number, report in zip(index, reports, strict=True):
            self.on_the_way += [Sent(flight, number, report, records[number])] * targets

    @precondition(lambda self: self.on_the_way)
    @rule(which=st.integers(0, 2**16))
    def deliver_one(self, which: int) -> None:
        sent = self.on_the_way.pop(which % len(self.on_the_way))
        sent.report(None, None)
        sent.record.missing -= 1

    @precondition(lambda self: self.on_the_way)
    @rule()
    def deliver_all(self) -> None:
        for sent in self.on_the_way:
            sent.report(None, None)
            sent.record.missing -= 1
        self.on_the_way.clear()

    @precondition(lambda self: self.on_the_way)
    @rule(which=st.integers(0, 2**16))
    def fail_one_and_skip_it(self, which: int) -> None:
        sent = self.on_the_way.pop(which % len(self.on_the_way))
        sent.report("refused", None)
        for flight, index, error in self.ledger.failures():
            assert (flight, index, error) == (sent.flight, sent.index, "refused")
            flight.failed.add(index)
            flight.settled.append(index)
        sent.record.missing -= 1

    @precondition(lambda self: self.on_the_way)
    @rule(which=st.integers(0, 2**16))
    def lose_one(self, which: int) -> None:
        sent = self.on_the_way.pop(which % len(self.on_the_way))
        self.never.append(sent.record)

    @rule(place=st.sampled_from(PLACES), back=st.integers(0, 5))
    def lose_a_partition(self, place: tuple[str, int], back: int) -> None:
        """It may come back where another member had committed less than we read."""
        self.ledger.revoke([place])
        assert place not in self.ledger.prefix()
        self.next[place] = max(0, self.next[place] - back)
        self.stays[place] = Stay()

    @rule(place=st.sampled_from(PLACES))
    def be_given_a_partition(self, place: tuple[str, int]) -> None:
        if self.stays[place] == Stay():
            self.stays[place].start = self.next[place]
            self.ledger.begin({place: self.next[place]})

    @rule()
    def settle(self) -> None:
        self.ledger.settle()

    @invariant()
    def the_balance_holds(self) -> None:
        ledger = self.ledger
        assert ledger.balanced
        assert ledger.read == self.read
        assert min(ledger.delivered, ledger.filtered, ledger.failed, ledger.in_flight, ledger.unknown) >= 0

    @invariant()
    def the_prefix_is_exact(self) -> None:
        expected = {place: stay.prefix() for place, stay in self.stays.items()}
        assert self.ledger.prefix() == {place: offset for place, offset in expected.items() if offset is not None}

    @invariant()
    def what_is_in_flight_is_known(self) -> None:
        for place, stay in self.stays.items():
            waits = any(record.missing for record in stay.records)
            assert not waits or self.ledger.has_in_flight([place])

    def teardown(self) -> None:
        self.the_balance_holds()
        lost = self.ledger.close([])
        ledger = self.ledger
        assert ledger.balanced
        assert ledger.in_flight == 0
        assert ledger.unknown == len(lost)
        assert ledger.filtered == self.filtered
        assert ledger.read == ledger.delivered + ledger.filtered + ledger.failed + ledger.unknown
        assert min(ledger.delivered, ledger.failed) >= 0
        assert ledger.complete == (not lost and not ledger.failed)


Bookkeeping.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
TestBookkeeping = Bookkeeping.TestCase


def batch_of(count: int, topic: str = "t") -> Batch:
    return Batch([b"v"] * count, topics=[topic] * count, partitions=[0] * count, offsets=list(range(count)))


def tracked(ledger: Ledger, count: int) -> tuple[Flight, list[DeliveryReport]]:
    batch = batch_of(count)
    flight = ledger.track(batch, batch.snapshot())
    return flight, flight.take_reports(batch)


def test_a_late_report_cannot_move_a_partition_that_went_away() -> None:
    ledger = Ledger(keeps_offsets=True)
    _, reports = tracked(ledger, 2)
    ledger.revoke([("t", 0)])

    for report in reports[:2]:
        report(None, None)

    assert ledger.prefix() == {}
    assert ledger.delivered == 2


def test_refused_records_are_failed_and_the_others_unknown() -> None:
    ledger = Ledger()
    flight, reports = tracked(ledger, 4)
    reports[0](None, None)
    reports[2]("refused", None)
    assert [(index, error) for _, index, error in ledger.failures()] == [(2, "refused")]
    assert list(ledger.failures()) == [], "a failure is looked at once"

    lost = ledger.close([(flight, 2)])

    assert [index for _, index in lost] == [1, 2, 3]
    assert (ledger.delivered, ledger.failed, ledger.unknown, ledger.in_flight) == (1, 1, 2, 0)
    assert ledger.balanced
    assert not ledger.complete


def test_copies_that_fail_count_their_record_once() -> None:
    ledger = Ledger(keeps_offsets=True)
    batch = batch_of(1)
    flight = ledger.track(batch, batch.snapshot())
    batch.values, batch.index = [b"a", b"b", b"c"], [0, 0, 0]
    flight.settle_filtered(batch)
    for report in flight.take_reports(batch):
        report("refused", None)
    for its_flight, index, _ in ledger.failures():
        its_flight.failed.add(index)
        its_flight.settled.append(index)

    ledger.settle()

    assert (ledger.delivered, ledger.failed, ledger.in_flight) == (0, 1, 0)
    assert ledger.prefix() == {("t", 0): 1}


def test_a_batch_without_coordinates_has_no_offsets() -> None:
    ledger = Ledger(keeps_offsets=True)
    batch = Batch([b"a"], lines=[1], file="stdin")
    flight = ledger.track(batch, batch.snapshot())
    flight.settle_sent(batch)
    assert ledger.prefix() == {}
    assert ledger.delivered == 1


@pytest.mark.parametrize("keeps", [True, False])
def test_only_a_group_keeps_where_it_began(keeps: bool) -> None:
    ledger = Ledger(keeps_offsets=keeps)
    ledger.begin({("t", 0): 5})
    assert ledger.prefix() == ({("t", 0): 5} if keeps else {})


# --- promises that mutants of the ledger broke and no test saw ---------------------------------------------------


def test_a_split_record_with_a_bad_part_is_not_complete_before_its_neighbours() -> None:
    """Three records: one filtered, one bad, one split in two. Only what was acknowledged may be committed."""
    ledger = Ledger(keeps_offsets=True)
    batch = batch_of(3)
    flight = ledger.track(batch, batch.snapshot())
    batch.keep([False, True, True])
    batch.reject({0: BadRecord("bad")})
    batch.index = [2, 2]
    batch.values = [b"x", b"y"]
    flight.settle_filtered(batch)
    reports = flight.take_reports(batch)
    flight.settled.append(1)  # the bad one was judged
    reports[0](None, None)
    assert not flight.complete
    assert ledger.prefix() == {("t", 0): 2}
    reports[1](None, None)
    assert flight.complete
    assert ledger.prefix() == {("t", 0): 3}


@pytest.mark.parametrize("missing", ["topics", "partitions", "offsets"])
def test_a_record_that_lacks_one_coordinate_has_no_position(missing: str) -> None:
    batch = batch_of(2)
    column = list(getattr(batch, missing))
    column[0] = None
    setattr(batch, missing, column)
    flight = Ledger().track(batch, batch)
    assert [index for index, _, _ in flight.positions()] == [1]


def test_a_cut_says_so_and_shortens_what_is_expected() -> None:
    ledger = Ledger(keeps_offsets=True)
    flight, _ = tracked(ledger, 5)
    ledger.cut(flight, 5)
    assert not ledger.cut_short
    ledger.cut(flight, 4)
    ledger.cut(flight, 4)
    assert ledger.cut_short
    assert (ledger.read, ledger.in_flight, flight.expected) == (4, 4, 4)


def test_dead_letters_are_counted_as_such() -> None:
    ledger = Ledger()
    flight, reports = tracked(ledger, 3)
    flight.dead_lettered += 1
    for report in reports[:3]:
        report(None, None)
    ledger.settle()
    assert (ledger.delivered, ledger.dead_lettered, ledger.balanced) == (2, 1, True)


def test_what_is_read_again_is_committed_from_where_it_is_read_again() -> None:
    ledger = Ledger(keeps_offsets=True)
    mark = ledger.mark()
    _, reports = tracked(ledger, 3)
    for report in reports[:3]:
        report(None, None)
    ledger.settle()
    assert ledger.next_offsets == {("t", 0): 3}
    assert ledger.rewind(mark, {("t", 0): 1}) == 3
    assert (ledger.prefix(), ledger.read) == ({("t", 0): 1}, 0)


def test_only_flights_with_failures_have_failed() -> None:
    ledger = Ledger()
    _, reports = tracked(ledger, 2)
    assert not ledger.has_failed()
    reports[0]("error", None)
    assert ledger.has_failed()


def test_a_record_that_waits_before_a_settled_one_of_its_partition_is_a_hole() -> None:
    ledger = Ledger()
    _, first = tracked(ledger, 2)
    _, second = tracked(ledger, 1)
    first[0](None, None)
    assert not ledger.has_holes()
    second[0](None, None)
    assert ledger.has_holes()


def test_what_was_given_back_was_not_read_and_holds_the_commit_before_it() -> None:
    ledger = Ledger(keeps_offsets=True)
    flight, reports = tracked(ledger, 5)
    for index in (0, 1, 4):
        reports[index](None, None)
    flight.give_back((2, 3, 4))  # what was delivered stays delivered
    assert ledger.close(()) == []
    assert (ledger.read, ledger.delivered, ledger.failed, ledger.unknown) == (3, 3, 0, 0)
    assert (ledger.balanced, ledger.complete, ledger.cut_short) == (True, True, True)
    assert ledger.prefix() == {("t", 0): 2}

"""A flight between reading and settling: copies, detours, parcels, and what the balance says when a run goes back."""

from __future__ import annotations

from typing import Any

import pytest

from kpipe.flight import DeliveryReport, Flight, Parcel
from kpipe.ledger import SPARE, Ledger
from kpipe.record import Batch

PLACE = ("t", 0)


def tracked(ledger: Ledger, count: int, *, topic: str = "t", first: int = 0) -> tuple[Flight, list[DeliveryReport]]:
    offsets: list[int | None] = list(range(first, first + count))
    batch = Batch([b"v"] * count, topics=[topic] * count, partitions=[0] * count, offsets=offsets)
    flight = ledger.track(batch, batch.snapshot())
    return flight, flight.take_reports(batch)


def test_a_ledger_keeps_nothing_that_it_was_not_asked_to_keep() -> None:
    ledger = Ledger()
    flight, reports = tracked(ledger, 1)
    reports[0](None, None)
    assert (flight.batch, ledger.prefix()) == (None, {})


def test_records_that_are_kept_keep_their_contents() -> None:
    kept, _ = tracked(Ledger(keeps_records=True), 1)
    kept.forget_contents()
    assert kept.origin is not None
    assert kept.origin.values == [b"v"]
    handed_over, _ = tracked(Ledger(), 1)
    handed_over.forget_contents()
    assert handed_over.origin is not None
    assert (handed_over.origin.values, handed_over.origin.offsets) == ([], [0])


def test_a_flight_without_a_batch_has_no_positions_and_no_ends() -> None:
    flight = Flight()
    flight.forget_contents()
    assert (list(flight.positions()), flight.ends()) == ([], {})


@pytest.mark.parametrize("missing", ["topics", "partitions", "offsets"])
def test_records_that_were_not_read_from_a_topic_hold_no_commit_back(missing: str) -> None:
    columns: dict[str, Any] = {"topics": ["t"], "partitions": [0], "offsets": [3]}
    columns[missing] = None
    ledger = Ledger(keeps_offsets=True)
    batch = Batch([b"v"], **columns)
    flight = ledger.track(batch, batch)
    assert list(flight.positions()) == []
    assert (ledger.prefix(), ledger.has_holes()) == ({}, False)


# --- more than one thing happens to a record -----------------------------------------------------------------------


def test_a_record_that_is_expected_once_more_is_not_settled_by_its_first_report() -> None:
    ledger = Ledger(keeps_offsets=True)
    flight, reports = tracked(ledger, 2)
    flight.expect(1)
    flight.expect(1, more=2)
    for report in (reports[0], reports[1], reports[1], reports[1]):
        assert not flight.complete
        report(None, None)
    assert ledger.prefix() == {PLACE: 1}
    reports[1](None, None)
    assert ledger.prefix() == {PLACE: 2}
    assert ledger.delivered == 2


def test_a_record_is_filtered_when_none_of_its_copies_is_left() -> None:
    ledger = Ledger()
    flight, reports = tracked(ledger, 3)
    flight.expect(0)  # two copies: both dropped
    flight.expect(1)  # two copies: one dropped, one delivered
    for index in (0, 1, 0, 2):
        flight.drop(index)
    reports[1](None, None)
    ledger.settle()
    assert (ledger.filtered, ledger.delivered, ledger.in_flight) == (2, 1, 0)


def test_the_only_copy_of_a_record_is_dropped_without_a_count_of_copies() -> None:
    ledger = Ledger()
    flight, _ = tracked(ledger, 1)
    flight.drop(0)
    ledger.settle()
    assert (ledger.filtered, ledger.delivered) == (1, 0)


def test_what_a_sink_was_given_is_kept_until_the_flight_is_settled() -> None:
    ledger = Ledger()
    flight, reports = tracked(ledger, 1)
    sink, batch = object(), Batch([b"v"])
    flight.keep(Parcel(sink, batch, [3]))
    (parcel,) = flight.parcels
    assert (parcel.sink, parcel.batch, parcel.partitions, parcel.failed) == (sink, batch, [3], None)
    reports[0](None, None)
    ledger.settle()
    again, _ = tracked(ledger, 1)
    assert again is flight, "a flight costs more than its records: it is used again"
    assert again.parcels == []


# --- what the ledger answers ---------------------------------------------------------------------------------------


def test_whoever_wants_to_know_is_told_of_complete_flights_in_the_order_of_reading() -> None:
    told: list[int] = []
    ledger = Ledger(on_settled=lambda flight: told.append(flight.read))
    _, first = tracked(ledger, 1)
    _, second = tracked(ledger, 2)
    second[0](None, None)
    second[1](None, None)
    ledger.settle()
    assert told == []
    first[0](None, None)
    ledger.settle()
    assert told == [1, 2]


def test_a_failure_is_news_until_somebody_has_looked_at_it() -> None:
    ledger = Ledger()
    _, reports = tracked(ledger, 2)
    assert ledger.has_news() is False
    reports[1]("refused", None)
    assert ledger.has_news() is True
    list(ledger.failures())
    assert ledger.has_news() is False


def test_only_what_is_on_its_way_in_a_partition_holds_up_its_revocation() -> None:
    ledger = Ledger()
    flight, reports = tracked(ledger, 2)
    other, done = tracked(ledger, 1, topic="u")
    done[0](None, None)
    assert ledger.has_in_flight([PLACE]) is True
    assert ledger.has_in_flight([("u", 0)]) is False
    assert ledger.has_in_flight([("w", 0)]) is False
    reports[0](None, None)
    assert ledger.has_in_flight([PLACE]) is True
    reports[1](None, None)
    assert ledger.has_in_flight([PLACE]) is False
    assert (flight.complete, other.complete) == (True, True)


def test_a_partition_whose_records_are_settled_is_free_while_its_batch_is_not() -> None:
    ledger = Ledger()
    batch = Batch([b"v"] * 2, topics=["t", "u"], partitions=[0, 0], offsets=[0, 0])
    flight = ledger.track(batch, batch.snapshot())
    flight.settled.append(0)
    assert ledger.has_in_flight([PLACE]) is False
    assert ledger.has_in_flight([("u", 0)]) is True


def test_without_a_settled_record_behind_an_open_one_there_is_no_hole() -> None:
    ledger = Ledger()
    tracked(ledger, 2)
    assert ledger.has_holes() is False


def test_a_run_is_complete_when_all_it_read_arrived() -> None:
    ledger = Ledger()
    _, reports = tracked(ledger, 1)
    assert not ledger.complete
    reports[0](None, None)
    ledger.settle()
    assert ledger.complete
    assert not Ledger(read=1).complete, "a record that nobody can account for"


def test_an_end_that_was_cut_short_before_stays_so_whatever_the_last_flights_say() -> None:
    ledger = Ledger(keeps_offsets=True)
    flight, reports = tracked(ledger, 2)
    ledger.cut(flight, 1)
    tracked(ledger, 1)
    reports[0](None, None)
    ledger.close(())
    assert ledger.cut_short


# --- going back ----------------------------------------------------------------------------------------------------


def with_every_outcome(ledger: Ledger) -> Flight:
    """A settled flight in which one record each was delivered, filtered, dead-lettered, failed."""
    flight, reports = tracked(ledger, 4)
    flight.drop(1)
    flight.dead_lettered += 1
    flight.failed.add(3)
    for index in (0, 2, 3):
        reports[index](None, None)
    return flight


def counts(ledger: Ledger) -> tuple[int, ...]:
    return (ledger.read, ledger.delivered, ledger.filtered, ledger.dead_lettered, ledger.failed, ledger.unknown)


def test_going_back_takes_every_count_back() -> None:
    ledger = Ledger(keeps_offsets=True)
    with_every_outcome(ledger)
    ledger.settle()
    mark = ledger.mark()
    with_every_outcome(ledger)
    ledger.settle()
    assert counts(ledger) == (8, 2, 2, 2, 2, 0)
    assert ledger.rewind(mark, {PLACE: 4}) == 4
    assert counts(ledger) == (4, 1, 1, 1, 1, 0)


@pytest.mark.parametrize(("unknown", "failed", "unclear"), [(False, 6, 0), (True, 1, 5)])
def test_what_is_written_off_is_all_that_was_not_filtered(unknown: bool, failed: int, unclear: int) -> None:
    """A filtered record needed no transaction; a delivered one of an aborted transaction is not delivered."""
    ledger = Ledger(keeps_offsets=True)
    with_every_outcome(ledger)
    ledger.settle()
    mark = ledger.mark()
    with_every_outcome(ledger)  # complete, but nobody has settled the ledger since
    open_, _ = tracked(ledger, 3)
    open_.drop(2)
    assert ledger.write_off(mark, {PLACE: 4}, unknown=unknown) == 5
    assert counts(ledger) == (11, 1, 3, 1, failed, unclear)
    assert (ledger.balanced, ledger.in_flight, ledger.prefix()) == (True, 0, {PLACE: 4})


def test_every_report_is_heard_also_within_a_flight() -> None:
    ledger = Ledger()
    _, reports = tracked(ledger, 3)
    heard = [ledger.heard]
    reports[0](None, None)
    heard.append(ledger.heard)
    reports[1]("refused", None)
    heard.append(ledger.heard)
    ledger.landed += 1
    heard.append(ledger.heard)
    assert heard == sorted(set(heard))
    ledger.settle()
    assert ledger.heard == heard[-1], "nothing came in"


def test_an_outage_leaves_no_flights_behind_that_grow_with_every_batch_after_it() -> None:
    """A trickle opens thousands of small ones; each that was kept grew to the largest batch, 0.3 MiB, for good."""
    ledger = Ledger()
    for length, batches in ((1, 3000), (500, 100)) * 2:
        opened = [tracked(ledger, length) for _ in range(batches)]
        for _, reports in opened:
            for report in reports[:length]:
                report(None, None)
        ledger.settle()
    assert ledger.in_flight == 0
    assert sum(len(flight.reports) for flight in ledger._spare) <= SPARE * 500
    first, _ = opened[0]
    assert tracked(ledger, 1)[0] is not first  # the last ones to land are the first to fly again


def test_flights_that_are_kept_can_be_let_go_and_those_on_their_way_are_not_touched() -> None:
    ledger = Ledger(keeps_offsets=True)
    landed, reports = tracked(ledger, 500)
    for report in reports:
        report(None, None)
    ledger.settle()
    under_way, (report, *_) = tracked(ledger, 1, first=500)
    assert under_way is landed
    ledger.let_go()
    report(None, None)
    ledger.settle()
    ledger.let_go()
    assert tracked(ledger, 1, first=501)[0] is not landed
    assert (ledger.delivered, ledger.in_flight, ledger.prefix()) == (501, 1, {PLACE: 501})


def test_reports_of_a_flight_are_its_own_and_are_used_again() -> None:
    ledger = Ledger()
    flight, reports = tracked(ledger, 2)
    for report in reports:
        report(None, None)
    ledger.settle()
    again, same = tracked(ledger, 3, first=2)
    assert (again is flight, same[:2]) == (True, reports[:2])
    same[2]("refused", None)
    assert (again.settled, again.failures) == ([], [(2, "refused")])


def test_a_record_is_found_where_it_was_read_and_one_of_no_topic_is_nowhere() -> None:
    batch = Batch([b"0", b"1"], topics=["t", "u"], partitions=[3, 4], offsets=[7, 8])
    flight = Ledger().track(batch, batch.snapshot())
    assert [flight.position(index) for index in (0, 1)] == [("t", 3, 7), ("u", 4, 8)]
    for lacking in ("topics", "partitions", "offsets"):
        columns = {"topics": ["t"], "partitions": [3], "offsets": [7]}
        for column in (None, [None]):
            batch = Batch([b"0"], **(columns | {lacking: column}))  # type: ignore[arg-type]
            assert Ledger().track(batch, batch.snapshot()).position(0) is None

"""What a run knows of its records: where it goes back to, and what is said of a transaction that did not end."""

from __future__ import annotations

import pytest

from kpipe.errors import KpipeError
from kpipe.ledger import Ledger
from kpipe.record import Batch
from kpipe.run_state import RunState

PLACE = ("t", 0)


def sent(state: RunState, *offsets: int, delivered: bool = True) -> None:
    """Read and send these records of one partition."""
    size = len(offsets)
    batch = Batch([b"v"] * size, topics=["t"] * size, partitions=[0] * size, offsets=list(offsets))
    flight = state.ledger.track(batch, batch.snapshot())
    state.sent += size
    if delivered:
        flight.settle_sent(batch)
        state.ledger.settle()


def in_a_transaction() -> RunState:
    """Two records are final, three are in a transaction: two of them are acknowledged."""
    state = RunState(Ledger(keeps_offsets=True))
    sent(state, 0, 1)
    state.mark()
    sent(state, 2, 3)
    sent(state, 4, delivered=False)
    return state


def test_what_was_read_since_the_mark_was_never_read_when_it_is_read_again() -> None:
    state = in_a_transaction()
    assert state.rewind({PLACE: 2}) == 3
    assert (state.sent, state.ledger.read, state.ledger.delivered, state.ledger.in_flight) == (2, 2, 2, 0)
    assert (state.error, state.ledger.next_offsets) == (None, {PLACE: 2})


def test_what_was_refused_in_a_transaction_says_nothing_of_the_next_try() -> None:
    state = in_a_transaction()
    flight = state.ledger.flights[0]
    state.refused.append((flight, 0))
    state.reasons[id(flight), 0] = KpipeError("no")
    state.rewind({})
    assert (state.refused, state.reasons) == ([], {})


def test_what_was_told_of_a_record_is_told_until_its_transaction_is_committed() -> None:
    """A transaction that is read again may be committed in parts: what stands behind the first is still to come."""
    state = in_a_transaction()
    state.told |= {(*PLACE, 2), (*PLACE, 4), ("other", 1, 0)}
    state.rewind({PLACE: 2})
    assert len(state.told) == 3
    sent(state, 2, 3)
    state.mark()
    assert state.told == {(*PLACE, 4), ("other", 1, 0)}


@pytest.mark.parametrize(
    ("unknown", "failed", "not_known", "words"),
    [(False, 3, 0, "it was aborted"), (True, 0, 3, "nobody knows whether it was committed")],
)
def test_a_transaction_that_did_not_end_is_an_error_with_its_records_counted(
    unknown: bool, failed: int, not_known: int, words: str
) -> None:
    state = in_a_transaction()
    state.refused.append((state.ledger.flights[0], 0))
    state.write_off({PLACE: 2}, unknown=unknown)
    ledger = state.ledger
    assert (ledger.read, ledger.delivered, ledger.failed, ledger.unknown) == (5, 2, failed, not_known)
    assert (ledger.in_flight, ledger.next_offsets, state.refused) == (0, {PLACE: 2}, [])
    assert "3 records were in a transaction that did not end" in str(state.error)
    assert words in str(state.error)


def test_a_transaction_is_taken_for_aborted_unless_it_is_known_to_be_in_doubt() -> None:
    state = in_a_transaction()
    state.write_off({})
    assert (state.ledger.failed, state.ledger.unknown) == (3, 0)


def test_the_first_error_stays_the_one_that_the_run_ends_with() -> None:
    state = in_a_transaction()
    first = state.error = KpipeError("the cause")
    state.write_off({})
    assert state.error is first


def test_an_empty_transaction_is_no_error() -> None:
    state = RunState(Ledger())
    sent(state, 0)
    state.mark()
    state.write_off({})
    assert (state.error, state.ledger.delivered) == (None, 1)


def test_what_nobody_is_left_to_find_out_about_is_unknown() -> None:
    state = in_a_transaction()
    state.give_up()
    ledger = state.ledger
    assert (ledger.delivered, ledger.failed, ledger.unknown, ledger.next_offsets) == (2, 0, 3, {})
    assert ledger.balanced


def test_a_run_begins_with_nothing() -> None:
    state = RunState(Ledger())
    assert (state.sent, state.draining, state.error, state.lost) == (0, False, None, [])
    sent(state, 0, 1, delivered=False)
    assert state.rewind({}) == 2  # everything is behind the first mark
    assert (state.sent, state.ledger.read) == (0, 0)

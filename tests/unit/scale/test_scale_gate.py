"""What the far end of a pipe has proven, and so what may be committed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kpipe.delivery.backchannel.gate import Gate
from kpipe.record import Batch

A, B = ("t", 0), ("t", 1)


def batch(*places: tuple[int, int]) -> Batch:
    """Records at (partition, offset)."""
    return Batch(
        [b""] * len(places),
        topics=["t"] * len(places),
        partitions=[p for p, _ in places],
        offsets=[o for _, o in places],
    )


def test_in_order_an_ack_settles_all_before_it_in_its_partition() -> None:
    gate = Gate()
    gate.wrote(batch((0, 1), (0, 2), (1, 7), (0, 5)))
    assert gate.committable({A: 6, B: 8}) == {}
    gate.acked(A, [2])
    assert gate.committable({A: 6, B: 8}) == {A: 3}
    gate.acked(B, [7])
    assert gate.committable({A: 6, B: 12}) == {A: 3, B: 12}
    assert gate.proven([B])
    assert not gate.proven()


def test_a_partition_of_which_nothing_was_written_is_not_held_up() -> None:
    gate = Gate()
    assert gate.committable({A: 40}) == {A: 40}
    assert gate.proven()


def test_an_ack_for_what_was_never_written_moves_nothing() -> None:
    gate = Gate()
    gate.acked(A, [100])
    gate.wrote(batch((0, 1)))
    assert gate.committable({A: 2}) == {}


def test_a_partition_that_came_back_starts_from_nothing() -> None:
    gate = Gate()
    gate.wrote(batch((0, 9)))
    gate.acked(A, [9])
    gate.forget([A])
    gate.wrote(batch((0, 3), (0, 4)))
    assert gate.committable({A: 5}) == {}


def test_the_rest_is_settled_on_request() -> None:
    for each in (False, True):
        gate = Gate(each=each)
        gate.wrote(batch((0, 1), (0, 2)))
        gate.settle_rest()
        assert gate.committable({A: 3}) == {A: 3}


@given(st.permutations(range(12)), st.integers(0, 12))
def test_each_commits_the_contiguous_prefix_whatever_the_order(order: list[int], heard: int) -> None:
    gate = Gate(each=True)
    gate.wrote(batch(*((0, 3 * n) for n in range(12))))
    for n in order[:heard]:
        gate.acked(A, [3 * n])
    settled = set(order[:heard])
    first = next((n for n in range(12) if n not in settled), None)
    assert gate.committable({A: 34}) == {A: 34 if first is None else 3 * first}

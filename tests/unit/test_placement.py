"""Where groups go on among copies: no unread record is passed, and what is repeated is counted exactly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kpipe.ops.placement import Placement, Spot

A, B, HERE, THERE = ("a", 0), ("a", 1), ("copy", 0), ("copy", 1)
COPIES = st.lists(st.one_of(st.none(), st.tuples(st.sampled_from([A, B]), st.integers(0, 12))), max_size=25)
GROUPS = st.dictionaries(
    st.sampled_from(["g", "h", "i"]), st.dictionaries(st.sampled_from([A, B]), st.integers(0, 14)), min_size=1
)


def placed(
    groups: dict[str, dict[tuple[str, int], int]], records: list[tuple[tuple[str, int], int] | None], low: int = 0
) -> dict[str, Spot]:
    placement = Placement(groups, {HERE: low})
    for place, origin in enumerate(records):
        placement.take(HERE, low + place, origin)
    return {group: spots[HERE] for group, spots in placement.conclude({HERE: low + len(records)}).items()}


@given(GROUPS, COPIES, st.integers(0, 5))
def test_nothing_unread_is_passed_and_repeats_are_counted(
    groups: dict[str, dict[tuple[str, int], int]],
    records: list[tuple[tuple[str, int], int] | None],
    low: int,
) -> None:
    for group, spot in placed(groups, records, low).items():
        at = spot.position - low
        assert 0 <= at <= len(records)
        kinds = [
            "foreign" if each is None else "read" if each[1] < groups[group].get(each[0], 0) else "unread"
            for each in records
        ]
        assert "unread" not in kinds[:at]
        assert spot.read == kinds[:at].count("read")
        assert spot.repeats == kinds[at:].count("read")
        assert spot.foreign == kinds[:at].count("foreign")
        # No position further on would do, but behind records that are no copies: those nobody has read.
        unread = kinds.index("unread") if "unread" in kinds else len(kinds)
        assert "read" not in kinds[at:unread]
        assert kinds[at - 1 : at] in ([], ["read"]) or at == len(kinds)


def test_records_that_are_no_copies_are_passed_only_before_a_copy_that_was_read() -> None:
    """A cluster that took over: what producers wrote there since is behind the last copy, and nobody has read it."""
    assert placed({"g": {A: 2}}, [(A, 0), None, (A, 1), None, None])["g"] == Spot(3, 2, 0, 1)
    assert placed({"g": {A: 2}}, [(A, 0), (A, 1), None, (A, 2)])["g"] == Spot(2, 2, 0, 0)
    assert placed({"g": {A: 0}}, [None, (A, 0)])["g"] == Spot(0, 0, 0, 0)


def test_behind_the_last_record_a_group_stands_at_the_end() -> None:
    """The marker of a transaction takes an offset: a group that has read everything lags behind nothing."""
    placement = Placement({"g": {A: 2}}, {HERE: 0})
    placement.take(HERE, 0, (A, 0))
    placement.take(HERE, 1, (A, 1))
    assert placement.conclude({HERE: 3})["g"][HERE].position == 3


def test_a_partition_without_a_copy_is_read_from_its_start() -> None:
    placement = Placement({"g": {A: 2}}, {HERE: 0, THERE: 4})
    placement.take(HERE, 0, (A, 0))
    placement.take(THERE, 5, None)
    spots = placement.conclude({HERE: 1, THERE: 6})["g"]
    assert (spots[HERE].position, spots[THERE]) == (1, Spot(4, 0, 0, 0))

"""Columns stay equally long and in order, whatever is taken out; a record's position stays what it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kpipe.errors import BadRecord
from kpipe.record import COLUMNS, Batch, Shown


def full(count: int) -> Batch:
    batch = Batch(
        [b"%d" % n for n in range(count)],
        keys=[b"k%d" % n for n in range(count)],
        headers=[[("h", b"%d" % n)] for n in range(count)],
        timestamps=[(1, n) for n in range(count)],
        topics=["t"] * count,
        partitions=[n % 3 for n in range(count)],
        offsets=[100 + n for n in range(count)],
        cluster="prod",
    )
    batch.targets = [f"to-{n}" for n in range(count)]
    batch.source_timestamps = [(1, 1000 + n) for n in range(count)]
    batch.shown_keys = [Shown(b"%d" % n) for n in range(count)]
    batch.shown_values = [Shown(b"%d" % n) for n in range(count)]
    batch.partition_keys = [b"o%d" % n for n in range(count)]
    return batch


def test_every_column_is_known_by_name() -> None:
    others = {"bad", "cluster", "file", "index", "read", "values"}
    assert set(COLUMNS) == set(Batch.__slots__) - others


@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12), max_size=3), st.integers(0, 12))
def test_taking_out_keeps_columns_aligned_and_knows_the_places(masks: list[list[bool]], cut: int) -> None:
    batch, left = full(12), list(range(12))
    for mask in masks:
        batch.keep(mask[: len(batch)])
        left = [number for number, kept in zip(left, mask, strict=False) if kept]
    batch.truncate(cut)
    left = [number for number in left if number < cut]

    assert batch.values == [b"%d" % number for number in left]
    assert batch.keys == [b"k%d" % number for number in left]
    assert batch.offsets == [100 + number for number in left]
    assert batch.source_timestamps == [(1, 1000 + number) for number in left]
    assert all(len(getattr(batch, column)) == len(left) for column in COLUMNS if column != "lines")
    assert batch.index == left
    assert (len(batch), batch.read) == (len(left), cut)


def test_a_bad_record_is_known_by_its_place_as_read() -> None:
    batch = full(5)
    batch.keep([False, True, True, True, True])
    batch.reject({1: BadRecord("first"), 3: BadRecord("second", where="elsewhere")})

    assert [(bad.index, bad.error.where) for bad in batch.bad] == [(2, "prod:t[2]@102"), (4, "elsewhere")]
    assert batch.values == [b"1", b"3"]
    assert batch.where_read(1) == "prod:t[1]@101"
    assert batch.where_read(2) == "prod:t[2]@102", "also when the record is no longer in the columns"
    assert batch.where_read(4) == "elsewhere"


def test_nothing_to_reject_changes_nothing() -> None:
    batch = full(2)
    batch.reject({})
    assert (batch.index, batch.bad, len(batch)) == (None, [], 2)


def test_a_snapshot_keeps_what_was_read() -> None:
    batch = full(3)
    as_read = batch.snapshot()
    batch.values = [b"changed"] * 3
    batch.keep([True, False, False])

    assert as_read.values == [b"0", b"1", b"2"]
    assert as_read.index is None
    assert as_read.where_read(2) == "prod:t[2]@102"


def test_positions_for_people() -> None:
    assert Batch([b"a", b"b"], file="stdin", lines=[7, 9]).where(1) == "stdin:9"
    assert Batch([b"a"], topics=["t"], partitions=[0], offsets=[5]).where(0) == "t[0]@5"
    assert Batch([b"a"]).where(0) == ""
    assert Batch([b"a"], file="whole").where(0) == "whole"


def test_a_record_without_headers_has_none() -> None:
    assert Batch([b"a"]).header(0) == []
    assert Batch([b"a"], headers=[None]).header(0) == []
    assert Batch([b"a"], headers=[[("h", None)]]).header(0) == [("h", None)]

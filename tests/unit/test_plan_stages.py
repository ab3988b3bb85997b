"""The stages that produce's own options ask for, and the range that -o and --until mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kpipe.errors import UsageError
from kpipe.kafka.offsets import OffsetKind
from kpipe.plan.selection import parse_range
from kpipe.record import Batch
from kpipe.transform.fixed import fixed_fields, fixed_timestamp, parse_header, refuse_cut_names

if TYPE_CHECKING:
    from kpipe.pipeline import PipelineStage


def through(batch: Batch, stages: list[PipelineStage]) -> Batch:
    for stage in stages:
        stage(batch)
    return batch


def test_a_fixed_key_fills_only_what_is_null() -> None:
    assert through(Batch([b"a", b"b"]), fixed_fields("k", [])).keys == [b"k", b"k"]
    assert through(Batch([b"a"] * 3, keys=[b"own", None, b""]), fixed_fields("k", [])).keys == [b"own", b"k", b""]
    assert through(Batch([b"a"]), fixed_fields("", [])).keys == [b""]
    assert fixed_fields(None, []) == []


def test_fixed_headers_stand_behind_a_records_own() -> None:
    batch = Batch([b"a", b"b"], headers=[[("h", b"0")], None])
    assert through(batch, fixed_fields(None, ["h=1", "h", "e="])).headers == [
        [("h", b"0"), ("h", b"1"), ("h", None), ("e", b"")],
        [("h", b"1"), ("h", None), ("e", b"")],
    ]


@pytest.mark.parametrize(
    ("text", "header"),
    [("a=b=c", ("a", b"b=c")), ("a=", ("a", b"")), ("a", ("a", None)), ("a=\udcff", ("a", b"\xff"))],
)
def test_headers_as_typed(text: str, header: tuple[str, bytes | None]) -> None:
    assert parse_header(text) == header


def test_a_header_has_a_name() -> None:
    with pytest.raises(UsageError, match="the name is empty"):
        parse_header("=v")


def test_a_header_name_that_would_be_cut_is_bad() -> None:
    batch = Batch([b"a", b"b", b"c"], headers=[[("a\0b", b"")], None, [("a", b"\0")]], file="stdin", lines=[1, 2, 3])
    refuse_cut_names(batch)
    assert batch.values == [b"b", b"c"]
    assert batch.bad[0].error.where == "stdin:1"
    plain = Batch([b"a"])
    refuse_cut_names(plain)
    assert len(plain) == 1


def test_timestamps() -> None:
    def stamped(text: str) -> object:
        return through(Batch([b"a"], timestamps=[(2, 7)]), fixed_timestamp(text, keeps=True)).timestamps

    assert stamped("keep") == [(2, 7)]
    assert stamped("now") is None
    assert (
        stamped("1763884800000") == stamped("@1763884800000") == stamped("2025-11-23T08:00:00Z") == [(1, 1763884800000)]
    )


@pytest.mark.parametrize(
    ("text", "keeps"), [("soon", True), ("beginning", True), ("0", True), ("1763884800000", False)]
)
def test_no_timestamps(text: str, keeps: bool) -> None:
    with pytest.raises(UsageError):
        fixed_timestamp(text, keeps=keeps)


@pytest.mark.parametrize(
    ("options", "start", "until"),
    [
        ({}, (OffsetKind.BEGINNING, 0), None),
        ({"offset": ["-10"]}, (OffsetKind.TAIL, 10), None),
        ({"offset": ["5"], "until": "9"}, (OffsetKind.ABSOLUTE, 5), (OffsetKind.ABSOLUTE, 9)),
        (
            {"offset": ["s@1763884800000", "e@1763884900000"]},
            (OffsetKind.TIME, 1763884800000),
            (OffsetKind.TIME, 1763884900000),
        ),
        ({"offset": ["e@1763884900000"]}, (OffsetKind.BEGINNING, 0), (OffsetKind.TIME, 1763884900000)),
        ({"offset": ["stored"], "group": "g"}, (OffsetKind.STORED, 0), None),
    ],
)
def test_ranges(options: dict[str, Any], start: tuple[OffsetKind, int], until: tuple[OffsetKind, int] | None) -> None:
    first, last = parse_range(options.get("offset", ()), options.get("until", ""), options.get("group", ""))
    assert (first.kind, first.value) == start
    assert (None if last is None else (last.kind, last.value)) == until


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"offset": ["1", "2"]}, "the start is given twice"),
        ({"offset": ["e@1763884900000"], "until": "9"}, "the end is given twice"),
        ({"until": "stored"}, "a place to start, not to stop"),
        ({"offset": ["stored"]}, "needs a group"),
        ({"offset": ["soon"]}, "not an offset"),
    ],
)
def test_no_ranges(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_range(options.get("offset", ()), options.get("until", ""), options.get("group", ""))

"""The trace where something is missing: coordinates, clusters, times, hosts; and what a loop is told as."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from kpipe.errors import Stage
from kpipe.record import Batch, Headers
from kpipe.trace import MAX_HOPS, Destination, Hop, Tracer

SOURCE = ("source_topic", "source_partition", "source_offset")


def batch(count: int = 1, **columns: Any) -> Batch:
    given: dict[str, Any] = {"topics": ["in"] * count, "partitions": [2] * count, "offsets": list(range(7, 7 + count))}
    return Batch([b"v"] * count, **(given | columns))


def names(found: Batch, row: int = 0) -> list[str]:
    return [name for name, _ in found.header(row)]


def times(found: Batch) -> list[bytes | None]:
    return [dict(found.header(row)).get("source_timestamp") for row in range(len(found))]


@pytest.mark.parametrize("missing", ["topics", "partitions", "offsets"])
def test_records_without_one_of_the_coordinates_are_not_stamped(missing: str) -> None:
    found = batch(**{missing: None})
    Tracer(Hop("A", "g", "B", "out"))(found)
    assert found.headers is None


def test_records_of_no_line_have_no_trace_of_a_host() -> None:
    found = Batch([b"a"])
    Tracer(Hop(target_topic="out", host="box"))(found)
    assert found.headers is None


def test_lines_of_no_file_name_none_and_count_hops_like_any_record() -> None:
    found = Batch(
        [b"a", b"b", b"c"],
        lines=[1, 2, 3],
        headers=[None, [("h", b"1")], [("source_topic", b"t"), ("trace_hops", b"2")]],
    )
    Tracer(Hop(target_topic="out", host="box"))(found)
    assert found.header(0) == [("source_host", b"box"), ("source_file", b""), ("source_line", b"1")]
    assert found.header(1) == [("h", b"1"), ("source_host", b"box"), ("source_file", b""), ("source_line", b"2")]
    assert dict(found.header(2))["origin_topic"] == b"t"
    assert dict(found.header(2))["trace_hops"] == b"3"


def test_lines_without_headers_get_theirs() -> None:
    found = Batch([b"a"], file="in", lines=[4])
    Tracer(Hop(target_topic="out", host="box"))(found)
    assert found.header(0) == [("source_host", b"box"), ("source_file", b"in"), ("source_line", b"4")]


def test_all_of_the_trace_is_written_where_it_is_asked_for_whatever_else_a_record_has() -> None:
    found = batch()
    Tracer(Hop("A", full=True))(found)
    assert {"origin_topic", "origin_offset", "trace_hops"} <= set(names(found))


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        (None, b"in"),
        ([("origin_topic", b"an application's own")], b"in"),
        ([("source_topic", b"first"), ("source_partition", b"0"), ("source_offset", b"1")], b"first"),
        ([("trace_hops", b"3")], None),
        ([("trace_hops", b"1")], None),
    ],
)
def test_an_origin_that_nobody_knows_is_not_made_up(headers: Headers | None, origin: bytes | None) -> None:
    """All of a trace has the first hop twice, as source and origin; a later hop does not know where the first one was."""
    found = batch(headers=[headers])
    Tracer(Hop("A", full=True))(found)
    assert dict(found.header(0)).get("origin_topic") == origin
    short = batch(headers=[[("trace_hops", b"3")]])
    Tracer(Hop("A"))(short)
    assert set(names(short)) == {*SOURCE, "source_cluster", "trace_hops"}


def test_records_of_no_topic_stay_as_they_are_among_others() -> None:
    found = batch(3, topics=[None, "in", "in"], headers=[None, None, [("trace_hops", b"1")]])
    Tracer(Hop())(found)
    assert [found.header(row) for row in range(2)] == [
        [],
        [("source_topic", b"in"), ("source_partition", b"2"), ("source_offset", b"8")],
    ]
    assert names(found, 2) == [*SOURCE, "trace_hops"]


@pytest.mark.parametrize("headers", [None, [("h", b"1")]])
def test_what_no_hop_has_touched_costs_no_call_a_record(headers: Headers | None) -> None:
    """`sys.setprofile` counts each call of a Python function: a thousand records cost about as many as ten."""

    def calls(count: int) -> int:
        found, seen = batch(count, headers=None if headers is None else [headers] * count), []
        tracer = Tracer(Hop("A", "g", "B", "out"))
        sys.setprofile(lambda _frame, event, _argument: seen.append(event) if event == "call" else None)
        try:
            tracer(found)
        finally:
            sys.setprofile(None)
        return len(seen)

    assert calls(1000) < calls(10) + 100


def test_a_loop_has_a_code_and_a_stage_of_its_own() -> None:
    found = batch()
    Tracer(Hop("A", None, "A", "in"))(found)
    (bad,) = found.bad
    assert (bad.error.code, bad.error.stage, MAX_HOPS) == ("LOOP", Stage.TRACE, 16)


@pytest.mark.parametrize("headers", [None, [[("source_cluster", b""), ("source_topic", b"in")]]])
def test_without_the_ids_of_clusters_nobody_is_accused_of_a_circle(headers: Any) -> None:
    """Topics of one name on two clusters that nobody can tell apart: to guess would refuse good records."""
    found = batch(headers=headers)
    Tracer(Hop(target_topic="in"))(found)
    assert found.bad == []


def test_only_the_very_cluster_and_topic_are_a_circle() -> None:
    for hop in (Hop("A", None, "B", "in"), Hop("A", None, "A", "out"), Hop("A", None, "", "in")):
        found = batch()
        Tracer(hop)(found)
        assert found.bad == [], hop


def test_a_topic_beside_the_target_is_on_the_targets_cluster() -> None:
    found = batch(2)
    found.targets = ["in", "other"]
    Tracer(Hop("A", None, "A", "out"))(found)
    assert [bad.index for bad in found.bad] == [0]
    headers: Headers = [("source_cluster", b"B"), ("source_topic", b"side")]
    found = batch(2, headers=[headers, headers])
    found.targets = ["side", None]
    Tracer(Hop("A", None, "B", "out"))(found)
    assert [bad.index for bad in found.bad] == [0]


def test_records_are_counted_against_the_hops_that_are_allowed() -> None:
    for hops, refused in ((2, False), (3, True), (4, True)):
        found = batch(headers=[[("source_topic", b"t"), ("trace_hops", b"%d" % hops)]])
        Tracer(Hop("A", None, "B", "out", max_hops=3))(found)
        assert bool(found.bad) is refused
        if refused:
            assert f"made {hops} hops already (--max-hops 3)" in found.bad[0].error.what


# --- times ---------------------------------------------------------------------------------------------------------


def test_a_time_that_is_kept_is_not_told() -> None:
    found = batch(timestamps=[(1, 50)])
    Tracer(Hop("A"))(found)
    assert times(found) == [None]


def test_a_time_that_is_not_kept_is_told_where_there_is_one() -> None:
    for hop in (Hop("A", times=True), Hop("A", full=True)):
        found = batch(2, timestamps=[(1, 50), (0, -1)])
        Tracer(hop)(found)
        assert times(found) == [b"50", None]
        found = batch()
        Tracer(hop)(found)
        assert times(found) == [None]


def test_the_time_at_the_source_is_told_and_not_the_one_that_a_stage_gave() -> None:
    found = batch(timestamps=[(1, 50)])
    found.source_timestamps = [(1, 5)]
    Tracer(Hop("A", times=True))(found)
    assert times(found) == [b"5"]


def test_a_record_that_lost_its_time_altogether_tells_it() -> None:
    found = batch(2)
    found.source_timestamps = [(1, 5), (0, -1)]
    Tracer(Hop("A"))(found)
    assert times(found) == [b"5", None]


def test_where_every_route_keeps_times_none_is_told() -> None:
    found = batch(2, timestamps=[(1, 5), (1, 6)])
    found.targets = ["log", None]
    Tracer(Hop("A"), {"log": Destination("B", "log")})(found)
    assert times(found) == [None, None]


def test_a_time_of_another_kind_is_the_same_time() -> None:
    """A topic that stamps records itself gave it; the copy has it, too."""
    for targets in (None, ["keep", None]):
        found = batch(2, timestamps=[(1, 5), (1, 6)])
        found.source_timestamps = [(2, 5), (2, 7)]
        found.targets = targets
        Tracer(Hop("A"), {"keep": Destination("B", "keep")})(found)
        assert times(found) == [None, b"7"]


def test_a_route_that_stamps_records_itself_is_nothing_to_a_batch_without_routes() -> None:
    routed = {"log": Destination("B", "log", keeps_time=False)}
    found = batch(timestamps=[(1, 5)])
    Tracer(Hop("A"), routed)(found)
    assert times(found) == [None]
    found = batch(2)
    found.source_timestamps, found.targets = [(1, 5), (1, 6)], ["log", None]
    Tracer(Hop("A"), routed)(found)
    assert times(found) == [b"5", b"6"], "none of them has a time any more"


def test_beside_a_route_that_stamps_records_itself_a_changed_time_is_told_too() -> None:
    routed = {"log": Destination("B", "log", keeps_time=False), "keep": Destination("B", "keep")}
    found = batch(4, timestamps=[(1, 5), (1, 60), (1, 7), (0, -1)])
    found.source_timestamps = [(1, 5), (1, 6), (1, 7), (0, -1)]
    found.targets = ["log", "keep", None, "log"]
    Tracer(Hop("A"), routed)(found)
    assert times(found) == [b"5", b"6", None, None]


def test_a_group_is_named_when_there_is_one_even_an_empty_word() -> None:
    for group, there in ((None, False), ("", True), ("g", True)):
        found = batch()
        Tracer(Hop("A", group))(found)
        assert ("source_consumer_group" in names(found)) is there
    found = batch()
    Tracer(Hop())(found)
    assert names(found) == list(SOURCE)

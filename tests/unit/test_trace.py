"""Trace headers: what a hop writes, what becomes of earlier hops in every form, circles end, and nothing else changes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kpipe.errors import Exit
from kpipe.formats.lineage import FIELDS, TraceNames
from kpipe.record import Batch, Headers, Timestamp
from kpipe.trace import Destination, Hop, Tracer

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = ("source_", "origin_", "trace_hops")


def stamped(
    hop: Hop,
    headers: Headers | None = None,
    *,
    topic: str | None = "in",
    offset: int | None = 7,
    time: Timestamp = (1, 99),
) -> Batch:
    batch = Batch(
        [b"v"],
        headers=None if headers is None else [headers],
        timestamps=[time],
        topics=[topic],
        partitions=[2],
        offsets=[offset],
        cluster="prod",
    )
    Tracer(hop)(batch)
    return batch


def trace(batch: Batch) -> dict[str, bytes | None]:
    found = [header for header in batch.header(0) if header[0].startswith(NAMES)]
    assert len(dict(found)) == len(found), "a trace header is there twice"
    return dict(found)


FIRST: dict[str, bytes | None] = {
    "source_topic": b"in", "source_partition": b"2", "source_offset": b"7",
    "source_cluster": b"A", "source_consumer_group": b"g",
}  # fmt: skip
AS_ORIGIN = {name.replace("source_", "origin_"): value for name, value in FIRST.items()}
FULL = {
    **FIRST, "source_timestamp": b"99",
    "origin_topic": b"in", "origin_partition": b"2", "origin_offset": b"7", "origin_timestamp": b"99",
    "origin_cluster": b"A", "trace_hops": b"1",
}  # fmt: skip
FULL_ONCE: Headers = [
    ("h", b"1"),
    ("source_topic", b"in"), ("source_partition", b"2"), ("source_consumer_group", b"g"), ("source_cluster", b"A"),
    ("source_offset", b"7"), ("source_timestamp", b"99"),
    ("origin_topic", b"in"), ("origin_partition", b"2"), ("origin_cluster", b"A"), ("origin_offset", b"7"),
    ("origin_timestamp", b"99"), ("trace_hops", b"1"),
]  # fmt: skip
"""A record that was forwarded once with all of a trace, in the order of early traces, byte for byte."""
FULL_TWICE: Headers = [
    ("h", b"1"),
    ("origin_topic", b"in"), ("origin_partition", b"2"), ("origin_cluster", b"A"), ("origin_offset", b"7"),
    ("origin_timestamp", b"99"),
    ("source_topic", b"out"), ("source_partition", b"0"), ("source_cluster", b"B"), ("source_offset", b"4"),
    ("source_timestamp", b"99"), ("trace_hops", b"2"),
]  # fmt: skip


# --- what a hop writes -----------------------------------------------------------------------------------------


def test_the_first_hop_writes_only_what_nobody_could_know_otherwise() -> None:
    assert trace(stamped(Hop("A", "g", "B", "out"))) == FIRST


def test_without_group_and_cluster_there_is_no_such_header() -> None:
    assert trace(stamped(Hop(target_topic="out"), time=(0, -1))) == {
        "source_topic": b"in", "source_partition": b"2", "source_offset": b"7",
    }  # fmt: skip


def test_full_writes_everything_at_the_first_hop() -> None:
    assert trace(stamped(Hop("A", "g", "B", "out", full=True))) == FULL
    assert stamped(Hop("A", "g", "B", "out", full=True), [("h", b"1")]).header(0) == FULL_ONCE


def test_the_next_hop_makes_the_source_the_origin_and_counts() -> None:
    first = stamped(Hop("A", "g", "B", "out"), [("mine", b"1")]).header(0)

    second = stamped(Hop("B", None, "C", "far"), first, topic="out", offset=0)

    assert trace(second) == {
        **AS_ORIGIN,
        "source_topic": b"out", "source_partition": b"2", "source_offset": b"0", "source_cluster": b"B",
        "trace_hops": b"2",
    }  # fmt: skip
    third = stamped(Hop("C", "h", "D", "end"), second.header(0), topic="far", offset=1)
    assert trace(third) == {
        **AS_ORIGIN,
        "source_topic": b"far", "source_partition": b"2", "source_offset": b"1", "source_cluster": b"C",
        "source_consumer_group": b"h", "trace_hops": b"3",
    }  # fmt: skip
    assert third.header(0)[0] == ("mine", b"1")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("headers", "hops"), [(FULL_ONCE, b"2"), (FULL_TWICE, b"3")])
def test_records_with_all_of_a_trace_go_on_with_their_origin(headers: Headers, hops: bytes, *, full: bool) -> None:
    found = stamped(Hop("B", None, "C", "far", full=full), headers, topic="out", offset=0, time=(1, 5))
    origin = [header for header in headers if header[0].startswith("origin_")]
    time: Headers = [("source_timestamp", b"5")] if full else []
    assert found.header(0) == [
        ("h", b"1"), *origin,
        ("source_topic", b"out"), ("source_partition", b"2"), ("source_cluster", b"B"), ("source_offset", b"0"), *time,
        ("trace_hops", hops),
    ]  # fmt: skip


def test_full_moves_a_short_trace_like_any_other() -> None:
    first = stamped(Hop("A", "g", "B", "out")).header(0)
    assert trace(stamped(Hop("B", None, "C", "far", full=True), first, topic="out", offset=0)) == {
        **AS_ORIGIN,
        "source_topic": b"out", "source_partition": b"2", "source_offset": b"0", "source_cluster": b"B",
        "source_timestamp": b"99", "trace_hops": b"2",
    }  # fmt: skip


def test_headers_of_the_seed_system_become_the_origin() -> None:
    """A record that Karafka piped made one hop; its cluster nobody knows."""
    seed: Headers = [
        ("source_topic", b"old"), ("source_partition", b"0"), ("source_offset", b"1"), ("source_consumer_group", b"them"),
    ]  # fmt: skip
    assert trace(stamped(Hop("A", None, "B", "out"), seed)) == {
        "origin_topic": b"old", "origin_partition": b"0", "origin_offset": b"1", "origin_consumer_group": b"them",
        "source_topic": b"in", "source_partition": b"2", "source_offset": b"7", "source_cluster": b"A",
        "trace_hops": b"2",
    }  # fmt: skip


# --- what is not a trace, or not only ----------------------------------------------------------------------------


def test_headers_of_an_application_keep_their_bytes_and_their_place() -> None:
    own: Headers = [
        ("source_topic", b"app"), ("h", b"1"), ("source_topic", None), ("trace_hops", b"many"), ("source_offset", b"x"),
    ]  # fmt: skip
    found = stamped(Hop("A", None, "B", "out"), own).header(0)
    assert found == [
        ("origin_topic", b"app"), ("h", b"1"), ("origin_topic", None), ("trace_hops", b"many"), ("origin_offset", b"x"),
        ("source_topic", b"in"), ("source_partition", b"2"), ("source_cluster", b"A"), ("source_offset", b"7"),
        ("trace_hops", b"2"),
    ]  # fmt: skip


def test_an_origin_of_the_applications_own_stays_beside_ours() -> None:
    own: Headers = [("origin_topic", b"app")]
    first = stamped(Hop("A", None, "B", "out"), own).header(0)
    assert first == [
        ("origin_topic", b"app"),
        ("source_topic", b"in"), ("source_partition", b"2"), ("source_cluster", b"A"), ("source_offset", b"7"),
    ]  # fmt: skip
    second = stamped(Hop("B", None, "C", "far"), first, topic="out").header(0)
    assert second[:2] == [("origin_topic", b"app"), ("origin_topic", b"in")]
    assert ("trace_hops", b"2") in second


any_headers = st.lists(
    st.tuples(
        st.sampled_from(["h", "h", "", "ü", "source_of", "trace_hops", *(f"source_{field}" for field in FIELDS[:6])])
        | st.sampled_from([f"origin_{field}" for field in FIELDS]),
        st.none() | st.binary(max_size=3) | st.sampled_from([b"0", b"3", b"12"]),
    ),
    max_size=10,
)


def carried(headers: Headers) -> Counter[tuple[str, bytes | None]]:
    return Counter((name.removeprefix("source_").removeprefix("origin_"), value) for name, value in headers)


@given(any_headers, st.booleans())
def test_whatever_a_record_carries_nothing_vanishes_at_its_first_hop(headers: Headers, full: bool) -> None:
    """Each header is there afterwards, as it was or as an origin; only a count of hops goes on counting."""
    names = TraceNames()
    shape = names.shape_of(headers)
    kept, hops = names.carry_on(headers, shape)
    found = stamped(Hop("A", "g", "Z", "nowhere", max_hops=1 << 60, full=full), headers).header(0)
    gone = carried(headers) - carried(found)
    counted = {("trace_hops", value) for name, value in headers if name == "trace_hops"}
    if hops and shape.origin:  # a trace with counted hops: the last hop makes room for this one
        assert all(name in FIELDS or (name, value) in counted for name, value in gone)
    else:
        assert set(gone) <= counted
        assert sum(gone.values()) <= 1
    others = [header for header in headers if header[0] not in names.all]
    assert [header for header in found if header[0] not in names.all] == others
    assert found[: len(kept)] == kept


@given(any_headers, st.integers(1, 4))
def test_the_origin_once_written_never_changes(headers: Headers, hops: int) -> None:
    batch = stamped(Hop("A", "g", "Z", "nowhere", max_hops=1 << 60), headers)
    batch = stamped(Hop("B", "g", "Z", "nowhere", max_hops=1 << 60), batch.header(0))
    origin = [header for header in batch.header(0) if header[0].startswith("origin_")]
    for hop in range(hops):
        batch = stamped(Hop(f"C{hop}", None, "Z", "nowhere", max_hops=1 << 60), batch.header(0), topic=f"t{hop}")
        assert [header for header in batch.header(0) if header[0].startswith("origin_")] == origin


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["h", "h", "", "source", "x_source_topic", "origin", "ü"]),
            st.none() | st.binary(max_size=4),
        ),
        max_size=8,
    ),
    st.integers(0, 3),
)
def test_all_other_headers_stay_in_order_with_their_duplicates(headers: Headers, hops: int) -> None:
    batch = stamped(Hop("A", "g", "Z", "out"), list(headers))
    for hop in range(hops):
        batch = stamped(Hop("A", "g", "Z", f"out{hop}"), batch.header(0))
    assert [header for header in batch.header(0) if not header[0].startswith(NAMES)] == headers
    assert trace(batch).get("trace_hops") == (b"%d" % (hops + 1) if hops else None)


def test_a_prefix_stands_before_every_name() -> None:
    hop = Hop("A", "g", "B", "out", prefix="x-")
    batch = stamped(hop, [("source_topic", b"not ours"), ("x-trace_hops", b"4")])
    names = dict(batch.header(0))
    assert (names["x-source_topic"], names["source_topic"], names["x-trace_hops"]) == (b"in", b"not ours", b"5")


@pytest.mark.parametrize("value", [b"", b"-1", b"0", b"many", b"9" * 10, None, "٣".encode()])
def test_hops_that_are_no_number_were_not_written_by_a_hop(value: bytes | None) -> None:
    assert stamped(Hop("A", None, "B", "out"), [("trace_hops", value)]).header(0)[0] == ("trace_hops", value)
    assert "source_topic" in trace(stamped(Hop("A", None, "B", "out"), [("trace_hops", value)]))


# --- whose time it is ------------------------------------------------------------------------------------------


def test_the_time_is_told_where_the_record_loses_it() -> None:
    assert trace(stamped(Hop("A", times=True)))["source_timestamp"] == b"99"
    assert "source_timestamp" not in trace(stamped(Hop("A", times=True), time=(0, -1)))


def test_the_time_is_told_of_the_records_that_got_another_one() -> None:
    batch = Batch(
        [b"a", b"b", b"c"],
        topics=["in"] * 3, partitions=[0] * 3, offsets=[1, 2, 3], timestamps=[(1, 50), (1, 6), (1, 70)],
    )  # fmt: skip
    batch.source_timestamps = [(2, 5), (2, 6), (0, -1)]
    Tracer(Hop("A"))(batch)
    assert [dict(batch.header(row)).get("source_timestamp") for row in range(3)] == [b"5", None, None]


def test_the_time_is_told_where_a_routed_topic_stamps_records_itself() -> None:
    batch = Batch(
        [b"a", b"b"], topics=["in"] * 2, partitions=[0] * 2, offsets=[1, 2], timestamps=[(1, 5), (1, 6)]
    )  # fmt: skip
    batch.targets = ["log", None]
    Tracer(Hop("A"), {"log": Destination("B", "log", keeps_time=False)})(batch)
    assert [dict(batch.header(row)).get("source_timestamp") for row in range(2)] == [b"5", None]


# --- circles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ([("origin_cluster", b"B"), ("origin_topic", b"out")], "would loop: out is its origin"),
        ([("source_cluster", b"B"), ("source_topic", b"out")], "would loop: out is its previous source"),
        ([("trace_hops", b"16")], "made 16 hops already (--max-hops 16)"),
    ],
)
def test_a_circle_ends(headers: Headers, what: str) -> None:
    batch = stamped(Hop("A", None, "B", "out"), headers)
    (bad,) = batch.bad
    assert what in bad.error.what
    assert str(bad.error).startswith("trace: prod:in[2]@7: ")
    assert bad.error.exit_code is Exit.UNDELIVERED
    assert len(batch) == 0


@pytest.mark.parametrize("full", [False, True])
def test_a_ring_of_three_ends_at_its_last_hop(*, full: bool) -> None:
    first = stamped(Hop("A", None, "B", "b", full=full), topic="a")
    second = stamped(Hop("B", None, "C", "c", full=full), first.header(0), topic="b")
    third = stamped(Hop("C", None, "A", "a", full=full), second.header(0), topic="c")
    assert "a is its origin" in third.bad[0].error.what


@pytest.mark.parametrize("headers", [FULL_ONCE, FULL_TWICE])
def test_records_with_all_of_a_trace_end_their_circle(headers: Headers) -> None:
    assert "in is its origin" in stamped(Hop("X", None, "A", "in"), headers, topic="t").bad[0].error.what


@pytest.mark.parametrize(
    "headers",
    [
        [("origin_cluster", b"A"), ("origin_topic", b"out")],
        [("origin_cluster", b"B"), ("origin_topic", b"other")],
        [("trace_hops", b"15")],
    ],
)
def test_what_only_looks_like_a_circle_goes_on(headers: Headers) -> None:
    assert len(stamped(Hop("A", None, "B", "out"), headers)) == 1


def test_a_record_read_from_its_own_target_is_stopped() -> None:
    batch = Batch([b"a", b"b"], topics=["in", "out"], partitions=[0, 0], offsets=[1, 2])
    Tracer(Hop("A", None, "A", "out"))(batch)
    assert batch.values == [b"a"]
    assert "comes from out itself" in batch.bad[0].error.what


def test_a_route_back_is_stopped() -> None:
    batch = Batch([b"a", b"b"], topics=["in", "in"], partitions=[0, 0], offsets=[1, 2])
    batch.targets = ["in", None]
    Tracer(Hop("A", None, "A", "out"))(batch)
    assert batch.values == [b"b"]


ROUTED: Mapping[str, Destination] = {"b:in": Destination("B", "in"), "a:in": Destination("A", "in")}


def test_a_route_back_to_the_sources_cluster_is_stopped_whatever_the_target() -> None:
    batch = Batch([b"a", b"b", b"c"], topics=["in"] * 3, partitions=[0] * 3, offsets=[1, 2, 3])
    batch.targets = ["b:in", "a:in", None]
    Tracer(Hop("A", None, "X", "in"), ROUTED)(batch)
    assert batch.values == [b"a", b"c"]


def test_a_record_does_not_return_to_the_cluster_it_was_routed_from() -> None:
    headers: Headers = [("source_cluster", b"B"), ("source_topic", b"in")]
    batch = Batch([b"a", b"b"], topics=["t"] * 2, partitions=[0] * 2, offsets=[1, 2], headers=[headers, headers])
    batch.targets = ["b:in", "a:in"]
    Tracer(Hop("Z", None, "X", "in"), ROUTED)(batch)
    assert batch.values == [b"b"]


# --- shapes of batches -------------------------------------------------------------------------------------------


def test_records_of_several_topics_and_partitions_get_each_their_own() -> None:
    places = [("a", 0), ("a", 1), ("b", 1), ("a", 0)]
    for rows in ([0, 3], [0, 1, 3], [0, 1, 2, 3]):
        batch = Batch(
            [b""] * len(rows),
            topics=[places[row][0] for row in rows],
            partitions=[places[row][1] for row in rows],
            offsets=list(rows),
        )
        Tracer(Hop("A"))(batch)
        for place, row in enumerate(rows):
            found = dict(batch.header(place))
            assert (found["source_topic"], found["source_partition"]) == (
                places[row][0].encode(), b"%d" % places[row][1]
            )  # fmt: skip
            assert found["source_offset"] == b"%d" % row


def test_other_columns_and_records_without_coordinates_are_untouched() -> None:
    batch = Batch(
        [b"a", b"b"], topics=[None, "in"], partitions=[None, 1], offsets=[None, 4], headers=[[("h", None)], None]
    )
    Tracer(Hop(target_topic="out"))(batch)
    assert batch.header(0) == [("h", None)]
    assert trace(Batch([b""], headers=[batch.header(1)]))["source_offset"] == b"4"


@pytest.mark.parametrize("missing", ["partitions", "offsets"])
def test_a_record_that_lacks_one_coordinate_has_no_trace(missing: str) -> None:
    batch = Batch([b"a", b"b"], topics=["in", "in"], partitions=[1, 1], offsets=[4, 5])
    setattr(batch, missing, [None, 5])
    Tracer(Hop(target_topic="out"))(batch)
    assert (batch.header(0), dict(batch.header(1))["source_topic"]) == ([], b"in")


def test_lines_have_a_trace_only_when_the_host_is_to_be_told() -> None:
    plain = Batch([b"a"], file="stdin", lines=[3])
    Tracer(Hop(target_topic="out"))(plain)
    assert plain.headers is None

    full = Batch([b"a"], file="stdin", lines=[3], headers=[[("h", None)]])
    Tracer(Hop(target_topic="out", host="box", full=True))(full)
    assert full.header(0)[0] == ("h", None)
    assert dict(full.header(0)[1:]) == {
        "source_host": b"box", "source_file": b"stdin", "source_line": b"3",
        "origin_host": b"box", "origin_file": b"stdin", "origin_line": b"3", "trace_hops": b"1",
    }  # fmt: skip
    second = stamped(Hop("A", None, "B", "out"), full.header(0))
    assert trace(second) == {
        "origin_host": b"box", "origin_file": b"stdin", "origin_line": b"3",
        "source_topic": b"in", "source_partition": b"2", "source_offset": b"7", "source_cluster": b"A",
        "trace_hops": b"2",
    }  # fmt: skip


def test_an_empty_batch_is_no_problem() -> None:
    batch = Batch([], topics=[], partitions=[], offsets=[])
    Tracer(Hop("A", None, "B", "out"))(batch)
    assert len(batch) == 0


# --- comparing with the trace left out -----------------------------------------------------------------------------


ROWS_OF_THEIR_OWN: Headers = [
    ("source_topic", b"a"), ("h", None), ("source_partition", b"0"), ("source_offset", b"0"), ("origin_topic", b"b"),
]  # fmt: skip
"""An application's own headers under the names of a trace: a row that is interrupted, and an origin behind it."""


@example(headers=ROWS_OF_THEIR_OWN, full=False, twice=False)
@given(any_headers, st.booleans(), st.booleans())
def test_a_copy_and_its_original_have_the_same_headers_without_the_trace(
    headers: Headers, full: bool, twice: bool
) -> None:
    names = TraceNames()
    if twice:
        headers = stamped(Hop("Z", None, "A", "in", max_hops=1 << 60), headers, topic="before").header(0)
    copy = stamped(Hop("A", "g", "Y", "nowhere", max_hops=1 << 60, full=full), headers).header(0)
    assert names.without_trace(copy) == names.without_trace(headers)


@given(any_headers, st.booleans())
def test_what_is_no_trace_is_the_same_however_it_is_found(headers: Headers, numbers: bool) -> None:
    """What the names alone tell, where the values are numbers, against a look at each value."""
    names = TraceNames()
    if numbers:
        headers = [(name, b"%d" % (place + 1)) for place, (name, _) in enumerate(headers)]
    shape = names.shape_of(headers)
    assert not shape.traced or names.without_trace(headers) == names._strip(headers, shape)


def test_a_header_of_the_applications_that_is_gone_is_a_difference() -> None:
    names = TraceNames()
    own: Headers = [("source_topic", b"app"), ("trace_hops", b"many")]
    copy = stamped(Hop("A", None, "B", "out"), own).header(0)
    assert names.without_trace(copy) == [("origin_topic", b"app"), ("trace_hops", b"many")]
    assert names.without_trace(copy[1:]) != names.without_trace(own)

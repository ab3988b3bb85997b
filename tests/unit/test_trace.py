"""Trace headers: the origin is written once, the source is always the last hop, circles end, and nothing else changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.errors import Exit
from kpipe.record import Batch, Headers, Timestamp
from kpipe.trace import Hop, Tracer

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


FIRST = {
    "source_topic": b"in", "source_partition": b"2", "source_offset": b"7", "source_timestamp": b"99",
    "source_cluster": b"A", "source_consumer_group": b"g",
    "origin_topic": b"in", "origin_partition": b"2", "origin_offset": b"7", "origin_timestamp": b"99",
    "origin_cluster": b"A", "trace_hops": b"1",
}  # fmt: skip


def test_the_first_hop_writes_origin_and_source() -> None:
    assert trace(stamped(Hop("A", "g", "B", "out"))) == FIRST


def test_without_group_cluster_or_time_there_is_no_such_header() -> None:
    assert trace(stamped(Hop(target_topic="out"), time=(0, -1))) == {
        "source_topic": b"in", "source_partition": b"2", "source_offset": b"7",
        "origin_topic": b"in", "origin_partition": b"2", "origin_offset": b"7", "trace_hops": b"1",
    }  # fmt: skip


def test_the_next_hop_replaces_the_source_and_keeps_the_origin() -> None:
    first = stamped(Hop("A", "g", "B", "out")).header(0)

    second = trace(stamped(Hop("B", None, "C", "far"), first, topic="out", offset=0, time=(1, 100)))

    assert second == {
        **{name: value for name, value in FIRST.items() if name.startswith("origin_")},
        "source_topic": b"out", "source_partition": b"2", "source_offset": b"0", "source_timestamp": b"100",
        "source_cluster": b"B", "trace_hops": b"2",
    }  # fmt: skip


def test_headers_of_the_seed_system_get_an_origin_from_this_hop() -> None:
    """A record that Karafka piped has a source but no origin: ours is the first that is known."""
    seed: Headers = [("source_topic", b"old"), ("source_offset", b"1"), ("source_consumer_group", b"them")]
    found = trace(stamped(Hop("A", None, "B", "out"), seed))
    assert (found["source_topic"], found["origin_topic"], found["trace_hops"]) == (b"in", b"in", b"1")
    assert "source_consumer_group" not in found


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
    assert trace(batch)["trace_hops"] == b"%d" % (hops + 1)


def test_a_prefix_stands_before_every_name() -> None:
    hop = Hop("A", "g", "B", "out", prefix="x-")
    batch = stamped(hop, [("source_topic", b"not ours"), ("x-trace_hops", b"4")])
    names = dict(batch.header(0))
    assert (names["x-source_topic"], names["source_topic"], names["x-trace_hops"]) == (b"in", b"not ours", b"5")


@pytest.mark.parametrize("value", [b"", b"-1", b"many", b"9" * 12, None, "٣".encode()])
def test_hops_that_are_no_number_count_as_none(value: bytes | None) -> None:
    assert trace(stamped(Hop("A", None, "B", "out"), [("trace_hops", value)]))["trace_hops"] == b"1"


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


def test_other_columns_and_records_without_coordinates_are_untouched() -> None:
    batch = Batch(
        [b"a", b"b"], topics=[None, "in"], partitions=[None, 1], offsets=[None, 4], headers=[[("h", None)], None]
    )
    Tracer(Hop(target_topic="out"))(batch)
    assert batch.header(0) == [("h", None)]
    assert trace(Batch([b""], headers=[batch.header(1)]))["source_offset"] == b"4"


def test_lines_have_a_trace_only_when_the_host_is_to_be_told() -> None:
    plain = Batch([b"a"], file="stdin", lines=[3])
    Tracer(Hop(target_topic="out"))(plain)
    assert plain.headers is None

    full = Batch([b"a"], file="stdin", lines=[3], headers=[[("h", None)]])
    Tracer(Hop(target_topic="out", host="box"))(full)
    assert full.header(0)[0] == ("h", None)
    assert dict(full.header(0)[1:]) == {
        "source_host": b"box", "source_file": b"stdin", "source_line": b"3",
        "origin_host": b"box", "origin_file": b"stdin", "origin_line": b"3", "trace_hops": b"1",
    }  # fmt: skip


def test_an_empty_batch_is_no_problem() -> None:
    batch = Batch([], topics=[], partitions=[], offsets=[])
    Tracer(Hop("A", None, "B", "out"))(batch)
    assert len(batch) == 0

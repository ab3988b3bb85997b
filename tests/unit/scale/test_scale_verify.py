"""The comparison: small ranges and a disk between make no difference to the verdict."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kpipe.record import Batch
from kpipe.verify.buckets import SOURCE, Buckets, Ranges
from kpipe.verify.compare import Comparison
from kpipe.verify.digest import Digester, Tracing


def source(offsets: list[int]) -> Batch:
    return Batch(
        [b"v%d" % n for n in offsets], topics=["s"] * len(offsets), partitions=[0] * len(offsets), offsets=list(offsets)
    )


def copy(offsets: list[int]) -> Batch:
    made = Batch([b"v%d" % n for n in offsets], topics=["t"] * len(offsets), partitions=[0] * len(offsets))
    made.offsets = list(range(len(offsets)))
    made.headers = [[("source_topic", b"s"), ("source_partition", b"0"), ("source_offset", b"%d" % n)] for n in offsets]
    return made


@given(st.lists(st.integers(0, 30), max_size=60), st.sampled_from([4, 400, 1 << 20]))
def test_the_counts_are_those_of_plain_sets(copied: list[int], memory: int) -> None:
    comparison = Comparison({0: 0}, {0: 20}, Digester(), Tracing("s", "id"), memory, 100)
    with comparison.buckets:
        comparison.add_source(source([n for n in range(20) if n != 5]))
        comparison.add_target(copy(copied))
        found = comparison.conclude()
    known = [n for n in copied if n < 20 and n != 5]
    assert found.missing == len(set(range(20)) - {5} - set(known))
    assert found.duplicated == len(known) - len(set(known))
    assert found.extra == copied.count(5)
    assert found.outside == sum(n >= 20 for n in copied)
    firsts = list(dict.fromkeys(n for n in copied if n < 20))
    late = [n for place, n in enumerate(firsts) if n != 5 and any(n < m for m in firsts[:place])]
    assert found.reordered == len(late)


def test_rows_on_disk_come_back_in_order_and_leave_nothing(tmp_path: Path) -> None:
    with Buckets(budget=100, folder=str(tmp_path)) as buckets:
        for n in range(100):
            buckets.add(SOURCE, n % 3, b"%04d" % n)
        assert list(tmp_path.rglob("source-*"))
        assert list(buckets.rows(SOURCE, 1, 4)) == [b"%04d" % n for n in range(1, 100, 3)]
    assert not list(tmp_path.iterdir())


def test_ranges_are_of_equal_length_in_order() -> None:
    ranges = Ranges({0: 10, 2: 0}, {0: 20, 2: 10}, 4)
    found = [ranges.find(0, n) for n in range(10, 20)] + [ranges.find(2, n) for n in range(10)]
    assert found == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    assert ranges.find(0, 20) is ranges.find(1, 0) is ranges.find(2, 10) is None


def test_null_and_empty_are_not_the_same_record() -> None:
    digest = Digester()
    records = [
        Batch([None]), Batch([b""]), Batch([b""], keys=[b""]), Batch([b""], headers=[[("a", None)]]),
        Batch([b""], headers=[[("a", b"")]]), Batch([b""], headers=[[("a", b""), ("a", None)]]),
        Batch([b""], timestamps=[(1, 5)]),
    ]  # fmt: skip
    assert len({digest(each)[0] for each in records}) == len(records)


def test_the_trace_is_not_part_of_the_record_and_names_its_source() -> None:
    traced = [("h", b"1"), ("pre_source_topic", b"s"), ("pre_source_partition", b"2"), ("pre_source_offset", b"3")]
    digest = Digester("pre_")
    assert digest(Batch([b"v"], headers=[traced])) == digest(Batch([b"v"], headers=[[("h", b"1")]]))
    assert Tracing("s", "id", "pre_")(traced) == (2, 3)
    assert Tracing("other", "id", "pre_")(traced) is None
    assert Tracing("s", "id", "pre_")([*traced, ("pre_source_cluster", b"another")]) is None
    assert Tracing("s", "id")(traced) is None

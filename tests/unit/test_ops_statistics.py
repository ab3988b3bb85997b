"""Statistics of records in bounded memory: exact where they say so, near where they estimate."""

from __future__ import annotations

import pytest

from kpipe.ops.statistics import TRACKED, Heavy, Sizes, Sketch, Statistics, Times
from kpipe.record import Batch


@pytest.mark.parametrize("count", [0, 1, 100, 5_000, 200_000])
def test_a_sketch_counts_different_things_within_three_percent(count: int) -> None:
    sketch = Sketch()
    for number in range(count):
        sketch.add(b"%d" % number)
        if number % 3 == 0:
            sketch.add(b"%d" % number)
    assert sketch.count() == pytest.approx(count, rel=0.03)


def test_the_heaviest_are_found_among_many() -> None:
    heavy = Heavy()
    for number in range(TRACKED * 5):
        heavy.add(b"rare-%d" % number)
        if number % 4 == 0:
            heavy.add(b"often")
    (key, count), *_ = heavy.top()
    assert key == b"often"
    assert count + heavy.error >= TRACKED * 5 / 4


def test_quantiles_are_near_and_bounds_exact() -> None:
    sizes = Sizes()
    for number in range(1, 1001):
        sizes.add(number)
    assert (sizes.least, sizes.most, sizes.mean) == (1, 1000, 500.5)
    assert sizes.quantile(0.5) == pytest.approx(500, rel=0.1)
    assert sizes.quantile(0.95) == pytest.approx(950, rel=0.1)


def test_shapes_tombstones_headers_and_times() -> None:
    found = Statistics()
    values = [b'{"a":1,"b":{"c":"x"},"l":[{"d":1},{"d":null}]}', b'{"a":"1"}', b"{broken", None, b""]
    found.add(
        Batch(
            list(values),
            keys=[b"k", b"k", None, b"k2", None],
            headers=[[("h", b"1"), ("h", b"2")], None, None, None, None],
            timestamps=[(1, 1000 + n * 100) for n in range(5)],
            topics=["t"] * 5,
            partitions=[0] * 5,
            offsets=list(range(5)),
        )
    )
    assert (found.records, found.json, found.tombstones, found.empty_values, found.null_keys) == (5, 2, 1, 1, 2)
    assert {path: dict(kinds) for path, kinds in found.paths.items()} == {
        ".a": {"integer": 1, "string": 1},
        ".b": {"object": 1},
        ".b.c": {"string": 1},
        ".l": {"array": 1},
        ".l[]": {"object": 1},
        ".l[].d": {"integer": 1, "null": 1},
    }
    assert found.headers == {"h": 1}
    assert found.distinct.count() == 2
    assert (found.times.bars(5), found.times.first, found.times.last) == ("█████", 1000, 1400)
    assert Statistics().times.bars(5) == ""


def test_times_need_bounded_memory_and_keep_their_bounds() -> None:
    times = Times()
    for number in range(100_000):
        times.add(1_700_000_000_000 + number * 1000)
    assert len(times._counts) <= Times.BUCKETS
    assert (times.first, times.last) == (1_700_000_000_000, 1_700_000_000_000 + 99_999_000)
    assert set(times.bars(10)) <= {"▇", "█"}

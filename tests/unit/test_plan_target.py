"""Keys, partitions and sizes: rules that need no cluster, on batches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.clusters.profiles import Cluster
from kpipe.errors import Exit, KpipeError, UsageError
from kpipe.options import TargetOptions
from kpipe.plan.places import source_places, target_place
from kpipe.plan.target import producer_properties
from kpipe.record import Batch
from kpipe.sinks.limits import refuse_unfit
from kpipe.sinks.partitions import (
    check_partition,
    check_partition_word,
    keep_partitions,
    key_keyless,
    refuse_missing,
    stick_keyless,
)
from kpipe.sinks.target import Target


@given(
    st.lists(st.tuples(st.none() | st.binary(max_size=2), st.none() | st.integers(0, 20)), max_size=20),
    st.integers(1, 6),
)
def test_keyless_records_stick_by_source_partition(
    rows: list[tuple[bytes | None, int | None]], partitions: int
) -> None:
    batch = Batch([b"v"] * len(rows), keys=[key for key, _ in rows], partitions=[number for _, number in rows])

    chosen = list(stick_keyless(partitions)(batch))

    assert len(chosen) == len(rows)
    home: dict[int, int] = {}
    for (key, number), partition in zip(rows, chosen, strict=True):
        if key is not None or number is None:
            assert partition == -1, "the partitioner decides"
        else:
            assert 0 <= partition < partitions
            assert home.setdefault(number, partition) == partition
    assert batch.keys == [key for key, _ in rows], "a record without a key keeps a null key"


def test_lines_without_keys_are_left_to_the_partitioner() -> None:
    assert list(stick_keyless(3)(Batch([b"a", b"b"]))) == [-1, -1]
    assert list(stick_keyless(3)(Batch([b"a", b"b"], partitions=[4, None]))) == [1, -1]


def test_the_same_number_where_there_is_one() -> None:
    assert list(keep_partitions(Batch([b"v"] * 4, partitions=[0, 2, 3, None]))) == [0, 2, 3, -1]
    assert list(keep_partitions(Batch([b"v"]))) == [-1]


def test_a_partition_that_is_not_there_is_refused_and_one_that_was_added_is_not() -> None:
    class Topic:
        def __init__(self, partitions: int, now: int) -> None:
            self.partitions, self.now, self.where = partitions, now, "b/t"

        def look_again(self) -> int:
            self.partitions = self.now
            return self.now

    routes: dict[str | None, list[Any]] = {None: [Topic(2, 4)], "small": [Topic(9, 9), Topic(1, 1)]}
    (stage,) = refuse_missing("same", routes.__getitem__)
    batch = Batch([b"v"] * 6, partitions=[0, 3, 4, None, 0, 1])
    batch.targets = [None, None, None, None, "small", "small"]
    stage(batch)
    assert batch.index == [0, 1, 3, 4]
    whats = [bad.error.what for bad in batch.bad]
    assert whats[0] == "b/t has 4 partitions, so none has the number 4; add some, or drop `same`"
    assert [bad.index for bad in batch.bad] == [2, 5]
    assert refuse_missing("3", routes.__getitem__) == []
    stage(Batch([b"line"]))


def test_the_partition_becomes_the_key_only_where_there_is_none() -> None:
    batch = Batch([b"v"] * 4, keys=[b"k", None, b"", None], partitions=[1, 2, 3, None])
    key_keyless(batch)
    assert batch.keys == [b"k", b"2", b"", None]
    without = Batch([b"v"], partitions=[7])
    key_keyless(without)
    assert without.keys == [b"7"]


def target(*, compacted: bool) -> Target:
    cluster = Cluster(name="prod", properties={"bootstrap.servers": "h:1"})
    return Target("t", cluster, "id", None, 3, None, compacted)  # type: ignore[arg-type]


def test_a_compacted_target_gets_no_keyless_record() -> None:
    (refuse,) = refuse_unfit([target(compacted=True)], lambda _word: [target(compacted=True)])
    batch = Batch([b"a", b"b", b"c"], keys=[b"k", None, b""], file="stdin", lines=[1, 2, 3])
    refuse(batch)
    assert batch.values == [b"a", b"c"]
    (bad,) = batch.bad
    assert (bad.index, bad.error.where, bad.error.exit_code) == (1, "stdin:2", Exit.UNDELIVERED)
    assert str(bad.error).startswith("send: stdin:2: has no key, and prod:t is compacted; ")

    keyless = Batch([b"a"])
    refuse(keyless)
    assert len(keyless) == 0
    assert refuse_unfit([target(compacted=False)], lambda _word: [target(compacted=False)]) == []


@pytest.mark.parametrize("text", ["x", "-1", "1.0", "٣", " 1"])
def test_a_partition_is_a_number_or_same(text: str) -> None:
    with pytest.raises(UsageError, match="not a partition"):
        check_partition_word(text, "--partition")


@pytest.mark.parametrize("text", ["", "same", "0", "17"])
def test_a_partition_that_may_be(text: str) -> None:
    check_partition_word(text, "--partition")


def test_a_partition_exists_or_not() -> None:
    assert check_partition("2", 3, "prod:t") == 2
    with pytest.raises(KpipeError, match=r"no partition 3; the topic has 3 \(0 to 2\)"):
        check_partition("3", 3, "prod:t")


@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [
        ({}, {}, {"partitioner": "murmur2_random", "queue.buffering.max.kbytes": 32768, "own": 1}),
        ({"partitioner": "consistent"}, {}, {"queue.buffering.max.kbytes": 32768, "own": 1}),
        ({}, {"partitioner": "random", "compression": "zstd"}, {"partitioner": "random", "compression.type": "zstd"}),
        ({"queue.buffering.max.kbytes": "9"}, {"buffer": "1M"}, {"partitioner": "murmur2_random"}),
    ],
)
def test_properties_given_by_name_win_over_defaults(
    given: dict[str, Any], options: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = producer_properties(TargetOptions(**options), Cluster(name="c", properties=given), {"own": 1})
    assert {name: value for name, value in found.items() if name in expected} == expected
    assert not given.keys() & found.keys()


def test_places() -> None:
    assert source_places(["a:t", "a:^u"]) == ("a", ["t", "^u"])
    assert source_places(["t"]) == (None, ["t"])
    assert target_place("b:t").cluster == "b"
    with pytest.raises(UsageError, match=r"different clusters \(a, the current cluster\)"):
        source_places(["a:t", "u"])
    with pytest.raises(UsageError, match="use kpipe produce"):
        source_places(["-"])
    with pytest.raises(UsageError, match="use kpipe consume"):
        target_place("-")

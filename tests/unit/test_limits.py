"""What a topic takes is asked of its configuration: records beyond it are taken out, all others are left alone."""

from __future__ import annotations

from typing import Any

import pytest

from kpipe.clusters.profiles import Cluster
from kpipe.record import TIMESTAMP_CREATE, TIMESTAMP_NONE, Batch
from kpipe.sinks.limits import CLOCKS_DIFFER, refuse_unfit
from kpipe.sinks.target import Target, read_limits

NOW = 1_700_000_000_000
HOUR = 3_600_000
LONGEST = "9223372036854775807"


def target(topic: str = "t", **limits: Any) -> Target:
    cluster = Cluster("c", {"bootstrap.servers": "h:1"})
    return Target(topic, cluster, "id", None, 3, **limits)  # type: ignore[arg-type]


def refused(batch: Batch, *targets: Target) -> list[str]:
    (refuse,) = refuse_unfit(targets, lambda _word: targets, lambda: NOW / 1000)
    refuse(batch)
    return [str(bad.error) for bad in batch.bad]


def batch_of(*stamps: tuple[int, int]) -> Batch:
    return Batch(
        [b"%d" % n for n in range(len(stamps))],
        timestamps=list(stamps),
        file="f",
        lines=list(range(1, len(stamps) + 1)),
    )


@pytest.mark.parametrize(
    ("kind", "ms", "bad"),
    [
        (TIMESTAMP_CREATE, NOW, False),
        (TIMESTAMP_CREATE, NOW + HOUR + CLOCKS_DIFFER, False),
        (TIMESTAMP_CREATE, NOW + HOUR + CLOCKS_DIFFER + 1, True),
        (TIMESTAMP_CREATE, NOW - 2 * HOUR - CLOCKS_DIFFER, False),
        (TIMESTAMP_CREATE, NOW - 2 * HOUR - CLOCKS_DIFFER - 1, True),
        (TIMESTAMP_CREATE, NOW * 1000, True),
        (TIMESTAMP_NONE, -1, False),
    ],
)
def test_a_time_beyond_the_limits_is_taken_out_and_what_is_near_is_left_to_the_broker(
    kind: int, ms: int, bad: bool
) -> None:
    batch = batch_of((TIMESTAMP_CREATE, NOW), (kind, ms), (TIMESTAMP_CREATE, NOW))
    told = refused(batch, target(after_ms=HOUR, before_ms=2 * HOUR))
    assert batch.values == ([b"0", b"2"] if bad else [b"0", b"1", b"2"])
    assert all(line.startswith("send: f:2: its time ") for line in told)


def test_microseconds_are_recognised() -> None:
    (told,) = refused(batch_of((TIMESTAMP_CREATE, NOW * 1000)), target(after_ms=HOUR))
    assert "micro- or nanoseconds" in told
    assert "--timestamp now" in told


def test_a_record_that_one_of_its_targets_would_refuse_goes_nowhere() -> None:
    batch = Batch([b"0", b"1"], keys=[b"k", None])
    assert len(refused(batch, target("a", after_ms=HOUR), target("b", compacted=True))) == 1
    assert batch.values == [b"0"]


def test_a_route_decides_whose_limits_count() -> None:
    """A topic that takes no keyless record says nothing about those that are routed elsewhere."""
    main, other = target("main", compacted=True), target("other")
    batch = Batch([b"0", b"1", b"2"], keys=[None, None, b"k"])
    batch.targets = [None, "other", None]
    (refuse,) = refuse_unfit([main], lambda word: [main if word is None else other], routes=True)
    refuse(batch)
    assert batch.values == [b"1", b"2"]


def test_without_limits_there_is_no_stage() -> None:
    assert refuse_unfit([target()], lambda _word: [target()]) == []


@pytest.mark.parametrize(
    ("configs", "before", "after"),
    [
        ({}, None, None),
        ({"message.timestamp.before.max.ms": LONGEST, "message.timestamp.after.max.ms": "3600000"}, None, HOUR),
        ({"message.timestamp.difference.max.ms": "3600000"}, HOUR, HOUR),
        ({"message.timestamp.type": "LogAppendTime", "message.timestamp.after.max.ms": "3600000"}, None, None),
        ({"message.timestamp.after.max.ms": "odd"}, None, None),
    ],
)
def test_limits_are_read_from_the_configuration(configs: dict[str, str], before: int | None, after: int | None) -> None:
    found = read_limits(configs)
    assert (found["before_ms"], found["after_ms"]) == (before, after)


def test_size_and_compaction_are_read_too() -> None:
    found = read_limits({"max.message.bytes": "2000", "cleanup.policy": "compact,delete"})
    assert (found["limit_bytes"], found["compacted"]) == (2000, True)

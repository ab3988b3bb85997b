"""What waits: the throttle before the target, the hold behind the source, and ages."""

from __future__ import annotations

import pytest
from chain_fakes import FakeSink, ListSource, rows, run

from kpipe.errors import UsageError
from kpipe.pace import Pace, parse_rates
from kpipe.sinks.throttle import Throttle
from kpipe.sources.min_age import MOST, MinAge
from kpipe.transform.chain import build
from kpipe.transform.step import Step


class Time:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert 0 < seconds <= 0.1
        self.now += seconds


@pytest.mark.parametrize(
    ("texts", "rates"),
    [
        (["500/s"], (500, None)),
        (["2MB/s"], (None, 2_000_000)),
        (["0.5/s", "64kB/s"], (0.5, 64_000)),
        ([], (None, None)),
    ],
)
def test_rates(texts, rates):
    assert parse_rates(texts) == rates


@pytest.mark.parametrize("text", ["", "5", "0/s", "5/m", "MB/s", "-1/s", "5k/s"])
def test_a_rate_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="not a rate"):
        parse_rates([text])


@pytest.mark.parametrize(
    ("records", "size", "seconds"), [(100, None, 10), (None, 500, 20), (100, 500, 20), (100_000, None, 0.0)]
)
def test_records_take_the_time_of_their_rate(records, size, seconds):
    time, sink = Time(), FakeSink()
    throttle = Throttle(sink, Pace(records, size, lambda: False, time), sleep=time.sleep)
    done = run(ListSource(*[rows(*[b"nine byte"] * 500, first=500 * n) for n in range(2)]), [], throttle)
    assert len(sink.values) == 1000
    assert done.ledger.delivered == 1000
    assert seconds * 0.9 - 0.2 <= time.now <= seconds * 1.1 + 0.2


def test_one_record_larger_than_the_rate_still_goes():
    time, sink = Time(), FakeSink()
    run(ListSource(rows(b"x" * 1000, b"y")), [], Throttle(sink, Pace(None, 100, lambda: False, time), sleep=time.sleep))
    assert sink.values[1] == b"y"
    assert 9 <= time.now <= 11


def test_a_signal_ends_the_waiting_and_nothing_is_lost():
    time, sink = Time(), FakeSink()
    throttle = Throttle(sink, Pace(10, None, lambda: time.now > 1, time), sleep=time.sleep)
    done = run(ListSource(rows(*[b"v"] * 500)), [], throttle)
    assert done.ledger.delivered == 500
    assert time.now < 1.3


class Message:
    def __init__(self, partition, offset, ms, *, error=None, kind=1, value=b""):
        self.bytes = value
        self.where, self.ms, self.kind, self.failure = (partition, offset), ms, kind, error

    def topic(self):
        return "t"

    def partition(self):
        return self.where[0]

    def timestamp(self):
        return self.kind, self.ms

    def error(self):
        return self.failure

    def value(self):
        return self.bytes


def test_a_hold_keeps_the_order_of_each_partition_and_pauses_those_that_wait_only_when_it_holds_much():
    now, calls = [100.0], []
    min_age = MinAge(
        10,
        lambda places: calls.append(("pause", places)),
        lambda places: calls.append(("resume", places)),
        lambda: now[0],
    )
    young, old, end = Message(0, 1, 95_000, value=b"x" * MOST), Message(0, 2, 1_000), Message(0, 3, 0, error="eof")
    others = [Message(1, 7, 1_000), Message(2, 1, -1, kind=0)]
    ready = Message(0, 0, 90_000)
    small = Message(3, 1, 95_000)
    assert min_age.sift([small]) == []
    assert calls == []  # what the client has fetched of a paused partition is thrown away
    min_age.drop([("t", 3)])
    assert min_age.sift([ready, young, old, end, *others]) == [ready, *others]
    assert min_age.held == {("t", 0): [young, old, end]}
    assert min_age.sift([old]) == []  # behind one that waits
    assert calls == [("pause", [("t", 0)])]
    assert min_age.release() == []
    now[0] = 105.0
    assert min_age.release() == [young, old, end, old]
    assert calls[1:] == [("resume", [("t", 0)])]
    assert min_age.held == {}


def test_a_hold_forgets_partitions_that_went_away():
    min_age = MinAge(10, lambda _places: None, lambda _places: None, lambda: 100.0)
    min_age.sift([Message(0, 1, 99_000), Message(1, 1, 99_000)])
    min_age.drop([("t", 0)])
    assert list(min_age.held) == [("t", 1)]


def test_max_age_keeps_what_is_young_or_has_no_age():
    from time import time

    now = int(time() * 1000)
    batch = rows(b"old", b"young", b"none", timestamps=[(1, now - 7_200_000), (1, now - 60_000), (0, -1)])
    (stage,) = build([Step("max-age", "1h")])
    stage(batch)
    assert batch.values == [b"young", b"none"]
    with pytest.raises(UsageError, match="not a duration"):
        build([Step("max-age", "soon")])

"""`kpipe stat`: a sample says that it is one, and what it says is what was written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.broker.lab.cluster import Rec
from tests.broker.ops.scenes import looked

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe


def test_a_sample_and_everything(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(2)
    kafka.write(
        topic, [Rec(b'{"n":%d}' % n, b"key-%d" % (n % 10), (("h", b"x"),), partition=n % 2) for n in range(1000)]
    )
    kafka.write(topic, [Rec(None, b"gone", partition=0)])
    at = kpipe.at(kafka.bootstrap)
    (row,) = looked(at, "stat", topic, "--sample", "100")
    assert (row["records"], row["sampled"], row["offsets"]) == (100, True, 1001)
    (row,) = looked(at, "stat", "--all", topic)
    assert (row["records"], row["sampled"], row["tombstones"]) == (1001, False, 1)
    assert (row["distinct_keys"], row["json_paths"], row["headers"]) == (11, {".n": {"integer": 1000}}, {"h": 1000})
    text = at("stat", topic).out.decode()
    assert "all 1,001 records" in text
    assert ".n" in text
    assert "of 1,001 offsets" in at("stat", topic, "--sample", "100").out.decode()
    empty = at("stat", kafka.topic())
    assert (empty.code, "all 0 records" in empty.out.decode()) == (0, True)
    assert at("stat", "no-such").code == 1


def test_an_empty_key_and_an_empty_header_name_are_seen(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, [Rec(b"1", b"", (("", b"x"),)), Rec(b"2", b"", (("h", b"x"),))])
    told = kpipe.at(kafka.bootstrap)("stat", topic).out.decode()
    assert 'most often: "" 100.0%' in told
    assert 'headers   "" 50%, h 50%' in told


def test_a_name_of_blanks_is_seen(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, [Rec(b"1", b" ", ((" ", b"x"),))])
    told = kpipe.at(kafka.bootstrap)("stat", topic).out.decode()
    assert ('most often: " " 100.0%' in told, 'headers   " " 100%' in told) == (True, True), told


def test_a_rate_is_told_of_more_than_one_moment(kafka: Cluster, kpipe: Kpipe) -> None:
    at, now = kpipe.at(kafka.bootstrap), int(time.time() * 1000)
    batch, steady = kafka.topic(), kafka.topic()
    kafka.write(batch, [Rec(b"x", timestamp=now + each) for each in range(3)])
    kafka.write(steady, [Rec(b"x", timestamp=now + each) for each in (-4000, -2000, 0)])
    assert "records/s" not in at("stat", batch).out.decode()
    assert ", 0.8 records/s" in at("stat", steady).out.decode()

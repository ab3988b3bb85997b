"""Plain lines go by the column, everything else record by record: both must write the same, and fail in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kpipe.clusters.librdkafka import can_send_columns

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

ONE_BY_ONE = ("-H", "by=record")
"""A header has no column."""
WAYS = pytest.mark.parametrize("way", [(), ONE_BY_ONE], ids=["by column", "by record"])


def test_this_machine_can() -> None:
    """Else every test here would compare the usual way with itself."""
    assert can_send_columns({"bootstrap.servers": "localhost"})
    assert not can_send_columns({"sasl.mechanism": "OAUTHBEARER"})
    assert not can_send_columns({"debug": "eos"})


def test_both_ways_write_the_same(kafka: Cluster, kpipe: Kpipe) -> None:
    """Keys, empty and null and binary ones, values from none to 200 kB; 20,000 lines, so that no queue holds them all."""
    odd = [
        b"",
        b"NULL",
        b":",
        b"k:",
        b":v",
        b"NULL:NULL",
        b"NULL:v",
        b"k:NULL",
        b"\xff\x00:\xfe\r",
        b"big:" + b"x" * 200_000,
    ]
    lines = [b"key-%d:%d" % (number % 997, number) if number % 7 else b"%d" % number for number in range(20_000)]
    text = b"\n".join([*odd, *lines, *odd])
    held = []
    for way in ((), ONE_BY_ONE):
        topic = kafka.topic(3)
        done = kpipe.at(kafka.bootstrap)("produce", "-K", ":", "-Z", "NULL", *way, topic, stdin=text)
        assert (done.code, done.err) == (0, "")
        records = kafka.read(topic)
        assert len(records) == len(lines) + 2 * len(odd)
        # Where records without a key go is chance; order holds for a key.
        held.append(
            (
                sorted((record.partition, record.key, record.value or b"") for record in records if record.key),
                sorted((record.value is None, record.value or b"") for record in records),
                [record.value for record in records if record.key == b"key-5"],
            )
        )
    assert held[0] == held[1]


@WAYS
def test_fixed_partition(kafka: Cluster, kpipe: Kpipe, way: tuple[str, ...]) -> None:
    topic = kafka.topic(3)
    values = [b"%06d" % number for number in range(20_000)]
    assert kpipe.at(kafka.bootstrap)("produce", "-p", "2", *way, topic, stdin=b"\n".join(values)).code == 0
    assert [(record.partition, record.value) for record in kafka.read(topic)] == [(2, value) for value in values]


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed(kafka: Cluster, kpipe: Kpipe, codec: str) -> None:
    topic = kafka.topic()
    values = [b"%06d" % number for number in range(20_000)]
    assert kpipe.at(kafka.bootstrap)("produce", "--compression", codec, topic, stdin=b"\n".join(values)).code == 0
    assert [record.value for record in kafka.read(topic)] == values


@WAYS
def test_a_record_that_the_topic_refuses_is_named(kafka: Cluster, kpipe: Kpipe, way: tuple[str, ...]) -> None:
    topic = kafka.topic(max_message_bytes=50_000)
    values = [b"%06d" % number for number in range(10_000)]
    values[7_000] = b"x" * 60_000
    stopped = kpipe.at(kafka.bootstrap)("produce", *way, topic, stdin=b"\n".join(values))
    assert stopped.code == 1
    assert "stdin:7001 ->" in stopped.err
    assert "max.message.bytes (50,000 bytes)" in stopped.err
    skipped_topic = kafka.topic(max_message_bytes=50_000)
    skipped = kpipe.at(kafka.bootstrap)("produce", "--on-error", "skip", *way, skipped_topic, stdin=b"\n".join(values))
    assert skipped.code == 1
    assert "stdin:7001 ->" in skipped.err
    assert [record.value for record in kafka.read(skipped_topic)] == values[:7_000] + values[7_001:]


@pytest.mark.parametrize(
    "options",
    [
        ("-X", "linger.ms=soon"),
        ("-X", "ssl.ca.location=/nowhere.pem", "-X", "security.protocol=ssl"),
        ("-X", "compression.type=zip"),
    ],
)
def test_a_bad_property_is_told_in_the_same_words(kafka: Cluster, kpipe: Kpipe, options: tuple[str, ...]) -> None:
    topic = kafka.topic()
    told = [kpipe.at(kafka.bootstrap)("produce", *options, *way, topic, stdin=b"a\n") for way in ((), ONE_BY_ONE)]
    assert told[0].code == told[1].code == 2
    assert told[0].err == told[1].err
    assert told[0].err.count("\n") == 1

"""Plain lines go by the column, everything else record by record: both must write the same, and fail in the same words."""

from __future__ import annotations

import re
import signal
import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclOperation,
    AclPermissionType,
    ResourceType,
)

from kpipe.kafka.librdkafka import can_send_columns
from tests.broker.lab.cluster import Cluster
from tests.broker.lab.runs import WATCHED, balance, wait_until_delivered
from tests.broker.lab.security import Fortress
from tests.broker.test_security import allow, secrets_of, toml, ways_in
from tests.broker.test_shutdown import high

if TYPE_CHECKING:
    from tests.conftest import Kpipe, Running

ONE_BY_ONE = ("-H", "by=record")
"""A header has no column."""
WAYS = pytest.mark.parametrize("way", [(), ONE_BY_ONE], ids=["by column", "by record"])


def counts(summary: Path) -> tuple[int, ...]:
    """Read, delivered, failed and unknown."""
    found = balance(summary)
    return tuple(found[name] for name in ("read", "delivered", "failed", "unknown"))


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


@pytest.mark.parametrize("partitioner", ["murmur2_random", "murmur2"])
def test_lines_without_keys_are_spread_in_order(kafka: Cluster, kpipe: Kpipe, partitioner: str) -> None:
    """Blocks of them, one partition after the other, unless the partitioner means one for all of them."""
    topic, lines = kafka.topic(4), [b"%06d" % n for n in range(120_000)]
    done = kpipe.at(kafka.bootstrap)("produce", "--partitioner", partitioner, topic, stdin=b"\n".join(lines))
    assert (done.code, done.err) == (0, "")
    found = [[record.value for record in kafka.read(topic, partition=number)] for number in range(4)]
    assert sorted(value for part in found for value in part) == lines
    assert all(part == sorted(part) for part in found)
    if partitioner == "murmur2":
        assert sorted(map(len, found)) == [0, 0, 0, len(lines)]
    else:
        assert min(map(len, found)) >= len(lines) / 10


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


@pytest.mark.parametrize(
    ("options", "by_column"),
    [
        ((), True),
        (("-K:", "-Z", "NULL", "-p", "0", "--on-error", "skip"), True),
        (("--compression", "zstd", "-k", "all", "--rate", "1MB/s"), True),
        (ONE_BY_ONE, False),
        (("--timestamp", "1763884800000"), False),
        (("--trace", "full"), False),
        (("--spill", "spill"), False),
        (("--report",), False),
        (("--filter", ". == 1"), False),
    ],
    ids=lambda value: " ".join(value) or "plain" if isinstance(value, tuple) else None,
)
def test_which_way_is_taken(kafka: Cluster, kpipe: Kpipe, options: tuple[str, ...], *, by_column: bool) -> None:
    """The tests here compare two ways: told by which sink is loaded, as nobody can see it from outside."""
    topic = kafka.topic()
    env = {"PYTHONPROFILEIMPORTTIME": "1"}
    done = kpipe.at(kafka.bootstrap)("produce", *options, topic, stdin=b"1\n" * 40_000, env=env)
    imported = set(re.findall(r"kpipe\.[a-z.]+", done.err))
    assert done.code == 0, done.err[-500:]
    assert "kpipe.sinks.topic" in imported
    assert ("kpipe.kafka.librdkafka" in imported and "kpipe.sinks.columns" in imported) == by_column


def test_a_throttled_batch_arrives_in_order(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    """The throttle hands a batch over in slices, which are several batches to the client and one to the ledger."""
    topic = kafka.topic(max_message_bytes=5_000)
    values = [b"%06d" % number for number in range(15_000)]
    text = b"\n".join([*values[:7_000], b"x" * 6_000, *values[7_000:]])
    options = ("--rate", "10000/s", "--on-error", "skip", "--summary", str(tmp_path / "summary"))
    done = kpipe.at(kafka.bootstrap)("produce", *options, topic, stdin=text)
    assert (done.code, done.err.count("stdin:7001 ->")) == (1, 1)
    assert [record.value for record in kafka.read(topic)] == values
    assert counts(tmp_path / "summary") == (15_001, 15_000, 1, 0)


def test_a_topic_that_is_made_takes_all(kafka: Cluster, kpipe: Kpipe) -> None:
    """The client has heard that there is no such topic, and must hear that there is one now."""
    values = [b"%06d" % number for number in range(20_000)]
    topic = f"made-{time.monotonic_ns()}"
    done = kpipe.at(kafka.bootstrap)("produce", "--create", topic, stdin=b"\n".join(values))
    assert (done.code, "created, with 1 partition" in done.err) == (0, True)
    assert sorted(record.value or b"" for record in kafka.read(topic)) == values


def test_a_read_only_cluster_is_refused(kafka: Cluster, kpipe: Kpipe) -> None:
    config = f'[clusters.vault]\n"bootstrap.servers" = "{kafka.bootstrap}"\nread_only = true\n'
    topic = kafka.topic()
    done = kpipe("produce", f"vault:{topic}", stdin=b"1\n" * 40_000, config=config)
    assert (done.code, "read_only" in done.err, done.err.count("\n")) == (2, True, 1)
    assert kafka.read(topic) == []


def test_a_topic_that_may_not_be_written_is_told_as_one_by_one(kpipe: Kpipe, tmp_path: Path) -> None:
    """First without any right to write, so without a producer id: a fatal error; then just not to this topic."""
    fortress = Fortress(tmp_path)
    fortress.broker.start()
    try:
        lab = Cluster(fortress.broker)
        topic, other = lab.topic(), lab.topic()
        deny = allow(ResourceType.TOPIC, topic, AclOperation.WRITE, permission=AclPermissionType.DENY)
        config, summary = toml({"plain": ways_in(fortress)["plain"]}), tmp_path / "summary"
        for rules, what in (
            ([allow(ResourceType.TOPIC, topic, AclOperation.ALL), deny], "any topic"),
            ([allow(ResourceType.TOPIC, other, AclOperation.WRITE)], f"topic {topic}"),
        ):
            for done in lab.admin.create_acls(rules).values():
                done.result(20)
            for way, lines in product(((), ONE_BY_ONE), (1, 40_000)):  # one: the answer comes in the last flush
                told = kpipe(
                    "produce", *way, "-X", "enable.idempotence=true", "--summary", summary, f"plain:{topic}",
                    stdin=b"1\n" * lines, env=secrets_of(fortress), config=config,
                )  # fmt: skip
                assert told.code == 4, told.err
                assert f"not authorised: no ACL allows WRITE on {what}" in told.err
                read, delivered, failed, unknown = counts(summary)
                assert (delivered, failed + unknown) == (0, read)
        assert lab.read(topic) == []
    finally:
        fortress.close()


# --- what does not go on for ever ----------------------------------------------------------------------------------


def feed(running: Running, first: int, count: int) -> None:
    running.write(b"".join(b"%06d\n" % number for number in range(first, first + count)))


def has(kafka: Cluster, topic: str, count: int) -> bool:
    return high(kafka, topic) == count


def resident_kb(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def held(kafka: Cluster, topic: str) -> list[int]:
    return [int(record.value or b"-1") for record in kafka.read(topic)]


def test_a_signal_in_mid_input_delivers_what_was_read(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    topic = kafka.topic()
    running = kpipe.at(kafka.bootstrap).start("produce", "--summary", tmp_path / "summary", topic)
    feed(running, 0, 30_000)
    running.signal(signal.SIGTERM)
    assert running.wait(15).code == -signal.SIGTERM
    there = held(kafka, topic)
    assert there == list(range(len(there)))
    assert counts(tmp_path / "summary") == (len(there), len(there), 0, 0)


def test_a_second_signal_under_a_frozen_broker_counts_what_arrived(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path
) -> None:
    topic = kafka.topic()
    running = kpipe.at(kafka.bootstrap).start("produce", "--summary", tmp_path / "summary", *WATCHED, topic)
    feed(running, 0, 10_000)
    wait_until_delivered(running, 10_000)
    kafka.broker.pause()
    feed(running, 10_000, 5_000)
    running.wait_until_read()
    running.signal(signal.SIGTERM)
    running.wait_for_stderr("waiting for 5,000 records that were read")
    asked = time.monotonic()
    running.signal(signal.SIGINT)
    ended = running.wait(10)
    assert time.monotonic() - asked < 3
    assert ended.code == 1
    read, delivered, failed, unknown = counts(tmp_path / "summary")
    assert (read, delivered, failed + unknown) == (15_000, 10_000, 5_000)
    assert unknown > 0
    assert "stdin:10001" in ended.err
    assert "to stdin:15000" in ended.err
    kafka.broker.heal()
    there = set(held(kafka, topic))
    assert there.issuperset(range(10_000))
    assert len(there) <= delivered + unknown


def test_a_full_queue_under_a_frozen_broker_is_given_up(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    topic = kafka.topic()
    options = ("-X", "queue.buffering.max.messages=100", "--drain-timeout", "1", "--summary", str(tmp_path / "summary"))
    running = kpipe.at(kafka.bootstrap).start("produce", *options, *WATCHED, topic)
    feed(running, 0, 1)
    wait_until_delivered(running, 1)
    kafka.broker.pause()
    feed(running, 1, 5_000)
    running.wait_until_read()
    running.signal(signal.SIGTERM)
    ended = running.wait(10)
    assert ended.code == 1
    read, delivered, failed, unknown = counts(tmp_path / "summary")
    assert (read, delivered) == (5_001, 1)
    assert unknown <= 100 <= failed
    assert "stdin:2" in ended.err


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    topic = kafka.topic()
    running = kpipe.at(kafka.bootstrap).start("produce", "--summary", tmp_path / "summary", topic)
    feed(running, 0, 20_000)
    kafka.read(topic, at_least=1)
    kafka.broker.kill()
    feed(running, 20_000, 20_000)
    kafka.broker.heal()
    feed(running, 40_000, 20_000)
    running.close_stdin()
    ended = running.wait(30)
    assert ended.code == 0, ended.err
    # Whether the client noticed, and so told, that the broker was away depends on how soon it was back.
    about = [f"kpipe: connect: {kafka.bootstrap}: {news}" for news in ("not reachable since ", "reachable again")]
    assert all(line.startswith(tuple(about)) for line in ended.err.splitlines()), ended.err
    assert held(kafka, topic) == list(range(60_000))
    assert counts(tmp_path / "summary") == (60_000, 60_000, 0, 0)


def test_a_topic_that_is_deleted_ends_the_run(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    topic = kafka.topic()
    options = ("-X", "delivery.timeout.ms=4000", "--summary", str(tmp_path / "summary"), *WATCHED)
    running = kpipe.at(kafka.bootstrap).start("produce", *options, topic)
    feed(running, 0, 20_000)
    wait_until_delivered(running, 20_000)
    kafka.admin.delete_topics([topic])[topic].result(20)
    feed(running, 20_000, 5_000)
    ended = running.wait(20)
    assert ended.code == 1
    assert f"stdin:20001 -> {kafka.bootstrap}/{topic}: " in ended.err
    read, delivered, failed, unknown = counts(tmp_path / "summary")
    assert (read, delivered, failed + unknown) == (25_000, 20_000, 5_000)


def test_a_pipe_of_tiny_writes_stays_small(kafka: Cluster, kpipe: Kpipe) -> None:
    """`while read`: each line is a read of its own, so a batch, a number and a flight of its own."""
    topic = kafka.topic()
    running = kpipe.at(kafka.bootstrap).start("produce", topic)
    sizes = []
    for step in range(4):
        for number in range(8_000):
            running.write(b"%06d\n" % (8_000 * step + number))
        running.wait_for(partial(has, kafka, topic, 8_000 * (step + 1)))
        sizes.append(resident_kb(running.pid))
    running.close_stdin()
    assert running.wait().code == 0
    assert sizes[3] - sizes[0] < 4_000, sizes
    assert held(kafka, topic) == list(range(32_000))

"""`kpipe consume` on a real broker: where it starts, where it stops, what a group keeps, and what it prints."""

from __future__ import annotations

import base64
import json
import statistics
import struct
import threading
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from tests.broker.lab.cluster import Rec, until
from tests.broker.lab.runs import group
from tests.conftest import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

    Consumed = Callable[..., list[bytes]]

BASE_MS = 1_700_000_000_000


@pytest.fixture
def consumed(kafka: Cluster, kpipe: Kpipe) -> Consumed:
    """Run `kpipe consume` with these words to its successful end, quiet but for `told`; give its lines."""

    def run(*words: str, told: str = "") -> list[bytes]:
        result = kpipe.at(kafka.bootstrap)("consume", *words)
        assert (result.code, result.err) == (0, told)
        return result.out.splitlines()

    return run


@pytest.fixture(scope="module")
def ten(kafka: Cluster) -> str:
    """A topic with the records 0 to 9 in one partition, a second apart from BASE_MS on."""
    topic = kafka.topic(retention_ms=-1)
    kafka.write(topic, [Rec(b"%d" % n, timestamp=BASE_MS + 1000 * n) for n in range(10)])
    return topic


def numbers(lines: list[bytes]) -> list[int]:
    return [int(line) for line in lines]


# --- where to start and to stop --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), range(10)),
        (("-o", "beginning"), range(10)),
        (("-o", "earliest"), range(10)),
        (("-o", "end"), ()),
        (("-o", "7"), (7, 8, 9)),
        (("-o", "-2"), (8, 9)),
        (("-o", "-100"), range(10)),
        (("-o", f"@{BASE_MS + 7000}"), (7, 8, 9)),
        (("-o", f"@{BASE_MS + 6001}"), (7, 8, 9)),
        (("-o", "@2023-11-14T22:13:28Z"), (8, 9)),
        (("-o", f"s@{BASE_MS + 2000}", "-o", f"e@{BASE_MS + 5000}"), (2, 3, 4)),
        (("-o", f"e@{BASE_MS + 2000}"), (0, 1)),
        (("-o", "@-1h"), ()),
        (("--until", "3"), (0, 1, 2)),
        (("--until", "-3"), range(7)),
        (("--until", "end"), range(10)),
        (("--until", "beginning"), ()),
        (("--until", f"@{BASE_MS + 1000}"), (0,)),
        (("--until", "@2023-11-14T22:13:22Z"), (0, 1)),
        (("-o", "2", "--until", "4"), (2, 3)),
        (("-o", "4", "--until", "2"), ()),
        (("-c", "3"), (0, 1, 2)),
        (("-c", "0"), ()),
        (("-c", "2", "-o", "5"), (5, 6)),
        (("-c", "2", "--grep", "[579]"), (5, 7)),
        (("-c", "99"), range(10)),
    ],
)
def test_a_range_is_exact(consumed: Consumed, ten: str, options: tuple[str, ...], expected: tuple[int, ...]) -> None:
    assert numbers(consumed(*options, "-e", ten)) == list(expected)


def test_an_offset_past_the_end_is_told(consumed: Consumed, ten: str) -> None:
    told = f"kpipe: read: {ten}[0]: -o 100 is past the end (10); nothing is read before it comes\n"
    assert consumed("-o", "100", "-e", ten, told=told) == []


@pytest.mark.parametrize("options", [("--until", "4"), ("--until", f"@{BASE_MS + 4000}"), ("-c", "4")])
def test_an_end_ends_the_run_without_exit(consumed: Consumed, ten: str, options: tuple[str, ...]) -> None:
    assert numbers(consumed(*options, ten)) == [0, 1, 2, 3]


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_the_end_of_a_topic_may_be_a_transaction_marker(kafka: Cluster, consumed: Consumed, end: str) -> None:
    """The last offset is a marker that no consumer is given; an aborted record is never seen."""
    topic = kafka.topic()
    kafka.write(topic, [b"before"])
    kafka.write(topic, [b"inside"], transaction=end)  # type: ignore[arg-type]

    lines = consumed("-e", topic)

    assert lines == ([b"before", b"inside"] if end == "commit" else [b"before"])
    assert consumed("-e", "-o", "-1", topic) == []


def test_an_aborted_transaction_leaves_nothing_in_the_middle(kafka: Cluster, consumed: Consumed) -> None:
    topic = kafka.topic()
    kafka.write(topic, [b"a"])
    kafka.write(topic, [b"x"] * 5, transaction="abort")
    kafka.write(topic, [b"b"])
    name = group()

    assert consumed("-e", "-G", name, topic) == [b"a", b"b"]
    assert kafka.committed(name, topic) == {0: 8}


def test_a_group_leaves_no_lag_behind_a_marker(kafka: Cluster, consumed: Consumed) -> None:
    topic = kafka.topic()
    kafka.write(topic, [b"a"], transaction="commit")
    name = group()

    assert consumed("-e", "-G", name, topic) == [b"a"]
    assert kafka.committed(name, topic) == {0: 2}
    assert consumed("-e", "-G", name, topic) == []


def test_holes_of_compaction_are_passed(kafka: Cluster, consumed: Consumed) -> None:
    topic = kafka.topic(
        cleanup_policy="compact", segment_ms=100, min_cleanable_dirty_ratio=0.01, max_compaction_lag_ms=100,
        min_compaction_lag_ms=0, delete_retention_ms=0,
    )  # fmt: skip
    kafka.write(topic, [Rec(b"%d" % n, key=b"k") for n in range(20)])
    for round_ in range(3):  # an active segment is never cleaned: roll it by writing after segment.ms
        time.sleep(0.15)
        kafka.write(topic, [Rec(b"last%d" % round_, key=b"last")])
    until(lambda: len(kafka.read(topic)) < 10, "compaction", timeout=60)
    left = kafka.read(topic)
    name = group()

    lines = consumed("-e", "-G", name, "-J", topic)

    assert [json.loads(line)["offset"] for line in lines][-1] == 22
    # The cleaner goes on meanwhile: what is gone afterwards may have been there, what was gone before may not.
    seen, after = {json.loads(line)["offset"] for line in lines}, {record.offset for record in kafka.read(topic)}
    assert after <= seen <= {record.offset for record in left}
    assert kafka.committed(name, topic) == {0: 23}


def test_deleted_records_are_no_obstacle(kafka: Cluster, consumed: Consumed) -> None:
    from confluent_kafka import TopicPartition

    topic = kafka.topic()
    kafka.write(topic, [b"%d" % n for n in range(10)])
    kafka.admin.delete_records([TopicPartition(topic, 0, 6)])[TopicPartition(topic, 0, 6)].result(20)

    assert numbers(consumed("-e", topic)) == [6, 7, 8, 9]
    assert numbers(consumed("-e", "-o", "2", topic)) == [6, 7, 8, 9]
    assert numbers(consumed("-e", "-o", "-100", topic)) == [6, 7, 8, 9]


def test_an_idle_topic_ends_at_once(kafka: Cluster, consumed: Consumed) -> None:
    topic = kafka.topic(8)
    started = time.monotonic()

    assert consumed("-e", topic) == []
    assert consumed("-e", "-o", "-3", topic) == []
    assert time.monotonic() - started < 8


def test_partitions_with_and_without_records_all_end(kafka: Cluster, consumed: Consumed) -> None:
    topic = kafka.topic(12)
    written = kafka.write(topic, [Rec(b"%d" % n, partition=(n % 3) * 5) for n in range(300)])

    lines = consumed("-e", "-f", r"%p %s\n", topic)

    assert len(lines) == len(written)
    for partition in (0, 5, 10):
        own = [int(line.split()[1]) for line in lines if line.startswith(b"%d " % partition)]
        assert own == [n for n in range(300) if (n % 3) * 5 == partition]


def test_the_end_is_fixed_at_the_start_under_a_busy_producer(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(2)
    kafka.write(topic, [Rec(b"old", partition=n % 2) for n in range(1000)])
    producer, stop, sent = (
        Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0, "linger.ms": 1}),
        threading.Event(),
        [],
    )

    def write() -> None:
        while not stop.is_set() and len(sent) < 200_000:
            producer.produce(topic, b"new", partition=len(sent) % 2)
            producer.poll(0)
            sent.append(1)
            if len(sent) % 50 == 0:
                time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        started = time.monotonic()
        result = kpipe.at(kafka.bootstrap)("consume", "-e", topic)
        seconds = time.monotonic() - started
        before_the_end = len(sent)
    finally:
        stop.set()
        writer.join(10)
        producer.flush(10)

    assert result.code == 0
    lines = result.out.splitlines()
    assert lines.count(b"old") == 1000
    assert 1000 <= len(lines) < 1000 + before_the_end, "it followed the writer instead of stopping at its own end"
    assert seconds < 20


# --- which partitions and topics -------------------------------------------------------------------------------


def test_partitions_can_be_chosen(kafka: Cluster, consumed: Consumed) -> None:
    topic = kafka.topic(4)
    kafka.write(topic, [Rec(b"%d" % n, partition=n) for n in range(4)])

    assert consumed("-e", "-p", "2", topic) == [b"2"]
    assert sorted(consumed("-e", "-p", "0", "-p", "2-3", topic)) == [b"0", b"2", b"3"]


def test_a_partition_that_is_not_there_is_named(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(2)
    result = kpipe.at(kafka.bootstrap)("consume", "-e", "-p", "2", topic)
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "no partition 2; the topic has 2 (0 to 1)" in result.err


def test_several_topics_and_patterns(kafka: Cluster, consumed: Consumed, kpipe: Kpipe) -> None:
    stem = f"p{uuid.uuid4().hex[:8]}"
    for suffix in ("a", "b", "other"):
        kafka.write(kafka.topic(name=f"{stem}-{suffix}"), [suffix.encode()])

    assert sorted(consumed("-e", f"{stem}-a", f"{stem}-other")) == [b"a", b"other"]
    assert sorted(consumed("-e", f"^{stem}-[ab]$")) == [b"a", b"b"]
    assert sorted(consumed("-e", "-G", group(), f"^{stem}-")) == [b"a", b"b", b"other"]
    none = kpipe.at(kafka.bootstrap)("consume", "-e", f"^{stem}-nothing")
    assert none.code == 1
    assert "no topic matches" in none.err


# --- groups ----------------------------------------------------------------------------------------------------


def test_a_group_goes_on_where_it_was(kafka: Cluster, consumed: Consumed) -> None:
    topic = kafka.topic()
    name = group()
    kafka.write(topic, [b"0", b"1", b"2"])

    assert numbers(consumed("-e", "-G", name, topic)) == [0, 1, 2]
    assert kafka.committed(name, topic) == {0: 3}
    kafka.write(topic, [b"3", b"4"])
    assert numbers(consumed("-e", "-G", name, topic)) == [3, 4]
    assert consumed("-e", "-G", name, topic) == []
    assert kafka.committed(name, topic) == {0: 5}


def test_a_count_commits_exactly_what_was_printed(kafka: Cluster, consumed: Consumed) -> None:
    topic = kafka.topic()
    name = group()
    kafka.write(topic, [b"%d" % n for n in range(2000)])

    assert numbers(consumed("-c", "3", "-G", name, topic)) == [0, 1, 2]
    assert kafka.committed(name, topic) == {0: 3}
    assert numbers(consumed("-c", "700", "-G", name, topic)) == list(range(3, 703))
    assert kafka.committed(name, topic) == {0: 703}
    assert numbers(consumed("-c", "2", "--grep", "^7.0$", "-G", name, topic)) == [710, 720]
    assert kafka.committed(name, topic) == {0: 721}
    assert numbers(consumed("-e", "-G", name, topic)) == list(range(721, 2000))


def test_an_offset_holds_only_where_the_group_has_none(kafka: Cluster, consumed: Consumed) -> None:
    topic = kafka.topic(2)
    name = group()
    kafka.write(topic, [Rec(b"%d" % n, partition=0) for n in range(10)])
    assert numbers(consumed("-c", "4", "-p", "0", "-G", name, topic)) == [0, 1, 2, 3]
    kafka.write(topic, [Rec(b"%d" % n, partition=1) for n in range(100, 110)])

    goes_on = "goes on where it left off; -o is only for partitions without a committed offset"
    told = f"kpipe: read: group {name}: {goes_on} (another -G starts anew)\n"
    lines = consumed("-e", "-o", "-2", "-G", name, topic, told=told)

    assert sorted(numbers(lines)) == [4, 5, 6, 7, 8, 9, 108, 109]
    assert kafka.committed(name, topic) == {0: 10, 1: 10}


def test_a_new_group_may_start_at_the_end_and_stored_needs_a_group(
    kafka: Cluster, consumed: Consumed, kpipe: Kpipe
) -> None:
    topic = kafka.topic()
    kafka.write(topic, [b"old"])
    name = group()

    assert consumed("-e", "-o", "end", "-G", name, topic) == []
    kafka.write(topic, [b"new"])
    assert consumed("-e", "-o", "stored", "-G", name, topic) == [b"new"]
    assert kpipe.at(kafka.bootstrap)("consume", "-e", "-o", "stored", topic).code == 2


def test_without_a_group_nothing_is_committed(kafka: Cluster, consumed: Consumed) -> None:
    topic = kafka.topic()
    kafka.write(topic, [b"1"])
    consumed("-e", topic)
    assert kafka.committed("kpipe-without-group", topic) == {}


# --- what it prints --------------------------------------------------------------------------------------------

ODD = [
    Rec(b"v", b"k", (("h", b"1"), ("h", None), ("e", b"")), BASE_MS),
    Rec(None, None, (), BASE_MS),
    Rec(b"", b"", (), BASE_MS),
    Rec(b"\x00\n\xff", b"\xfe", (("b", b"\xff"),), BASE_MS),
]


@pytest.fixture(scope="module")
def odd(kafka: Cluster) -> str:
    topic = kafka.topic(retention_ms=-1)
    kafka.write(topic, ODD)
    return topic


def test_envelopes_say_everything(consumed: Consumed, odd: str) -> None:
    def header(value: bytes | None) -> object:
        return value if value is None or value.isascii() else {"base64": base64.b64encode(value).decode()}

    lines = [json.loads(line) for line in consumed("-J", "-e", odd)]

    assert lines[0] == {
        "topic": odd, "partition": 0, "offset": 0, "timestamp": BASE_MS, "timestamp_type": "create",
        "key": "k", "value": "v", "headers": [["h", "1"], ["h", None], ["e", ""]],
    }  # fmt: skip
    assert (lines[1]["key"], lines[1]["value"]) == (None, None)
    assert (lines[2]["key"], lines[2]["value"]) == ("", "")
    assert (lines[3]["key_base64"], lines[3]["value_base64"]) == ("/g==", "AAr/")
    assert lines[3]["headers"] == [["b", header(b"\xff")]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), b"v\n\n\n\x00\n\xff\n"),
        (("-0",), b"v\0\0\0\x00\n\xff\0"),
        (("-D", "<>"), b"v<><><>\x00\n\xff<>"),
        (("-K", "="), b"k=v\n=\n=\n\xfe=\x00\n\xff\n"),
        (("-Z", "NIL", "-K", "="), b"k=v\nNIL=NIL\n=\n\xfe=\x00\n\xff\n"),
        (("-f", r"%o:%k=%s;%S,%K|%t/%p@%T%%\t"), None),
        (("-f", "%R%s"), struct.pack(">i", 1) + b"v" + struct.pack(">i", -1) + struct.pack(">i", 0) + struct.pack(">i", 3) + b"\x00\n\xff"),
        (("-f", r"%h\n", "-c", "1"), b"h=1,h=NULL,e=\n"),
    ],
)  # fmt: skip
def test_plain_output_is_exact(
    kafka: Cluster, kpipe: Kpipe, odd: str, options: tuple[str, ...], expected: bytes | None
) -> None:
    result = kpipe.at(kafka.bootstrap)("consume", *options, "-e", odd)

    if expected is None:
        rows = [(b"k", b"v", 1, 1), (b"", b"", -1, -1), (b"", b"", 0, 0), (b"\xfe", b"\x00\n\xff", 3, 1)]
        expected = b"".join(
            b"%d:%b=%b;%d,%d|%b/0@%d%%\t" % (n, key, value, size, key_size, odd.encode(), BASE_MS)
            for n, (key, value, size, key_size) in enumerate(rows)
        )
    assert result.code == 0
    assert result.out == expected


def test_lines_that_cannot_be_told_apart_are_noted(kafka: Cluster, kpipe: Kpipe, odd: str) -> None:
    result = kpipe.at(kafka.bootstrap)("consume", "-e", odd)

    assert result.code == 0
    assert result.err.splitlines() == [
        "kpipe: encode: 1 time a value held the delimiter itself; use -0 or -J to keep records apart",
        "kpipe: encode: 1 null value was printed as empty; use -Z TEXT or -J to tell them apart",
    ]


def test_much_comes_whole_and_in_order(kafka: Cluster, consumed: Consumed) -> None:
    topic = kafka.topic()
    kafka.write(topic, [b"%d" % n for n in range(100_000)])
    assert numbers(consumed("-e", topic)) == list(range(100_000))


def test_fail_if_empty(kafka: Cluster, kpipe: Kpipe, ten: str) -> None:
    run = kpipe.at(kafka.bootstrap)
    assert run("consume", "-e", "--fail-if-empty", kafka.topic()) == Result(
        5, b"", "kpipe: read: no record was read (--fail-if-empty)\n"
    )
    assert run("consume", "-e", "--fail-if-empty", ten).code == 0


def test_a_followed_record_is_shown_at_once(kafka: Cluster, kpipe: Kpipe, capsys: pytest.CaptureFixture[str]) -> None:
    """From the delivery report of the writer to the line on the reader's pipe; the promise is 50 ms on an idle machine."""
    topic = kafka.topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0, "linger.ms": 0})
    producer.produce(topic, b"ready")
    producer.flush(10)
    running = kpipe.at(kafka.bootstrap).start("consume", topic, stdin=None)
    running.wait_for_stdout(b"ready\n")
    seconds = []
    for number in range(20):
        line = b"record %d\n" % number
        producer.produce(topic, line[:-1])
        producer.flush(10)
        written = time.monotonic()
        while line not in running.out:
            assert time.monotonic() < written + 10
            time.sleep(0.001)
        seconds.append(time.monotonic() - written)

    median = statistics.median(seconds)
    with capsys.disabled():
        print(f"\n    a followed record is shown after {median * 1000:.1f} ms (median of {len(seconds)})")
    assert median < 0.2

"""`kpipe produce` on a real broker: every input and every option, judged by what the topic holds afterwards."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec
from tests.conftest import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

    Produced = Callable[..., list[Rec]]


@pytest.fixture
def produced(kafka: Cluster, kpipe: Kpipe) -> Produced:
    """Run `kpipe produce` with these options and input into a fresh topic; give what the topic then holds."""

    def run(*options: str, stdin: bytes = b"", files: tuple[str, ...] = (), partitions: int = 1) -> list[Rec]:
        topic = kafka.topic(partitions, retention_ms=-1)
        result = kpipe.at(kafka.bootstrap)("produce", *options, topic, *files, stdin=stdin)
        assert result == Result(0, b"", "")
        return kafka.read(topic)

    return run


def values(records: list[Rec]) -> list[bytes | None]:
    return [record.value for record in records]


def pairs(records: list[Rec]) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key, record.value) for record in records]


# --- what a record is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "stdin", "expected"),
    [
        ((), b"a\nb\n", [(None, b"a"), (None, b"b")]),
        ((), b"a\nunterminated", [(None, b"a"), (None, b"unterminated")]),
        ((), b"", []),
        ((), b"\n", [(None, b"")]),
        ((), b"a\r\n\n null \n-1\n\xff\xfe\x00\n", [(None, v) for v in (b"a\r", b"", b" null ", b"-1", b"\xff\xfe\x00")]),
        (("-0",), b"a\nb\0\0c", [(None, b"a\nb"), (None, b""), (None, b"c")]),
        (("-D", r"\r\n"), b"a\rb\r\nc\nd\r\n", [(None, b"a\rb"), (None, b"c\nd")]),
        (("-D", "<é>"), "x<é>y<é".encode(), [(None, b"x"), (None, "y<é".encode())]),
        (("-D", r"\x01\t"), b"x\x01\ty", [(None, b"x"), (None, b"y")]),
        (("-K", ":"), b"k:v:w\nno key\n:v\nk:\n", [(b"k", b"v:w"), (None, b"no key"), (b"", b"v"), (b"k", b"")]),
        (("-K", r"\t", "-0"), b"k\tv\n\0", [(b"k", b"v\n")]),
        (("-K", "::", "-Z", "NIL"), b"k::NIL\nNIL::v\nNIL\nk::\n", [(b"k", None), (None, b"v"), (None, None), (b"k", b"")]),
        (("-k", "all"), b"a\n", [(b"all", b"a")]),
        (("-k", "all", "-K", ":"), b"own:a\nb\n", [(b"own", b"a"), (b"all", b"b")]),
        (("--whole-file",), b"a\nb\n", [(None, b"a\nb\n")]),
        (("-f", "%k=%s;"), b"a=1;b=2;", [(b"a", b"1"), (b"b", b"2")]),
    ],
)  # fmt: skip
def test_plain_input_becomes_records(
    produced: Produced, options: tuple[str, ...], stdin: bytes, expected: list[tuple[bytes | None, bytes | None]]
) -> None:
    assert pairs(produced(*options, stdin=stdin)) == expected


def test_headers_keep_order_duplicates_and_null(produced: Produced) -> None:
    options = [word for text in ("a=1", "a=2", "empty=", "null", "a=1", "eq=x=y", "ü=é") for word in ("-H", text)]

    (record,) = produced(*options, stdin=b"v")

    assert record.headers == (
        ("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None), ("a", b"1"), ("eq", b"x=y"), ("ü", "é".encode()),
    )  # fmt: skip


def test_a_partition_is_taken_as_given(produced: Produced) -> None:
    assert [record.partition for record in produced("-p", "2", stdin=b"a\nb\n", partitions=4)] == [2, 2]


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1763884800000", 1763884800000), ("@1763884800000", 1763884800000), ("2025-11-23T08:00:00Z", 1763884800000)],
)
def test_a_timestamp_is_set(produced: Produced, text: str, ms: int) -> None:
    (record,) = produced("--timestamp", text, stdin=b"v")
    assert (record.timestamp, record.timestamp_type) == (ms, "create")


def test_timestamp_now_replaces_that_of_an_envelope(produced: Produced) -> None:
    before = int(time.time() * 1000)
    envelope = b'{"value":"v","timestamp":1000000000000}\n'

    (now,) = produced("--timestamp", "now", "--input", "json", stdin=envelope)
    (kept,) = produced("--input", "json", stdin=envelope)

    assert now.timestamp >= before
    assert kept.timestamp == 1_000_000_000_000


def test_keys_choose_the_partition_that_java_clients_choose(produced: Produced) -> None:
    # abs(murmur2(key)) % 6 by org.apache.kafka.common.utils.Utils: toPositive(-1) semantics, from its own unit test.
    murmur2 = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}

    records = produced("-K", ":", stdin=b"".join(key + b":v\n" for key in murmur2), partitions=6)

    assert {record.key: record.partition for record in records} == {
        key: (hashed & 0x7FFFFFFF) % 6 for key, hashed in murmur2.items()
    }


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_arrives(kafka: Cluster, kpipe: Kpipe, codec: str) -> None:
    topic = kafka.topic()
    stdin = b"compressible " * 400 + b"\n"

    result = kpipe.at(kafka.bootstrap)("produce", "-z", codec, topic, stdin=stdin * 50)

    assert (result.code, result.err) == (0, "")
    assert values(kafka.read(topic)) == [stdin[:-1]] * 50
    log = kafka.broker.home / "data" / f"{topic}-0" / "00000000000000000000.log"
    assert (log.stat().st_size < 50 * len(stdin) / 3) == (codec != "none")


# --- files -----------------------------------------------------------------------------------------------------


def test_several_files_come_in_order_and_dash_is_stdin(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    one, two = kpipe.home / "one", kpipe.home / "two"
    one.write_bytes(b"1\nunterminated")
    two.write_bytes(b"2\n")

    result = kpipe.at(kafka.bootstrap)("produce", topic, one, "-", two, stdin=b"stdin\n")

    assert (result.code, result.err) == (0, "")
    assert values(kafka.read(topic)) == [b"1", b"unterminated", b"stdin", b"2"]


def test_whole_files_are_one_record_each(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    contents = {"a": b"x\ny\n\0", "empty": b"", "large": os.urandom(900_000)}
    for name, content in contents.items():
        (kpipe.home / name).write_bytes(content)

    result = kpipe.at(kafka.bootstrap)("produce", "--whole-file", topic, *contents)

    assert (result.code, result.err) == (0, "")
    assert values(kafka.read(topic)) == list(contents.values())


@pytest.mark.parametrize("bad", ["missing", "."])
def test_a_bad_file_is_found_before_anything_is_sent(kafka: Cluster, kpipe: Kpipe, bad: str) -> None:
    topic = kafka.topic()
    (kpipe.home / "good").write_bytes(b"1\n")

    result = kpipe.at(kafka.bootstrap)("produce", topic, "good", bad)

    assert result.code == 2
    assert (
        result.err
        == {
            "missing": "kpipe: missing: cannot open: No such file or directory\n",
            ".": "kpipe: .: is a directory, not a file\n",
        }[bad]
    )
    assert kafka.read(topic) == []


# --- JSON ------------------------------------------------------------------------------------------------------


def test_envelopes_give_every_field(produced: Produced) -> None:
    lines = [
        {"value": "v", "key": "k", "headers": [["h", "1"], ["h", None], ["b", {"base64": "AAE="}]], "timestamp": 1234567890123},
        {"value": None, "key": None},
        {"value": "", "key": ""},
        {"value_base64": "AP8K", "key_base64": "/w=="},
        {"value": {"a": [1, 2.50]}},
    ]  # fmt: skip
    records = produced(
        "--input", "json", "--trace", "none", stdin=b"\n".join(json.dumps(line).encode() for line in lines)
    )

    assert pairs(records) == [
        (b"k", b"v"),
        (None, None),
        (b"", b""),
        (b"\xff", b"\x00\xff\n"),
        (None, b'{"a":[1,2.5]}'),
    ]
    assert records[0].headers == (("h", b"1"), ("h", None), ("b", b"\x00\x01"))
    assert records[0].timestamp == 1234567890123


def test_envelopes_keep_their_partition_with_same(produced: Produced) -> None:
    stdin = b'{"value":"a","partition":2}\n{"value":"b","partition":0}\n'
    records = produced("--input", "json", "-p", "same", stdin=stdin, partitions=3)
    assert {record.value: record.partition for record in records} == {b"a": 2, b"b": 0}


def test_keyless_envelopes_of_one_partition_stay_together(produced: Produced) -> None:
    lines = [{"value": str(n), "partition": n % 7, "topic": "t", "offset": n} for n in range(70)]
    records = produced("--input", "json", stdin="\n".join(map(json.dumps, lines)).encode(), partitions=3)

    homes: dict[int, set[int]] = {}
    for record in records:
        homes.setdefault(int(record.value or b"") % 7, set()).add(record.partition)
    assert len(records) == 70
    assert {record.key for record in records} == {None}
    assert all(len(partitions) == 1 for partitions in homes.values())
    for number in range(7):
        own = [int(record.value or b"") for record in records if int(record.value or b"") % 7 == number]
        assert own == sorted(own)


@pytest.mark.parametrize(
    ("tool", "dump"),
    [
        ("kcat", b'{"topic":"t","partition":1,"offset":7,"tstype":"create","ts":1763884800000,"broker":1,'
                 b'"headers":["h","1","h",null],"key":"k","payload":"v\\n"}\n'),
        ("kcl", b'{"topic":"t","partition":1,"offset":7,"timestamp":1763884800000,'
                b'"headers":[{"key":"h","value":"1"}],"key":"k","value":"v\\n"}\n'),
        ("rpk", b'{\n  "topic": "t",\n  "key": "k",\n  "value": "v\\n",\n  "headers": [{"key": "h", "value": "1"}],\n'
                b'  "timestamp": 1763884800000,\n  "partition": 1,\n  "offset": 7\n}\n'),
        ("kaf", b'{"headers":[{"key":"h","value":"1"}],"key":"k","payload":"v\\n"}\n'),
    ],
)  # fmt: skip
def test_dumps_of_other_tools_move_in(produced: Produced, tool: str, dump: bytes) -> None:
    (record,) = produced("--input", tool, "--trace", "none", stdin=dump)

    assert (record.key, record.value) == (b"k", b"v\n")
    assert record.headers[0] == ("h", b"1")
    if tool != "kaf":
        assert record.timestamp == 1763884800000
    if tool == "kcat":
        assert record.headers == (("h", b"1"), ("h", None))


def test_a_foreign_object_that_is_not_what_the_tool_writes_is_a_bad_record(kafka: Cluster, kpipe: Kpipe) -> None:
    """A record that the decoder took out has no place in the columns any more; its position is in its error."""
    result = kpipe.at(kafka.bootstrap)(
        "produce", "--input", "kaf", kafka.topic(), stdin=b'\n{"payload":"v","headers":{}}\n'
    )

    assert result.code == 3
    assert result.err.splitlines()[0] == (
        'kpipe: decode: stdin:2: headers is {}; kaf writes a list of {"key": ..., "value": ...}'
    )


# --- what it says ----------------------------------------------------------------------------------------------


def test_tee_passes_the_input_through(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    stdin = b"a\r\n\n\xff\0\nunterminated"

    result = kpipe.at(kafka.bootstrap)("produce", "--tee", topic, stdin=stdin)

    assert (result.code, result.err, result.out) == (0, "", stdin)
    assert values(kafka.read(topic)) == [b"a\r", b"", b"\xff\0", b"unterminated"]


def test_report_says_where_each_record_went(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(3)

    result = kpipe.at(kafka.bootstrap)(
        "produce", "--report", "-K", ":", topic, stdin=b"".join(b"%d:v\n" % n for n in range(2000))
    )

    assert (result.code, result.err) == (0, "")
    told = sorted(
        (each["topic"], each["partition"], each["offset"]) for each in map(json.loads, result.out.splitlines())
    )
    assert told == sorted((record.topic, record.partition, record.offset) for record in kafka.read(topic))
    assert len(told) == 2000


def test_the_summary_balances(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    summary = kpipe.home / "summary.json"

    result = kpipe.at(kafka.bootstrap)(
        "produce", "-v", "--grep", "[13579]$", "--summary", summary, topic, stdin=b"1\n2\n3\n"
    )

    assert result.code == 0
    assert result.err.startswith("kpipe: 3 read, 2 delivered, 1 filtered, 0 failed in ")
    told = json.loads(summary.read_bytes())
    assert {name: told[name] for name in told if name not in ("seconds", "signal")} == {
        "read": 3, "delivered": 2, "filtered": 1, "dead_lettered": 0, "failed": 0, "unknown": 0,
    }  # fmt: skip


# --- much and large --------------------------------------------------------------------------------------------


@pytest.mark.cold
def test_a_long_pipe_keeps_order_and_memory_stays_flat(kafka: Cluster, kpipe: Kpipe) -> None:
    """Once all queues are full, memory is what it takes for all of it: nothing grows with what was read."""
    topic = kafka.topic()
    running = kpipe.at(kafka.bootstrap).start("produce", "--buffer", "4M", topic)
    line, count, rss = b"x" * 500, 200_000, []
    for start in range(0, count, 1000):
        running.write(b"".join(b"%06d%s\n" % (number, line) for number in range(start, start + 1000)))
        if start >= count // 2:
            rss.append(_resident_kib(running.pid))
    running.close_stdin()

    assert running.wait().code == 0
    numbers = [int((record.value or b"")[:6]) for record in kafka.read(topic)]
    assert numbers == list(range(count))
    assert max(rss) - rss[0] < 15_000, f"{rss[0]} KiB grew to {max(rss)} KiB while {count // 2 * 507:,} bytes went by"


def _resident_kib(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


def test_values_of_900_kb_arrive(produced: Produced) -> None:
    large = [bytes([65 + n]) * 900_000 for n in range(5)]
    assert values(produced(stdin=b"\n".join(large))) == large


def test_a_topic_that_takes_little_still_takes_many_small_records(kafka: Cluster, kpipe: Kpipe) -> None:
    """A batch of small records over the topic's max.message.bytes would be refused as a whole."""
    topic = kafka.topic(max_message_bytes=100_000)
    lines = [b"%05d" % n + b"x" * 1000 for n in range(2000)]

    result = kpipe.at(kafka.bootstrap)("produce", topic, stdin=b"\n".join(lines))

    assert (result.code, result.err) == (0, "")
    assert values(kafka.read(topic)) == lines


def test_a_topic_that_takes_more_than_the_clients_default_gets_more(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(max_message_bytes=4_000_000)
    large = os.urandom(3_000_000).replace(b"\n", b"-")

    result = kpipe.at(kafka.bootstrap)("produce", topic, stdin=large)

    assert (result.code, result.err) == (0, "")
    assert values(kafka.read(topic)) == [large]


# --- creating a topic ------------------------------------------------------------------------------------------


def test_create_makes_a_missing_topic_and_only_then(kafka: Cluster, kpipe: Kpipe) -> None:
    run = kpipe.at(kafka.bootstrap)
    name = f"new-{os.urandom(4).hex()}"

    refused = run("produce", name, stdin=b"1\n")
    created = run("produce", "--create", name, stdin=b"1\n")
    again = run("produce", "--create", name, stdin=b"2\n")

    assert refused.code == 1
    assert refused.err == f"kpipe: config: {kafka.bootstrap}/{name}: no such topic; --create makes it\n"
    assert (created.code, created.err) == (0, f"kpipe: config: {kafka.bootstrap}/{name}: created, with 1 partition\n")
    assert_quiet(again)
    assert values(kafka.read(name)) == [b"1", b"2"]


def test_create_makes_as_many_partitions_as_asked_and_says_so(kafka: Cluster, kpipe: Kpipe) -> None:
    name = f"new-{os.urandom(4).hex()}"
    line = b'{"partition":5,"value":"x"}\n'
    args = ("produce", "--create", "--create-partitions", "6", "--input", "json", "-p", "same", name)
    created = kpipe.at(kafka.bootstrap)(*args, stdin=line)
    assert (created.code, created.err) == (0, f"kpipe: config: {kafka.bootstrap}/{name}: created, with 6 partitions\n")
    assert [record.partition for record in kafka.read(name)] == [5]


ELSEWHERE = b'{"partition":0,"value":"a"}\n{"partition":5,"value":"x"}\n{"partition":1,"value":"b"}\n{"value":"c"}\n'


def test_a_partition_that_is_not_there_is_refused(kafka: Cluster, kpipe: Kpipe) -> None:
    run, topic, letters = kpipe.at(kafka.bootstrap), kafka.topic(2), kafka.topic()
    args = ("produce", "--input", "json", "-p", "same")

    stopped = run(*args, topic, stdin=ELSEWHERE)
    skipped = run(*args, "--on-error", "skip", topic, stdin=ELSEWHERE)
    letter = run(*args, "--on-error", f"dlq:{letters}", topic, stdin=ELSEWHERE)

    assert (stopped.code, skipped.code, letter.code) == (1, 1, 0)
    what = f"stdin:2: {kafka.bootstrap}/{topic} has 2 partitions, so none has the number 5; add some, or drop `same`"
    assert what in stopped.err
    assert what in skipped.err
    assert sorted(values(kafka.read(topic))) == sorted([b"a", *[b"a", b"b", b"c"] * 2])
    assert values(kafka.read(letters)) == [b"x"]


@pytest.mark.parametrize("way", [("--also", "ALSO"), ("--route", '"ALSO"', "--route-allow", "*")])
def test_a_partition_that_a_further_topic_lacks_is_refused(kafka: Cluster, kpipe: Kpipe, way: tuple[str, ...]) -> None:
    topic, further = kafka.topic(9), kafka.topic(2)
    way = tuple(word.replace("ALSO", further) for word in way)
    args = ("produce", "--input", "json", "-p", "same", "--on-error", "skip", *way, topic)
    run = kpipe.at(kafka.bootstrap)(*args, stdin=ELSEWHERE)
    assert run.code == 1
    assert f"{further} has 2 partitions, so none has the number 5" in run.err
    assert b"x" not in values(kafka.read(topic)) + values(kafka.read(further))


def test_restore_keeps_a_record_whose_partition_is_not_there(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    topic, spill = kafka.topic(2), tmp_path / "spill"
    spill.write_bytes(ELSEWHERE)
    run = kpipe.at(kafka.bootstrap)("produce", "--restore", spill, "-p", "same", topic)
    assert run.code == 1
    assert "has 2 partitions, so none has the number 5" in run.err
    assert b'"x"' in spill.read_bytes()
    assert b"x" not in values(kafka.read(topic))


def assert_quiet(result: Result) -> None:
    assert (result.code, result.out, result.err) == (0, b"", "")


def test_a_compacted_target_wants_keys_before_the_first_record(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(cleanup_policy="compact")
    run = kpipe.at(kafka.bootstrap)

    refused = run("produce", topic, stdin=b"1\n" * 50_000)
    one_line = run("produce", topic, stdin=b"1\n")
    keyed = run("produce", "-K", ":", topic, stdin=b"k:1\n")

    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "the topic is compacted and takes no record without a key" in refused.err
    assert (one_line.code, "a compacted topic takes no record without a key" in one_line.err) == (1, True)
    assert_quiet(keyed)
    assert pairs(kafka.read(topic)) == [(b"k", b"1")]


def test_properties_of_the_producer_reach_it(kafka: Cluster, kpipe: Kpipe) -> None:
    """-X acks=1 switches idempotence off: a value that contradicts it must not be a riddle."""
    topic = kafka.topic()

    result = kpipe.at(kafka.bootstrap)("produce", "-X", "acks=1", "-X", "linger.ms=0", topic, stdin=b"1\n")

    assert_quiet(result)
    assert values(kafka.read(topic)) == [b"1"]

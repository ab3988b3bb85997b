"""kpipe and the real kcat on one Kafka: each reads what the other wrote, byte for byte, and both choose the same partition."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec
from tests.broker.lab.leash import leashed
from tests.conftest import Result

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

KCAT = shutil.which("kcat")
MISSING = "kcat is not installed: apt-get install kcat"

# What a kcat user's topic may hold. kcat (librdkafka) leaves out nothing; its JSON writes raw bytes as they are.
TRICKY = [
    Rec(b"value", b"key", (("h", b"1"), ("h", b"2"), ("empty", b""), ("null", None)), timestamp=1763884800000),
    Rec(b"", b"", timestamp=1763884800001),
    Rec(None, b"tombstone", timestamp=1763884800002),
    Rec(b"no key", timestamp=1763884800003),
    Rec(None, None, timestamp=1763884800004),
    Rec("grüße ✓ \U0001f600".encode(), "schlüssel".encode(), (("名", "値".encode()),), timestamp=1763884800005),
    Rec(bytes(range(256)), b"\xff\xfe\x00", (("raw", b"\x80\x00\n"),), timestamp=1763884800006),
    Rec(b'{"a": "\\u00e9", "b": [1, null]}', b'"quoted\\"', timestamp=1763884800007),
    Rec(b"\n\t\r\x00,=%s", b"a,b=c", (("a,b", b"c=d,e"),), timestamp=1763884800008),
]


@pytest.fixture(autouse=True)
def _kcat_is_there() -> None:
    if KCAT is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)


def kcat(cluster: Cluster, *args: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        leashed([str(KCAT), "-q", "-b", cluster.bootstrap, *args]),
        input=stdin, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def content(records: list[Rec]) -> list[tuple[object, ...]]:
    return [(record.key, record.value, record.headers, record.timestamp) for record in records]


# --- kpipe reads what kcat wrote -----------------------------------------------------------------------------


def test_kpipe_reads_what_kcat_wrote(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kcat(
        kafka, "-P", "-t", topic, "-K:", "-Z", "-H", "h=1", "-H", "h=2", "-H", "empty=", "-H", "null",
        stdin=b"k:v\nk:\nno key\n:empty key\n",
    )  # fmt: skip
    read = kpipe.at(kafka.bootstrap)("consume", "-e", "-J", topic)
    assert (read.code, read.err) == (0, "")
    found = [json.loads(line) for line in read.out.splitlines()]
    headers = [["h", "1"], ["h", "2"], ["empty", ""], ["null", None]]
    assert all(envelope["headers"] == headers for envelope in found)
    assert [(envelope["key"], envelope["value"]) for envelope in found] == [
        (record.key.decode() if record.key is not None else None, record.value.decode() if record.value else None)
        for record in kafka.read(topic)
    ]
    assert ("k", None) in [(envelope["key"], envelope["value"]) for envelope in found]


def test_kpipe_splits_keys_as_kcat_does(kafka: Cluster, kpipe: Kpipe) -> None:
    ours, theirs = kafka.topic(), kafka.topic()
    text = b"k:v\nk:v:w\nno key\n:empty key\nk::\n\xff:\xfe\nlast:unterminated"
    kcat(kafka, "-P", "-t", theirs, "-K:", stdin=text)
    assert kpipe.at(kafka.bootstrap)("produce", ours, "-K:", stdin=text).code == 0
    assert [(r.key, r.value) for r in kafka.read(ours)] == [(r.key, r.value) for r in kafka.read(theirs)]


# --- kcat reads what kpipe wrote -----------------------------------------------------------------------------


def test_kcat_reads_what_kpipe_wrote(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    at = kpipe.at(kafka.bootstrap)
    wrote = at(
        "produce", topic, "-K:", "-Z", "NULL", "-H", "h=1", "-H", "h=2", "-H", "empty=", "-H", "null",
        "--timestamp", "1763884800000", stdin=b"k:v\nk:NULL\nno key\n:empty key\nk:\n",
    )  # fmt: skip
    assert wrote == Result(0, b"", "")
    shown = kcat(kafka, "-C", "-e", "-t", topic, "-f", "%K|%k|%S|%s|%h|%T\\n")
    rest = b"h=1,h=2,empty=,null=NULL|1763884800000"
    assert shown.splitlines() == [
        b"1|k|1|v|" + rest,
        b"1|k|-1||" + rest,
        b"-1||6|no key|" + rest,
        b"0||9|empty key|" + rest,
        b"1|k|0||" + rest,
    ]


# --- dumps ---------------------------------------------------------------------------------------------------


def test_a_json_dump_of_kcat_is_taken_in_whole(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    """Headers, null and empty, timestamps, and bytes that are not UTF-8, which kcat writes raw into its JSON."""
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, TRICKY)
    dump = tmp_path / "dump.json"
    dump.write_bytes(kcat(kafka, "-C", "-J", "-e", "-t", source))
    taken = kpipe.at(kafka.bootstrap)("produce", "--input", "kcat", "--trace", "none", target, dump)
    assert (taken.code, taken.err) == (0, "")
    assert content(kafka.read(target)) == content(TRICKY)


def test_a_json_dump_of_kcat_keeps_its_coordinates_as_a_trace(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, [b"first", b"second"])
    dump = kcat(kafka, "-C", "-J", "-e", "-t", source)
    assert kpipe.at(kafka.bootstrap)("produce", "--input", "kcat", target, stdin=dump).code == 0
    traced = [dict(record.headers) for record in kafka.read(target)]
    assert [headers["source_topic"] for headers in traced] == [source.encode()] * 2
    assert [headers["source_offset"] for headers in traced] == [b"0", b"1"]


def test_a_large_json_dump_of_kcat_is_taken_in_whole(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(3), kafka.topic(3)
    kafka.write(source, [Rec(b"%d" % number * (number % 50), b"k%d" % number) for number in range(5000)])
    dump = kcat(kafka, "-C", "-J", "-e", "-t", source)
    taken = kpipe.at(kafka.bootstrap)("produce", "--input", "kcat", "-p", "same", "--trace", "none", target, stdin=dump)
    assert taken == Result(0, b"", "")
    assert [(r.partition, *r_content) for r, r_content in with_content(kafka.read(target))] == [
        (r.partition, *r_content) for r, r_content in with_content(kafka.read(source))
    ]


def with_content(records: list[Rec]) -> list[tuple[Rec, tuple[object, ...]]]:
    return list(zip(records, content(records), strict=True))


# --- the same format string ----------------------------------------------------------------------------------

SAME = [
    "%s\\n",
    "%k=%s\\n",
    "%S %K\\n",
    "%R%s",
    "%t %p %o %T %%\\n",
    "[%h]\\n",
    "%t[%p]@%o: %K %k %S %s %h %T\\x41\\t\\r\\n",
    "no verb at all\\n",
]


@pytest.mark.parametrize("form", SAME)
def test_a_format_string_prints_what_kcat_prints(kafka: Cluster, kpipe: Kpipe, tricky: str, form: str) -> None:
    theirs = kcat(kafka, "-C", "-e", "-t", tricky, "-f", form)
    ours = kpipe.at(kafka.bootstrap)("consume", "-e", tricky, "-f", form)
    assert (ours.code, ours.out) == (0, theirs)


@pytest.fixture(scope="module")
def tricky(kafka: Cluster) -> str:
    """Make a topic of TRICKY records, without NUL in a header's value: kcat's %h ends there, kpipe's does not."""
    topic = kafka.topic()
    for record in TRICKY:
        headers = tuple((name, value and value.replace(b"\x00", b"")) for name, value in record.headers)
        kafka.write(topic, [replace(record, headers=headers)])
    return topic


def test_lines_and_key_delimiter_print_what_kcat_prints(kafka: Cluster, kpipe: Kpipe, tricky: str) -> None:
    for args in ([], ["-K:"], ["-D;"], ["-K\\t", "-D\\n\\n"]):
        theirs = kcat(kafka, "-C", "-e", "-t", tricky, *args)
        assert kpipe.at(kafka.bootstrap)("consume", "-e", tricky, *args).out == theirs


# --- the same partition --------------------------------------------------------------------------------------


@pytest.mark.parametrize("partitioner", ["murmur2", "murmur2_random", "consistent", "consistent_random", "fnv1a"])
def test_a_key_goes_to_the_partition_that_kcat_chooses(kafka: Cluster, kpipe: Kpipe, partitioner: str) -> None:
    ours, theirs = kafka.topic(7), kafka.topic(7)
    text = b"".join(b"key-%d\xff\xc3\xa9:%d\n" % (number * 7919, number) for number in range(100))
    kcat(kafka, "-P", "-t", theirs, "-K:", "-X", f"topic.partitioner={partitioner}", stdin=text)
    sent = kpipe.at(kafka.bootstrap)("produce", ours, "-K:", "--partitioner", partitioner, stdin=text)
    assert sent == Result(0, b"", "")
    chosen = {record.key: record.partition for record in kafka.read(ours)}
    assert len(chosen) == 100
    assert len(set(chosen.values())) == 7
    assert chosen == {record.key: record.partition for record in kafka.read(theirs)}


def test_defaults_are_those_of_java_and_of_kcat(kafka: Cluster, kpipe: Kpipe) -> None:
    """kpipe's default is murmur2 (as Java clients), kcat's CRC32: `-X partitioner=` makes them agree."""
    default, kcats, theirs = kafka.topic(7), kafka.topic(7), kafka.topic(7)
    text = b"".join(b"key-%d:v\n" % number for number in range(100))
    at = kpipe.at(kafka.bootstrap)
    assert at("produce", default, "-K:", stdin=text).code == 0
    assert at("produce", kcats, "-K:", "-X", "partitioner=consistent_random", stdin=text).code == 0
    kcat(kafka, "-P", "-t", theirs, "-K:", stdin=text)

    def chosen(topic: str) -> dict[bytes | None, int]:
        return {record.key: record.partition for record in kafka.read(topic)}

    assert chosen(kcats) == chosen(theirs)
    assert chosen(default) != chosen(theirs)

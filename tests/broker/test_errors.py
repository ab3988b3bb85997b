"""What goes wrong is one line and the right exit code; the client's own log lines are never seen."""

from __future__ import annotations

import json
import re
import socket
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec, dense

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe, Result

RAW = re.compile(r"%[0-7]\||rdkafka|\[thrd:|Traceback|_UNKNOWN|_MSG_|KafkaError")


def told(result: Result, code: int, *, lines: int = 1) -> str:
    """The error's text, after it was found to be for people: so many lines, each kpipe's own."""
    assert result.code == code, result
    assert not RAW.search(result.err), result.err
    found = result.err.splitlines()
    assert all(line.startswith("kpipe: ") for line in found), result.err
    assert len(found) == lines, result.err
    return result.err


COMMANDS = {
    "produce": lambda topic, other: ("produce", topic),
    "consume": lambda topic, other: ("consume", "-e", topic),
    "forward from": lambda topic, other: ("forward", "-e", topic, other),
    "forward to": lambda topic, other: ("forward", "-e", other, topic),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_typo_in_a_topic_names_the_nearest_and_creates_nothing(kafka: Cluster, kpipe: Kpipe, command: str) -> None:
    stem = uuid.uuid4().hex[:10]
    kafka.topic(name=f"orders-{stem}")
    typo, other = f"order-{stem}", kafka.topic()

    result = kpipe.at(kafka.bootstrap)(*COMMANDS[command](typo, other), stdin=b"1\n")

    assert f"{kafka.bootstrap}/{typo}: no such topic; did you mean orders-{stem}?" in told(result, 1)
    assert typo not in kafka.topics()


def test_a_name_like_no_other(kafka: Cluster, kpipe: Kpipe) -> None:
    result = kpipe.at(kafka.bootstrap)("consume", "-e", "Q" * 60)
    assert "no such topic; check the name and the cluster" in told(result, 1)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unreachable_cluster_fails_in_time(kafka: Cluster, kpipe: Kpipe, command: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        started = time.monotonic()
        result = kpipe.at(address)(*COMMANDS[command]("t", "u"), "--timeout", "1.5", stdin=b"1\n")
        seconds = time.monotonic() - started

    said = told(result, 4)
    assert address in said
    assert "connection refused" in said.lower()
    assert seconds < 6


def test_a_silent_cluster_fails_in_time(kpipe: Kpipe) -> None:
    """Something listens and never answers: a firewall, a proxy, a wrong port."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        result = kpipe.at(f"127.0.0.1:{silent.getsockname()[1]}")("produce", "t", "--timeout", "1", stdin=b"1\n")
        seconds = time.monotonic() - started

    told(result, 4)
    assert seconds < 6


def test_bad_json_names_its_line_and_what_came_before_is_delivered(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    stdin = b'{"value":"1"}\n\n{"value":"2"}\n{"value":"3"\n{"value":"4"}\n'

    stopped = kpipe.at(kafka.bootstrap)("produce", "--input", "json", topic, stdin=stdin)

    assert "kpipe: decode: stdin:4: not JSON" in told(stopped, 3, lines=2)
    assert "3 read, 2 delivered, 1 failed" in stopped.err
    assert [r.value for r in kafka.read(topic)] == [b"1", b"2"]


def test_bad_json_can_be_skipped_and_is_still_told(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    (kpipe.home / "dump").write_bytes(b'{"value":"1"}\nnonsense\n{"vlaue":"2"}\n{"value":"4"}\n')

    result = kpipe.at(kafka.bootstrap)("produce", "--input", "json", "--on-error", "skip", topic, "dump")

    said = told(result, 1, lines=3)
    assert "dump:2: not JSON" in said
    assert "dump:3: " in said
    assert "vlaue" in said
    assert "4 read, 2 delivered, 2 failed" in said
    assert [r.value for r in kafka.read(topic)] == [b"1", b"4"]


def test_a_header_name_that_the_client_would_cut_is_a_bad_record(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    stdin = b'{"value":"1","headers":[["a\\u0000b","v"]]}\n{"value":"2","headers":[["a","v\\u0000"]]}\n'

    result = kpipe.at(kafka.bootstrap)("produce", "--input", "json", "--on-error", "skip", topic, stdin=stdin)

    assert "decode: stdin:1: a header's name holds a NUL byte" in told(result, 1, lines=2)
    assert [(r.value, r.headers) for r in kafka.read(topic)] == [(b"2", (("a", b"v\0"),))]


def test_an_oversize_record_names_the_limit(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(max_message_bytes=100_000)

    result = kpipe.at(kafka.bootstrap)("produce", topic, stdin=b"small\n" + b"x" * 150_000 + b"\nafter\n")

    assert result.code == 1
    assert not RAW.search(result.err)
    first = result.err.splitlines()[0]
    assert f"stdin:2 -> {kafka.bootstrap}/{topic}: the record is larger than the topic's max.message.bytes" in first
    assert "100,000" in first
    assert b"small" in [r.value for r in kafka.read(topic)]


def test_an_oversize_record_can_be_skipped(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, target, name = kafka.topic(), kafka.topic(max_message_bytes=10_000), f"g-{uuid.uuid4().hex[:8]}"
    kafka.write(topic, [b"a", dense(50_000), b"b"])

    result = kpipe.at(kafka.bootstrap)("forward", "-e", "-G", name, "--on-error", "skip", topic, target)

    said = told(result, 1, lines=2)
    assert f"{topic}[0]@1" in said
    assert "3 read, 2 delivered, 1 failed" in said
    assert [r.value for r in kafka.read(target)] == [b"a", b"b"]
    assert kafka.committed(name, topic) == {0: 3}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("consume", "--ofset", "1", "t"), "--offset"),
        (("produce",), "TARGET"),
        (("forward", "only-one"), "forward needs SOURCE… and TARGET"),
        (("consume", "-o", "someday", "t"), "not an offset"),
        (("consume", "-p", "x", "t"), "not a partition"),
        (("consume", "-o", "stored", "t"), "needs a group"),
        (("consume", "-J", "-f", "%s", "t"), "contradict"),
        (("produce", "-0", "-D", "x", "t"), "contradict"),
        (("produce", "--input", "jsn", "t"), "did you mean json?"),
        (("produce", "-z", "zsdt", "t"), "did you mean zstd?"),
        (("produce", "--partitioner", "murmur", "t"), "did you mean murmur2?"),
        (("produce", "-H", "=v", "t"), "name is empty"),
        (("produce", "--buffer", "lots", "t"), "not a size"),
        (("produce", "-p", "x", "t"), "not a partition"),
        (("forward", "--to-partition", "x", "t", "u"), "not a partition"),
        (("produce", "--timestamp", "soon", "t"), "not a time"),
        (("produce", "t*"), "cannot be in a topic's name"),
        (("consume", "^["), "not a regular expression"),
        (("consume", "-e", "a:t", "b:u"), "run one kpipe for each"),
        (("produce", "--grep", "(", "t"), "grep"),
        (("produce", "--set-key", "{nope}", "t"), "set-key"),
        (("consume", "nowhere:t"), "nowhere"),
        (("consume", "-X", "fetch.wait.max=1", "t"), "fetch.wait.max.ms"),
        (("consume", "-X", "enable.auto.commit=true", "t"), "enable.auto.commit cannot be set"),
        (("consume", "-X", "fetch.wait.max.ms=soon", "t"), "fetch.wait.max.ms"),
        (("consume", "-X", "nonsense", "t"), "nonsense"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_happens(
    kafka: Cluster, kpipe: Kpipe, words: tuple[str, ...], hint: str
) -> None:
    result = kpipe.at(kafka.bootstrap)(*words, stdin=b"1\n")
    assert hint in told(result, 2)
    assert result.out == b""


def test_an_unknown_cluster_names_the_nearest(kafka: Cluster, kpipe: Kpipe) -> None:
    config = f'[clusters.staging]\n"bootstrap.servers" = "{kafka.bootstrap}"\n'
    result = kpipe("consume", "-e", "stagign:t", config=config)
    assert "staging" in told(result, 2)


def test_a_summary_is_written_for_a_failure_too(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, summary = kafka.topic(), kafka.topic(), kpipe.home / "summary.json"
    kafka.write(source, [Rec(b"{}"), Rec(b'{"id":1}')])

    kpipe.at(kafka.bootstrap)(
        "forward", "-e", "--key-field", ".id", "--on-error", "skip", "--summary", summary, source, target
    )

    balance = json.loads(summary.read_bytes())
    assert (balance["read"], balance["delivered"], balance["failed"]) == (2, 1, 1)

"""A record that fits, and does not once its trace is on it: the message says so, and what helps. Real Kafka."""

from __future__ import annotations

import json
import os
import re
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

LIMIT = 10_000
FITS = os.urandom(LIMIT - 90)
"""With LZ4, which cannot make it smaller, and without a trace."""


def said(err: str) -> int:
    """How many bytes the trace adds, by the message."""
    found = re.search(
        r"max\.message\.bytes \(10,000 bytes\) with its trace, which adds (\d+) bytes; use --trace none", err
    )
    assert found, err
    return int(found[1])


def trace_bytes(record: Rec) -> int:
    return sum(len(name) + len(value or b"") + 2 for name, value in record.headers)


@pytest.mark.parametrize("way", ["plain", "group", "exactly-once", "also", "route"])
def test_the_trace_is_blamed_for_what_it_adds(kafka: Cluster, kpipe: Kpipe, way: str) -> None:
    source, target, other = kafka.topic(), kafka.topic(max_message_bytes=LIMIT), kafka.topic()
    kafka.write(source, [Rec(b"small"), Rec(FITS), Rec(b"last")])
    group = ("-G", f"g-{uuid.uuid4().hex[:8]}")
    words: dict[str, tuple[str, ...]] = {
        "plain": (source, target),
        "group": (*group, source, target),
        "exactly-once": (*group, "--exactly-once", source, target),
        "also": ("--also", target, source, other),
        "route": ("--route", json.dumps(target), "--route-allow", target, "--map-key", "1", source, other),
    }

    done = kpipe.at(kafka.bootstrap)("forward", "-e", "--on-error", "skip", *words[way])

    assert done.code == 1, done.err
    assert f"{source}[0]@1 -> " in done.err
    arrived = kafka.read(target)
    assert [record.value for record in arrived] == [b"small", b"last"]
    assert said(done.err) == trace_bytes(arrived[0])

    if way == "plain":
        without = kpipe.at(kafka.bootstrap)("forward", "-e", "--trace", "none", source, target)
        assert without.code == 0, without.err
        assert kafka.read(target)[3].value == FITS


def test_a_third_hop_adds_nothing_that_is_to_blame(kafka: Cluster, kpipe: Kpipe) -> None:
    first, target = kafka.topic(), kafka.topic(max_message_bytes=LIMIT)
    kpipe_here = kpipe.at(kafka.bootstrap)
    kafka.write(first, [os.urandom(LIMIT)])
    hops = [first]
    for _ in range(2):
        hops.append(kafka.topic())
        assert kpipe_here("forward", "-e", hops[-2], hops[-1]).code == 0

    done = kpipe_here("forward", "-e", hops[-1], target)

    assert done.code == 1
    assert "larger than the topic's max.message.bytes (10,000 bytes); raise it or use" in done.err
    assert "trace" not in done.err


def test_produce_says_so_of_envelopes(kafka: Cluster, kpipe: Kpipe) -> None:
    target = kafka.topic(max_message_bytes=LIMIT)
    row = {"topic": "orders", "partition": 3, "offset": 7, "value": "x" * (LIMIT - 80)}

    done = kpipe.at(kafka.bootstrap)("produce", "--input", "json", target, stdin=json.dumps(row).encode())

    assert done.code == 1
    assert said(done.err) > 40


def test_a_dead_letter_topic_that_takes_no_more_is_told_before_the_run(kafka: Cluster, kpipe: Kpipe) -> None:
    source = kafka.topic()
    target, letters = kafka.topic(max_message_bytes=LIMIT), kafka.topic(max_message_bytes=LIMIT)
    kafka.write(source, [Rec(FITS)])

    done = kpipe.at(kafka.bootstrap)("forward", "-e", "--on-error", f"dlq:{letters}", source, target)

    assert done.code == 1
    warning, _, rest = done.err.partition("\n")
    assert letters in warning, done.err
    assert "raise its max.message.bytes" in warning, done.err
    assert said(rest), "what helps is named beside what the dead letters' topic said"

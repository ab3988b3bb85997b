"""`-c N` with a Unix filter: N records that pass, and a group goes on behind the last of them."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Consumer, TopicPartition

from kpipe.broker import EmbeddedBroker

PYTHON = 'python3 -uc \'import sys, json\nfor line in sys.stdin:\n if int(json.loads(line)["value"]) % 2: print(line, end="")\''


@pytest.fixture
def broker():
    with EmbeddedBroker(topics={"numbers": 1, "spread": 3, "out": 1}) as running:
        yield running


def numbers(count):
    return b"".join(b"%d\n" % number for number in range(count))


def committed(broker, group, topic, partitions=1):
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    places = [TopicPartition(topic, number) for number in range(partitions)]
    offsets = [place.offset for place in consumer.committed(places, timeout=10)]
    consumer.close()
    return offsets


@pytest.mark.parametrize("count", [1, 3, 50])
def test_so_many_records_pass(broker, kpipe, tmp_path, count):
    at, summary = kpipe.at(broker.bootstrap), tmp_path / "summary"
    at("produce", "-p", "0", "numbers", stdin=numbers(400))

    run = at(
        "forward", "-e", "-G", "g", "-c", str(count), "--through-json", PYTHON, "--summary", summary, "numbers", "out"
    )

    assert (run.code, run.err) == (0, "")
    odd = [b"%d" % number for number in range(1, 2 * count, 2)]
    assert at("consume", "-e", "out").out.split() == odd
    told = json.loads(summary.read_bytes())
    assert (told["read"], told["delivered"], told["filtered"], told["failed"]) == (2 * count, count, count, 0)
    assert committed(broker, "g", "numbers") == [2 * count]


def test_the_next_run_goes_on_where_this_one_ended(broker, kpipe):
    at = kpipe.at(broker.bootstrap)
    at("produce", "-p", "0", "numbers", stdin=numbers(40))
    for _ in range(3):
        run = at("forward", "-e", "-G", "g", "-c", "3", "--through-json", PYTHON, "numbers", "out")
        assert (run.code, run.err) == (0, "")
    assert at("consume", "-e", "out").out.split() == [b"%d" % number for number in range(1, 18, 2)]


def test_over_partitions_nothing_is_lost_or_repeated(broker, kpipe):
    at = kpipe.at(broker.bootstrap)
    at("produce", "spread", "-K", ":", stdin=b"".join(b"k%d:%d\n" % (number, number) for number in range(30)))
    for _ in range(5):
        run = at("forward", "-e", "-G", "g", "-c", "4", "--through-json", PYTHON, "spread", "out")
        assert run.code == 0, run.err
    assert sorted(map(int, at("consume", "-e", "out").out.split())) == list(range(1, 30, 2))


@pytest.mark.parametrize("command", ["consume", "produce"])
def test_the_other_commands_count_behind_the_filter_too(broker, kpipe, command):
    at = kpipe.at(broker.bootstrap)
    if command == "produce":
        assert at("produce", "-c", "3", "--through-json", PYTHON, "out", stdin=numbers(40)).code == 0
        shown = at("consume", "-e", "out")
    else:
        at("produce", "-p", "0", "numbers", stdin=numbers(40))
        shown = at("consume", "-e", "-c", "3", "--through-json", PYTHON, "numbers")
    assert (shown.code, shown.out.split()) == (0, [b"1", b"3", b"5"])


def test_lines_are_counted_behind_the_transforms_that_follow(broker, kpipe):
    at = kpipe.at(broker.bootstrap)
    at("produce", "-p", "0", "numbers", stdin=numbers(400))
    steps = ("--through", "cat", "--grep", "[13579]$")
    run = at("forward", "-e", "-G", "g", "-c", "3", *steps, "numbers", "out")
    assert (run.code, at("consume", "-e", "out").out.split()) == (0, [b"1", b"3", b"5"])
    assert committed(broker, "g", "numbers") == [6]

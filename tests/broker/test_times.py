"""Times at their edges: kept, and where the client cannot keep one (0 is "now" to it), told, counted and explained."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.raw import write_batch

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

ANY_TIME = {"retention_ms": -1, "message_timestamp_after_max_ms": 2**63 - 1}
EDGES = (-1, -5, 1, 2**63 - 1, -(2**63))
TOLD = "the time 0 (1970-01-01T00:00:00Z) becomes the time of sending"


def lines(*times: int) -> bytes:
    return b"".join(b'{"value":"%d","timestamp":%d}\n' % (ms, ms) for ms in times)


def times(kpipe: Kpipe, kafka: Cluster, topic: str) -> list[int]:
    return [int(line) for line in kpipe.at(kafka.bootstrap)("consume", "-e", "-f", "%T\\n", topic).out.split()]


def zero_topic(kafka: Cluster) -> str:
    """A record of time 0, which only a raw batch can hold: kcat and every librdkafka client write now instead."""
    topic = kafka.topic(**ANY_TIME)
    write_batch(kafka.bootstrap, topic, [(b"zero", 0), (b"one", 1)])
    return topic


def test_every_time_but_0_is_kept_by_produce_and_forward(kafka: Cluster, kpipe: Kpipe) -> None:
    first, second, third = (kafka.topic(**ANY_TIME) for _ in range(3))
    at = kpipe.at(kafka.bootstrap)

    runs = [
        at("produce", "--input", "json", first, stdin=lines(*EDGES)),
        at("forward", "-e", first, second),
        at("produce", "--input", "json", third, stdin=at("consume", "-e", "-J", second).out),
    ]

    assert [(run.code, run.err) for run in runs] == [(0, "")] * 3
    assert [times(kpipe, kafka, topic) for topic in (first, second, third)] == [list(EDGES)] * 3
    assert at("verify", first, second).code == 0


@pytest.mark.parametrize(
    "way", [(), ("--trace", "none"), ("--route", '"ROUTE"', "--route-allow", "*"), ("--through-json", "cat")]
)
def test_time_0_is_told_once_and_counted(kafka: Cluster, kpipe: Kpipe, tmp_path: Path, way: tuple[str, ...]) -> None:
    topic, route, summary = kafka.topic(**ANY_TIME), kafka.topic(**ANY_TIME), tmp_path / "summary"
    way = tuple(word.replace("ROUTE", route) for word in way)
    before = time.time() * 1000

    run = kpipe.at(kafka.bootstrap)(
        "produce", "--input", "json", "--summary", summary, *way, topic, stdin=lines(0, 5, 0)
    )

    assert (run.code, run.err.count(TOLD)) == (1, 1), "something was changed, so all is not well"
    assert "stdin:1 -> " in run.err
    assert json.loads(summary.read_bytes())["times_replaced"] == 2
    found = times(kpipe, kafka, route if "--route" in way else topic)
    assert (found[1], [ms >= before - 1000 for ms in found]) == (5, [True, False, True])


def test_a_record_without_a_time_is_nothing_to_tell(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    topic, summary = kafka.topic(**ANY_TIME), tmp_path / "summary"
    text = b'{"value":"a"}\n{"value":"b","timestamp":7}\n'
    run = kpipe.at(kafka.bootstrap)("produce", "--input", "json", "--summary", summary, topic, stdin=text)
    assert (run.code, run.err) == (0, "")
    assert "times_replaced" not in json.loads(summary.read_bytes())


@pytest.mark.parametrize("way", [(), ("-G", "times-group"), ("-G", "times-exactly", "--exactly-once")])
def test_forward_tells_of_time_0_and_verify_explains_it(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path, way: tuple[str, ...]
) -> None:
    source, target, summary = zero_topic(kafka), kafka.topic(**ANY_TIME), tmp_path / "summary"
    at = kpipe.at(kafka.bootstrap)
    assert times(kpipe, kafka, source) == [0, 1]

    run = at("forward", "-e", *way, "--summary", summary, source, target)
    verdict, parsed = at("verify", source, target), at("verify", "--json", source, target)

    assert (run.code, run.err.count(TOLD), f"{source}[0]@0 -> " in run.err) == (1, 1, True)
    assert json.loads(summary.read_bytes())["times_replaced"] == 1
    assert times(kpipe, kafka, target)[1] == 1
    assert verdict.code == 5
    assert b"1 of the altered have the time 0 in the source" in verdict.out
    assert (json.loads(parsed.out)["altered"], json.loads(parsed.out)["altered_with_time_0"]) == (1, 1)
    assert at("verify", "--ignore-timestamp", source, target).code == 0

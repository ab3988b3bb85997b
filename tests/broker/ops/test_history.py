"""`kpipe trace`: the way back hop by hop, in the lean form of headers and the long one; what cannot be read is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition

from tests.broker.lab.cluster import Rec, until
from tests.broker.ops.scenes import looked

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe


def config(kafka: Cluster, kafka_b: Cluster, b: str = "") -> str:
    return f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{b or kafka_b.bootstrap}"\n'


def chain(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, *words: str) -> tuple[str, str, str]:
    """orders on a -> copy on b (as a group) -> changed on b."""
    first, second, third = kafka.topic(2), kafka_b.topic(), kafka_b.topic()
    kafka.write(first, [Rec(b"skip", partition=1), Rec(b'{"n":1}', b"k", (("h", b"v"),), partition=1)])
    made = config(kafka, kafka_b)
    calls = (
        ("forward", "-e", "-G", f"g-{second}", *words, f"a:{first}", f"b:{second}"),
        ("forward", "-e", *words, "--map", ".n + 1", f"b:{second}", f"b:{third}", "--on-error", "skip"),
    )
    for call in calls:
        kpipe(*call, config=made, timeout=90)
    return first, second, third


def last(kafka: Cluster, topic: str) -> str:
    record = kafka.read(topic)[-1]
    return f"{record.partition}@{record.offset}"


def told(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (row["cluster"], row["topic"], row["partition"], row["offset"], row["group"], row["changed"]) for row in rows
    ]


def test_both_forms_of_headers_lead_back_to_the_first_record(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    for words in ((), ("--trace", "full")):
        first, second, third = chain(kafka, kafka_b, kpipe, *words)
        middle = kafka_b.read(second)[-1]
        rows = looked(kpipe, "trace", f"b:{third}", last(kafka_b, third), config=config(kafka, kafka_b))
        assert told(rows) == [
            ("b", third, 0, int(last(kafka_b, third)[2:]), None, None),
            ("b", second, 0, middle.offset, None, ["value"]),
            ("a", first, 1, 1, f"g-{second}", []),
        ]
        assert all(row["timestamp"] == rows[0]["timestamp"] for row in rows)
        text = kpipe("trace", f"b:{third}[0]@{last(kafka_b, third)[2:]}", config=config(kafka, kafka_b)).out.decode()
        assert f"a:{first}[1]@1" in text
        assert "nothing" in text


def test_onward_finds_the_copies_of_copies(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    first, second, third = chain(kafka, kafka_b, kpipe)
    made = config(kafka, kafka_b)
    rows = looked(kpipe, "trace", "--onward", f"a:{first}", "1@1", "--to", second, "--to", third, config=made)
    assert {row["topic"] for row in rows} == {second, third}
    done = kpipe("trace", "--onward", f"b:{third}", last(kafka_b, third), "--to", third, config=made)
    assert (done.code, done.out) == (5, b"")


def test_a_hop_that_is_gone_unreachable_or_unknown_is_said(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    first, second, third = chain(kafka, kafka_b, kpipe)
    place = ("trace", f"b:{third}", last(kafka_b, third))
    made = config(kafka, kafka_b).replace(kafka.bootstrap, "127.0.0.1:1")
    rows = looked(kpipe, *place, "--timeout", "2s", config=made, code=1)
    assert (rows[-1]["read"], rows[-1]["cluster"], rows[-1]["topic"]) == (False, None, first)
    assert "not reached: a" in rows[-1]["problem"]
    only_b = f'[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'
    rows = looked(kpipe, *place, config=only_b)
    assert (rows[-1]["problem"], rows[-1]["cluster_id"]) == ("no configured cluster has this id", kafka.cluster_id)
    end = TopicPartition(first, 1, 2)
    kafka.admin.delete_records([end], request_timeout=20)[end].result(25)
    rows = looked(kpipe, *place, config=config(kafka, kafka_b))
    assert "not there" in rows[-1]["problem"]
    kafka_b.admin.delete_topics([second], request_timeout=20)[second].result(25)
    until(lambda: second not in kafka_b.topics(), "the topic is deleted")
    rows = looked(kpipe, *place, config=config(kafka, kafka_b))
    assert [(row["topic"], row["read"]) for row in rows] == [(third, True), (second, False), (first, False)]


def test_a_record_that_nobody_copied_and_one_that_is_not_there(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, at = kafka.topic(), kpipe.at(kafka.bootstrap)
    kafka.write(topic, [b"x"])
    (row,) = looked(at, "trace", topic, "0@0")
    assert (row["topic"], row["changed"], row["problem"]) == (topic, None, None)
    assert at("trace", f"{topic}[0]@7").code == 1
    assert at("trace", f"{topic}@7").code == 2
    assert at("trace", "no-such", "0@1").code == 1

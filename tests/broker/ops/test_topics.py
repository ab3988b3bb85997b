"""`kpipe topics`: what it says is what the brokers and Kafka's own tools say, and it changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.broker.lab.cluster import Rec, until
from tests.broker.ops.scenes import java_offsets, looked, name, open_transaction

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

T0 = 1_700_000_000_000


def test_offsets_and_records_are_those_of_the_java_tools(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(3, retention_ms=-1)
    kafka.write(topic, [Rec(b"x", partition=n % 2, timestamp=T0 + n) for n in range(11)])
    kafka.write(topic, [b"more"], transaction="commit")
    (row,) = looked(kpipe.at(kafka.bootstrap), "topics", topic, "--partitions")
    starts, ends = java_offsets(kafka, topic, "earliest"), java_offsets(kafka, topic, "latest")
    assert {each["partition"]: each["start"] for each in row["details"]} == starts
    assert {each["partition"]: each["end"] for each in row["details"]} == ends
    assert row["records"] == sum(ends.values()) - sum(starts.values())
    assert row["partitions"] == 3
    assert row["replication"] == 1
    first = row["details"][0]
    assert (first["leader"], first["replicas"], first["isr"], first["first_ms"]) == (1, [1], [1], T0)


def test_a_number_of_records_is_exact_only_where_it_is_proven(kafka: Cluster, kpipe: Kpipe) -> None:
    plain, compacted, marked, empty = kafka.topic(), kafka.topic(cleanup_policy="compact"), kafka.topic(), kafka.topic()
    for topic in (plain, compacted):
        kafka.write(topic, [Rec(b"v", b"k")] * 4)
    kafka.write(marked, [b"1", b"2"], transaction="commit")
    found = {row["topic"]: row for row in looked(kpipe.at(kafka.bootstrap), "topics", plain, compacted, marked, empty)}
    assert {topic: (row["records"], row["exact"]) for topic, row in found.items()} == {
        plain: (4, True),
        compacted: (4, False),
        marked: (3, False),
        empty: (0, True),
    }
    table = kpipe.at(kafka.bootstrap)("topics", marked, plain).out.decode()
    assert "≤ 3" in table
    (counted,) = looked(kpipe.at(kafka.bootstrap), "topics", marked, "--count-records")
    assert (counted["records"], counted["exact"]) == (2, True)


def test_the_newest_time_is_the_largest_also_when_times_are_out_of_order(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(retention_ms=-1)
    kafka.write(topic, [Rec(b"1", timestamp=T0 + 5000), Rec(b"2", timestamp=T0 + 9000), Rec(b"3", timestamp=T0)])
    (row,) = looked(kpipe.at(kafka.bootstrap), "topics", topic)
    assert row["newest_ms"] == T0 + 9000
    assert (row["retention_ms"], row["cleanup_policy"]) == (-1, "delete")
    assert "forever" in kpipe.at(kafka.bootstrap)("topics", topic).out.decode()


def test_what_is_set_on_a_topic_is_what_differs_from_the_default(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(retention_ms=60_000, max_message_bytes=2_000_000)
    (row,) = looked(kpipe.at(kafka.bootstrap), "topics", topic, "--config")
    assert row["config"] == {"max.message.bytes": "2000000", "retention.ms": "60000"}
    table = kpipe.at(kafka.bootstrap)("topics", topic, "--config", "--no-header").out.decode().split()
    assert table == [topic, "max.message.bytes", "2000000", topic, "retention.ms", "60000"]


def test_health_is_silent_with_0_and_tells_with_5(kafka: Cluster, kpipe: Kpipe) -> None:
    well, ill = kafka.topic(), kafka.topic(min_insync_replicas=2)
    done = kpipe.at(kafka.bootstrap)("topics", "--health", well)
    assert (done.code, done.out, done.err) == (0, b"", "")
    done = kpipe.at(kafka.bootstrap)("topics", "--health", well, ill)
    assert done.code == 5
    assert "under-min-isr" in done.out.decode()
    assert well not in done.out.decode()


def test_a_transaction_that_stays_open_is_told(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, [b"before"])
    with open_transaction(kafka, topic, [b"1", b"2"]):
        (row,) = looked(kpipe.at(kafka.bootstrap), "topics", "--health", "--json", topic, code=5)
        assert row["health"] == ["open-transaction"]
        (row,) = looked(kpipe.at(kafka.bootstrap), "topics", "--partitions", topic)
        assert (row["details"][0]["end"], row["details"][0]["stable_end"]) == (3, 1)


def test_offsets_at_a_time_are_those_of_the_java_tool(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(2, retention_ms=-1)
    kafka.write(topic, [Rec(b"x", partition=0, timestamp=T0 + n * 1000) for n in range(5)])
    found = looked(kpipe.at(kafka.bootstrap), "topics", topic, "--at", f"{T0 + 2500}ms")
    theirs = java_offsets(kafka, topic, str(T0 + 2500))
    assert found[0]["offset"] == theirs[0] == 3
    assert found[0]["timestamp"] == T0 + 3000
    assert (found[1]["offset"], found[1]["timestamp"]) == (0, None)
    late = looked(kpipe.at(kafka.bootstrap), "topics", topic, "--at", "now")
    assert [(row["offset"], row["timestamp"]) for row in late] == [(5, None), (0, None)]
    assert "no record since" in kpipe.at(kafka.bootstrap)("topics", topic, "--at", "now").out.decode()


def test_a_name_that_is_not_there_is_told_with_the_nearest_and_not_created(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(name=name("orders"))
    for words in (("topics",), ("topics", "--partitions"), ("topics", "--at", "now")):
        done = kpipe.at(kafka.bootstrap)(*words, f"{topic}s", "-X", "allow.auto.create.topics=true")
        assert (done.code, done.out) == (1, b"")
        assert f"no such topic; did you mean {topic}?" in done.err
    assert f"{topic}s" not in kafka.topics()


def test_globs_and_patterns_choose_and_internal_topics_stay_out(kafka: Cluster, kpipe: Kpipe) -> None:
    prefix = name("choose")
    for suffix in ("a", "b", "c"):
        kafka.topic(name=f"{prefix}.{suffix}")
    until(lambda: f"{prefix}.c" in kafka.topics(), "the topics")

    def named(*words: str) -> list[str]:
        return [row["topic"] for row in looked(kpipe.at(kafka.bootstrap), "topics", *words)]

    assert named(f"{prefix}.[ab]") == [f"{prefix}.a", f"{prefix}.b"]
    assert named(f"^{prefix}.(b|c)$") == [f"{prefix}.b", f"{prefix}.c"]
    assert not [topic for topic in named() if topic.startswith("__")]
    nothing = kpipe.at(kafka.bootstrap)("topics", "nothing-like-it*", "--json")
    assert (nothing.code, nothing.out) == (5, b"")


def test_several_clusters_answer_in_one_list(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    here, there = kafka.topic(), kafka_b.topic()
    config = f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'
    found = looked(kpipe, "topics", f"a:{here}", f"b:{there}", config=config)
    assert [(row["cluster"], row["topic"]) for row in found] == [("a", here), ("b", there)]
    assert f"b:{there}" in kpipe("topics", f"a:{here}", f"b:{there}", config=config).out.decode()


def test_hundreds_of_topics_are_answered_whole(kafka_b: Cluster, kpipe: Kpipe) -> None:
    """More than are asked for at once (`CONFIGS_AT_ONCE`); how long 2,000 take is for the bench, on a quiet machine."""
    from confluent_kafka.cimpl import NewTopic

    prefix = name("many")
    new = [NewTopic(f"{prefix}-{number:04}", num_partitions=1, replication_factor=1) for number in range(500)]
    for done in kafka_b.admin.create_topics(new, request_timeout=60).values():
        done.result(90)
    until(lambda: sum(topic.startswith(prefix) for topic in kafka_b.topics()) == 500, "the topics", timeout=60)
    until(lambda: kpipe.at(kafka_b.bootstrap)("topics", f"{prefix}*").code == 0, "their leaders", timeout=60)
    found = looked(kpipe.at(kafka_b.bootstrap), "topics", f"{prefix}*", timeout=60)
    assert [(row["records"], row["problems"]) for row in found] == [(0, [])] * 500
    for done in kafka_b.admin.delete_topics([topic.topic for topic in new], request_timeout=60).values():
        done.result(90)


def test_an_unreachable_cluster_is_told_with_4(kpipe: Kpipe) -> None:
    done = kpipe("topics", "-b", "127.0.0.1:1", "--timeout", "0.6")
    assert (done.code, done.out) == (4, b"")
    assert done.err.count("\n") == 1

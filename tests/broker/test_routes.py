"""Routes to the topics of several clusters: each its own producer, one commit rule, and no record skipped for waiting."""

from __future__ import annotations

import json
import signal
import uuid
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec, dense
from tests.broker.lab.runs import group
from tests.conftest import Result

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

QUIET = Result(0, b"", "")


@pytest.fixture
def config(kafka: Cluster, kafka_b: Cluster) -> str:
    return f"""
        [clusters.a]
        "bootstrap.servers" = "{kafka.bootstrap}"
        [clusters.b]
        "bootstrap.servers" = "{kafka_b.bootstrap}"
        partitioner = "consistent"
        acks = "1"
        "enable.idempotence" = false
        [clusters.guarded]
        "bootstrap.servers" = "{kafka_b.bootstrap}"
        read_only = true
    """


@pytest.fixture
def stem(kafka: Cluster, kafka_b: Cluster) -> str:
    """Names for topics that do not exist yet."""
    return f"r{uuid.uuid4().hex[:8]}"


def values(cluster: Cluster, topic: str) -> list[bytes | None]:
    return [record.value for record in cluster.read(topic)]


def count(cluster: Cluster, topic: str) -> int:
    return len(cluster.read(topic))


def committed(cluster: Cluster, name: str, topic: str) -> int:
    return sum(max(0, offset) for offset in cluster.committed(name, topic).values())


def traced(record: Rec) -> dict[str, bytes | None]:
    return {name: value for name, value in record.headers if name.startswith(("source_", "origin_", "trace_hops"))}


BY_KEY = '$meta.key | if startswith("b") then "b:" + $topic elif startswith("a") then "a:" + $topic else null end'


def by_key(topic: str) -> tuple[str, ...]:
    """A route of keys that begin with a cluster's name to this topic there."""
    program = BY_KEY.replace("$topic", f'"{topic}"')
    return ("--route", program, "--route-allow", f"b:{topic}", "--route-allow", f"a:{topic}")


# --- where records go ----------------------------------------------------------------------------------------------


def test_records_go_to_the_cluster_that_the_route_names(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str, tmp_path: Path
) -> None:
    source, target, name, summary = kafka.topic(2), kafka.topic(), group(), tmp_path / "summary.json"
    kafka.topic(3, name=stem)
    kafka_b.topic(5, name=stem)
    keys = [b"%c%d" % ("abc"[n % 3].encode(), n) for n in range(60)]
    kafka.write(source, [Rec(b"%d" % n, key, partition=n % 2) for n, key in enumerate(keys)])

    done = kpipe(
        "forward", "-e", "-G", name, "--summary", summary, *by_key(stem), f"a:{source}", f"a:{target}", config=config
    )

    assert done == QUIET
    near, far, rest = kafka.read(stem), kafka_b.read(stem), kafka.read(target)
    for records, letter in ((near, b"a"), (far, b"b"), (rest, b"c")):
        assert sorted(record.key or b"" for record in records) == sorted(key for key in keys if key[:1] == letter)
        for record in records:
            trace = traced(record)
            assert (trace["source_topic"], trace["source_cluster"]) == (source.encode(), kafka.cluster_id.encode())
            assert set(trace) == {
                "source_topic", "source_partition", "source_offset", "source_cluster", "source_consumer_group"
            }  # fmt: skip
    assert all(record.partition == zlib.crc32(record.key or b"") % 5 for record in far)  # b's own partitioner
    assert committed(kafka, name, source) == 60
    told = json.loads(summary.read_text())
    assert (told["read"], told["delivered"]) == (60, 60)
    assert told["clusters"] == {
        "a": {"delivered": 40, "failed": 0, "unknown": 0, "trouble": ""},
        "b": {"delivered": 20, "failed": 0, "unknown": 0, "trouble": ""},
    }


def test_produce_routes_to_clusters_and_creates_topics_there(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str
) -> None:
    target = kafka.topic(2)
    route = ("--route", "if .to then .to else null end", "--route-allow", f"b:{stem}-*", "--route-allow", f"{stem}-*")
    lines = [f'{{"to":"b:{stem}-x"}}', '{"to":null}', f'{{"to":"{stem}-x"}}', f'{{"to":"b:{stem}-y"}}']
    given = "".join(f"{line}\n" for line in lines).encode()

    missing = kpipe("produce", *route, f"a:{target}", stdin=given, config=config)
    assert (missing.code, missing.out) == (3, b"")
    assert f"routed to b:{stem}-x: no such topic" in missing.err

    made = kpipe("produce", "--create", *route, f"a:{target}", stdin=given, config=config)
    assert (made.code, made.out) == (0, b"")
    assert f"config: b:{stem}-x: created, with 2 partitions" in made.err
    assert values(kafka_b, f"{stem}-x") == [lines[0].encode()]
    assert values(kafka, f"{stem}-x") == [lines[2].encode()]
    assert values(kafka_b, f"{stem}-y") == [lines[3].encode()]
    assert values(kafka, target) == [lines[1].encode()]
    found = kafka_b.admin.list_topics(f"{stem}-y", timeout=10).topics[f"{stem}-y"]
    assert len(found.partitions) == 2


def test_one_topic_written_in_two_ways_keeps_its_order(kafka: Cluster, kpipe: Kpipe, config: str, stem: str) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.topic(name=stem)
    kafka.write(source, [b"%d" % n for n in range(200)])
    route = f'if . % 3 == 0 then "a:{stem}" elif . % 3 == 1 then "{stem}" else "a:{target}" end'
    allow = ("--route-allow", f"a:{stem}", "--route-allow", stem, "--route-allow", f"a:{target}")
    assert kpipe("forward", "-e", "--route", route, *allow, f"a:{source}", f"a:{target}", config=config) == QUIET
    assert [int(value or b"") for value in values(kafka, stem)] == [n for n in range(200) if n % 3 < 2]
    assert [int(value or b"") for value in values(kafka, target)] == [n for n in range(200) if n % 3 == 2]


def test_a_target_on_one_cluster_and_everything_routed_to_another_with_also_beside(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str, tmp_path: Path
) -> None:
    source, target, also, summary = kafka.topic(), kafka.topic(), kafka_b.topic(), tmp_path / "summary.json"
    kafka_b.topic(name=stem)
    kafka.write(source, [Rec(b"%d" % n, b"b") for n in range(50)])
    done = kpipe(
        "forward", "-e", *by_key(stem), "--tee", f"b:{also}", "--summary", summary,
        f"a:{source}", f"a:{target}", config=config,
    )  # fmt: skip
    assert done == QUIET
    assert (count(kafka, target), count(kafka_b, stem), count(kafka_b, also)) == (0, 50, 50)
    assert {name: told["delivered"] for name, told in json.loads(summary.read_text())["clusters"].items()} == {
        "a": 0, "b": 100,
    }  # fmt: skip


def test_to_partition_same_asks_each_cluster(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str
) -> None:
    source, target = kafka.topic(3), kafka.topic(3)
    kafka_b.topic(3, name=f"{stem}-wide")
    kafka_b.topic(2, name=f"{stem}-thin")
    route = ("--route", f'"b:{stem}-" + $meta.header.to', "--route-allow", f"b:{stem}-*")
    kafka.write(source, [Rec(b"w", b"k%d" % n, (("to", b"wide"),), partition=n % 3) for n in range(9)])
    kafka.write(source, [Rec(b"t", b"k", (("to", b"thin"),), partition=2)])
    done = kpipe(
        "forward", "-e", "--on-error", "skip", "--to-partition", "same", *route, f"a:{source}", f"a:{target}",
        config=config,
    )  # fmt: skip
    assert done.code == 1
    assert sorted(r.partition for r in kafka_b.read(f"{stem}-wide")) == sorted(n % 3 for n in range(9))
    assert f"routed to b:{stem}-thin: has 2 partitions, the source has 3" in done.err
    assert count(kafka_b, f"{stem}-thin") == 0


def test_small_records_do_not_fall_with_a_batch_that_is_too_large_for_their_topic(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str
) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka_b.topic(name=stem, max_message_bytes=4000)
    kafka.topic(name=stem, max_message_bytes=4000)
    kafka.write(source, [Rec(dense(300), b"ab"[n % 2 : n % 2 + 1]) for n in range(1000)])
    done = kpipe(
        "forward", "-e", "-X", "target.linger.ms=200", *by_key(stem), f"a:{source}", f"a:{target}", config=config
    )
    assert done == QUIET
    assert (count(kafka, stem), count(kafka_b, stem)) == (500, 500)


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--route-allow", "bb:x"), "no cluster 'bb'"),
        (("--route-allow", "bb:x"), "did you mean"),
        (("--route-allow", "guarded:x"), "cluster guarded is read_only"),
        (("--route-allow", "*:x"), "'*' cannot name a cluster; write CLUSTER:GLOB"),
        (("--route-allow", "b:x", "-G", "g", "--exactly-once"), "--exactly-once: a transaction spans one cluster"),
        (("--route-allow", "b:x", "-G", "g", "--resume-by-trace"), "--resume-by-trace"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_read(
    kafka: Cluster, kpipe: Kpipe, config: str, options: tuple[str, ...], what: str
) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, [b"1"])
    done = kpipe("forward", "-e", "--route", '"x"', *options, f"a:{source}", f"a:{target}", config=config)
    assert (done.code, done.out) == (2, b"")
    assert what in done.err
    assert count(kafka, target) == 0


def test_a_glob_without_a_cluster_allows_no_other_cluster(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str
) -> None:
    target = kafka.topic()
    kafka_b.topic(name=stem)
    for allow in ("*", stem, f"b:{stem}-other"):
        done = kpipe(
            "produce", "--route", f'"b:{stem}"', "--route-allow", allow, f"a:{target}", stdin=b"1\n", config=config
        )
        assert done.code == 3
        assert f"topic 'b:{stem}' is not allowed" in done.err
    assert count(kafka_b, stem) == 0


def test_a_record_does_not_return_to_where_it_has_been_on_any_cluster(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str
) -> None:
    first, second = kafka.topic(), kafka_b.topic()
    kafka.topic(name=stem)
    kafka.write(first, [b"1"])
    assert kpipe("forward", "-e", f"a:{first}", f"b:{second}", config=config) == QUIET

    back = ("--route", f'"a:{first}"', "--route-allow", f"a:{first}")
    origin = kpipe("forward", "-e", *back, f"b:{second}", f"a:{stem}", config=config)
    itself = kpipe("forward", "-e", *back, f"a:{first}", f"b:{second}", config=config)

    assert (origin.code, itself.code) == (1, 1)
    assert f"would loop: {first} is its origin" in origin.err
    assert f"would loop: it comes from {first} itself" in itself.err
    assert (count(kafka, first), count(kafka, stem), count(kafka_b, second)) == (1, 0, 1)


def test_no_route_leads_to_the_dead_letters_of_another_cluster(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str
) -> None:
    source, target, letters = kafka.topic(), kafka.topic(), kafka_b.topic()
    kafka.write(source, [Rec(b"1", b"b")])
    done = kpipe(
        "forward", "-e", "--on-error", f"dlq:b:{letters}", *by_key(letters), f"a:{source}", f"a:{target}", config=config
    )
    assert done.code == 2
    assert "records are routed to the dead-letter topic" in done.err
    assert count(kafka_b, letters) == 0


def test_what_one_cluster_refuses_is_told_with_its_name_and_can_be_a_dead_letter(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str, tmp_path: Path
) -> None:
    source, target, letters, name = kafka.topic(), kafka.topic(), kafka.topic(), group()
    summary = tmp_path / "summary.json"
    kafka.topic(name=stem)
    kafka_b.topic(name=stem, max_message_bytes=4000)
    records = [Rec(b"x", b"a"), Rec(dense(8000), b"b"), Rec(dense(8000), b"a"), Rec(b"y", b"b")]
    kafka.write(source, records)
    places = (f"a:{source}", f"a:{target}")

    stopped = kpipe("forward", "-e", "-G", name, "--summary", summary, *by_key(stem), *places, config=config)
    assert stopped.code == 1
    assert f"{source}[0]@1 -> b:{stem}: " in stopped.err
    assert "send: b: " in stopped.err
    assert json.loads(summary.read_text())["clusters"]["b"]["failed"] == 1
    assert committed(kafka, name, source) == 1

    done = kpipe("forward", "-e", "-G", name, "--on-error", f"dlq:a:{letters}", *by_key(stem), *places, config=config)
    assert done.code == 0, done.err
    assert [record.value for record in kafka.read(letters)] == [records[1].value]
    assert committed(kafka, name, source) == 4


# --- a cluster that is away ----------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_frozen_cluster_of_a_route_holds_the_commit_and_loses_nothing(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str
) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    for cluster in (kafka, kafka_b):
        cluster.topic(name=stem)
    keys = [b"abc"[n % 3 : n % 3 + 1] for n in range(900)]
    records = [Rec(b"%d" % n, key) for n, key in enumerate(keys)]
    run = kpipe.start("forward", "-G", name, *by_key(stem), f"a:{source}", f"a:{target}", config=config)
    kafka.write(source, records[:300])
    run.wait_for(lambda: committed(kafka, name, source) == 300, what="all committed")

    kafka_b.broker.pause()
    kafka.write(source, records[300:600])
    run.wait_for(lambda: count(kafka, stem) == count(kafka, target) == 200, what="the near ones have theirs")
    assert committed(kafka, name, source) <= 301  # the first record behind them waits for the frozen cluster
    run.signal(signal.SIGKILL)
    run.wait()
    run = kpipe.start("forward", "-G", name, *by_key(stem), f"a:{source}", f"a:{target}", config=config)
    kafka_b.broker.resume()
    kafka.write(source, records[600:])
    run.wait_for(lambda: committed(kafka, name, source) == 900, 60, what="all committed after the thaw")
    run.signal(signal.SIGTERM)
    assert run.wait().code == -signal.SIGTERM
    for cluster, topic, letter in ((kafka, stem, b"a"), (kafka_b, stem, b"b"), (kafka, target, b"c")):
        expected = {n for n, key in enumerate(keys) if key == letter}
        assert {int(value or b"") for value in values(cluster, topic)} == expected


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_route_to_a_cluster_that_does_not_answer_waits_and_says_so(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str, policy: str
) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    run = kpipe.start(
        "forward", "-G", name, "--on-error", policy, "--create", *by_key(stem), f"a:{source}", f"a:{target}",
        config=config,
    )  # fmt: skip
    kafka.write(source, [Rec(b"0", b"c")])
    run.wait_for(lambda: count(kafka, target) == 1, what="it runs")
    kafka_b.broker.pause()
    kafka.write(source, [Rec(b"1", b"b"), Rec(b"2", b"c")])
    run.wait_for(lambda: "still trying" in run.err, 30, what="it says that it waits")
    assert f"send: b:{stem}: records go there" in run.err
    assert committed(kafka, name, source) <= 1
    kafka_b.broker.resume()
    run.wait_for(lambda: committed(kafka, name, source) == 3, 60, what="all are committed after the thaw")
    run.signal(signal.SIGTERM)
    assert run.wait().code == -signal.SIGTERM
    assert values(kafka_b, stem) == [b"1"]
    assert values(kafka, target) == [b"0", b"2"]


def test_a_signal_ends_the_wait_for_a_cluster_within_the_deadline(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str
) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    run = kpipe.start(
        "forward", "-G", name, "--create", "--drain-timeout", "2", *by_key(stem), f"a:{source}", f"a:{target}",
        config=config,
    )  # fmt: skip
    kafka.write(source, [Rec(b"0", b"c")])
    run.wait_for(lambda: count(kafka, target) == 1, what="it runs")
    kafka_b.broker.pause()
    kafka.write(source, [Rec(b"1", b"b")])
    run.wait_for(lambda: "still trying" in run.err, 30, what="it says that it waits")
    run.signal(signal.SIGTERM)
    done = run.wait(8)
    assert done.code == 4
    assert f"{source}[0]@1" in done.err
    assert committed(kafka, name, source) == 1


def test_a_cluster_that_is_away_at_the_start_ends_the_run_before_it_reads(
    kafka: Cluster, kpipe: Kpipe, config: str
) -> None:
    target = kafka.topic()
    away = f'{config}\n[clusters.gone]\n"bootstrap.servers" = "127.0.0.1:1"\n'
    done = kpipe(
        "produce", "--timeout", "2", "--route", '"gone:x"', "--route-allow", "gone:x", f"a:{target}",
        stdin=b"1\n", config=away,
    )  # fmt: skip
    assert done.code == 4
    assert "gone" in done.err
    assert count(kafka, target) == 0


def test_workers_add_the_counts_of_the_clusters_up(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str, stem: str, tmp_path: Path
) -> None:
    source, target, name, summary = kafka.topic(4), kafka.topic(), group(), tmp_path / "summary.json"
    for cluster in (kafka, kafka_b):
        cluster.topic(name=stem)
    kafka.write(source, [Rec(b"%d" % n, b"abc"[n % 3 : n % 3 + 1], partition=n % 4) for n in range(300)])
    done = kpipe(
        "forward", "-e", "-G", name, "--workers", "2", "--summary", summary, *by_key(stem),
        f"a:{source}", f"a:{target}", config=config,
    )  # fmt: skip
    assert done.code == 0, done.err
    told = json.loads(summary.read_text())
    assert told["delivered"] == 300
    assert {name: counts["delivered"] for name, counts in told["clusters"].items()} == {"a": 200, "b": 100}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", ["produce --create", "forward --create", "route"])
def test_a_topic_that_was_just_made_is_there(kafka: Cluster, kpipe: Kpipe, stem: str, way: str) -> None:
    """Controller, brokers and clients hear of a new topic one after the other: no record is skipped in between."""
    here, source, target, count = kpipe.at(kafka.bootstrap), kafka.topic(), kafka.topic(), 50 if way == "route" else 12
    kafka.write(source, [Rec(f"{stem}-{n}".encode(), f"{stem}-{n}".encode()) for n in range(count)])
    if way == "route":
        done = here(
            "forward", "-e", "-G", group(), "--create", "--on-error", "skip", "-q",
            "--route", "$meta.key", "--route-allow", f"{stem}-*", source, target, timeout=300,
        )  # fmt: skip
        assert done == QUIET
    else:
        for number in range(count):
            words = ("produce",) if way == "produce --create" else ("forward", "-e", source)
            done = here(*words, "--create", "--on-error", "skip", "-q", f"{stem}-{number}", stdin=b"v\n")
            assert done == QUIET
    for number in range(count):
        wanted = {"produce --create": [b"v"], "route": [f"{stem}-{number}".encode()]}
        found = [record.value for record in kafka.read(f"{stem}-{number}")]
        assert found == wanted.get(way, [f"{stem}-{n}".encode() for n in range(count)]), number

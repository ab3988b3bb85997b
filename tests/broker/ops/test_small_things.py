"""Making a target as it should be, ending when nothing comes, waiting for a cluster, and other tools' words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.broker.lab.broker import free_port
from tests.broker.ops.scenes import looked, name

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe


def test_create_says_how_and_a_copy_is_like_its_source(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    made, copy, own = name("t"), name("t"), name("t")
    done = kpipe.at(kafka.bootstrap)(
        "produce", "--create=5,retention.ms=7200000,cleanup.policy=compact,delete", "-k", "k", made, stdin=b"x\n"
    )
    assert done.code == 0, done.err
    (row,) = looked(kpipe.at(kafka.bootstrap), "topics", made)
    assert (row["partitions"], row["config"]) == (5, {"cleanup.policy": "compact,delete", "retention.ms": "7200000"})
    config = f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'
    assert kpipe("forward", "-e", "--create", f"a:{made}", f"b:{copy}", config=config).code == 0
    (there,) = looked(kpipe, "topics", f"b:{copy}", config=config)
    assert (there["partitions"], there["config"]) == (row["partitions"], row["config"])
    assert kpipe("forward", "-e", "--create=2,retention.ms=-1", f"a:{made}", f"b:{own}", config=config).code == 0
    (there,) = looked(kpipe, "topics", f"b:{own}", config=config)
    assert (there["partitions"], there["config"]) == (2, {"cleanup.policy": "compact,delete", "retention.ms": "-1"})
    assert kpipe.at(kafka.bootstrap)("produce", "--create=many", name("t"), stdin=b"x\n").code == 2


def test_a_new_topic_is_made_like_another_and_its_dead_letters_are_not(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe
) -> None:
    model, new, dead = kafka.topic(4, retention_ms=7_200_000, cleanup_policy="compact"), name("new"), name("dead")
    config = f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'

    def made(topic: str) -> tuple[int, dict[str, str]]:
        (row,) = looked(kpipe, "topics", f"b:{topic}", config=config)
        return row["partitions"], row["config"]

    def produced(*words: str, code: int = 0) -> str:
        done = kpipe("produce", "-K", ":", *words, stdin=b"k:v\n", config=config)
        assert done.code == code, done.err
        return done.err

    assert "add --create" in produced("--like", f"a:{model}", f"b:{new}", code=2)
    assert "no such topic to copy from" in produced("--create", "--like", "a:nobody", f"b:{new}", code=1)
    assert new not in kafka_b.topics()
    produced("--create", "--like", f"a:{model}", "--on-error", f"dlq:b:{dead}", f"b:{new}")
    assert made(new) == (4, {"cleanup.policy": "compact", "retention.ms": "7200000"})
    assert made(dead)[1] == {}  # a compacted one would take no letter without a key
    other = name("other")
    produced("--create=2,retention.ms=9000", "--like", f"a:{model}", f"b:{other}")
    assert made(other) == (2, {"cleanup.policy": "compact", "retention.ms": "9000"})
    source, copy = kafka.topic(3), name("copy")
    assert (
        kpipe("forward", "-e", "--create", "--like", f"a:{model}", f"a:{source}", f"b:{copy}", config=config).code == 0
    )
    assert made(copy)[0] == 4


def test_idle_ends_a_reader_that_nothing_comes_for(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(2)
    kafka.write(topic, [b"1", b"2", b"3"])
    for words, least in ((("--idle", "1s"), 1.0), (("--idle", "1s", "-G", name()), 1.0)):
        started = time.monotonic()
        done = kpipe.at(kafka.bootstrap)("consume", topic, *words)
        assert (done.code, len(done.out.split())) == (0, 3)
        assert time.monotonic() - started >= least
    running = kpipe.at(kafka.bootstrap).start("consume", topic, "--idle", "3s", "-o", "end")
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        kafka.write(topic, [b"more"])
        time.sleep(0.3)  # the time between records is what is tested
    assert running.process.poll() is None
    assert running.wait(20).code == 0
    assert kpipe.at(kafka.bootstrap)("consume", topic, "--idle", "0").code == 2


def test_check_waits_for_a_cluster_and_a_topic(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = name("later")
    running = kpipe.at(kafka.bootstrap).start("check", "--wait", "40s", "--topic", topic)
    time.sleep(1.5)  # so that it has looked at least once
    assert running.process.poll() is None
    kafka.topic(name=topic)
    assert running.wait(40).code == 0
    started = time.monotonic()
    done = kpipe("check", "-b", f"127.0.0.1:{free_port()}", "--wait", "2s", "--timeout", "1s")
    assert done.code == 4
    assert 1.5 <= time.monotonic() - started < 15
    assert kpipe("check", "-b", "127.0.0.1:1", "-X", "no.such=1", "--wait", "30s").code == 2


def test_other_tools_words_lead_to_the_right_command(kafka: Cluster, kpipe: Kpipe) -> None:
    for words in (("-L",), ("topics", "list", "-b", kafka.bootstrap), ("groups", "list", "-b", kafka.bootstrap)):
        done = kpipe(*words)
        assert (done.code, "kpipe topics" in done.err or "kpipe groups" in done.err) == (2, True)


def test_a_mirror_keeps_names_partitions_and_settings(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    prefix = name("mirror")
    one, two = kafka.topic(3, name=f"{prefix}.one"), kafka.topic(2, name=f"{prefix}.two", retention_ms=7_200_000)
    kafka.write(one, [b"1", b"2"])
    kafka.write(two, [b"3"])
    config = f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'
    done = kpipe("forward", "-e", "--create", f"a:^{prefix}", "b:", config=config)
    assert done.code == 0, done.err
    assert sorted(rec.value or b"" for rec in kafka_b.read(one)) == [b"1", b"2"]
    assert [rec.value for rec in kafka_b.read(two)] == [b"3"]
    found = {
        row["topic"]: (row["partitions"], row["config"])
        for row in looked(kpipe, "topics", f"b:{prefix}*", config=config)
    }
    assert found == {one: (3, {}), two: (2, {"retention.ms": "7200000"})}
    refused = kpipe("forward", "-e", "--route", '"x"', "--route-allow", "x", f"a:{one}", "b:", config=config)
    assert (refused.code, "keeps the names" in refused.err) == (2, True)
    assert kpipe("forward", "-e", f"a:^no-{prefix}", "b:", config=config).code == 1

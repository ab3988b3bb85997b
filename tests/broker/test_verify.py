"""`kpipe verify`: what differs between a topic and its copy is found, counted and shown; what agrees is silent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Cluster, Rec

if TYPE_CHECKING:
    from tests.conftest import Kpipe


def records(count: int, partitions: int = 2) -> list[Rec]:
    return [
        Rec(
            b"v%d" % n,
            key=b"k%d" % n if n % 3 else None,
            headers=(("h", b"%d" % n), ("h", None)),
            partition=n % partitions,
        )
        for n in range(count)
    ]


def copied(kafka: Cluster, kpipe: Kpipe, count: int = 40, target: Cluster | None = None) -> tuple[str, list[Rec]]:
    """A topic and its copy, as kpipe made it."""
    source, copy = kafka.topic(2), (target or kafka).topic(2)
    kafka.write(source, records(count))
    assert kpipe("forward", "-e", "-b", kafka.bootstrap, "--to-partition", "same", source, copy).code == 0
    return source, kafka.read(copy)


def verdict(kpipe: Kpipe, kafka: Cluster, *arguments: str, code: int) -> dict:
    run = kpipe.at(kafka.bootstrap)("verify", "--json", *arguments)
    assert run.code == code, run.err
    return json.loads(run.out)


def fresh(kafka: Cluster, found: list[Rec]) -> str:
    """A topic with exactly these records."""
    topic = kafka.topic(2)
    kafka.write(topic, found)
    return topic


def test_a_copy_on_another_cluster_agrees(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    config = f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'
    source, target = kafka.topic(3), kafka_b.topic(2)
    kafka.write(source, records(300, 3))
    kafka.write(source, [b"aborted"], transaction="abort")
    kafka_b.write(target, [b"not from there"])
    assert kpipe("forward", "-e", f"a:{source}", f"b:{target}", config=config).code == 0

    run = kpipe("verify", f"a:{source}", f"b:{target}", config=config)

    assert run.code == 0, run.err
    assert run.err == ""
    lines = dict(line.split(None, 1) for line in run.out.decode().splitlines())
    assert lines["source"] == f"300 records in a:{source}"
    assert lines["missing"] == lines["altered"] == lines["reordered"] == lines["duplicated"] == lines["extra"] == "0"
    assert lines["foreign"].startswith("1 ")


@pytest.mark.parametrize("memory", ["256M", "1M"])
def test_every_kind_of_difference(kafka: Cluster, kpipe: Kpipe, memory: str) -> None:
    """A megabyte is too little for 10,000 records, so half of them takes the way over the disk."""
    source, good = copied(kafka, kpipe, 10_000)
    first, second = [each for each in good if each.partition == 0], [each for each in good if each.partition == 1]
    del first[7]
    first[3] = replace(first[3], value=b"other")
    first[5] = replace(first[5], headers=(*first[5].headers, ("more", b"")))
    first[9], first[10] = first[10], first[9]
    second += second[-3:]
    bad = fresh(kafka, [*first, *second])

    found = verdict(kpipe, kafka, "--memory", memory, source, bad, code=5)

    assert {kind: found[kind] for kind in ("missing", "duplicated", "reordered", "altered", "extra")} == {
        "missing": 1, "duplicated": 3, "reordered": 1, "altered": 2, "extra": 0,
    }  # fmt: skip
    examples = {(each["difference"], each["partition"], each["offset"]) for each in found["examples"]}
    assert examples == {
        ("altered", 0, 3), ("altered", 0, 5), ("missing", 0, 7), ("reordered", 0, 10),
        *(("duplicated", 1, offset) for offset in (4997, 4998, 4999)),
    }  # fmt: skip
    (swapped,) = (each for each in found["examples"] if each["difference"] == "reordered")
    assert (swapped["target_partition"], swapped["target_offset"]) == (0, 10)


def test_a_repeated_copy_is_duplicated_not_reordered(kafka: Cluster, kpipe: Kpipe) -> None:
    source, good = copied(kafka, kpipe)
    again = [each for each in good if each.offset >= 10]
    found = verdict(kpipe, kafka, source, fresh(kafka, [*good, *again]), code=5)
    assert (found["duplicated"], found["reordered"], found["missing"]) == (len(again), 0, 0)


def test_timestamps_count_unless_they_are_ignored(kafka: Cluster, kpipe: Kpipe) -> None:
    source, good = copied(kafka, kpipe)
    other = fresh(kafka, [replace(each, timestamp=each.timestamp + 1) for each in good])
    assert verdict(kpipe, kafka, source, other, code=5)["altered"] == 40
    assert verdict(kpipe, kafka, "--ignore-timestamp", source, other, code=0)["altered"] == 0


def test_a_filtered_copy_may_lack_records_but_not_change_them(kafka: Cluster, kpipe: Kpipe) -> None:
    source, good = copied(kafka, kpipe)
    part = fresh(kafka, [each for each in good if each.offset % 2])
    assert verdict(kpipe, kafka, source, part, code=5)["missing"] == 20
    assert verdict(kpipe, kafka, "--allow-missing", source, part, code=0)["missing"] == 20


def test_only_the_range_that_was_asked_for(kafka: Cluster, kpipe: Kpipe) -> None:
    source, good = copied(kafka, kpipe)
    part = fresh(kafka, [each for each in good if each.partition == 1 and 5 <= each.offset < 15])
    found = verdict(kpipe, kafka, "-p", "1", "-o", "5", "--until", "15", source, part, code=0)
    assert found["source"]["records"] == found["target"]["records"] == 10
    whole = verdict(kpipe, kafka, "-p", "1", "-o", "5", "--until", "15", source, fresh(kafka, good), code=0)
    assert whole["outside"] == 30


def test_a_copy_of_what_the_source_lost_is_extra(kafka: Cluster, kpipe: Kpipe) -> None:
    source, good = copied(kafka, kpipe)
    kafka.write(source, [Rec(b"aborted", partition=0)], transaction="abort")
    kafka.write(source, [Rec(b"last", key=b"k", partition=0)])
    stranger = replace(
        good[0],
        headers=tuple((name, b"20" if name == "source_offset" else value) for name, value in good[0].headers),
    )
    found = verdict(kpipe, kafka, source, fresh(kafka, [*good, stranger]), code=5)
    assert (found["extra"], found["missing"]) == (1, 1)
    assert verdict(kpipe, kafka, "--allow-extra", "--allow-missing", source, fresh(kafka, [*good, stranger]), code=0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "a"], "no such topic"),
        (["--memory", "1K", "a", "b"], "too little"),
        (["^a", "b"], "name them"),
    ],
)
def test_what_cannot_be_compared(kafka: Cluster, kpipe: Kpipe, arguments: list[str], said: str) -> None:
    run = kpipe.at(kafka.bootstrap)("verify", *arguments)
    assert run.code in (1, 2)
    assert said in run.err


def test_a_topic_is_not_its_own_copy(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    run = kpipe.at(kafka.bootstrap)("verify", topic, topic)
    assert run.code == 2
    assert "same topic" in run.err


def test_a_mirror_is_compared_topic_by_topic(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    prefix = kafka.topic()
    names = [kafka.topic(2, name=f"{prefix}-{word}") for word in ("good", "short")]
    for name in names:
        kafka.write(name, records(10))
    config = f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'
    kafka.topic(name=f"{prefix}-empty")
    call = (f"a:^{prefix}-", "b:")
    assert kpipe("forward", "-e", "--create", *call, config=config).code == 0
    whole = kpipe("verify", "--json", *call, config=config)
    assert (whole.code, [json.loads(line)["equal"] for line in whole.out.splitlines()]) == (0, [True, True, True])
    kafka.write(names[1], records(1))
    kafka.topic(name=f"{prefix}-unknown")
    done = kpipe("verify", "--json", *call, config=config)
    assert [json.loads(line)["missing"] for line in done.out.splitlines()] == [0, 0, 1]
    assert f"b:{prefix}-unknown: no such topic" in done.err
    assert f"a:{names[1]} -> b:{names[1]}: 1 missing" in done.err
    assert done.code == 1
    assert kpipe("verify", f"a:^{prefix}-none", "b:", config=config).code == 5

"""`--on-error dlq:TOPIC` and `forward DLQ --to-origin`: nothing lost, nothing twice, no circle; real Kafka."""

from __future__ import annotations

import json
import signal
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec, dense

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

HEADERS = (("h", b"1"), ("h", None), ("empty", b""))


def test_a_record_that_a_transform_refuses_goes_there_as_it_was_read(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, letters = kafka.topic(), kafka.topic(), kafka.topic()
    bad = Rec(b"\xffnot json", key=b"k\x00", headers=HEADERS, timestamp=1_700_000_000_000)
    kafka.write(source, [b'{"a":1}', bad, b'{"a":2}'])

    done = kpipe.at(kafka.bootstrap)(
        "forward", "-G", "dl-bad", "-e", "-v", "--key-field", ".a", "--on-error", f"dlq:{letters}", source, target
    )

    assert done.code == 0, done.err
    assert "3 read, 2 delivered, 1 dead-lettered" in done.err
    assert [record.key for record in kafka.read(target)] == [b"1", b"2"]
    (letter,) = kafka.read(letters)
    assert (letter.value, letter.key, letter.timestamp) == (bad.value, bad.key, bad.timestamp)
    assert letter.headers[:3] == HEADERS
    found = dict(letter.headers[3:])
    assert found["source_topic"] == source.encode()
    assert (found["source_partition"], found["source_offset"]) == (b"0", b"1")
    assert (found["source_cluster"], found["source_consumer_group"]) == (kafka.cluster_id.encode(), b"dl-bad")
    assert (found["error_code"], found["error_stage"], found["source_attempts"]) == (b"BAD_RECORD", b"transform", b"1")
    assert (found["error_message"] or b"").startswith(b"--key-field .a: the value is not")
    assert kafka.committed("dl-bad", source) == {0: 3}


def test_a_record_that_the_target_refuses_goes_there(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, letters = kafka.topic(), kafka.topic(max_message_bytes=2000), kafka.topic()
    kafka.write(source, [b"1", dense(5000), b"2"])

    done = kpipe.at(kafka.bootstrap)(
        "forward", "-G", "dl-big", "-e", "-v", "--on-error", f"dlq:{letters}", source, target
    )

    assert (done.code, "2 delivered, 1 dead-lettered" in done.err) == (0, True), done.err
    (letter,) = kafka.read(letters)
    assert letter.value == dense(5000)
    assert dict(letter.headers)["error_code"] == b"MSG_SIZE_TOO_LARGE"
    assert kafka.committed("dl-big", source) == {0: 3}


def test_when_the_dead_letter_topic_refuses_the_run_stops_before_the_record(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, letters = kafka.topic(), kafka.topic(), kafka.topic(max_message_bytes=2000)
    kafka.write(source, [b'{"a":1}', b"y" * 5000, b'{"a":2}'])

    done = kpipe.at(kafka.bootstrap)(
        "forward", "-G", "dl-full", "-e", "--key-field", ".a", "--on-error", f"dlq:{letters}", source, target
    )

    assert done.code == 1, done.err
    why = "the record is larger than the topic's max.message.bytes (2,000 bytes)"
    assert f"the dead-letter topic did not take a record: {why}; the record had failed with: transform: " in done.err
    assert "2 delivered, 1 failed" in done.err
    assert kafka.committed("dl-full", source) == {0: 1}


def test_a_missing_dead_letter_topic_is_found_before_anything_is_read(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, [b"1"])

    done = kpipe.at(kafka.bootstrap)("forward", "-e", "--on-error", "dlq:no-such-topic", source, target)

    assert (done.code, "no such topic" in done.err) == (1, True), done.err
    assert kafka.read(target) == []


@pytest.mark.parametrize("which", ["source", "target"])
def test_source_and_target_are_no_place_for_dead_letters(kafka: Cluster, kpipe: Kpipe, which: str) -> None:
    topics = {"source": kafka.topic(), "target": kafka.topic()}

    done = kpipe.at(kafka.bootstrap)("forward", "-e", "--on-error", f"dlq:{topics[which]}", *topics.values())

    assert (done.code, f"is the {which}" in done.err) == (2, True), done.err


def test_produce_keeps_lines_that_it_cannot_decode(kafka: Cluster, kpipe: Kpipe) -> None:
    target, letters = kafka.topic(), kafka.topic()

    done = kpipe.at(kafka.bootstrap)(
        "produce",
        "--input",
        "json",
        "-v",
        "--on-error",
        f"dlq:{letters}",
        target,
        stdin=b'{"value":"1"}\n{"valu\n{"value":"2"}\n',
    )

    assert (done.code, "3 read, 2 delivered, 1 dead-lettered" in done.err) == (0, True), done.err
    assert [record.value for record in kafka.read(target)] == [b"1", b"2"]
    (letter,) = kafka.read(letters)
    assert letter.value == b'{"valu'
    found = dict(letter.headers)
    assert (found["source_file"], found["source_line"]) == (b"stdin", b"2")
    assert found["error_stage"] == b"decode"


def test_consume_commits_past_a_dead_letter_only_when_it_is_acknowledged(kafka: Cluster, kpipe: Kpipe) -> None:
    source, letters = kafka.topic(), kafka.topic()
    kafka.write(source, [b'{"a":1}', b"bad", b'{"a":2}'])

    done = kpipe.at(kafka.bootstrap)(
        "consume", "-G", "dl-consume", "-e", "-v", "--map", ".a", "--on-error", f"dlq:{letters}", source
    )

    assert (done.code, done.out) == (0, b"1\n2\n"), done.err
    assert [record.value for record in kafka.read(letters)] == [b"bad"]
    assert kafka.committed("dl-consume", source) == {0: 3}


def test_letters_on_another_cluster(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    source, target, letters = kafka.topic(), kafka.topic(), kafka_b.topic()
    kafka.write(source, [b"bad"])
    config = f'[clusters.a]\nbootstrap.servers = "{kafka.bootstrap}"\n[clusters.b]\nbootstrap.servers = "{kafka_b.bootstrap}"\n'

    done = kpipe(
        "forward", "-e", "--map", ".a", "--on-error", f"dlq:b:{letters}", f"a:{source}", f"a:{target}", config=config
    )

    assert done.code == 0, done.err
    assert [record.value for record in kafka_b.read(letters)] == [b"bad"]


def test_a_letter_goes_home_and_comes_back_until_its_attempts_are_used_up(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path
) -> None:
    source, target, letters = kafka.topic(partitions=3), kafka.topic(), kafka.topic()
    kafka.write(source, [Rec(b"bad", key=b"k", headers=HEADERS, partition=2)])
    here = kpipe.at(kafka.bootstrap)
    session = ("--group-protocol", "classic", "-X", "source.session.timeout.ms=6000")
    there = ("forward", "-G", "dl-there", *session, "-e", "--map", ".a", "--on-error", f"dlq:{letters}", source, target)
    back = ("forward", "-G", "dl-back", *session, "-e", "-v", "--to-origin", "--max-attempts", "3", letters)
    for attempt in (1, 2, 3):
        assert (done := here(*there)).code == 0, done.err
        assert dict(kafka.read(letters)[-1].headers)["source_attempts"] == b"%d" % attempt
        if attempt < 3:
            assert (done := here(*back)).code == 0, done.err
            home = kafka.read(source)[-1]
            names = [name for name, _ in home.headers]
            assert (home.partition, home.key, home.value, home.headers[:3]) == (2, b"k", b"bad", HEADERS)
            assert dict(home.headers)["source_attempts"] == b"%d" % (attempt + 1)
            assert not [name for name in names if name.startswith("error_")]

    done = here(*back, "--summary", str(tmp_path / "s.json"))

    assert (done.code, "failed 3 times (--max-attempts 3)" in done.err) == (1, True), done.err
    assert json.loads((tmp_path / "s.json").read_text())["failed"] == 1
    assert len(kafka.read(source)) == 3


def test_a_letter_from_elsewhere_or_without_headers_stays(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    letters, home = kafka.topic(), kafka.topic()
    names = (("source_topic", home.encode()), ("source_partition", b"0"))
    kafka.write(
        letters,
        [
            Rec(b"none"),
            Rec(b"elsewhere", headers=(*names, ("source_cluster", b"other"))),
            Rec(b"circle", headers=(("source_topic", letters.encode()), ("source_cluster", kafka.cluster_id.encode()))),
            Rec(b"gone", headers=(("source_topic", b"gone"), ("source_cluster", kafka.cluster_id.encode()))),
            Rec(b"home", headers=(*names, ("source_cluster", kafka.cluster_id.encode()))),
        ],
    )

    done = kpipe.at(kafka.bootstrap)("forward", "-e", "-v", "--to-origin", "--on-error", "skip", letters)

    assert (done.code, "5 read, 1 delivered, 4 failed" in done.err) == (1, True), done.err
    assert [record.value for record in kafka.read(home)] == [b"home"]
    for reason in ("no header source_topic", "its home is on cluster other", "would loop", "no such topic"):
        assert reason in done.err


def test_letters_of_one_cluster_go_home_to_another(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    source, target, letters = kafka.topic(), kafka.topic(), kafka_b.topic()
    kafka.write(source, [b"bad"])
    config = f'[clusters.a]\nbootstrap.servers = "{kafka.bootstrap}"\n[clusters.b]\nbootstrap.servers = "{kafka_b.bootstrap}"\n'
    there = ("--map", ".a", "--on-error", f"dlq:b:{letters}", f"a:{source}", f"a:{target}")
    assert kpipe("forward", "-e", *there, config=config).code == 0

    done = kpipe("forward", "-e", "--to-origin", f"b:{letters}", "a:", config=config)

    assert done.code == 0, done.err
    assert [record.value for record in kafka.read(source)] == [b"bad", b"bad"]


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_home_that_comes_back_gets_every_letter(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, policy: str) -> None:
    """A cluster that does not answer is no verdict on a record: it is waited for, and nothing is committed meanwhile."""
    letters, first, second = kafka.topic(), kafka_b.topic(), kafka_b.topic()
    config = f'[clusters.a]\nbootstrap.servers = "{kafka.bootstrap}"\n[clusters.b]\nbootstrap.servers = "{kafka_b.bootstrap}"\n'
    group = f"dl-away-{letters}"

    def letter(number: int, home: str) -> Rec:
        place = (("source_topic", home.encode()), ("source_partition", b"0"), ("source_offset", b"%d" % number))
        return Rec(b"%d" % number, headers=(*place, ("source_cluster", kafka_b.cluster_id.encode())))

    kafka.write(letters, [letter(0, first)])
    run = kpipe.start("forward", "-G", group, "--to-origin", "--on-error", policy, f"a:{letters}", "b:", config=config)
    run.wait_for(lambda: kafka.committed(group, letters) == {0: 1}, what="it runs")
    kafka_b.broker.pause()
    kafka.write(letters, [letter(number, (first, second)[number % 2]) for number in range(1, 9)])
    run.wait_for_stderr("still trying", 30)
    assert f"send: b:{second}: records go there" in run.err
    assert kafka.committed(group, letters) == {0: 1}
    kafka_b.broker.resume()
    run.wait_for(lambda: kafka.committed(group, letters) == {0: 9}, 60, "all committed after the thaw")
    run.signal(signal.SIGTERM)

    assert run.wait().code == -signal.SIGTERM, run.err
    assert "skipped" not in run.err
    assert [record.value for record in kafka_b.read(first)] == [b"0", b"2", b"4", b"6", b"8"]
    assert [record.value for record in kafka_b.read(second)] == [b"1", b"3", b"5", b"7"]


def test_a_home_that_is_made_again_is_found(kafka: Cluster, kpipe: Kpipe) -> None:
    """A topic that is not there is a verdict on the letters of that moment, not on those of next week."""
    letters, name = kafka.topic(), f"home-{uuid.uuid4().hex[:8]}"
    place = (("source_topic", name.encode()), ("source_cluster", kafka.cluster_id.encode()))
    kafka.write(letters, [Rec(b"early", headers=place)])
    run = kpipe.at(kafka.bootstrap).start("forward", "--to-origin", "--on-error", "skip", letters)
    run.wait_for_stderr(f"{name}: no such topic")
    kafka.topic(name=name)

    def sent() -> int:
        kafka.write(letters, [Rec(b"late", headers=place)])
        time.sleep(1)  # letters come one by one, until the topic is looked for again
        return len(kafka.read(name))

    run.wait_for(sent, 40, "a letter at home")
    run.signal(signal.SIGTERM)
    assert run.wait().code in (1, -signal.SIGTERM), run.err
    assert {record.value for record in kafka.read(name)} == {b"late"}


def test_a_home_that_stamps_its_own_time_keeps_the_letters_time_in_a_header(kafka: Cluster, kpipe: Kpipe) -> None:
    letters, home = kafka.topic(), kafka.topic(message_timestamp_type="LogAppendTime")
    place = (("source_topic", home.encode()), ("source_cluster", kafka.cluster_id.encode()))
    kafka.write(letters, [Rec(b"v", headers=place, timestamp=1_700_000_000_000)])

    done = kpipe.at(kafka.bootstrap)("forward", "-e", "--to-origin", letters)

    assert done.code == 0, done.err
    (record,) = kafka.read(home)
    assert record.timestamp_type == "append"
    assert dict(record.headers)["source_timestamp"] == b"1700000000000"

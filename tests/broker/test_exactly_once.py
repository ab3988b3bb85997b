"""`forward --exactly-once`: killed, fenced, rebalanced or stopped, each source record is in the target once; real Kafka."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicPartition

from tests.broker.lab.cluster import Rec, dense, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe, Running

ONCE = ("forward", "--exactly-once", "--txn-interval", "0.2")
SEED = int(os.environ.get("KPIPE_SEED", "0")) or random.randrange(1 << 30)


def fill(kafka: Cluster, topic: str, count: int, partitions: int, first: int = 0) -> None:
    kafka.write(topic, [Rec(b"%06d" % n, partition=n % partitions) for n in range(first, first + count)])


def trace(record: Rec) -> tuple[int, int]:
    headers = dict(record.headers)
    return int(headers["source_partition"] or b""), int(headers["source_offset"] or b"")


def assert_once_in_order(kafka: Cluster, source: str, target: str) -> None:
    """Every committed record of the source is in the target once, and in order per partition."""
    wanted = [(record.partition, record.offset) for record in kafka.read(source)]
    records = kafka.read(target)
    found = Counter(trace(record) for record in records)
    assert found == Counter(wanted), (len(found), len(wanted), [place for place, n in found.items() if n > 1][:5])
    for partition in {place for place, _ in wanted}:
        order = [offset for place, offset in map(trace, records) if place == partition]
        assert order == sorted(order)


def is_caught_up(kafka: Cluster, group: str, topic: str, ends: dict[int, int]) -> bool:
    committed = kafka.committed(group, topic)
    return all(committed.get(partition, -1) >= end for partition, end in ends.items())


def ends_of(kafka: Cluster, topic: str) -> dict[int, int]:
    ends: dict[int, int] = {}
    for record in kafka.read(topic):
        ends[record.partition] = record.offset + 1
    return ends


def once(kpipe: Kpipe, kafka: Cluster, group: str, source: str, target: str, *more: str, slot: str = "0") -> Running:
    return kpipe.at(kafka.bootstrap).start(*ONCE, "-G", group, *more, source, target, env={"KPIPE_SLOT": slot})


def test_a_run_to_the_end_commits_records_and_offsets(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(partitions=3), kafka.topic(partitions=3)
    fill(kafka, source, 5000, 3)

    done = kpipe.at(kafka.bootstrap)(*ONCE, "-G", "eo-end", "-e", "-v", "--txn-records", "700", source, target)

    assert done.code == 0, done.err
    assert "5,000 read, 5,000 delivered" in done.err
    assert_once_in_order(kafka, source, target)
    assert is_caught_up(kafka, "eo-end", source, ends_of(kafka, source))
    again = kpipe.at(kafka.bootstrap)(*ONCE, "-G", "eo-end", "-e", "-v", source, target)
    assert (again.code, "0 read" in again.err) == (0, True), again.err


def test_killed_at_random_points_each_record_is_there_once(kafka: Cluster, kpipe: Kpipe) -> None:
    print(f"KPIPE_SEED={SEED}")
    chance = random.Random(SEED)
    source, target = kafka.topic(partitions=3), kafka.topic(partitions=2)
    fill(kafka, source, 60_000, 3)
    ends = ends_of(kafka, source)
    slow = ("--txn-records", "1000", "-X", "target.linger.ms=1", "--instance", "kill")
    for _ in range(5):
        running = once(kpipe, kafka, "eo-kill", source, target, *slow)
        before = sum(kafka.committed("eo-kill", source).values())
        goal = min(59_000, before + chance.randrange(1, 9000))
        running.wait_for(lambda g=goal: sum(kafka.committed("eo-kill", source).values()) >= g, 30, "commits")
        time.sleep(chance.random() * 0.05)  # not to wait for something: to die at any point of a transaction
        running.signal(signal.SIGKILL)
        running.wait()
    last = once(kpipe, kafka, "eo-kill", source, target, *slow)
    last.wait_for(lambda: is_caught_up(kafka, "eo-kill", source, ends), 60, "the end")
    last.signal(signal.SIGTERM)
    assert last.wait().code == -signal.SIGTERM, last.err

    assert_once_in_order(kafka, source, target)


def test_a_successor_starts_at_once_after_a_kill(kafka: Cluster, kpipe: Kpipe) -> None:
    """With the same id the transaction that was left open is aborted at the start, not after its timeout of 60 s."""
    source, target = kafka.topic(), kafka.topic()
    fill(kafka, source, 100, 1)
    first = once(kpipe, kafka, "eo-next", source, target, "--txn-interval", "30", "--instance", "next")
    first.wait_for(lambda: len(kafka.read(target, isolation="read_uncommitted")) == 100, 20, "an open transaction")
    first.signal(signal.SIGKILL)
    first.wait()
    assert kafka.read(target) == []
    assert kafka.committed("eo-next", source) == {}

    started = time.monotonic()
    done = kpipe.at(kafka.bootstrap)(*ONCE, "-G", "eo-next", "-e", "--instance", "next", source, target)

    assert done.code == 0, done.err
    assert time.monotonic() - started < 30
    assert_once_in_order(kafka, source, target)


def test_a_signal_commits_what_was_read(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    source, target = kafka.topic(), kafka.topic()
    fill(kafka, source, 2000, 1)
    running = once(
        kpipe, kafka, "eo-term", source, target, "--txn-interval", "30", "--summary", str(tmp_path / "s.json")
    )
    running.wait_for(lambda: len(kafka.read(target, isolation="read_uncommitted")) > 100, 20, "an open transaction")
    running.signal(signal.SIGTERM)
    done = running.wait()

    assert done.code == -signal.SIGTERM, done.err
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["read"] == found["delivered"] == len(kafka.read(target)) > 100
    assert kafka.committed("eo-term", source) == {0: found["read"]}


def test_a_second_process_with_the_same_id_fences_the_first(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(partitions=2), kafka.topic()
    fill(kafka, source, 100, 2)
    env = {"KPIPE_SLOT": "7"}
    session = ("-X", "source.session.timeout.ms=6000")
    args = (*ONCE, "-G", "eo-fence", "--group-protocol", "classic", *session, source, target)
    first = kpipe.at(kafka.bootstrap).start(*args, env=env)
    first.wait_for(lambda: len(kafka.read(target)) == 100, 20, "the first records")
    second = kpipe.at(kafka.bootstrap).start(*args, env=env)
    second.wait_for(lambda: second.process.poll() is None, 1, "started")

    for number in range(100, 3000, 100):
        fill(kafka, source, 100, 2, first=number)
        if first.process.poll() is not None:
            break
        time.sleep(0.1)
    fenced = first.wait(20)

    assert fenced.code == 1, fenced.err
    assert "another process uses this transactional id, or the transaction timed out" in fenced.err
    until(lambda: is_caught_up(kafka, "eo-fence", source, ends_of(kafka, source)), "the second takes over", 30)
    second.signal(signal.SIGTERM)
    assert second.wait().code == -signal.SIGTERM, second.err
    assert_once_in_order(kafka, source, target)


def test_aborted_transactions_of_the_source_are_not_forwarded(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, [b"1", b"2"], transaction="commit")
    kafka.write(source, [b"aborted"], transaction="abort")
    kafka.write(source, [b"3"], transaction="commit")

    done = kpipe.at(kafka.bootstrap)(*ONCE, "-G", "eo-source", "-e", source, target)

    assert done.code == 0, done.err
    assert [record.value for record in kafka.read(target)] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_two_members_share_and_hand_over(kafka: Cluster, kpipe: Kpipe, protocol: str) -> None:
    source, target = kafka.topic(partitions=4), kafka.topic(partitions=4)
    fill(kafka, source, 20_000, 4)
    group = f"eo-two-{protocol}"
    session = ("-X", "source.session.timeout.ms=6000") if protocol == "classic" else ()
    common = ("--group-protocol", protocol, *session, "--txn-records", "500")
    first = once(kpipe, kafka, group, source, target, *common, slot="a")
    first.wait_for(lambda: kafka.committed(group, source), 30, "a first commit")
    second = once(kpipe, kafka, group, source, target, *common, slot="b")
    for number in range(20_000, 60_000, 4000):
        fill(kafka, source, 4000, 4, first=number)
    third = once(kpipe, kafka, group, source, target, *common, slot="c")
    fill(kafka, source, 4000, 4, first=60_000)
    second.signal(signal.SIGTERM)
    second.wait(30)
    fill(kafka, source, 4000, 4, first=64_000)
    ends = ends_of(kafka, source)
    until(lambda: is_caught_up(kafka, group, source, ends), "the end", 60)
    for member in (first, third):
        assert member.process.poll() is None, member.err
        member.signal(signal.SIGTERM)
        assert member.wait().code == -signal.SIGTERM, member.err

    assert_once_in_order_of_each(kafka, source, target)


def assert_once_in_order_of_each(kafka: Cluster, source: str, target: str) -> None:
    wanted = Counter((record.partition, record.offset) for record in kafka.read(source))
    assert Counter(map(trace, kafka.read(target))) == wanted


def test_filtered_records_advance_the_offsets(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic()
    fill(kafka, source, 500, 1)

    done = kpipe.at(kafka.bootstrap)(*ONCE, "-G", "eo-filter", "-e", "--grep", "nothing", source, target)

    assert done.code == 0, done.err
    assert kafka.committed("eo-filter", source) == {0: 500}
    assert kafka.read(target) == []


def test_where_a_run_goes_on_behind_a_gap_is_committed_without_a_record(kafka: Cluster, kpipe: Kpipe) -> None:
    """With `latest` the next run would go on at a later end, and never read what came meanwhile."""
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, [b"%d" % n for n in range(100)])
    forward = ("forward", "-G", f"g-{source}", "--exactly-once", "-e", "--on-gap", "latest", source, target)
    assert kpipe.at(kafka.bootstrap)(*forward, "-c", "40").code == 0
    kafka.admin.delete_records([TopicPartition(source, 0, 60)])[TopicPartition(source, 0, 60)].result(10)
    assert kpipe.at(kafka.bootstrap)(*forward).code == 0
    kafka.write(source, [b"meanwhile"])
    assert kpipe.at(kafka.bootstrap)(*forward).code == 0
    assert [record.value for record in kafka.read(target)][40:] == [b"meanwhile"]


def test_a_bad_record_stops_behind_those_before_it(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, [b'{"a":1}', b'{"a":2}', b"bad", b'{"a":3}'])

    done = kpipe.at(kafka.bootstrap)(*ONCE, "-G", "eo-bad", "-e", "--key-field", ".a", source, target)

    assert done.code == 3, done.err
    assert [record.key for record in kafka.read(target)] == [b"1", b"2"]
    assert kafka.committed("eo-bad", source) == {0: 2}


def test_a_record_that_the_target_refuses_is_left_out_and_the_others_pass(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic(max_message_bytes=2000)
    kafka.write(source, [b"1", dense(5000), b"2", b"3"])

    done = kpipe.at(kafka.bootstrap)(*ONCE, "-G", "eo-skip", "-e", "-v", "--on-error", "skip", source, target)

    assert done.code == 1, done.err
    assert "4 read, 3 delivered, 1 failed" in done.err
    assert [record.value for record in kafka.read(target)] == [b"1", b"2", b"3"]
    assert kafka.committed("eo-skip", source) == {0: 4}


def test_a_refused_record_under_stop_aborts_its_transaction(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    source, target = kafka.topic(), kafka.topic(max_message_bytes=2000)
    kafka.write(source, [b"1", dense(5000), b"2"])

    done = kpipe.at(kafka.bootstrap)(
        *ONCE, "-G", "eo-stop", "-e", "--summary", str(tmp_path / "s.json"), source, target
    )

    assert done.code == 1, done.err
    assert "max.message.bytes" in done.err
    assert kafka.read(target) == []
    assert kafka.committed("eo-stop", source).get(0, 0) == 0
    found = json.loads((tmp_path / "s.json").read_text())
    assert (found["read"], found["failed"]) == (3, 3)


def test_a_dead_letter_is_in_the_same_transaction(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, letters = kafka.topic(), kafka.topic(max_message_bytes=2000), kafka.topic()
    kafka.write(source, [b"1", dense(5000), b"2", b"bad"])

    done = kpipe.at(kafka.bootstrap)(
        *ONCE, "-G", "eo-dlq", "-e", "-v", "--grep-not", "bad", "--on-error", f"dlq:{letters}", source, target
    )

    assert done.code == 0, done.err
    assert "4 read, 2 delivered, 1 filtered, 1 dead-lettered" in done.err
    assert [record.value for record in kafka.read(target)] == [b"1", b"2"]
    (letter,) = kafka.read(letters)
    assert letter.value == dense(5000)
    assert dict(letter.headers)["error_code"] == b"MSG_SIZE_TOO_LARGE"
    assert kafka.committed("eo-dlq", source) == {0: 4}


def test_two_clusters_are_refused_with_advice(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka_b.topic()
    config = f'[clusters.a]\nbootstrap.servers = "{kafka.bootstrap}"\n[clusters.b]\nbootstrap.servers = "{kafka_b.bootstrap}"\n'

    done = kpipe("forward", "--exactly-once", "-G", "eo-far", "-e", f"a:{source}", f"b:{target}", config=config)

    assert done.code == 2, done.err
    assert "--resume-by-trace" in done.err


@pytest.mark.parametrize(
    ("more", "advice"),
    [((), "-G"), (("-G", "g", "-p", "0"), "drop -p"), (("-G", "g", "--spill", "x"), "drop --spill")],
)
def test_what_a_transaction_cannot_do_is_a_usage_error(kpipe: Kpipe, more: tuple[str, ...], advice: str) -> None:
    done = kpipe("forward", "-b", "127.0.0.1:1", "--exactly-once", *more, "a", "b")

    assert done.code == 2
    assert advice in done.err

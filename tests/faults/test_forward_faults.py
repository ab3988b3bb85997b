"""`kpipe forward -G` under faults: at-least-once, order kept, duplicates bounded by what was in flight.

The bound: what was read and not yet committed. Commits come once a second, a batch is 500 records.
"""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import until
from tests.faults.conftest import RUNS, fill
from tests.faults.oracle import judge

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster, Rec
    from tests.conftest import Kpipe, Running
    from tests.faults.proxy import Proxy

RECORDS = 60_000
WAIT = 90.0
FENCED = RECORDS // 2 + 10_000
"""Repeats allowed where the broken connection may be the group's: a member that lost its place reads on from the last
commit, and a second of this machine's speed is about 30,000 records. What the producer sends again is never written twice."""
QUICK = ("-X", "source.session.timeout.ms=6000", "-X", "source.heartbeat.interval.ms=500")
"""So that a killed member's partitions are free after seconds."""


def start(kpipe: Kpipe, address: str, source: str, target: str, *more: str) -> Running:
    return kpipe.start("forward", "-b", address, "-G", f"g-{target}", *more, source, target, stdin=None)


def finish(kpipe: Kpipe, address: str, source: str, target: str, *more: str) -> None:
    """Whatever happened before, one undisturbed run brings the rest."""
    done = kpipe("forward", "-b", address, "-G", f"g-{target}", "-e", *more, source, target, timeout=120)
    assert done.code == 0, done.err


def arrived(cluster: Cluster, topic: str) -> int:
    """How many records the target has, by its watermarks."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "watch", "log_level": 0})
    try:
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return sum(consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10)[1] for n in numbers)
    except KafkaException:
        return 0  # no leader just now
    finally:
        consumer.close()


def check(cluster: Cluster, source: list[Rec], target: str, *, duplicates: int) -> str:
    verdict = judge(source, cluster.read(target))
    assert (verdict.lost, verdict.disorder, verdict.altered) == (0, 0, 0), verdict
    assert verdict.duplicates <= duplicates, verdict
    return str(verdict)


def test_kill_9_loses_nothing(lab: tuple[Cluster, Proxy], kpipe: Kpipe, seed: int, note) -> None:
    """After kill -9 at random points a restart goes on where the commits were: duplicates only, and boundedly many."""
    cluster, _ = lab
    chance = random.Random(seed)
    source, records = fill(cluster, RUNS * 12_000)
    target = cluster.topic(2)
    # A static member gets its partitions back at once, and the rate keeps every run busy until it is killed.
    static = ("--instance", "lab")
    hits = 0
    for _ in range(RUNS):
        before = arrived(cluster, target)
        running = start(kpipe, cluster.bootstrap, source, target, *static, "--rate", "10000/s")
        time.sleep(chance.uniform(0.4, 1.6))
        running.signal(signal.SIGKILL)
        running.wait(10)
        hits += arrived(cluster, target) > before
    finish(kpipe, cluster.bootstrap, source, target, *static)
    assert hits > RUNS // 2, f"only {hits} of {RUNS} runs were killed in mid-stream"
    # Per kill: what was settled since the last commit (a second at this rate), and what was in flight.
    verdict = check(cluster, records, target, duplicates=RUNS * 30_000)
    note("kill -9 of forward at random points", RUNS, verdict, "0 lost, repeats only of what was not committed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_mid_stream_neither_loses_nor_repeats(
    lab: tuple[Cluster, Proxy], kpipe: Kpipe, number: signal.Signals, note
) -> None:
    """A signal drains: what was read is delivered and committed, so the next run repeats nothing."""
    cluster, _ = lab
    source, records = fill(cluster, RECORDS)
    target = cluster.topic(2)
    running = start(kpipe, cluster.bootstrap, source, target)
    until(lambda: arrived(cluster, target) > 0, "records at the target", WAIT)
    running.signal(number)
    assert running.wait(20).code == -number, running.err
    finish(kpipe, cluster.bootstrap, source, target)
    note(f"{number.name} mid-stream", 1, check(cluster, records, target, duplicates=0), "0 lost, 0 twice")


def test_broker_killed_and_restarted(lab: tuple[Cluster, Proxy], kpipe: Kpipe, note) -> None:
    """kill -9 of the broker: the idempotent producer goes on where it was when the broker is back."""
    cluster, _ = lab
    source, records = fill(cluster, RECORDS)
    target = cluster.topic(2)
    running = start(kpipe, cluster.bootstrap, source, target)
    until(lambda: arrived(cluster, target) > 0, "records at the target", WAIT)
    cluster.broker.kill()
    time.sleep(1)
    cluster.broker.start()
    running.wait_for(lambda: arrived(cluster, target) >= RECORDS, WAIT, "all records at the target")
    running.signal(signal.SIGTERM)
    assert running.wait(30).code in (-signal.SIGTERM, 1), running.err
    finish(kpipe, cluster.bootstrap, source, target)
    verdict = check(cluster, records, target, duplicates=RECORDS)
    note("broker kill -9 and restart", 1, verdict, "0 lost")


def test_broker_frozen(lab: tuple[Cluster, Proxy], kpipe: Kpipe, note) -> None:
    """A broker that stands still for a while costs time, nothing else."""
    cluster, _ = lab
    seconds = 8.0 if RUNS < 50 else 30.0
    source, records = fill(cluster, RECORDS)
    target = cluster.topic(2)
    running = start(kpipe, cluster.bootstrap, source, target)
    until(lambda: arrived(cluster, target) > 0, "records at the target", WAIT)
    cluster.broker.pause()
    time.sleep(seconds)
    cluster.broker.resume()
    running.wait_for(lambda: arrived(cluster, target) >= RECORDS, WAIT, "all records at the target")
    running.signal(signal.SIGTERM)
    assert running.wait(30).code == -signal.SIGTERM, running.err
    finish(kpipe, cluster.bootstrap, source, target)
    verdict = check(cluster, records, target, duplicates=0)
    note(f"broker SIGSTOP for {seconds:.0f} s", 1, verdict, "0 lost, 0 twice")


def test_frozen_broker_does_not_hold_the_end_up(lab: tuple[Cluster, Proxy], kpipe: Kpipe, note) -> None:
    """SIGTERM with a frozen broker: the drain deadline holds, unknown records are counted, the next run brings them."""
    cluster, _ = lab
    source, records = fill(cluster, RECORDS)
    target = cluster.topic(2)
    running = start(kpipe, cluster.bootstrap, source, target, "--drain-timeout", "3")
    until(lambda: arrived(cluster, target) > 0, "records at the target", WAIT)
    cluster.broker.pause()
    began = time.monotonic()
    running.signal(signal.SIGTERM)
    code = running.wait(15).code
    took = time.monotonic() - began
    cluster.broker.resume()
    assert code in (1, 4, -signal.SIGTERM), running.err
    assert took < 3 + 4, took
    finish(kpipe, cluster.bootstrap, source, target)
    verdict = check(cluster, records, target, duplicates=RECORDS)
    note("SIGTERM while the broker is frozen", 1, f"{verdict}; ended after {took:.1f} s", "ends within the deadline")


def test_connections_reset_under_load(lab: tuple[Cluster, Proxy], kpipe: Kpipe, seed: int, note) -> None:
    """RST at random moments: idempotence lets the broker drop what it has already."""
    cluster, proxy = lab
    chance = random.Random(seed)
    source, records = fill(cluster, RECORDS)
    target = cluster.topic(2)
    running = start(kpipe, proxy.address, source, target)
    for _ in range(max(4, RUNS)):
        time.sleep(chance.uniform(0.2, 1.0))
        proxy.reset_all()
    running.wait_for(lambda: arrived(cluster, target) >= RECORDS, WAIT, "all records at the target")
    running.signal(signal.SIGTERM)
    assert running.wait(30).code == -signal.SIGTERM, running.err
    finish(kpipe, cluster.bootstrap, source, target)
    verdict = check(cluster, records, target, duplicates=FENCED)
    note("connections reset under load", max(4, RUNS), verdict, "0 lost, repeats only of what was not committed")


def test_answers_cut_after_the_request(lab: tuple[Cluster, Proxy], kpipe: Kpipe, note) -> None:
    """The broker did what was asked, and the answer never came: the hardest case for duplicates."""
    cluster, proxy = lab
    source, records = fill(cluster, RECORDS)
    target = cluster.topic(2)
    running = start(kpipe, proxy.address, source, target)
    until(lambda: arrived(cluster, target) > 0, "records at the target", WAIT)
    before = proxy.cuts
    for _ in range(max(4, RUNS)):
        proxy.cut_answers(1)
        time.sleep(0.3)
    proxy.heal()
    running.wait_for(lambda: arrived(cluster, target) >= RECORDS, WAIT, "all records at the target")
    running.signal(signal.SIGTERM)
    assert running.wait(30).code == -signal.SIGTERM, running.err
    finish(kpipe, cluster.bootstrap, source, target)
    assert proxy.cuts > before
    verdict = check(cluster, records, target, duplicates=FENCED)
    note(
        "answer cut after the request was done",
        proxy.cuts - before,
        verdict,
        "0 lost, repeats only of what was not committed",
    )


def test_slow_and_thin_network(lab: tuple[Cluster, Proxy], kpipe: Kpipe, note) -> None:
    """Latency and little bandwidth: slower, bounded memory, still a member of the group."""
    cluster, proxy = lab
    source, records = fill(cluster, 5_000)
    target = cluster.topic(2)
    proxy.latency_s, proxy.bytes_per_s = 0.05, 400_000
    done = kpipe("forward", "-b", proxy.address, "-G", f"g-{target}", "-e", source, target, timeout=120)
    proxy.heal()
    assert done.code == 0, done.err
    note("50 ms latency, 400 kB/s", 1, check(cluster, records, target, duplicates=0), "0 lost, 0 twice")


def test_silent_network(lab: tuple[Cluster, Proxy], kpipe: Kpipe, note) -> None:
    """A black hole for a while: nothing is given up while forward runs."""
    cluster, proxy = lab
    source, records = fill(cluster, RECORDS)
    target = cluster.topic(2)
    running = start(kpipe, proxy.address, source, target)
    until(lambda: arrived(cluster, target) > 0, "records at the target", WAIT)
    proxy.silent = True
    time.sleep(6)
    proxy.silent = False
    running.wait_for(lambda: arrived(cluster, target) >= RECORDS, WAIT, "all records at the target")
    running.signal(signal.SIGTERM)
    assert running.wait(30).code == -signal.SIGTERM, running.err
    finish(kpipe, cluster.bootstrap, source, target)
    note("black hole for 6 s", 1, check(cluster, records, target, duplicates=0), "0 lost, 0 twice")


def test_members_come_and_go_under_load(lab: tuple[Cluster, Proxy], kpipe: Kpipe, seed: int, note) -> None:
    """Two or three members; one is killed or stopped at random: partitions move, nothing is lost."""
    cluster, _ = lab
    chance = random.Random(seed)
    source, records = fill(cluster, RECORDS)
    target = cluster.topic(2)
    members = [start(kpipe, cluster.bootstrap, source, target, *QUICK) for _ in range(2)]
    for _ in range(max(3, min(RUNS, 10))):
        time.sleep(chance.uniform(0.5, 1.5))
        leaving = members.pop(chance.randrange(len(members)))
        leaving.signal(chance.choice([signal.SIGTERM, signal.SIGKILL]))
        leaving.wait(20)
        members.append(start(kpipe, cluster.bootstrap, source, target, *QUICK))
    for member in members:
        member.signal(signal.SIGTERM)
    for member in members:
        member.wait(30)
    finish(kpipe, cluster.bootstrap, source, target, *QUICK)
    verdict = judge(records, cluster.read(target))
    assert (verdict.lost, verdict.altered) == (0, 0), verdict
    note("members join, leave and die under load", max(3, min(RUNS, 10)), verdict, "0 lost, repeats bounded")


def test_target_deleted_mid_run(lab: tuple[Cluster, Proxy], kpipe: Kpipe, note) -> None:
    """The target vanishes: the run stops or waits, and what it commits it has delivered."""
    cluster, _ = lab
    source, _ = fill(cluster, RECORDS)
    target = cluster.topic(2)
    running = start(kpipe, cluster.bootstrap, source, target, "--drain-timeout", "3")
    until(lambda: arrived(cluster, target) > 0, "records at the target", WAIT)
    cluster.admin.delete_topics([target])[target].result(20)
    deadline = time.monotonic() + 25
    while running.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if running.process.poll() is None:
        running.signal(signal.SIGTERM)
    code = running.wait(20).code
    committed = sum(cluster.committed(f"g-{target}", source).values())
    assert code == 1, running.err
    assert committed < RECORDS
    note("target topic deleted", 1, f"exit {code}, {committed} of {RECORDS} committed", "exit 1, nothing skipped")


def test_record_too_large_for_the_target_only(lab: tuple[Cluster, Proxy], kpipe: Kpipe, note) -> None:
    """The record that the target refuses is named; those before it are delivered and committed."""
    cluster, _ = lab
    source = cluster.topic(1)
    cluster.write(source, [b"a" * 10] * 100 + [b"b" * 50_000] + [b"c" * 10] * 100)
    target = cluster.topic(1, max_message_bytes=20_000)
    done = kpipe("forward", "-b", cluster.bootstrap, "-G", f"g-{target}", "-e", source, target)
    assert done.code == 1
    assert f"{source}[0]@100" in done.err, done.err
    assert cluster.committed(f"g-{target}", source) == {0: 100}
    note("record too large for the target only", 1, "exit 1, committed up to it, named", "nothing past it is committed")

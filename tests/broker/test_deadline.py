"""One deadline for a drain, whatever hangs: each call of the client in turn, a frozen cluster of dead letters, patterns.

A run that got a signal ends within --drain-timeout and a second, and always says what became of every record.
"""

from __future__ import annotations

import signal
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec, until
from tests.broker.lab.runs import balance
from tests.faults.watch import watching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe, Running

DRAIN = 1.5
"""--drain-timeout of these runs."""
SECOND = 1.0
MACHINE = 0.75
"""Seconds that a crowded machine may add."""
HANGING = '''
"""The client with one call that hangs, once a file is there: what a frozen broker or a bug of the library can do."""
import os, time
import confluent_kafka

kind, name = os.environ["SLOW_CALL"].split(".")
base = getattr(confluent_kafka, kind)
real = getattr(base, name)

class Slow(base):
    pass

def hang(self, *arguments, **named):
    if os.path.exists(os.environ["SLOW_MARK"]):
        open(os.environ["SLOW_MARK"] + ".met", "w").close()
        time.sleep(60)
    return real(self, *arguments, **named)

setattr(Slow, name, hang)
setattr(confluent_kafka, kind, Slow)
'''
PLAIN = [
    "Producer.flush", "Producer.poll", "Producer.purge", "Producer.close", "Producer.produce", "Consumer.consume",
    "Consumer.commit", "Consumer.committed", "Consumer.close", "Consumer.unsubscribe", "Consumer.assignment",
    "Consumer.poll", "Consumer.pause",
]  # fmt: skip
EXACTLY_ONCE = [
    "Producer.send_offsets_to_transaction", "Producer.commit_transaction", "Producer.abort_transaction",
    "Producer.begin_transaction", "Producer.flush", "Consumer.consumer_group_metadata", "Consumer.close",
]  # fmt: skip
RESUME = ["Consumer.list_topics", "Consumer.get_watermark_offsets", "Consumer.committed", "Consumer.close"]


def ended_in_time(running: Running, drain: float = DRAIN) -> int:
    """Signal a run and see it end; returns its code."""
    began = time.monotonic()
    running.signal(signal.SIGTERM)
    code = running.wait(30).code
    took = time.monotonic() - began
    assert took < drain + SECOND + MACHINE, f"{took:.1f} s: {running.err}"
    assert "Traceback" not in running.err
    assert "KafkaError{" not in running.err
    return code


def hanging(tmp_path: Path, call: str) -> dict[str, str]:
    home = tmp_path / "slow"
    home.mkdir()
    (home / "sitecustomize.py").write_text(HANGING)
    return {"PYTHONPATH": str(home), "SLOW_CALL": call, "SLOW_MARK": str(tmp_path / "mark")}


@pytest.mark.parametrize(
    ("way", "call"),
    [
        *(pytest.param((), call, id=call) for call in PLAIN),
        *(pytest.param(("--exactly-once",), call, id=f"exactly-once-{call}") for call in EXACTLY_ONCE),
        *(pytest.param(("--resume-by-trace",), call, id=f"resume-{call}") for call in RESUME),
    ],
)
def test_a_call_of_the_client_that_hangs_does_not_outlast_the_drain(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path, way: tuple[str, ...], call: str
) -> None:
    source, target, name = kafka.topic(), kafka.topic(), f"g-{uuid.uuid4().hex[:8]}"
    kafka.write(source, [Rec(b"%05d" % number) for number in range(6000)])
    pace = ("-X", "target.queue.buffering.max.messages=50", "-X", "target.linger.ms=50")
    summary = tmp_path / "summary.json"
    running = kpipe.at(kafka.bootstrap).start(
        "forward", "-G", name, *way, *pace, "--drain-timeout", str(DRAIN), "--summary", summary, source, target,
        env=hanging(tmp_path, call),
    )  # fmt: skip
    with watching(kafka.bootstrap) as watch:
        running.wait_for(lambda: watch.arrived(target, 1) or 0, 30, "the first record in the target")
        (tmp_path / "mark").touch()
        ended_in_time(running)
    found = balance(summary)
    committed = kafka.committed(name, source).get(0, 0)
    assert 0 <= committed <= found["delivered"] + found["unknown"]
    assert committed <= len(kafka.read(target))


def test_a_full_frozen_dead_letter_cluster_does_not_outlast_the_drain(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, tmp_path: Path
) -> None:
    """A wait for room asked nobody, and began anew for each record: 3 s became 29."""
    source, target, letters = kafka.topic(), kafka.topic(), kafka_b.topic()
    kafka.write(source, [Rec(b"bad %d" % number) for number in range(3000)])
    config = f'[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n"queue.buffering.max.messages" = "10"\n'
    summary = tmp_path / "summary.json"
    kafka_b.broker.resume()
    running = kpipe.start(
        "forward", "-b", kafka.bootstrap, "-G", "dl-frozen", "--key-field", ".a", "--on-error", f"dlq:b:{letters}",
        "--drain-timeout", str(DRAIN), "--summary", summary, source, target, config=config,
    )  # fmt: skip
    with watching(kafka_b.bootstrap) as watch:
        running.wait_for(lambda: watch.arrived(letters, 1) or 0, 30, "the first letter")
    kafka_b.broker.pause()
    time.sleep(0.3)  # until the queue is full; longer only makes it fuller
    code = ended_in_time(running)
    kafka_b.broker.resume()
    found = balance(summary)
    assert code == 1, running.err
    assert found["failed"] + found["unknown"] > 0
    with watching(kafka_b.bootstrap) as watch:
        until(lambda: watch.arrived(letters, 1), "the letters' cluster is back")
        arrived = watch.arrived(letters, 1) or 0
    assert kafka.committed("dl-frozen", source).get(0, 0) <= arrived


def test_who_waits_for_dead_letters_stays_in_the_group(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, tmp_path: Path
) -> None:
    """A member that did not poll while the letters' cluster took nothing was thrown out, and its records came twice."""
    source, target, letters = kafka.topic(), kafka.topic(), kafka_b.topic()
    count = 2000
    kafka.write(source, [Rec(b"bad %d" % number) for number in range(count)])
    config = f'[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n"queue.buffering.max.messages" = "10"\n'
    impatient = ("-X", "source.max.poll.interval.ms=6000", "-X", "source.session.timeout.ms=6000")
    running = kpipe.start(
        "forward", "-b", kafka.bootstrap, "-G", "dl-slow", "-e", "-v", *impatient, "--key-field", ".a",
        "--on-error", f"dlq:b:{letters}", source, target, config=config,
    )  # fmt: skip
    with watching(kafka_b.bootstrap) as watch:
        running.wait_for(lambda: watch.arrived(letters, 1) or 0, 30, "the first letter")
    kafka_b.broker.pause()
    time.sleep(9)  # longer than a member may be silent
    kafka_b.broker.resume()
    done = running.wait(60)
    assert done.code == 0, done.err
    assert f"{count:,} dead-lettered" in done.err
    assert len({record.value for record in kafka_b.read(letters)}) == len(kafka_b.read(letters)) == count
    assert kafka.committed("dl-slow", source) == {0: count}


SLOW = b"a" * 60 + b"!"


@pytest.mark.parametrize("command", ["produce", "consume", "forward", "forward --exactly-once"])
def test_patterns_that_backtrack_answer_a_signal(kafka: Cluster, kpipe: Kpipe, tmp_path: Path, command: str) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, [Rec(SLOW) for _ in range(200)])
    summary = tmp_path / "summary.json"
    options = ("--grep", "(a+)+$", "--on-error", "skip", "--drain-timeout", str(DRAIN), "--summary", summary)
    name, *way = command.split()
    grouped = () if name == "produce" else ("-G", f"g-{uuid.uuid4().hex[:8]}")
    places = {"produce": (target,), "consume": (source,), "forward": (source, target)}[name]
    running = kpipe.at(kafka.bootstrap).start(name, *grouped, *way, *options, *places)
    if name == "produce":
        running.write((SLOW + b"\n") * 200)
    running.wait_until_busy(2)  # a batch of 200 takes 100 s
    code, found = ended_in_time(running), balance(summary)
    assert code == 1
    assert found["read"] > 0
    assert found["delivered"] == 0
    if grouped:
        assert kafka.committed(grouped[1], source).get(0, 0) < 200


def test_a_record_on_which_a_pattern_backtracks_is_bad_and_the_next_go_on(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, [b"aaa", SLOW, b"aa"])
    done = kpipe.at(kafka.bootstrap)(
        "forward", "-G", "slow-one", "-e", "-v", "--grep", "(a+)+$", "--on-error", "skip", source, target
    )
    assert "2 delivered, 1 failed" in done.err
    assert "backtracks" in done.err
    assert [record.value for record in kafka.read(target)] == [b"aaa", b"aa"]
    assert kafka.committed("slow-one", source) == {0: 3}


def test_a_jq_program_that_loops_answers_a_signal(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, [b"%d" % number for number in range(1, 50)])
    summary = tmp_path / "summary.json"
    running = kpipe.at(kafka.bootstrap).start(
        "forward", "-G", "jq-loops", "--map", "until(. == 0; . + 1)", "--on-error", "skip",
        "--drain-timeout", str(DRAIN), "--summary", summary, source, target,
    )  # fmt: skip
    running.wait_until_busy(2)
    assert ended_in_time(running) == 1
    assert balance(summary)["delivered"] == 0

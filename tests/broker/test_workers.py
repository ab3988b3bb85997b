"""`forward --workers N`: one command, one report, one exit code, whatever becomes of a process."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Cluster, Rec, until
from tests.broker.lab.processes import children, is_running
from tests.broker.lab.runs import group

if TYPE_CHECKING:
    from tests.conftest import Kpipe


def keyed(first: int, last: int) -> list[Rec]:
    return [Rec(b"%d" % n, key=b"k%d" % n, partition=n % 4) for n in range(first, last)]


def offsets_at_the_target(kafka: Cluster, target: str) -> dict[int, list[int]]:
    """Source offsets by source partition, in the order of the target."""
    found: dict[int, list[int]] = {}
    for each in kafka.read(target):
        headers = dict(each.headers)
        found.setdefault(int(headers["source_partition"] or 0), []).append(int(headers["source_offset"] or 0))
    return found


def test_workers_share_the_partitions_and_report_as_one(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    source, target, summary, name = kafka.topic(4), kafka.topic(4), tmp_path / "s.json", group()
    kafka.write(source, keyed(0, 2000))

    run = kpipe.at(kafka.bootstrap)(
        "forward", "--workers", "2", "-e", "-v", "-G", name, "--summary", summary, "--to-partition", "same",
        source, target,
    )  # fmt: skip

    assert run.code == 0, run.err
    assert "2,000 read, 2,000 delivered, 0 failed" in run.err
    found = json.loads(summary.read_text())
    assert (found["read"], found["delivered"], found["workers"], found["restarts"]) == (2000, 2000, 2, 0)
    assert offsets_at_the_target(kafka, target) == {partition: list(range(500)) for partition in range(4)}
    assert kafka.committed(name, source) == dict.fromkeys(range(4), 500)


@pytest.mark.parametrize("instance", [[], ["--instance", "blue"]], ids=["dynamic", "static"])
def test_a_worker_that_is_killed_starts_again_and_nothing_is_lost(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path, instance: list[str]
) -> None:
    source, target, name, summary = kafka.topic(4), kafka.topic(4), group(), tmp_path / "s.json"
    kafka.write(source, keyed(0, 1000))
    run = kpipe.at(kafka.bootstrap).start(
        "forward", "--workers", "2", *instance, "-G", name, "-X", "source.session.timeout.ms=6000",
        "-X", "source.heartbeat.interval.ms=300", "--summary", summary, "--to-partition", "same", source, target,
    )  # fmt: skip
    kafka.read(target, at_least=1000)
    until(lambda: sum(kafka.committed(name, source).values()) == 1000, "committed")

    os.kill(children(run.pid)[0], signal.SIGKILL)
    run.wait_for_stderr("died by SIGKILL; starting it again in 0.5 s")
    kafka.write(source, keyed(1000, 2000))
    run.wait_for(lambda: len(children(run.pid)) == 2, 20, "a new worker")
    kafka.read(target, at_least=2000, timeout=60)
    run.signal(signal.SIGTERM)
    result = run.wait()

    assert result.code == -signal.SIGTERM, result.err
    assert offsets_at_the_target(kafka, target) == {partition: list(range(500)) for partition in range(4)}
    found = json.loads(summary.read_text())
    assert (found["restarts"], found["signal"], found["unknown"]) == (1, "SIGTERM", 0)
    assert kafka.committed(name, source) == dict.fromkeys(range(4), 500)


def test_workers_drain_when_their_supervisor_is_killed(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, name = kafka.topic(4), kafka.topic(4), group()
    kafka.write(source, keyed(0, 1000))
    run = kpipe.at(kafka.bootstrap).start("forward", "--workers", "2", "-G", name, source, target)
    kafka.read(target, at_least=1000)
    workers = children(run.pid)
    assert len(workers) == 2

    run.signal(signal.SIGKILL)
    run.process.wait(10)

    until(lambda: not any(is_running(pid) for pid in workers), "the workers end")
    assert kafka.committed(name, source) == dict.fromkeys(range(4), 250)


def test_one_workers_failure_is_the_runs_and_the_others_drain(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    source, target, summary = kafka.topic(4), kafka.topic(4), tmp_path / "s.json"
    kafka.write(source, [Rec(b"1", partition=n) for n in range(4)])
    kafka.write(source, [Rec(b"not json", partition=2)])

    run = kpipe.at(kafka.bootstrap)(
        "forward", "--workers", "2", "-G", group(), "--map", ".", "--summary", summary, source, target
    )

    assert run.code == 3, run.err
    assert f"{source}[2]@1" in run.err
    assert run.err.count("worker ") >= 1
    found = json.loads(summary.read_text())
    assert found["failed"] == 1
    assert found["read"] == found["delivered"] + 1


@pytest.mark.parametrize(
    ("arguments", "said"), [([], "-G"), (["-G", "g", "-p", "0"], "-p"), (["-G", "g", "-c", "1"], "-c")]
)
def test_what_workers_cannot_do(kpipe: Kpipe, arguments: list[str], said: str) -> None:
    run = kpipe("forward", "--workers", "2", *arguments, "a", "b")
    assert run.code == 2
    assert f"drop {said}" in run.err or f"add {said}" in run.err

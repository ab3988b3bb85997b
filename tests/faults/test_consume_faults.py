"""`kpipe consume -G` before a full disk, a reader that leaves, a reader that sleeps, and kill -9.

It commits what it has written to stdout, never more: what a later run prints begins where the written records end.
"""

from __future__ import annotations

import fcntl
import os
import random
import resource
import select
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.leash import leashed
from tests.broker.lab.runs import close_pipe
from tests.broker.lab.runs import group as a_group
from tests.conftest import COMMAND
from tests.faults.conftest import LONG, RECORDS, RUNS, Note
from tests.faults.course import WAIT
from tests.faults.memory import LIMIT_MIB, peak_mib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.broker.lab.cluster import Cluster, Rec
    from tests.conftest import Kpipe
    from tests.faults.proxy import Proxy

QUICK = (
    *("--group-protocol", "classic", "-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500"),
    *("-X", "max.poll.interval.ms=6000"),
)
"""So that a member that does not poll, or was killed, is out of its group after seconds."""
SLEEP = 40.0 if LONG else 16.0
"""Seconds for which a reader sleeps: longer than a member may be away."""


@pytest.fixture(scope="session")
def lines(proxied: tuple[Cluster, Proxy]) -> tuple[str, list[bytes]]:
    """A topic with one partition, and its values in order."""
    topic = proxied[0].topic(1)
    values = [b"%07d" % number for number in range(RECORDS)]
    proxied[0].write(topic, values)
    return topic, values


@pytest.fixture
def group() -> str:
    return a_group()


@contextmanager
def narrow_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that holds one page."""
    ends = os.pipe()
    inode = os.fstat(ends[0]).st_ino
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    yield ends
    close_pipe(ends, inode)


def committed(cluster: Cluster, group: str, topic: str) -> int:
    return sum(cluster.committed(group, topic).values())


def rest(kpipe: Kpipe, cluster: Cluster, group: str, topic: str) -> list[bytes]:
    """What the next run prints."""
    done = kpipe("consume", "-b", cluster.bootstrap, "-G", group, *QUICK, "-e", topic)
    assert done.code == 0, done.err
    return done.out.splitlines()


def test_stdout_is_full_from_the_start(
    lab: tuple[Cluster, Proxy], lines: tuple[str, list[bytes]], kpipe: Kpipe, group: str, note: Note
) -> None:
    (cluster, _), (topic, values) = lab, lines
    with Path("/dev/full").open("wb") as full:
        running = kpipe.start("consume", "-b", cluster.bootstrap, "-G", group, topic, stdout=full)
        ended = running.wait(30)
    assert ended.code == 1
    assert "No space left on device" in ended.err
    assert committed(cluster, group, topic) == 0
    assert rest(kpipe, cluster, group, topic) == values
    note(
        "consume",
        "stdout is /dev/full",
        "exit 1, 0 committed, the next run prints all",
        "nothing past what was written",
        records=RECORDS,
    )


def test_disk_runs_full_in_mid_stream(
    lab: tuple[Cluster, Proxy], lines: tuple[str, list[bytes]], kpipe: Kpipe, group: str, note: Note
) -> None:
    (cluster, _), (topic, values) = lab, lines
    # Python would cut its own .pyc files at the limit, and every later import would fail.
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    limit = RECORDS * 4 + 3  # half of the lines, and a bit of the next one
    options = ("-G", group, *QUICK)
    running = kpipe.start("consume", "-b", cluster.bootstrap, *options, topic, stdin=None, env=env)
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (limit, limit))
    ended = running.wait(30)
    assert ended.code == 1
    assert "File too large" in ended.err
    whole = ended.out.split(b"\n")[:-1]
    assert whole == values[: len(whole)]
    done = committed(cluster, group, topic)
    assert 0 < done == len(whole) < RECORDS
    assert rest(kpipe, cluster, group, topic) == values[done:]
    happened = f"exit 1, {len(whole):,} written, {done:,} committed, the next run prints the rest"
    note("consume", "disk full in mid-stream", happened, "nothing past what was written", records=RECORDS)


def test_reader_had_enough(
    lab: tuple[Cluster, Proxy], lines: tuple[str, list[bytes]], kpipe: Kpipe, group: str, note: Note
) -> None:
    """`| head`: what is committed was handed over, and what was not comes with the next run."""
    (cluster, _), (topic, values) = lab, lines
    script = '"$0" "$@" | head -n 1000; echo "${PIPESTATUS[0]}" >&2'
    command = ["bash", "-c", script, str(COMMAND), "consume", "-b", cluster.bootstrap, "-G", group, topic]
    done = subprocess.run(leashed(command), capture_output=True, env=kpipe.environment(), timeout=60, check=False)
    assert done.stdout.splitlines() == values[:1000]
    assert done.stderr == b"%d\n" % (128 + signal.SIGPIPE), done.stderr  # and not a word of kpipe
    handed = committed(cluster, group, topic)
    assert handed <= 1000 + 65_536 // 8 + 1, handed  # a pipe holds 64 KiB beside what head took
    assert rest(kpipe, cluster, group, topic) == values[handed:]
    happened = f"died by SIGPIPE, silent, {handed:,} committed, the next run prints the rest"
    note("consume", "reader leaves: head -n 1000", happened, "commits only what was handed over", records=RECORDS)


@pytest.mark.long
def test_reader_sleeps(
    lab: tuple[Cluster, Proxy],
    backlog: tuple[str, list[Rec]],
    kpipe: Kpipe,
    group: str,
    note: Note,
) -> None:
    """A full pipe stops reading, not membership; memory is bounded; then the reader gets everything once."""
    (cluster, _), (topic, records) = lab, backlog
    size = sum(len(record.value or b"") + 1 for record in records)
    with narrow_pipe() as (mouth, end):
        command = ("consume", "-b", cluster.bootstrap, "-G", group, *QUICK, topic)
        running = kpipe.start(*command, stdin=None, stdout=end)
        os.close(end)
        found = os.read(mouth, 4096)
        known = members(cluster, group)
        assert len(known) == 1
        began = time.monotonic()
        while time.monotonic() - began < SLEEP:
            time.sleep(0.5)
            assert members(cluster, group) == known, "thrown out of its group"
        assert running.process.poll() is None, running.err
        found += sipped(mouth, 1 << 16, WAIT, size - len(found), pause=0)
        peak = peak_mib(running.pid)
        running.signal(signal.SIGTERM)
        assert running.wait(30).code == -signal.SIGTERM, running.err
        found += drained(mouth)
    assert sorted(found.splitlines()) == sorted(record.value or b"" for record in records)
    assert committed(cluster, group, topic) == len(records)
    assert peak <= LIMIT_MIB, f"{peak} MiB"
    happened = f"still a member, {peak} MiB at most; {len(records):,} records, 0 lost, 0 twice"
    promise = f"a member, memory under {LIMIT_MIB} MiB"
    note("consume", f"reader sleeps for {SLEEP:.0f} s", happened, promise, records=len(records))


def members(cluster: Cluster, group: str) -> set[str]:
    """The ids of those who have partitions."""
    found = cluster.admin.describe_consumer_groups([group], request_timeout=10)[group].result(15)
    return {each.member_id for each in found.members if each.assignment and each.assignment.topic_partitions}


def sipped(pipe: int, sip: int, seconds: float, size: int = 1 << 40, *, pause: float = 0.05) -> bytes:
    """What comes out of a pipe in so many seconds, at most `size` bytes, `sip` at a time with pauses."""
    found, deadline = bytearray(), time.monotonic() + seconds
    while len(found) < size and time.monotonic() < deadline:
        if select.select([pipe], [], [], 0.05)[0]:
            found += os.read(pipe, sip)
        time.sleep(pause)
    return bytes(found)


def drained(pipe: int) -> bytes:
    """What is left in a pipe whose writer ended."""
    found = b""
    while block := os.read(pipe, 1 << 16):
        found += block
    return found


def test_kill_9_loses_nothing(
    lab: tuple[Cluster, Proxy],
    lines: tuple[str, list[bytes]],
    kpipe: Kpipe,
    group: str,
    chance: random.Random,
    note: Note,
) -> None:
    """What was committed was written: all runs' whole lines together are all values, in order."""
    (cluster, _), (topic, values) = lab, lines
    step, cut = len(values) // (2 * RUNS), 0
    options = ("-b", cluster.bootstrap, "-G", group, "--instance", "lab", *QUICK)
    for _ in range(RUNS):
        before = committed(cluster, group, topic)
        with narrow_pipe() as (mouth, end):
            running = kpipe.start("consume", *options, topic, stdin=None, stdout=end)
            os.close(end)
            found = sipped(mouth, step, chance.uniform(0.6, 1.9))
            running.signal(signal.SIGKILL)
            running.wait(10)
            found += drained(mouth)
        printed = found.split(b"\n")[:-1]
        after = committed(cluster, group, topic)
        assert printed == values[before : before + len(printed)]
        assert after <= before + len(printed), "committed, and never written"
        cut += bool(printed)
    done = kpipe("consume", *options, "-e", topic)
    last = done.out.splitlines()
    assert done.code == 0, done.err
    assert last == values[len(values) - len(last) :]
    assert cut > RUNS // 2
    happened = f"{RECORDS:,} records, 0 lost; each run begins where the last commit was"
    note("consume", "kill -9 at random points", happened, "nothing past what was written", runs=RUNS, records=RECORDS)

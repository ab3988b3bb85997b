"""Members of a group come and go under load: nothing is lost, every partition keeps its order, a drained leave repeats nothing."""

from __future__ import annotations

import signal
import subprocess
import threading
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Cluster, Rec, until

if TYPE_CHECKING:
    from tests.conftest import Kpipe, Running

PARTITIONS = 6
STACKS = {"PYTHONFAULTHANDLER": "1"}  # SIGABRT prints them
PROTOCOLS = {
    "cooperative": ["-X", "source.partition.assignment.strategy=cooperative-sticky"],
    "eager": ["-X", "source.partition.assignment.strategy=range"],
    "consumer": ["--group-protocol", "consumer"],
}


class Load:
    """Writes until it is told to stop."""

    def __init__(self, kafka: Cluster, topic: str) -> None:
        self.written = 0
        self._kafka, self._topic = kafka, topic
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        while not self._over.wait(0.05) and self.written < 60_000:
            self._kafka.write(self._topic, [Rec(b"x" * 100, partition=n % PARTITIONS) for n in range(300)])
            self.written += 300

    def stop(self) -> int:
        self._over.set()
        self._thread.join(30)
        return self.written


def leave(member: Running) -> None:
    """Ask it to stop; one that does not must say where it hangs."""
    member.signal(signal.SIGTERM)
    try:
        code = member.process.wait(25)
    except subprocess.TimeoutExpired:
        member.signal(signal.SIGABRT)
        member.process.wait(10)
        raise AssertionError(f"still running 25 s after SIGTERM\n{member.err}") from None
    assert code == -signal.SIGTERM, member.err


def copies(kafka: Cluster, target: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for each in kafka.read(target):
        headers = dict(each.headers)
        found.setdefault(int(headers["source_partition"] or 0), []).append(int(headers["source_offset"] or 0))
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_members_that_leave_well_neither_lose_nor_repeat(kafka: Cluster, kpipe: Kpipe, protocol: str) -> None:
    source, target, name = kafka.topic(PARTITIONS), kafka.topic(PARTITIONS), f"g-{uuid.uuid4().hex[:8]}"
    quick = [] if protocol == "consumer" else ["-X", "source.heartbeat.interval.ms=200"]
    arguments = ["forward", "-G", name, *PROTOCOLS[protocol], *quick, "--to-partition", "same", source, target]
    kpipe = kpipe.at(kafka.bootstrap)
    load = Load(kafka, source)
    members = [kpipe.start(*arguments, env=STACKS)]
    for change in ("join", "join", "leave", "join", "leave"):
        seen = kafka.count(target)
        until(lambda: kafka.count(target) > seen + 600, "records go on", 40)  # noqa: B023
        if change == "join":
            members.append(kpipe.start(*arguments, env=STACKS))
        else:
            leave(members.pop(0))
    written = load.stop()
    until(lambda: kafka.count(target) >= written, "all is copied", 60)
    for member in members:
        leave(member)

    each = written // PARTITIONS
    assert copies(kafka, target) == {partition: list(range(each)) for partition in range(PARTITIONS)}
    assert kafka.committed(name, source) == dict.fromkeys(range(PARTITIONS), each)


def test_a_member_that_is_killed_repeats_at_most_what_it_had_not_committed(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, name = kafka.topic(PARTITIONS), kafka.topic(PARTITIONS), f"g-{uuid.uuid4().hex[:8]}"
    arguments = ["forward", "-G", name, "-X", "source.session.timeout.ms=3000", "-X", "source.heartbeat.interval.ms=200",
                 "--to-partition", "same", source, target]  # fmt: skip
    kpipe = kpipe.at(kafka.bootstrap)
    load = Load(kafka, source)
    first, second = kpipe.start(*arguments, env=STACKS), kpipe.start(*arguments, env=STACKS)
    until(lambda: kafka.count(target) > 2000, "records go", 40)
    first.signal(signal.SIGKILL)
    seen = kafka.count(target)
    until(lambda: kafka.count(target) > seen + 2000, "records go on", 40)
    written = load.stop()
    each = written // PARTITIONS
    whole = {partition: set(range(each)) for partition in range(PARTITIONS)}
    until(lambda: {p: set(found) for p, found in copies(kafka, target).items()} == whole, "all is copied", 60)
    leave(second)

    for found in copies(kafka, target).values():
        first_seen = list(dict.fromkeys(found))
        assert first_seen == sorted(first_seen)
        rewinds = [place for place in range(1, len(found)) if found[place] <= found[place - 1]]
        assert len(rewinds) <= 1  # one step back to a committed offset, no shuffle

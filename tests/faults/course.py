"""One course of `kpipe forward -G` from a full source to a target of its own: start it, disturb it, finish it, judge it."""

from __future__ import annotations

import json
import signal
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.faults.oracle import Verdict, judge
from tests.faults.watch import watching

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.broker.lab.cluster import Cluster, Rec
    from tests.conftest import Kpipe, Running

WAIT = 90.0
QUICK = ("-X", "source.session.timeout.ms=6000", "-X", "source.heartbeat.interval.ms=500")
"""So that the partitions of a member that was killed are free after seconds."""


def paced_by_rate(a_second: float) -> tuple[str, ...]:
    """So slow that a fault comes in mid-stream."""
    return ("--rate", f"{max(1, int(a_second))}/s")


def paced_by_queue(a_second: float) -> tuple[str, ...]:
    """A transaction takes no --rate: its pace is that of a short queue which is sent every 20 ms."""
    return ("-X", f"target.queue.buffering.max.messages={max(5, int(a_second / 50))}", "-X", "target.linger.ms=20")


@dataclass(frozen=True)
class Way:
    """A promise of forward, the options that ask for it, and how to make it slow."""

    command: str
    options: tuple[str, ...]
    pace: Callable[[float], tuple[str, ...]]
    repeats: bool

    def allowed(self, records: int) -> int:
        """How many records may come twice, where at-least-once allows so many."""
        return records if self.repeats else 0

    def promise(self, repeats: str = "repeats only of what was not committed") -> str:
        """In the words of the table."""
        return f"0 lost, {repeats if self.repeats else '0 twice'}, order kept"


SMALL = ("--txn-interval", "0.2", "--txn-records", "1000")
"""Many small transactions, for more places to be hit in."""
AT_LEAST_ONCE = Way("forward", (), paced_by_rate, repeats=True)
EXACTLY_ONCE = Way("forward --exactly-once", ("--exactly-once", *SMALL), paced_by_queue, repeats=False)
FLAT_OUT = Way("forward", (), lambda _a_second: (), repeats=True)
BOTH = pytest.mark.parametrize("way", [AT_LEAST_ONCE, EXACTLY_ONCE], ids=["at-least-once", "exactly-once"])


@dataclass
class Course:
    """`stock` is the source topic with its records, `seconds` how long a run is busy with all of them.

    `options` and `env` are those of every run, `address` is where it connects; with `target_address` source and target
    are two clusters to it, so that what happens to the network happens to the target only.
    """

    kpipe: Kpipe
    cluster: Cluster
    stock: tuple[str, list[Rec]]
    way: Way
    seconds: float = 3.0
    options: tuple[str, ...] = ()
    address: str = ""
    target_address: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source, self.records = self.stock
        self.target = self.cluster.topic(2)
        self.group = f"g-{uuid.uuid4().hex[:8]}"
        self.address = self.address or self.cluster.bootstrap

    def start(self, *more: str, env: Mapping[str, str] | None = None) -> Running:
        """Start a run that follows the source, at the pace of the course."""
        pace = self.way.pace(len(self.records) / self.seconds)
        command = self._command(*pace, *more)
        return self.kpipe.start(*command, stdin=None, env={**self.env, **(env or {})}, config=self._config())

    def finish(self, *more: str, env: Mapping[str, str] | None = None) -> None:
        """Whatever happened before, one undisturbed run brings the rest."""
        command = self._command("-e", *more)
        done = self.kpipe(*command, env={**self.env, **(env or {})}, config=self._config(), timeout=150)
        assert done.code == 0, done.err

    def _command(self, *more: str) -> list[str]:
        options = ["-G", self.group, *self.way.options, *self.options, *more]
        if self.target_address:
            return ["forward", *options, f"source:{self.source}", f"target:{self.target}"]
        return ["forward", "-b", self.address, *options, self.source, self.target]

    def _config(self) -> str | None:
        if not self.target_address:
            return None
        sides = {"source": self.address, "target": self.target_address}
        return "".join(f'[clusters.{side}]\n"bootstrap.servers" = "{address}"\n' for side, address in sides.items())

    def arrived(self) -> int:
        """How far the target's partitions have grown; transaction markers count, too. 0 when nobody answers."""
        with watching(self.cluster.bootstrap) as watch:
            return watch.arrived(self.target, 2) or 0

    def committed(self) -> int:
        """How many records the group has committed; 0 when nobody answers."""
        with watching(self.cluster.bootstrap, self.group) as watch:
            return watch.committed(self.source, 3) or 0

    def under_way(self, running: Running, arrived: int = 1) -> None:
        """Wait until a run is in mid-stream, so that what comes next disturbs it."""
        running.wait_for(slowly(lambda: self.arrived() >= arrived), WAIT, "records at the target")
        before = self.committed()
        assert before < len(self.records), "the run was over before the fault"

    def to_the_end(self, running: Running) -> None:
        """Wait until every record is committed; a disturbed run takes its course anew at its pace, or slower."""
        patience = WAIT + 2 * self.seconds
        try:
            running.wait_for(slowly(lambda: self.committed() >= len(self.records)), patience, "every record committed")
        except AssertionError as error:
            error.add_note(f"the target ends at {self.arrived()}, {self.committed()} are committed")
            raise

    def check(self, *, duplicates: int) -> Verdict:
        """Judge the target, twice; the two judges must agree."""
        verdict = judge(self.records, self.cluster.read(self.target))
        self._ask_verify(verdict)
        assert (verdict.lost, verdict.disorder, verdict.altered) == (0, 0, 0), verdict
        assert verdict.duplicates <= duplicates, verdict
        return verdict

    def _ask_verify(self, verdict: Verdict) -> None:
        done = self.kpipe("verify", "-b", self.cluster.bootstrap, "-J", self.source, self.target)
        found = json.loads(done.out)
        ours = {
            "missing": verdict.lost,
            "duplicated": verdict.duplicates,
            "reordered": verdict.disorder,
            "altered": verdict.altered,
            "extra": 0,
            "foreign": 0,
        }
        assert {name: found[name] for name in ours} == ours, "verify and the oracle do not agree"
        assert done.code == (5 if any(ours.values()) else 0), done.err


def slowly(condition: Callable[[], object]) -> Callable[[], object]:
    """Ask some five times a second: the broker has other work."""

    def asked() -> object:
        time.sleep(0.15)
        return condition()

    return asked


def stop(running: Running) -> None:
    """End a run that is well."""
    running.signal(signal.SIGTERM)
    assert running.wait(30).code == -signal.SIGTERM, running.err


def stop_frozen(cluster: Cluster, running: Running) -> float:
    """End a run while the broker is frozen; returns how many seconds it took."""
    cluster.broker.pause()
    began = time.monotonic()
    running.signal(signal.SIGTERM)
    code = running.wait(WAIT).code
    took = time.monotonic() - began
    cluster.broker.resume()
    assert code in (1, 4, -signal.SIGTERM), running.err
    return took

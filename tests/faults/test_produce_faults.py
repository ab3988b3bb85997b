"""`kpipe produce` while its broker dies, freezes or is cut off: every line is in the topic once, in order.

The source is stdin, so a line is known by the number that its value ends with.
"""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec, until
from tests.faults.conftest import DISTURBED, FAT, FREEZE, LONG, RUNS, Note
from tests.faults.course import WAIT, slowly
from tests.faults.memory import LIMIT_MIB, peak_mib
from tests.faults.oracle import Verdict, judge, numbered
from tests.faults.proxy import disturbed
from tests.faults.watch import watching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe, Running
    from tests.faults.proxy import Proxy

LINES = 60_000 if LONG else 20_000
INPUTS = pytest.mark.parametrize("form", ["lines", "json"])
OPTIONS = {"lines": ("-K", ":"), "json": ("--input", "json")}


@dataclass
class Input:
    """Numbered records and the bytes that `produce` reads them from."""

    form: str
    records: list[Rec]

    @property
    def blocks(self) -> list[bytes]:
        return [self._encode(record) for record in self.records]

    def _encode(self, record: Rec) -> bytes:
        key, value = record.key or b"", record.value or b""
        if self.form == "lines":
            return key + b":" + value + b"\n"
        fields = {
            "key": key.decode(),
            "value": value.decode(),
            "timestamp": record.timestamp,
            "headers": record.headers,
        }
        return json.dumps(fields, default=bytes.decode).encode() + b"\n"

    def judge(self, target: list[Rec], count: int | None = None) -> Verdict:
        """Against the first `count` records; without it all of them must be there."""
        verdict = judge(self.records[:count], target, numbered)
        assert (verdict.lost, verdict.disorder, verdict.altered) == (0, 0, 0), verdict
        return verdict


def numbers(form: str, count: int, padding: int = 0) -> Input:
    headers = (("h", "ü".encode()), ("h", None)) if form == "json" else ()
    # An hour old: a broker that crashed forgets producers whose newest record is older than a day, and then takes what
    # it has already (producer.id.expiration.ms).
    times = int(time.time() - 3600) * 1000 if form == "json" else -1
    return Input(
        form,
        [
            Rec(
                b"x" * padding + b"%07d" % n,
                key=b"key-%d" % (n % 97),
                headers=headers,
                timestamp=times + n if times > 0 else -1,
                partition=0,
                offset=n,
            )
            for n in range(count)
        ],
    )


@pytest.fixture
def topic(lab: tuple[Cluster, Proxy]) -> str:
    return lab[0].topic(2)


def start(kpipe: Kpipe, address: str, topic: str, given: Input, *more: str) -> Running:
    """Start it with all of its input in a file, at a rate at which it takes three seconds."""
    path = kpipe.home / "input"
    path.write_bytes(b"".join(given.blocks))
    with path.open("rb") as stdin:
        options = (*OPTIONS[given.form], *(more or ("--rate", f"{len(given.records) // 3}/s")))
        return kpipe.start("produce", "-b", address, *options, topic, stdin=stdin)


def arrived(cluster: Cluster, topic: str) -> int:
    with watching(cluster.bootstrap) as watch:
        return watch.arrived(topic, 2) or 0


def under_way(cluster: Cluster, topic: str, running: Running) -> None:
    running.wait_for(slowly(lambda: arrived(cluster, topic) > 0), WAIT, "records at the target")
    assert running.process.poll() is None, "the run was over before the fault"


def ended_well(cluster: Cluster, topic: str, running: Running, given: Input) -> Verdict:
    done = running.wait(WAIT)
    assert done.code == 0, done.err
    verdict = given.judge(cluster.read(topic))
    assert verdict.duplicates == 0, verdict
    return verdict


@INPUTS
def test_broker_killed_and_restarted(
    lab: tuple[Cluster, Proxy], topic: str, kpipe: Kpipe, form: str, note: Note
) -> None:
    cluster, _ = lab
    given = numbers(form, LINES)
    running = start(kpipe, cluster.bootstrap, topic, given)
    under_way(cluster, topic, running)
    cluster.broker.kill()
    time.sleep(1)  # the time that it is away is the fault
    cluster.broker.start()
    verdict = ended_well(cluster, topic, running, given)
    note("produce", f"{form}: broker kill -9 and restart", verdict, "0 lost, 0 twice, order kept")


@INPUTS
def test_broker_frozen(lab: tuple[Cluster, Proxy], topic: str, kpipe: Kpipe, form: str, note: Note) -> None:
    cluster, _ = lab
    given = numbers(form, LINES)
    running = start(kpipe, cluster.bootstrap, topic, given)
    under_way(cluster, topic, running)
    cluster.broker.pause()
    time.sleep(FREEZE)
    cluster.broker.resume()
    verdict = ended_well(cluster, topic, running, given)
    note("produce", f"{form}: broker SIGSTOP for {FREEZE:.0f} s", verdict, "0 lost, 0 twice, order kept")


@INPUTS
def test_connections_reset_and_answers_cut(
    lab: tuple[Cluster, Proxy], topic: str, kpipe: Kpipe, chance: random.Random, form: str, note: Note
) -> None:
    """By turns, at random moments, for as long as it runs."""
    cluster, proxy = lab
    given = numbers(form, LINES)
    hits = max(4, RUNS)
    running = start(kpipe, proxy.address, topic, given, "--rate", f"{LINES // hits}/s")
    under_way(cluster, topic, running)
    done, before = 0, proxy.cuts
    while running.process.poll() is None and done < hits:
        if done % 2:
            cuts = proxy.cuts
            proxy.cut_answers(1)
            while running.process.poll() is None and proxy.cuts == cuts:  # on a busy machine it is connecting again
                time.sleep(0.01)
        else:
            proxy.reset_all()
        done += 1
        time.sleep(chance.uniform(0.1, 0.7))
    proxy.heal()
    assert done >= 4
    assert proxy.cuts > before
    verdict = ended_well(cluster, topic, running, given)
    fault = f"{form}: connections reset, answers cut"
    note("produce", fault, verdict, "0 lost, 0 twice, order kept", runs=done)


@INPUTS
def test_signal_in_mid_input(
    lab: tuple[Cluster, Proxy], topic: str, kpipe: Kpipe, tmp_path: Path, form: str, note: Note
) -> None:
    """The ledger says exactly what is in the topic: the lines that were read, and none after them."""
    cluster, _ = lab
    given = numbers(form, LINES)
    summary = tmp_path / "summary"
    running = kpipe.start("produce", "-b", cluster.bootstrap, *OPTIONS[form], "--summary", summary, topic)
    feeder = threading.Thread(target=feed, args=(running, given.blocks))
    feeder.start()
    try:
        under_way(cluster, topic, running)
        running.signal(signal.SIGTERM)
        ended = running.wait(30)
    finally:
        running.process.kill()
        feeder.join(10)
    assert ended.code == -signal.SIGTERM, ended.err
    told = json.loads(summary.read_text())
    target = cluster.read(topic)
    assert told["read"] == told["delivered"] == len(target) < LINES
    verdict = given.judge(target, len(target))
    assert verdict.duplicates == 0
    happened = f"{told['read']:,} read, {len(target):,} arrived; {verdict}"
    promise = "the ledger is what arrived, dies by the signal"
    note("produce", f"{form}: SIGTERM in mid-input", happened, promise, records=verdict.records)


def feed(running: Running, blocks: list[bytes]) -> None:
    """A hundred lines at a time, with pauses, for as long as they are taken."""
    with suppress(OSError, ValueError):
        for first in range(0, len(blocks), 100):
            running.write(b"".join(blocks[first : first + 100]))
            time.sleep(0.01)


def test_spill_after_the_deadline_and_restore(
    lab: tuple[Cluster, Proxy], topic: str, kpipe: Kpipe, tmp_path: Path, note: Note
) -> None:
    """A broker that answers no more: what is not known to have arrived is spilled, and restored all is there."""
    cluster, _ = lab
    given = numbers("lines", LINES)
    spill, summary = tmp_path / "spill", tmp_path / "summary"
    more = ("--rate", f"{LINES // 3}/s", "--drain-timeout", "1", "--spill", str(spill), "--summary", str(summary))
    running = start(kpipe, cluster.bootstrap, topic, given, *more)
    under_way(cluster, topic, running)
    cluster.broker.pause()
    time.sleep(0.5)  # some records must wait for an answer; longer only makes them more
    running.signal(signal.SIGTERM)
    ended = running.wait(10)
    cluster.broker.resume()
    assert ended.code == 1, ended.err
    told = json.loads(summary.read_text())
    spilled = len(spill.read_text().splitlines())
    assert spilled == told["unknown"] + told["failed"] > 0
    assert told["read"] == told["delivered"] + spilled
    until(lambda: arrived(cluster, topic) >= told["delivered"], "the broker is back")
    assert kpipe("produce", "-b", cluster.bootstrap, "--restore", spill, topic).code == 0
    # A record of which nobody knows whether it arrived may be there twice, and the spill behind its successors.
    verdict = judge(given.records[: told["read"]], cluster.read(topic), numbered)
    assert (verdict.lost, verdict.altered) == (0, 0), verdict
    assert verdict.duplicates <= spilled
    happened = f"exit 1, {spilled:,} spilled; restored: {verdict}"
    promise = "read = delivered + spilled; 0 lost after the restore"
    note("produce", "SIGTERM while the broker is frozen", happened, promise, records=verdict.records)


@pytest.mark.cold
@pytest.mark.parametrize("target", DISTURBED)
def test_memory_before_a_target_that_does_not_take(
    lab: tuple[Cluster, Proxy], topic: str, kpipe: Kpipe, target: str, note: Note
) -> None:
    """A full queue stops reading, whatever waits in the input."""
    cluster, proxy = lab
    given = numbers("lines", FAT, padding=1000)
    running = start(kpipe, proxy.address, topic, given, "--buffer", "32M")
    under_way(cluster, topic, running)
    with disturbed(cluster, proxy, target):
        time.sleep(FREEZE)
        assert running.process.poll() is None, running.err
    peak = 0
    while running.process.poll() is None:
        with suppress(OSError, StopIteration):
            peak = peak_mib(running.pid)
        time.sleep(0.05)
    verdict = ended_well(cluster, topic, running, given)
    assert 0 < peak <= LIMIT_MIB, f"{peak} MiB"
    fault = f"{target} target for {FREEZE:.0f} s, {FAT // 1000} MB behind it"
    note("produce", fault, f"{peak} MiB at most; {verdict}", f"memory under {LIMIT_MIB} MiB", records=verdict.records)

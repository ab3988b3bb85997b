"""`make soak`: a long `kpipe forward -G` under constant load and random faults; `ARGS="--minutes 30 --exactly-once"`.

It ends with one summary, and exits 1 when records were lost, came twice where that is excluded, or stand out of order,
or when memory or open files grew. The number of records that it judges is bounded by the disk only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.broker.lab.broker import Broker, Listener
from tests.broker.lab.cluster import Cluster
from tests.broker.lab.leash import leashed
from tests.faults.memory import resident_mib
from tests.faults.proxy import Proxy
from tests.faults.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

PARTITIONS = 6
GROUP = "soak"
SAMPLE = 5.0
"""Seconds between samples of memory, open files and lag."""
CALM = 6.0, 16.0
"""Seconds of peace between two faults, from and to."""
GROWTH = 1.10
"""The last quarter's median of resident memory may be so much of the first quarter's."""
MORE_FILES = 8
"""Open files that may come on top of the first quarter's: connections that are being made anew."""
BURST = 150_000
"""Records that are there before kpipe starts, so that all its buffers are full once, early."""
CATCH_UP = 180.0
"""Seconds that the backlog may take after the last fault."""
LIVES = 20
"""How often a process that ended by itself is started again."""


def main() -> int:
    options = _parse()
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    way = "exactly-once" if options.exactly_once else "at-least-once"
    print(f"soak: {options.minutes:g} minutes, {way}, {options.rate} records/s, --seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), options, random.Random(seed))
        try:
            soak.run()
            return soak.conclude()
        finally:
            soak.close()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak ARGS=…")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=2000, help="records a second")
    parser.add_argument("--exactly-once", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def value(partition: int, offset: int) -> bytes:
    """What stands at an offset of the source: any copy can be checked without the source."""
    return b"%d-%010d-%s" % (partition, offset, b"x" * (offset % 200))


class Load(threading.Thread):
    """Writes records at a rate, past the proxy, and puts up with a broker that is away."""

    def __init__(self, bootstrap: str, topic: str, rate: int) -> None:
        super().__init__(daemon=True)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": 0,
                "log_level": 0,
                "reconnect.backoff.max.ms": 200,
            }
        )
        self._topic, self._rate = topic, rate
        self._next = [0] * PARTITIONS
        self.over = threading.Event()
        self.failed = 0

    @property
    def written(self) -> int:
        """Records that were handed to the producer."""
        return sum(self._next)

    def run(self) -> None:
        began = time.monotonic()
        while not self.over.is_set():
            due = BURST + int((time.monotonic() - began) * self._rate) - self.written
            for _ in range(min(due, 1000)):
                if not self._write():
                    break
            self._producer.poll(0)
            time.sleep(0.01)
        left = time.monotonic() + CATCH_UP
        while len(self._producer) and time.monotonic() < left:
            self._producer.flush(1)

    def _write(self) -> bool:
        partition = self.written % PARTITIONS
        offset = self._next[partition]
        key = b"key-%d" % (offset % 50 * PARTITIONS + partition) if offset % 5 else None
        try:
            self._producer.produce(
                self._topic, value(partition, offset), key, partition=partition, on_delivery=self._report
            )
        except BufferError:
            return False
        self._next[partition] += 1
        return True

    def _report(self, error: object, _message: object) -> None:
        self.failed += error is not None


@dataclass
class Copies:
    """Judges a target record by record, in two bytes for each record of the source."""

    ends: dict[int, int]
    lost: int = 0
    duplicates: int = 0
    disorder: int = 0
    altered: int = 0
    _seen: dict[int, bytearray] = field(default_factory=dict)
    _highest: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._seen = {partition: bytearray(end) for partition, end in self.ends.items()}

    def add(self, message: Any) -> None:
        """One record of the target; those of a target partition come in order."""
        headers = dict(message.headers() or ())
        partition, offset = int(headers.get("source_partition") or -1), int(headers.get("source_offset") or -1)
        if not 0 <= offset < self.ends.get(partition, 0) or message.value() != value(partition, offset):
            self.altered += 1
            return
        seen = self._seen[partition]
        if seen[offset]:
            self.duplicates += 1
            return
        seen[offset] = 1
        line = (partition, message.partition())
        self.disorder += offset < self._highest.get(line, -1)
        self._highest[line] = max(offset, self._highest.get(line, -1))

    def conclude(self) -> dict[str, int]:
        """The differences, in verify's words."""
        missing = sum(seen.count(0) for seen in self._seen.values())
        found = {"missing": missing, "duplicated": self.duplicates, "reordered": self.disorder}
        return {**found, "altered": self.altered}


@dataclass(frozen=True)
class Sample:
    """The process at a moment: seconds since the start, MiB, open files, records that are not committed yet."""

    at: float
    memory: float
    files: int
    lag: int


class Soak:
    """One run: `home` holds the broker and what kpipe prints."""

    def __init__(self, home: Path, options: argparse.Namespace, chance: random.Random) -> None:
        self._options, self._chance, self._home = options, chance, home
        self._proxy = Proxy()
        self._broker = Broker(
            home / "kafka", listeners=[Listener("PROXIED", advertised_port=self._proxy.port)], java_flags=("-Xmx1g",)
        )
        self._broker.start()
        self._proxy.upstream = int(self._broker.address("PROXIED").rpartition(":")[2])
        self._cluster = Cluster(self._broker)
        self._source, self._target = self._cluster.topic(PARTITIONS), self._cluster.topic(4)
        self._watch = Watch(self._broker.bootstrap, GROUP)
        self._load = Load(self._broker.bootstrap, self._source, options.rate)
        self._samples: list[Sample] = []
        self._faults: Counter[str] = Counter()
        self._ends: list[int] = []
        self._errors = (home / "stderr").open("wb")
        self._load.start()
        while self._load.written < BURST:
            time.sleep(0.1)
        self._process = self._start()

    def run(self) -> None:
        """Load, faults and samples by turns, until the time is over and the backlog is gone."""
        began, minutes = time.monotonic(), self._options.minutes
        end = began + minutes * 60
        fault = began + min(max(CALM), minutes * 6)
        sample = began
        while (now := time.monotonic()) < end:
            if now >= sample:
                self._sample(now - began)
                sample = now + SAMPLE
            if now >= fault:
                self._disturb()
                fault = time.monotonic() + self._chance.uniform(*CALM)
            time.sleep(0.1)
            self._revive()
        self._heal()
        self._load.over.set()
        self._load.join(CATCH_UP)
        deadline = time.monotonic() + CATCH_UP
        while self._lag() != 0 and time.monotonic() < deadline:
            self._revive()
            time.sleep(0.5)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).parent / "kpipe"), "forward", "-b", self._proxy.address, "-G", GROUP]
        command += ["--instance", "soak"]
        if self._options.exactly_once:
            command += ["--exactly-once"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._home)}
        return subprocess.Popen(
            leashed([*command, self._source, self._target]),
            stdin=subprocess.DEVNULL,
            stderr=self._errors,
            env=environment,
        )

    def _revive(self) -> None:
        """A process that ended by itself has failed its purpose, but not its promise: it is counted and started again."""
        code = self._process.poll()
        if code is not None and len(self._ends) < LIVES:
            self._ends.append(code)
            self._say(f"kpipe ended with {code}: {self._last_words()}")
            self._process = self._start()

    def _last_words(self) -> str:
        return (self._home / "stderr").read_text(errors="replace").strip().rpartition("\n")[2][:300]

    def _sample(self, at: float) -> None:
        with suppress(OSError, StopIteration):
            files, lag = len(os.listdir(f"/proc/{self._process.pid}/fd")), self._lag()
            if lag is None:
                return
            last = Sample(at, resident_mib(self._process.pid), files, lag)
            self._samples.append(last)
            if len(self._samples) % 12 == 0:
                text = f"{last.memory:.0f} MiB, {last.files} files, lag {last.lag:,}, {self._faults.total()} faults"
                self._say(f"{last.at:.0f} s: {text}")

    def _lag(self) -> int | None:
        """Records that were written and are not committed; None while nobody answers."""
        committed = self._watch.committed(self._source, PARTITIONS)
        return None if committed is None else self._load.written - committed

    def _disturb(self) -> None:
        faults: dict[str, Callable[[], None]] = {
            "connections reset": self._proxy.reset_all,
            "answers cut": lambda: self._proxy.cut_answers(self._chance.randint(1, 3)),
            "silence": lambda: self._hold("silent", True),
            "latency": lambda: self._hold("latency_s", 0.1),
            "little bandwidth": lambda: self._hold("bytes_per_s", 100_000),
            "broker frozen": self._freeze,
            "broker killed": self._kill,
        }
        name = self._chance.choice(list(faults))
        self._faults[name] += 1
        faults[name]()

    def _hold(self, name: str, setting: object) -> None:
        setattr(self._proxy, name, setting)
        time.sleep(self._chance.uniform(1, 6))
        self._proxy.heal()

    def _freeze(self) -> None:
        self._broker.pause()
        time.sleep(self._chance.uniform(1, 8))
        self._broker.resume()

    def _kill(self) -> None:
        self._broker.kill()
        time.sleep(self._chance.uniform(0, 2))
        self._broker.start()

    def _heal(self) -> None:
        self._proxy.heal()
        self._broker.heal()

    def conclude(self) -> int:
        """Stop kpipe, judge the target twice, print the summary; the exit code."""
        lag = self._lag()
        self._process.terminate()
        code = self._process.wait(60)
        found = self._judge()
        verify = self._verify()
        problems = [f"verify found {verify}"] if any(verify[kind] != count for kind, count in found.items()) else []
        problems += [f"{count:,} {kind}" for kind, count in found.items() if count and not self._is_allowed(kind)]
        problems += [] if lag == 0 else [f"not all was committed after {CATCH_UP:.0f} s: {lag} records are left"]
        problems += [f"{self._load.failed} records of the load failed"] if self._load.failed else []
        problems += [f"kpipe ended by itself: {self._ends}"] if self._ends else []
        problems += [f"kpipe ended with {code} on SIGTERM: {self._last_words()}"] if code != -15 else []
        problems += self._growth()
        self._say(f"{self._load.written:,} records, {', '.join(f'{n:,} {kind}' for kind, n in found.items())}")
        self._say(
            f"{self._faults.total()} faults: {', '.join(f'{n} {name}' for name, n in self._faults.most_common())}"
        )
        if self._samples:
            lags, memory = [each.lag for each in self._samples], [each.memory for each in self._samples]
            self._say(
                f"lag {statistics.median(lags):,.0f} (median), {max(lags):,} at most; memory {max(memory):.0f} MiB at most"
            )
        self._say("passed" if not problems else f"FAILED: {'; '.join(problems)}")
        return 1 if problems else 0

    def _is_allowed(self, kind: str) -> bool:
        return kind == "duplicated" and not self._options.exactly_once

    def _growth(self) -> list[str]:
        """What the last quarter has more than the first one, after a fifth of the time (two minutes at most) to warm up."""
        minutes = self._options.minutes
        warm = [each for each in self._samples if each.at > min(120.0, minutes * 12)]
        quarter = len(warm) // 4
        if quarter < 2:
            return ["too few samples to see growth"]
        first, last = warm[:quarter], warm[-quarter:]
        before, after = (statistics.median(each.memory for each in part) for part in (first, last))
        opened, open_ = (statistics.median(each.files for each in part) for part in (first, last))
        self._say(f"memory {before:.0f} -> {after:.0f} MiB, files {opened:.0f} -> {open_:.0f} (first, last quarter)")
        found = [f"memory grew from {before:.0f} to {after:.0f} MiB"] if after > before * GROWTH else []
        return found + ([f"open files grew from {opened:.0f} to {open_:.0f}"] if open_ > opened + MORE_FILES else [])

    def _judge(self) -> dict[str, int]:
        ends = dict.fromkeys(range(PARTITIONS), 0)
        client: dict[str, Any] = {
            "bootstrap.servers": self._broker.bootstrap,
            "group.id": "soak-oracle",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "log_level": 0,
        }
        with closing(Consumer(client)) as consumer:
            for partition in ends:
                ends[partition] = consumer.get_watermark_offsets(TopicPartition(self._source, partition), timeout=10)[1]
            copies = Copies(ends)
            places = [TopicPartition(self._target, number, 0) for number in range(4)]
            consumer.assign(places)
            waiting = set(range(4))
            while waiting:
                for message in consumer.consume(1000, 1.0):
                    if message.error() is None:
                        copies.add(message)
                    elif message.error().name() == "_PARTITION_EOF":
                        waiting.discard(message.partition())
                    else:
                        raise KafkaException(message.error())
        return copies.conclude()

    def _verify(self) -> dict[str, int]:
        command = [str(Path(sys.executable).parent / "kpipe"), "verify", "-J", "--memory", "64M"]
        command += ["-b", self._broker.bootstrap, self._source, self._target]
        done = subprocess.run(command, capture_output=True, timeout=1200, check=False)
        if done.returncode not in (0, 5):
            raise RuntimeError(done.stderr.decode(errors="replace"))
        told: dict[str, int] = json.loads(done.stdout)
        return {kind: told[kind] for kind in ("missing", "duplicated", "reordered", "altered")}

    @staticmethod
    def _say(text: str) -> None:
        print(f"soak: {text}", flush=True)

    def close(self) -> None:
        """End everything that was started."""
        self._load.over.set()
        self._watch.close()
        self._process.kill()
        self._process.wait(10)
        self._errors.close()
        self._broker.kill()
        self._proxy.close()


if __name__ == "__main__":
    sys.exit(main())

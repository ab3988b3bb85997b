"""`make soak`: a long `kpipe forward -G` under constant load and random faults; `ARGS="--minutes 60 --exactly-once"`.

It ends with one summary, and exits 1 when records were lost, came twice where that is excluded, or stand out of order,
or when memory, open files or threads grew, or it does not rest without work. The number of records that it judges is
bounded by the disk only. `--report` writes docs/soak.md and its plot.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench.soak_load import BURST, CATCH_UP, PARTITIONS, Copies, Load
from bench.soak_report import IDLE_CPU, Meter, Sample, growth, write
from tests.broker.lab.broker import Broker, Listener
from tests.broker.lab.cluster import Cluster
from tests.broker.lab.leash import leashed
from tests.faults.proxy import Proxy
from tests.faults.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = "soak"
SAMPLE = 5.0
"""Seconds between samples of memory, open files and lag."""
CALM = 6.0, 16.0
"""Seconds of peace between two faults, from and to."""
LIVES = 20
"""How often a process that ended by itself is started again."""
REST = 20.0
"""Seconds without work, several times in a long run and at the end: what waiting costs must not grow either."""
RESTS = 6
STAY = 12.0, 40.0
"""Seconds that the second member stays, from and to."""


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
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=2000, help="records a second")
    parser.add_argument("--exactly-once", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="write docs/soak.md and docs/soak.svg")
    return parser.parse_args()


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
        self._told: list[str] = []
        self._kept = max(1, round(options.minutes / 12))
        self._second: subprocess.Popen[bytes] | None = None
        self._leaves = 0.0
        self._idle: list[tuple[float, float]] = []
        self._errors = (home / "stderr").open("wb")
        self._load.start()
        while self._load.written < BURST:
            time.sleep(0.1)
        self._process = self._start("--instance", "soak")
        self._meter = Meter(self._process.pid)

    def run(self) -> None:
        """Load, faults and samples by turns, until the time is over and the backlog is gone."""
        began, minutes = time.monotonic(), self._options.minutes
        end = began + minutes * 60
        fault = began + min(max(CALM), minutes * 6)
        sample = began
        parts = min(RESTS, max(1, int(minutes / 5)))
        rests = [began + (end - began) * number / parts for number in range(1, parts)]
        while (now := time.monotonic()) < end:
            if now >= sample:
                self._sample(now - began)
                sample = now + SAMPLE
            if now >= fault:
                self._disturb()
                fault = time.monotonic() + self._chance.uniform(*CALM)
            if rests and now >= rests[0]:
                rests.pop(0)
                self._rest(began)
                self._load.resting.clear()
            time.sleep(0.1)
            self._revive()
            self._end_second(now)
        self._rest(began)
        self._load.over.set()
        self._load.join(CATCH_UP)

    def _rest(self, began: float) -> None:
        """No faults, no second member, no work: once all is committed, what does waiting cost?"""
        self._end_second(float("inf"))
        self._heal()
        self._load.resting.set()
        deadline = time.monotonic() + CATCH_UP
        while self._lag() != 0 and time.monotonic() < deadline:
            self._revive()
            time.sleep(0.5)
        before, meter = self._meter.cpu_s(), self._meter
        time.sleep(REST)
        self._revive()
        if meter is self._meter:
            self._idle.append((time.monotonic() - began, 100 * (meter.cpu_s() - before) / REST))

    def _start(self, *more: str) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).parent / "kpipe"), "forward", "-b", self._proxy.address, "-G", GROUP, *more]
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
            self._process = self._start("--instance", "soak")
            self._meter = Meter(self._process.pid)

    def _last_words(self) -> str:
        return (self._home / "stderr").read_text(errors="replace").strip().rpartition("\n")[2][:300]

    def _sample(self, at: float) -> None:
        with suppress(OSError, StopIteration):
            lag = self._lag()
            if lag is None:
                return
            last = self._meter.sample(at, lag)
            self._samples.append(last)
            if len(self._samples) % 12 == 0:  # once a minute
                text = f"{last.memory:.0f} MiB, {last.files} files, {last.threads} threads, {last.cpu:.0f} % CPU, lag {last.lag:,}, {self._faults.total()} faults"
                self._say(f"{last.at:.0f} s: {text}", kept=len(self._samples) % (12 * self._kept) == 0)

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
            "second member": self._begin_second,
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

    def _begin_second(self) -> None:
        if self._second is None:
            self._second = self._start()
            self._leaves = time.monotonic() + self._chance.uniform(*STAY)

    def _end_second(self, now: float) -> None:
        """It leaves, is killed, or has ended by itself, which is a fault of kpipe's."""
        if self._second is None or now < self._leaves:
            return
        ended = self._second.poll()
        if ended is not None:
            self._ends.append(ended)
            self._say(f"the second member ended with {ended}: {self._last_words()}")
        elif self._chance.random() < 0.5:
            self._faults["second member killed"] += 1
            self._second.kill()
        else:
            self._faults["second member restarted"] += 1
            self._second.terminate()
        self._second.wait(60)
        self._second = None

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
        problems += growth(self._samples, self._options.minutes)
        idle = max((cpu for _, cpu in self._idle), default=100.0)
        problems += [f"{idle:.1f} % of a core without work"] if idle > IDLE_CPU else []
        self._say(f"{self._load.written:,} records, {', '.join(f'{n:,} {kind}' for kind, n in found.items())}")
        self._say(
            f"{self._faults.total()} faults: {', '.join(f'{n} {name}' for name, n in self._faults.most_common())}"
        )
        self._say("passed" if not problems else f"FAILED: {'; '.join(problems)}")
        if self._options.report and self._samples:
            options = self._options
            command = f"--minutes {options.minutes:g} --rate {options.rate}{' --exactly-once' * options.exactly_once}"
            write(Path("docs"), self._told, self._samples, self._idle, options.minutes, command)
        return 1 if problems else 0

    def _is_allowed(self, kind: str) -> bool:
        return kind == "duplicated" and not self._options.exactly_once

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

    def _say(self, text: str, *, kept: bool = True) -> None:
        """`kept` for the page; on the terminal once a minute, too."""
        if kept:
            self._told.append(text)
        print(f"soak: {text}", flush=True)

    def close(self) -> None:
        """End everything that was started."""
        self._load.over.set()
        self._watch.close()
        for process in (self._process, self._second):
            if process is not None:
                process.kill()
                process.wait(10)
        self._errors.close()
        self._broker.kill()
        self._proxy.close()


if __name__ == "__main__":
    sys.exit(main())

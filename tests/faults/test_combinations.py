"""Options in any combination and order, odd records, runs that are stopped and killed: all is there, as each option says."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Cluster, Rec
from tests.broker.lab.runs import balance, group
from tests.faults.conftest import RUNS, SEED
from tests.faults.model import BadRecordError, Draft, Option, options, results
from tests.faults.oracle import TRACE, traced

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Kpipe
    from tests.faults.conftest import Note
    from tests.faults.proxy import Proxy

WAYS = {
    "copy": (),
    "group": (),
    "exactly-once": ("--exactly-once", "--txn-records", "100", "--txn-interval", "200ms"),
    "resume": ("--resume-by-trace",),
    "workers": ("--workers", "2", "-X", "source.session.timeout.ms=2000", "-X", "source.heartbeat.interval.ms=300"),
}
"""The promises of forward, by the options that ask for them."""
NOT_WITH = {"exactly-once": {"--through"}, "resume": {"--split", "--route", "--through"}}
"""What a promise cannot be kept with, and kpipe refuses."""
REPEATS = {"group", "workers"}
"""Where a run that is killed may have sent what the next one sends again."""

Place = tuple[int, int]
Content = tuple[Place, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...], int]


@dataclass
class Course:
    """A source topic, a command, and what the model says that must come of them."""

    cluster: Cluster
    chance: random.Random
    way: str
    records: list[Rec] = field(init=False)
    options: list[Option] = field(init=False)
    wanted: dict[str, Counter[Content]] = field(init=False)
    bad: set[Place] = field(default_factory=set)
    filtered: int = 0

    def __post_init__(self) -> None:
        chance, partitions = self.chance, self.chance.choice([1, 2, 3])
        self.source, self.target = self.cluster.topic(partitions), self.cluster.topic(chance.choice([1, 2, 5]))
        self.other, self.also, self.letters = self.cluster.topic(2), self.cluster.topic(2), self.cluster.topic(1)
        count = chance.choice([1, 30, 300, 300, 800])
        self.cluster.write(self.source, [odd_record(chance, number, partitions) for number in range(count)])
        if chance.random() < 0.3:
            self.cluster.write(self.source, [b"aborted"] * 5, transaction="abort")
        self.records = self.cluster.read(self.source)
        self.options = options(chance, self.other)
        if {option.name for option in self.options} & NOT_WITH.get(self.way, set()):
            self.way = "group"
        self.is_copied = self.way not in NOT_WITH and chance.random() < 0.25
        self.policy = chance.choice(["skip", f"dlq:{self.letters}"])
        self.group = "" if self.way == "copy" else group()
        self._foresee()

    @property
    def command(self) -> list[str]:
        words = ["forward", "--on-error", self.policy, *WAYS[self.way]]
        if self.group:
            words += ["-G", self.group]
        if self.group and self.way != "workers":  # who has a name gets its partitions back at once
            words += ["--instance", self.group, "--group-protocol", "classic"]
        if self.is_copied:
            words += ["--also", self.also]
        return words + [word for option in self.options for word in option.words] + [self.source, self.target]

    def _foresee(self) -> None:
        self.wanted = {topic: Counter() for topic in (self.target, self.other, self.also)}
        for record in self.records:
            place = record.partition, record.offset
            try:
                drafts = results(self.options, record)
            except BadRecordError:
                self.bad.add(place)
                continue
            self.filtered += not drafts
            for draft in drafts:
                content = content_of(draft, place, record.timestamp)
                self.wanted[draft.topic or self.target][content] += 1
                self.wanted[self.also][content] += self.is_copied

    def check_balance(self, path: Path) -> None:
        """After one run that nobody disturbed every record is counted as what it became."""
        found = balance(path)
        lettered = self.policy != "skip"
        kept = len(self.records) - self.filtered - len(self.bad)
        expected = (len(self.records), kept, self.filtered, len(self.bad) * lettered, len(self.bad) * (not lettered))
        assert tuple(found[name] for name in ("read", "delivered", "filtered", "dead_lettered", "failed")) == expected

    def check_topics(self, *, was_killed: bool) -> None:
        """Everything is where it belongs, with its bytes, in its order, and twice only where that may be."""
        for topic, wanted in self.wanted.items():
            copies = self.cluster.read(topic)
            found = Counter(content_of(copy, traced(copy), copy.timestamp) for copy in copies)
            assert not wanted - found, f"missing: {list((wanted - found).items())[:2]}"
            assert not set(found) - set(wanted), f"never asked for: {list(set(found) - set(wanted))[:2]}"
            twice = list((found - wanted).items())
            assert not twice or (was_killed and self.way in REPEATS), f"twice: {twice[:2]}"
            assert is_in_order(copies)
        letters = {traced(letter): letter for letter in self.cluster.read(self.letters)}
        assert set(letters) == (set() if self.policy == "skip" else self.bad)
        for record in self.records:
            place = record.partition, record.offset
            if letter := letters.get(place):
                assert content_of(letter, place, 0) == content_of(record, place, 0)

    def check_commits(self) -> None:
        """Nothing is left behind what was committed."""
        if self.group:
            committed = self.cluster.committed(self.group, self.source)
            behind = [record for record in self.records if committed.get(record.partition, 0) <= record.offset]
            assert not behind


def odd_record(chance: random.Random, number: int, partitions: int) -> Rec:
    """JSON with what is easily got wrong, or no JSON at all; keys, headers and times of all kinds."""
    fields = {
        "id": chance.choice([f"a{number}", f"é{number}", number, None, True, "", {"x": [1]}]),
        "n": chance.choice([number % 10, -number, None, "s", 2**52, [1]]),
        "items": chance.choice([[1, "a", None], [], [{"id": "q", "n": 9}], {"a": 1}, None]),
    }
    some = {name: value for name, value in fields.items() if chance.random() < 0.8}
    plain = [None, b"", b"null", b"text", b"12", b'"s"', b"[1,2]", b"\xff\xfe", b"a\nb\r\n", b"\0", b"{} {}", b"aAbB7"]
    value = json.dumps(some, ensure_ascii=False).encode() if chance.random() < 0.5 else chance.choice(plain)
    names = [chance.choice(["h", "h2", "H", "é"]) for _ in range(chance.choice([0, 0, 1, 2, 3]))]
    headers = tuple((name, chance.choice([None, b"", b"v%d" % number, b"\xff\0"])) for name in names)
    key = chance.choice([None, b"", b"k%d" % (number % 7), b"a\xff"])
    time_ms = chance.choice([-1, 1, 1_700_000_000_000 + number])
    return Rec(value, key, headers, time_ms, partition=chance.randrange(partitions))


def content_of(record: Draft | Rec, place: Place, timestamp: int) -> Content:
    return place, record.key, record.value, own(record.headers), timestamp


def own(headers: tuple[tuple[str, bytes | None], ...]) -> tuple[tuple[str, bytes | None], ...]:
    return tuple(header for header in headers if not header[0].startswith((*TRACE, "error_")))


def is_in_order(copies: list[Rec]) -> bool:
    """Whether the first copies of a source partition come in its order in each partition of the target."""
    seen: dict[tuple[int, int], list[int]] = {}
    for copy in copies:
        partition, offset = traced(copy)
        seen.setdefault((partition, copy.partition), []).append(offset)
    return all(list(dict.fromkeys(offsets)) == sorted(set(offsets)) for offsets in seen.values())


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("way", WAYS)
def test_options_together_do_what_each_of_them_says(
    lab: tuple[Cluster, Proxy], kpipe: Kpipe, tmp_path: Path, way: str, note: Note
) -> None:
    at, records = kpipe.at(lab[0].bootstrap), 0
    for number in range(RUNS):
        chance = random.Random(f"{SEED}:{way}:{number}")
        course = Course(lab[0], chance, way)
        print(f"FAULT_SEED={SEED} {way} {number}: {course.command}")
        stops = [] if way == "copy" else chance.choices([signal.SIGTERM, signal.SIGKILL], k=chance.choice([0, 1, 2]))
        for stop in stops:
            slow = ("-X", "target.queue.buffering.max.messages=20", "-X", "target.linger.ms=30")
            running = at.start(*course.command, *slow, stdin=None)
            time.sleep(0.1 + chance.random() * 1.5)  # the moment is the fault
            running.signal(stop)
            assert running.wait().code in (-stop, 1), running.err
        summary = tmp_path / f"{number}.json"
        done = at(*course.command, "-e", "--summary", summary)
        assert done.code in (0, 1 if course.bad and course.policy == "skip" else 0), done.err
        if not stops:
            course.check_balance(summary)
        course.check_topics(was_killed=signal.SIGKILL in stops)
        course.check_commits()
        records += len(course.records)
    name = {"exactly-once": "forward --exactly-once"}.get(way, "forward")
    fault, happened = f"options in any combination, stopped and killed ({way})", "each record as the model says, 0 lost"
    note(name, fault, happened, "the same", runs=RUNS, records=records)

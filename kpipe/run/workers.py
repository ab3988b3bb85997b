"""Several processes for one command: members of one group that share its partitions, restarted when they crash.

The supervisor moves no record and opens no client. Each worker is a fresh interpreter (a client does not survive a
fork) that runs the same command line, tells its balance through a pipe, and drains when the supervisor is gone.
"""

from __future__ import annotations

import json
import math
import os
import re
import selectors
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kpipe.clusters.environment import VOICE, WORKER, hidden, self_command
from kpipe.errors import Exit
from kpipe.ledger import Ledger
from kpipe.through.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.shutdown import Stop

SLOT = "KPIPE_SLOT"
"""Environment of a worker: its slot alone, which makes the default transactional id its own."""

ECHO = 30.0  # seconds in which what one worker tells of a cluster is not told again for the others
TELL = 0.5  # seconds between two balances: what a crashed worker counts with is its last one
BACKOFF, LONGEST_BACKOFF = 0.5, 30.0  # seconds before a crashed worker starts again; doubled at each crash in a row
HEALTHY = 60.0  # seconds after which a crash is not in a row with the one before
CRASHES = 8  # crashes of one worker in a row that end the run: the next record may be what kills it
GRACE = 1.0  # seconds that workers have beyond their drain timeout before they are killed; they end after 0.85

COUNTS = ("read", "delivered", "filtered", "dead_lettered", "failed", "unknown")


# --- the worker's side -------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Worker:
    """A worker process, as it sees itself; all but `slot` are file descriptors."""

    slot: int
    report: int
    lifeline: int
    secrets: int

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Worker | None:
        """The worker that this process is, None when nobody supervises it."""
        numbers = environ.get(WORKER, "").split(":")
        return cls(*map(int, numbers)) if len(numbers) == 4 and all(number.isdigit() for number in numbers) else None

    def take_secrets(self) -> dict[str, str]:
        """The variables that the supervisor keeps from its environment; they can be taken once."""
        with os.fdopen(self.secrets, "rb") as pipe:
            return dict(json.loads(pipe.read()))

    @property
    def summary_path(self) -> str:
        """Where the final balance goes."""
        return f"/dev/fd/{self.report}"

    def drain_with_supervisor(self) -> None:
        """Ask ourselves to stop when the supervisor is gone, however it went."""

        def wait() -> None:
            try:
                gone = not os.read(self.lifeline, 1)
            except OSError:
                return
            if gone:
                os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait, daemon=True).start()

    def teller(
        self,
        ledger: Ledger,
        away: Callable[[], str] = str,
        more: Callable[[], dict[str, Any]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> Callable[[], None]:
        """An observer that tells the balance now and then, and what `more` says; a full pipe is not waited for."""
        os.set_blocking(self.report, False)
        due = clock()

        def tell() -> None:
            nonlocal due
            now = clock()
            if now < due:
                return
            due = now + TELL
            counts = {name: getattr(ledger, name) for name in (*COUNTS, "in_flight")} | {"away": away()}
            if told := more():
                counts["more"] = told
            try:
                os.write(self.report, json.dumps(counts).encode() + b"\n")
            except OSError:
                return  # told again, or nobody is left to tell

        return tell


# --- the supervisor's side ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class WorkerSlot:
    """One slot: the process that fills it now, and what became of the records of it and of those before it."""

    slot: int
    process: subprocess.Popen[bytes] | None = None
    lifeline: int = -1
    started: float = 0.0
    again_at: float | None = None
    crashes: int = 0
    restarts: int = 0
    code: int | None = None
    last: dict[str, Any] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What became of records by cluster, of the processes that have ended."""
    seen: dict[str, Any] = field(default_factory=dict)
    """What the process told beside its balance, when the run is watched."""
    seen_before: list[dict[str, Any]] = field(default_factory=list)
    """What its predecessors had counted there."""
    words: Words = field(default_factory=Words)
    """What the process says on stderr."""
    unread: bytes = b""
    """The beginning of a balance."""

    def count(self, name: str) -> int:
        """Records with this outcome, of all processes of the slot."""
        return int(self.before.get(name, 0)) + int(self.last.get(name, 0))

    def book(self) -> None:
        """The process has ended: what it had not settled counts as not read, for it is read again."""
        outcomes = COUNTS[1:]
        for name in (*outcomes, "gaps", "missing"):
            self.before[name] = self.before.get(name, 0) + int(self.last.get(name, 0))
        settled = sum(int(self.last.get(name, 0)) for name in outcomes)
        self.before["read"] = self.before.get("read", 0) + settled
        self.clusters = _add_up(self.clusters, self.last.get("clusters", {}))
        self.last = {}
        if counted := self.seen.get("seen"):
            self.seen_before.append({name: counted[name] for name in ("read_bytes", "sent_bytes", "commits")})
        self.seen = {}


def _add_up(*balances: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The counts of each cluster; of words, such as a complaint, the last that says something."""
    total: dict[str, dict[str, Any]] = {}
    for balance in balances:
        for cluster, facts in balance.items():
            known = total.setdefault(cluster, {})
            for name, fact in facts.items():
                known[name] = known.get(name, 0) + fact if isinstance(fact, int) else fact or known.get(name, "")
    return total


@dataclass(slots=True)
class Echoes:
    """How often each worker told the same, from the first time on and for ECHO seconds."""

    since: float = -math.inf
    told: dict[int, int] = field(default_factory=dict)

    def is_one(self, slot: int, now: float) -> bool:
        """Whether another worker has told it as often as this one has now: a cluster that goes twice is told twice."""
        if now - self.since >= ECHO:
            self.since, self.told = now, {}
        known = max(self.told.values(), default=0)
        self.told[slot] = self.told.get(slot, 0) + 1
        return self.told[slot] <= known


class Supervisor:
    """Runs `command` in `count` processes until all have ended; `say` prints a line for people."""

    def __init__(self, command: Sequence[str], count: int, stop: Stop, say: Callable[[str], None]) -> None:
        self.ledger = Ledger()
        self.members = [WorkerSlot(slot) for slot in range(1, count + 1)]
        self._command = list(command)
        self._stop = stop
        self._say = say
        self.observers: list[Callable[[], None]] = []
        self._selector = selectors.DefaultSelector()
        self._signalled = 0
        self._echoes: dict[str, Echoes] = {}
        """Of what workers told of a cluster, or before they had read."""
        self._failure: int | None = None
        self._kill_at: float | None = None

    def run(self) -> int:
        """The exit code of the run: 0, or that of the first worker that failed by itself."""
        self._selector.register(self._stop.fd, selectors.EVENT_READ)
        for member in self.members:
            self._start(member)
        while any(member.process is not None or member.again_at is not None for member in self.members):
            self._collect(0.1)
            self._pass_signals_on()
            for member in self.members:
                self._look_after(member)
            self._merge()
            for observe in self.observers:
                observe()
        self._merge()
        return int(self._failure or 0)

    def facts(self) -> dict[str, object]:
        """What the merged summary says beside the balance."""
        facts: dict[str, object] = {"workers": len(self.members), "restarts": sum(m.restarts for m in self.members)}
        facts |= {name: count for name in ("times_replaced",) if (count := sum(m.count(name) for m in self.members))}
        gaps = {name: sum(member.count(name) for member in self.members) for name in ("gaps", "missing")}
        if gaps["gaps"]:
            facts |= gaps
        clusters: dict[str, dict[str, Any]] = {}
        for member in self.members:
            clusters = _add_up(clusters, member.clusters, member.last.get("clusters", {}))
        return {**facts, "clusters": clusters} if clusters else facts

    def away(self) -> str:
        """Which clusters a worker misses, for the live line."""
        return next((str(text) for member in self.members if (text := member.last.get("away"))), "")

    def _start(self, member: WorkerSlot) -> None:
        report_read, report_write = os.pipe()
        lifeline_read, member.lifeline = os.pipe()
        secrets_read, secrets_write = os.pipe()
        environment = {
            **os.environ,
            WORKER: f"{member.slot}:{report_write}:{lifeline_read}:{secrets_read}",
            SLOT: str(member.slot),
        }
        member.process = subprocess.Popen(  # noqa: S603  # our own command line, word by word
            self._command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=(report_write, lifeline_read, secrets_read),
            start_new_session=True,  # a terminal's Ctrl-C is the supervisor's, which passes it on
        )
        os.close(report_write)
        os.close(lifeline_read)
        os.close(secrets_read)
        with suppress(BrokenPipeError), os.fdopen(secrets_write, "wb") as pipe:
            pipe.write(json.dumps(hidden()).encode())
        member.started, member.again_at = time.monotonic(), None
        member.words, member.unread = Words(), b""
        report = os.fdopen(report_read, "rb", 0)
        for name, stream in (("report", report), ("stderr", member.process.stderr)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream, selectors.EVENT_READ, (member, name))

    def _collect(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                os.read(self._stop.fd, 64)
            else:
                self._read(key.fileobj, *key.data)

    def _read(self, stream: Any, member: WorkerSlot, name: str) -> None:
        try:
            data = os.read(stream.fileno(), 1 << 16)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(stream)
            stream.close()
        if name == "stderr":
            for line in member.words.take(data):
                self._hear(member, line)
            return
        *balances, member.unread = (member.unread + data).split(b"\n")
        for balance in balances:
            self._take_balance(member, balance)

    def _hear(self, member: WorkerSlot, line: str) -> None:
        """A line of a worker; what all of them tell at once is enough from the first.

        That is of a cluster that goes or comes, and whatever they find before they have read anything: what is wrong
        with the options, or with the topics. What a filter or a function of the user's says is never an echo of that.
        """
        words = line.removeprefix(f"{VOICE}kpipe: ")
        is_ours = words != line and not words.startswith("through: ")
        if is_ours and (words.startswith("connect: ") or not member.last.get("read")):
            gist = re.sub(r" since .*| after .*", "", words) if words.startswith("connect: ") else words
            if self._echoes.setdefault(gist, Echoes()).is_one(member.slot, time.monotonic()):
                return
        self._say(f"worker {member.slot}: {words}")

    @staticmethod
    def _take_balance(member: WorkerSlot, line: bytes) -> None:
        try:
            told = dict(json.loads(line))
            member.seen = dict(told.pop("more", member.seen))
            member.last = told
        except (ValueError, TypeError):
            return  # cut off by its writer's death: the one before counts

    def _pass_signals_on(self) -> None:
        """The first signal drains, a second one gives up what is in flight; the last resort is ours."""
        wanted = 2 if self._stop.forced else 1 if self._stop.requested else 0
        if self._signalled < wanted and self._stop.signal is not None:
            self._signalled = wanted
            self._send(self._stop.signal)
            self._kill_at = time.monotonic() + (GRACE if wanted == 2 else self._stop.drain_timeout + GRACE)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_at = None
            self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for member in self.members:
            member.again_at = None
            if member.process is not None and member.process.poll() is None:
                member.process.send_signal(number)

    def _look_after(self, member: WorkerSlot) -> None:
        if member.process is not None and member.process.poll() is not None:
            if any(key.data is not None and key.data[0] is member for key in self._selector.get_map().values()):
                return  # its last words are still to be read
            os.close(member.lifeline)
            code, member.process = member.process.returncode, None
            self._judge(member, code)
        elif member.again_at is not None and time.monotonic() >= member.again_at:
            self._start(member)

    def _judge(self, member: WorkerSlot, code: int) -> None:
        """What a worker's end means for the run."""
        member.code = code
        member.book()
        if code == 0 or (code < 0 and self._is_ending and -code in (signal.SIGTERM, self._stop.signal)):
            return
        if code > 0:
            self._fail(code)
        elif self._is_ending:
            self._say(f"worker {member.slot}: ended by {signal.Signals(-code).name} while it drained")
            self._fail(int(Exit.UNDELIVERED))
        else:
            self._start_again(member, code)

    @property
    def _is_ending(self) -> bool:
        return self._stop.requested or self._failure is not None

    def _fail(self, code: int) -> None:
        """One worker's failure ends the run: the others drain."""
        if self._failure is None:
            self._failure = code
            self._kill_at = time.monotonic() + self._stop.drain_timeout + GRACE
            self._send(signal.SIGTERM)

    def _start_again(self, member: WorkerSlot, code: int) -> None:
        now = time.monotonic()
        member.crashes = 1 if now - member.started > HEALTHY else member.crashes + 1
        died = f"worker {member.slot}: died by {signal.Signals(-code).name}"
        if member.crashes > CRASHES:
            self._say(f"{died}, {CRASHES + 1} times in a row; giving up")
            self._fail(int(Exit.UNDELIVERED))
            return
        wait = min(LONGEST_BACKOFF, BACKOFF * 2 ** (member.crashes - 1))
        member.restarts += 1
        member.again_at = now + wait
        self._say(f"{died}; starting it again in {wait:g} s")

    def _merge(self) -> None:
        for name in COUNTS:
            setattr(self.ledger, name, sum(member.count(name) for member in self.members))
        self.ledger.in_flight = sum(int(member.last.get("in_flight", 0)) for member in self.members)


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command line of a worker."""
    return [*self_command(), *arguments]

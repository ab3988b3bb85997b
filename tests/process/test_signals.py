"""Signals where no cluster is needed: at start-up, as PID 1, and the last step itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.leash import leashed
from tests.broker.lab.processes import children
from tests.conftest import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Kpipe, Running

pytestmark = pytest.mark.cold

SIGNALS = pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name
)


@pytest.fixture
def silent_port() -> Iterator[str]:
    """Give an address that accepts connections and never says a word: a cluster that cannot be reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def wait_until_it_catches(running: Running, number: int) -> None:
    """Wait until the process has a handler for the signal (proc(5), SigCgt)."""

    def catches() -> bool:
        with Path(f"/proc/{running.pid}/status").open() as status:
            masks = dict(line.rstrip().split(":\t") for line in status if line.startswith("SigCgt"))
        return bool(int(masks["SigCgt"], 16) & 1 << (number - 1)) and b"kpipe" in cmdline(running)

    running.wait_for(catches, what="a signal handler")


def cmdline(running: Running) -> bytes:
    with Path(f"/proc/{running.pid}/cmdline").open("rb") as file:
        return file.read().split(b"\0--\0")[-1]


@SIGNALS
@pytest.mark.parametrize(
    "command", [("produce", "t"), ("consume", "t"), ("forward", "t", "u", "-G", "g")], ids=lambda c: c[0]
)
def test_a_signal_before_the_cluster_answers_ends_it_at_once(
    kpipe: Kpipe, silent_port: str, tmp_path: Path, number: signal.Signals, command: tuple[str, ...]
) -> None:
    summary = tmp_path / "summary"
    running = kpipe.at(silent_port).start(*command, "--timeout", "30", "--summary", summary)
    wait_until_it_catches(running, signal.SIGTERM)
    asked = time.monotonic()
    running.signal(number)
    ended = running.wait(10)
    assert time.monotonic() - asked < 1.5
    assert (ended.code, ended.out, ended.err) == (-number, b"", "")
    found = json.loads(summary.read_text())
    assert (found["read"], found["delivered"], found["signal"]) == (0, 0, number.name)


def test_two_signals_before_the_cluster_answers_end_it_in_any_case(kpipe: Kpipe, silent_port: str) -> None:
    """Nothing was read yet: the second one needs no handler, so nothing the client waits for can hold it up."""
    running = kpipe.at(silent_port).start("consume", "t", "--timeout", "30")
    wait_until_it_catches(running, signal.SIGTERM)
    running.signal(signal.SIGHUP)
    running.signal(signal.SIGINT)
    assert running.wait(2).code in (-signal.SIGHUP, -signal.SIGINT)


def test_an_unreachable_cluster_is_one_line_within_the_limit(kpipe: Kpipe, silent_port: str) -> None:
    asked = time.monotonic()
    ended = kpipe.at(silent_port)("produce", "t", "--timeout", "0.5", stdin=b"a\n")
    assert time.monotonic() - asked < 5
    assert (ended.code, ended.out) == (4, b"")
    assert ended.err.startswith("kpipe: ")
    assert ended.err.count("\n") == 1


def test_ignored_signals_stay_ignored_at_start_up(kpipe: Kpipe, silent_port: str) -> None:
    shell = ["sh", "-c", 'trap "" HUP INT; exec "$0" "$@"', str(COMMAND), "consume", "-b", silent_port, "t"]
    with subprocess.Popen(leashed(shell), env=kpipe.environment(), stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 10
            while not caught(process.pid) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert caught(process.pid)
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(3) == -signal.SIGTERM
        finally:
            process.kill()


def caught(pid: int) -> bool:
    with Path(f"/proc/{pid}/status").open() as status:
        mask = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))
    return bool(mask & 1 << (signal.SIGTERM - 1))


DIE = """
import signal, sys
from kpipe.shutdown import die_by
number = signal.Signals[sys.argv[1]]
signal.signal(number, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
if sys.argv[2] == "as PID 1":
    die_by(number, kill=lambda _pid, _number: None)
die_by(number)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE"])
def test_the_last_step_is_the_signal_itself(name: str) -> None:
    number = signal.Signals[name]
    died = subprocess.run([sys.executable, "-c", DIE, name, ""], capture_output=True, timeout=10, check=False)
    assert (died.returncode, died.stderr) == (-number, b"")
    survived = subprocess.run(
        [sys.executable, "-c", DIE, name, "as PID 1"], capture_output=True, timeout=10, check=False
    )
    assert (survived.returncode, survived.stderr) == (128 + number, b"")


def test_as_pid_1_the_exit_code_says_which_signal_it_was(kpipe: Kpipe, silent_port: str) -> None:
    """The kernel does not kill PID 1 of a container by its own signal."""
    unshare = ["unshare", "--fork", "--pid", "--kill-child"]
    allowed = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip("a PID namespace needs root: test_the_last_step_is_the_signal_itself covers the fallback")
    command = [*unshare, str(COMMAND), "consume", "-b", silent_port, "t"]
    with subprocess.Popen(command, env=kpipe.environment(), stderr=subprocess.PIPE) as outer:
        try:
            inner = 0
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and not (inner and caught(inner)):
                inner = next(iter(children(outer.pid)), 0)
                time.sleep(0.02)
            os.kill(inner, signal.SIGTERM)
            assert outer.wait(5) == 128 + signal.SIGTERM
        finally:
            outer.kill()

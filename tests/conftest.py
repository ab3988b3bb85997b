"""Run the installed `kpipe` as a person or a script would: a process with its own home and a clean environment.

It never imports kpipe, and no process outlives its test.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import sysconfig
import termios
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests import warm
from tests.broker.lab import processes
from tests.broker.lab.leash import leashed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# A runner in the background of a script ignores SIGINT, one under nohup SIGHUP, and both are inherited by what it starts;
# the tests of signals need the signals a person has.
for inherited in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(inherited) is signal.SIG_IGN:
        signal.signal(inherited, signal.default_int_handler if inherited is signal.SIGINT else signal.SIG_DFL)

# How long an example takes is a matter of the machine's load, not of the code that is tested.
settings.register_profile("kpipe", deadline=None)
settings.load_profile("kpipe")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """Say what a process of pytest-xdist died of: it only knows that it is gone."""
    if error:
        with suppress(AttributeError, subprocess.TimeoutExpired):
            code = node.gateway._io.popen.wait(10)
            print(f"\n{node.gateway.id} ended with {code} (negative: by that signal)", file=sys.stderr)


COMMAND = Path(sysconfig.get_path("scripts")) / "kpipe"


@dataclass(frozen=True)
class Result:
    """How a run ended: `code` as in subprocess (negative: died by that signal)."""

    code: int
    out: bytes
    err: str


class Running:
    """A started kpipe; its output goes to files, so that it never waits for its reader (unless `stdout` was given)."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out = out
        self._err = err

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def out(self) -> bytes:
        """What it has written to stdout so far."""
        return self._out.read_bytes()

    @property
    def err(self) -> str:
        """What it has written to stderr so far."""
        return self._err.read_text(errors="replace")

    def write(self, data: bytes) -> None:
        """Write to its stdin, past every buffer."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def close_stdin(self) -> None:
        """End its input (EOF)."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def wait_until_read(self, timeout: float = 20) -> None:
        """Wait until it has taken all that was written to its stdin: a pipe tells how much it holds."""
        pipe = self.process.stdin
        assert pipe is not None
        self.wait_for(lambda: fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4) == b"\0" * 4, timeout, "stdin is read")

    @property
    def cpu_s(self) -> float:
        """CPU seconds that it and the processes that it started have used; one that only waits uses next to none."""
        return sum(map(processes.cpu_s, [self.pid, *processes.children(self.pid)]))

    def wait_until_busy(self, cpu_s: float, timeout: float = 60) -> None:
        """Wait until it has used so much CPU: more than a start needs, so that it is at the work that it was given."""
        self.wait_for(lambda: self.cpu_s >= cpu_s, timeout, f"{cpu_s:g} s of CPU")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 60) -> Result:
        """Wait for its end; a failed assertion with what it wrote when it does not come."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s{self._said()}") from None
        return Result(code, self.out, self.err)

    def wait_for(self, condition: Callable[[], object], timeout: float = 20, what: str = "condition") -> None:
        """Wait until `condition()` is true; a failed assertion when time is over or the process ended before.

        `timeout` is for a machine that has nothing else to do; the suite makes it wait for twice as long.
        """
        timeout *= 2
        deadline = time.monotonic() + timeout
        while True:
            ended, asked = self.process.poll(), time.monotonic()
            if condition():
                return
            now = time.monotonic()
            assert ended is None, f"{what}: the process ended with {ended} before{self._said()}"
            assert now < deadline, f"{what}: not within {timeout:g} s{self._said()}"
            # Who waits shall not take the CPU that is waited for: some conditions read a whole topic.
            time.sleep(min(0.2, max(0.01, 2 * (now - asked))))

    def wait_for_stderr(self, text: str, timeout: float = 20) -> None:
        self.wait_for(lambda: text in self.err, timeout, f"{text!r} on stderr")

    def wait_for_stdout(self, data: bytes, timeout: float = 20) -> None:
        self.wait_for(lambda: data in self.out, timeout, f"{data!r} on stdout")

    def end(self) -> None:
        """Kill it if it still lives, and close its pipes."""
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _said(self) -> str:
        return f"\nstderr: {self.err[-2000:]}\nstdout: {self.out[-500:]!r}"


class Kpipe:
    """Calls the command: `kpipe("produce", "-b", address, "topic", stdin=b"a\\n")` runs it to its end."""

    def __init__(self, home: Path, bootstrap: str = "", server: warm.Server | None = None) -> None:
        self.home = home
        self._bootstrap = bootstrap
        self._server = server
        self._started: list[Running] = []

    def at(self, bootstrap: str) -> Kpipe:
        """Give the same, with `-b bootstrap` put behind the subcommand of each call."""
        bound = Kpipe(self.home, bootstrap, self._server)
        bound._started = self._started
        return bound

    def __call__(
        self,
        *args: str | Path,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        config: str | None = None,
        cwd: Path | None = None,
        timeout: float = 90,
    ) -> Result:
        """Run to the end; stdin is empty unless given. A failed assertion after `timeout` seconds."""
        pipe = subprocess.PIPE
        with self._popen(args, self.environment(env, config), cwd, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                out, err = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired as slow:
                said = f"stderr: {(slow.stderr or b'')[-2000:]!r}\nstdout: {(slow.stdout or b'')[-500:]!r}"
                raise AssertionError(f"kpipe {args}: still running after {timeout:g} s\n{said}") from None
            finally:
                process.kill()  # nothing to do for one that has ended
        return Result(process.returncode, out, err.decode(errors="replace"))

    def start(
        self,
        *args: str | Path,
        stdin: int | IO[bytes] | None = subprocess.PIPE,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
        config: str | None = None,
        cwd: Path | None = None,
    ) -> Running:
        """Start it and go on. stdin is a pipe (`write`, `close_stdin`), stdout and stderr files unless given.

        Start it from the main thread: it dies with the thread that started it.
        """
        number = len(self._started)
        out, err = self.home / f"{number}.out", self.home / f"{number}.err"
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = self._popen(
                args,
                self.environment(env, config),
                cwd,
                stdin=stdin,
                stdout=out_file if stdout is None else stdout,
                stderr=err_file if stderr is None else stderr,
            )
        running = Running(process, out, err)
        self._started.append(running)
        return running

    def environment(self, env: Mapping[str, str] | None = None, config: str | None = None) -> dict[str, str]:
        """Give the environment of a call: nothing inherited but PATH, then `env`; `config` is TOML for KPIPE_CONFIG."""
        clean = {
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join([str(COMMAND.parent), os.environ.get("PATH", os.defpath)]),
            "TMPDIR": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            # How `make coverage` reaches into subprocesses.
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS")},
        }
        if config is not None:
            path = self.home / "kpipe-test.toml"
            path.touch(mode=0o600)
            path.write_text(config)
            clean["KPIPE_CONFIG"] = str(path)
        return {**clean, **(env or {})}

    def end(self) -> None:
        """Kill what still runs of all that was started."""
        for running in self._started:
            running.end()

    def _popen(
        self, args: tuple[str | Path, ...], env: dict[str, str], cwd: Path | None, **files: Any
    ) -> subprocess.Popen[bytes]:
        command, cwd = self._command(args), cwd or self.home
        if self._server is not None and not warm.is_start_special(env):
            return warm.WarmPopen(self._server, command, env=env, cwd=cwd, **files)
        return subprocess.Popen(leashed(command), env=env, cwd=cwd, **files)

    def _command(self, args: tuple[str | Path, ...]) -> list[str]:
        words = [str(arg) for arg in args]
        if self._bootstrap:
            verb = 2 if words[0] in ("admin", "config", "schema") else 1
            words[verb:verb] = ["-b", self._bootstrap]
        return [str(COMMAND), *words]


@pytest.fixture(scope="session")
def warm_kpipe() -> Iterator[warm.Server]:
    """What forks a kpipe that has its imports behind it."""
    server = warm.Server(leashed([sys.executable, warm.__file__, str(COMMAND.parent)]))
    yield server
    server.end()


@pytest.fixture
def kpipe(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kpipe]:
    """The installed command, in a home of its own; what the test started ends with the test."""
    home = tmp_path / "home"
    home.mkdir()
    is_cold = not warm.CLONE or os.environ.get("KPIPE_TESTS_COLD") or request.node.get_closest_marker("cold")
    command = Kpipe(home, server=None if is_cold else request.getfixturevalue("warm_kpipe"))
    yield command
    command.end()

"""Runs one filter as a child process: bytes go in, lines come out, in any sizes and without a deadlock.

It never waits on one pipe while another is full, and knows nothing of records.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from kpipe.errors import visible
from kpipe.through.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BLOCK = 1 << 18  # bytes of one read; a pipe holds 64 KiB unless somebody made it larger
VIEWS = 256  # blocks of one write; the kernel takes up to 1024
LONGEST_LINE = 64 << 20  # bytes of one line of its stdout; a broker takes 1 MB unless it is told otherwise
NOTHING = bytes(4)
RUNNING = (b"R", b"D")  # proc_pid_stat(5)
LEFTOVERS = 1.0  # seconds that what the filter has started may go on after it


class Child:
    """`/bin/sh -c COMMAND` in a process group of its own, so that Ctrl-C reaches kpipe alone, which then drains.

    `tell` is called with each line of its stderr.
    """

    def __init__(self, command: str, tell: Callable[[str], None]) -> None:
        self.lines: deque[bytes] = deque()
        """What it answered and nobody took yet, without the line ends."""
        self.busy = time.monotonic()
        """When it last took or gave anything."""
        self.ended = False
        """Whether its stdout is closed: no answer will come any more."""
        self.endless = False
        """Whether it wrote more than LONGEST_LINE bytes without the end of a line; no more of it is read."""
        self.broken = False
        """Whether it closed its input before it had read everything."""
        self._tell = tell
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._words = Words()
        self._pending: deque[memoryview] = deque()
        self._closing = False
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
        streams = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._in, self._out, self._err = (stream.fileno() if stream is not None else -1 for stream in streams)
        for fd in (self._in, self._out, self._err):
            os.set_blocking(fd, False)

    @property
    def unwritten(self) -> int:
        """Bytes it has not taken yet."""
        return sum(len(view) for view in self._pending)

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal, None while it runs."""
        return self._process.poll()

    def write(self, block: bytes) -> None:
        """Queue bytes; `pump` writes them."""
        if not self._pending:
            self.busy = time.monotonic()
        self._pending.append(memoryview(block))

    def close_input(self) -> None:
        """End its input once everything queued is written; what it still holds back comes out then."""
        self._closing = True
        self._close_when_written()

    def _close_when_written(self) -> None:
        if self._closing and not self._pending and self._in >= 0:
            self._close_stdin()

    def _close_stdin(self) -> None:
        self._in = -1
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def take_block(self) -> None:
        """Read one block of answers."""
        block = _read(self._out)
        if block is None:
            return
        self.busy = time.monotonic()
        if not block:
            self._end_output()
            return
        first, *more = block.split(b"\n")
        self._rest.append(first)
        self._rest_size += len(first)
        for line in more:  # chunks of one long line are joined once: 1 MB values come in 64 KiB pieces
            self.lines.append(b"".join(self._rest))
            self._rest = [line]
            self._rest_size = len(line)
        self.endless = self._rest_size > LONGEST_LINE

    def _end_output(self) -> None:
        self.ended = True
        rest = b"".join(self._rest)
        self._rest = []
        if rest:
            self.lines.append(rest)

    def take_stderr(self) -> None:
        """Show what it says, a line at a time."""
        self._show(_read(self._err))

    def _show(self, block: bytes | None) -> None:
        if block is None:
            return
        if not block:
            self._err = -1
        for line in self._words.take(block):
            self._tell(visible(line))

    def give(self) -> None:
        """Write as much as it takes."""
        try:
            while self._pending:
                written = os.writev(self._in, list(islice(self._pending, VIEWS)))
                self.busy = time.monotonic()
                while self._pending and written >= len(self._pending[0]):
                    written -= len(self._pending.popleft())
                if written:
                    self._pending[0] = self._pending[0][written:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.broken = True
            self._pending.clear()
            self._close_stdin()
            return
        self._close_when_written()

    def rests(self) -> bool:
        """Whether it has taken all that was written and computes nothing, so that no answer is on its way any more.

        Where /proc does not tell (not Linux), or it has ended, that is so. 20 us for one process.
        """
        if self._in < 0 or self.ended:
            return True
        try:
            return not _unread(self._in) and not _any_runs(self._process.pid)
        except OSError:
            return True

    def wishes(self) -> Iterable[tuple[int, int, Callable[[], None]]]:
        """(file descriptor, poll events, what to do) for `pump`."""
        if self._pending and self._in >= 0:
            yield self._in, select.POLLOUT, self.give
        if not (self.ended or self.endless):
            yield self._out, select.POLLIN, self.take_block
        if self._err >= 0:
            yield self._err, select.POLLIN, self.take_stderr

    def reap(self, timeout: float) -> int | None:
        """Its exit code within `timeout` seconds after its output ended."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def _hear_out(self) -> None:
        """Show what it said before it ended, also an unfinished line."""
        for _ in range(64):
            block = _read(self._err) if self._err >= 0 else None
            if not block:
                break
            self._show(block)
        if self._err >= 0:
            self._show(b"")

    def let_go(self) -> None:
        """It has ended: wait a moment for what it started in the background, then end that, and close the pipes."""
        deadline = time.monotonic() + LEFTOVERS
        while self._has_group() and time.monotonic() < deadline:
            self.reap(0.0)
            time.sleep(0.01)
        self.kill()

    def _has_group(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it and what it started, also when it has ended itself before, and close the pipes."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.reap(1.0)
        self._pending.clear()
        self._close_stdin()
        self._hear_out()
        self.ended = True
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._err = -1


def _unread(pipe: int) -> bool:
    """Whether a pipe holds something that its reader has not taken."""
    return fcntl.ioctl(pipe, termios.FIONREAD, NOTHING) != NOTHING


def _any_runs(pid: int) -> bool:
    """Whether a process or one of its children has the processor, or waits for it."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        if file.read().rpartition(b")")[2].split(None, 1)[0] in RUNNING:
            return True
    with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        return any(_any_runs(int(child)) for child in file.read().split())


def _read(fd: int) -> bytes | None:
    try:
        return os.read(fd, BLOCK)
    except BlockingIOError:
        return None


def pump(children: Iterable[Child], timeout: float) -> None:
    """Move what can be moved between us and the children; wait up to `timeout` seconds for something to move."""
    poll = select.poll()
    actions: dict[int, Callable[[], None]] = {}
    for child in children:
        for fd, events, action in child.wishes():
            poll.register(fd, events)
            actions[fd] = action
    if not actions:
        return
    for fd, _ in poll.poll(timeout * 1000):
        actions[fd]()

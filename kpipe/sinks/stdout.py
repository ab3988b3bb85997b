"""Writes encoded records to stdout: a batch is one block, written as soon as it is there.

It never buffers between batches, so nothing is "handed over" that the reader cannot have got.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import time
from bisect import bisect_right
from contextlib import suppress
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage
from kpipe.parts import SinkAtOnce

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import Flight
    from kpipe.parts import Sent
    from kpipe.record import Batch


LOOK = 0.2
"""Seconds between looks whether anybody still reads; one look is one system call."""


PIPE_BYTES = 1 << 20
"""What a pipe may hold where nothing is lost with it; Linux gives 64 KiB, and more than 1 MiB only to root.

A batch of 500 envelopes fills 64 KiB several times, and both ends wait for each other in between: `consume | produce`
took 9 % less CPU with this.
"""


class WriteError(KpipeError):
    """Stdout took no more; `written` bytes of the block got out. What was not written is still in the topic."""

    stage = Stage.SEND
    written = 0


class ReaderGone(WriteError):
    """The reader of stdout went away (EPIPE); the run ends silently by SIGPIPE."""


class Stdout:
    """Writes whole blocks to file descriptor `fd`, and never waits for a reader where a signal could not end it."""

    def __init__(self, fd: int = 1) -> None:
        self._fd, self._most = _never_blocking(fd)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self.may_widen = False
        """Whether a pipe that is full is made to hold more, once."""

    def write(self, block: bytes, idle: Callable[[], bool]) -> int:
        """Write the block as its reader takes it, calling `idle` meanwhile; returns the bytes that got out.

        They are fewer than the block's only when `idle` returned False. Raises WriteError.
        """
        written = 0
        try:
            if self._most is None:
                written = os.write(self._fd, block)
        except BlockingIOError:
            pass
        except OSError as error:
            raise explain_write_error(error, 0) from None
        return written if written == len(block) else self._write_rest(memoryview(block), written, idle)

    def _write_rest(self, block: memoryview, written: int, idle: Callable[[], bool]) -> int:
        if self.may_widen:
            self.may_widen = False
            _widen(self._fd)
        most = self._most or len(block)
        while written < len(block):
            try:
                if self._poll.poll(100):
                    written += os.write(self._fd, block[written : written + most])
            except BlockingIOError:
                pass
            except OSError as error:
                raise explain_write_error(error, written) from None
            if written < len(block) and not idle():
                return written
        return written

    def end(self) -> None:
        """Let the reader see the end of the output while the process goes on; what is written later goes nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, 1)
        if self._fd != 1:
            os.dup2(nowhere, self._fd, inheritable=False)
        os.close(nowhere)


class ReaderWatch:
    """Notices that nobody reads stdout any more while there is nothing to write, as `tail -f` does."""

    def __init__(self, fd: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._poll = select.poll()
        self._poll.register(fd, 0)  # errors are told unasked; a pipe without a reader is one
        self._clock = clock
        self._next = 0.0

    def __call__(self) -> None:
        """Look a few times a second. Raises ReaderGone."""
        now = self._clock()
        if now >= self._next:
            self._next = now + LOOK
            if any(event & select.POLLERR for _, event in self._poll.poll(0)):
                raise ReaderGone("the reader of stdout went away")


class StdoutSink(SinkAtOnce):
    """Records as bytes on file descriptor `fd`; a record is settled when its last byte was written."""

    prints = True

    def __init__(self, encode: Callable[[Batch], bytes], fd: int = 1) -> None:
        self._encode = encode
        self._stdout = Stdout(fd)

    def hold_more(self) -> None:
        """Let a pipe hold more than the system gives: what is in it is lost with its reader, but read again later."""
        self._stdout.may_widen = True

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Write the batch and settle it; of a batch that could not be written whole, settle what was."""
        block = self._encode(batch)
        try:
            written = self._stdout.write(block, idle)
        except WriteError as error:
            self._settle_whole_records(batch, flight, error.written)
            raise
        if written == len(block):
            flight.settle_sent(batch)
        else:
            self._settle_whole_records(batch, flight, written)

    def _settle_whole_records(self, batch: Batch, flight: Flight, written: int) -> None:
        """A block has no seams: how many records end within `written` bytes is found by encoding fewer of them."""

        def size(count: int) -> int:
            some = batch.snapshot()
            some.keep([place < count for place in range(len(batch))])
            return len(self._encode(some))

        whole = bisect_right(range(1, len(batch) + 1), written, key=size)
        flight.settled += (range(flight.read) if batch.index is None else batch.index)[:whole]

    def end(self) -> None:
        """No further record will come; the reader may know."""
        self._stdout.end()

    def explain(self, error: object, where: str, _record: Sent | None = None) -> KpipeError:
        """Stdout has no delivery reports that could fail."""
        return KpipeError(str(error), where=where, stage=Stage.SEND)

    def refused(self, error: object) -> bool:
        """Stdout has no delivery reports that could fail."""
        return True


def _widen(fd: int) -> None:
    """A pipe that holds PIPE_BYTES; anything else, and a system that gives no more, stays as it is."""
    command = getattr(fcntl, "F_SETPIPE_SZ", None)
    if command is not None:
        with suppress(OSError):
            if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) < PIPE_BYTES:
                fcntl.fcntl(fd, command, PIPE_BYTES)


def _never_blocking(fd: int) -> tuple[int, int | None]:
    """A file descriptor for what `fd` is open on, and how many bytes may be written at once (None: any number).

    Pipes and terminals are opened once more without blocking: O_NONBLOCK on the inherited descriptor would also hit
    every other process that shares it. Where that cannot be done (no /proc, another user's pipe, a socket) a poll
    before each write promises room for PIPE_BUF bytes. Files never wait for a reader.
    """
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(fd)):
            return fd, None
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        return os.open(f"/proc/self/fd/{fd}", flags), None
    except OSError:
        return fd, select.PIPE_BUF


def explain_write_error(error: OSError, written: int) -> WriteError:
    """Why stdout took no more, after `written` bytes of the block."""
    if error.errno == errno.EPIPE:
        failure: WriteError = ReaderGone("the reader of stdout went away")
    else:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "; free space and run again" if full else ""
        failure = WriteError(f"cannot write: {error.strerror}{advice}", where="stdout")
    failure.written = written
    return failure

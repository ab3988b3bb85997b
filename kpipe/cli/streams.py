"""Keeps the three standard streams in their places when the caller closed one, and whole when it left one non-blocking.

It writes nothing by itself.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any

from kpipe.shutdown import may_wait

if TYPE_CHECKING:
    from collections.abc import Callable

SLICE = 0.05
"""Seconds of one wait for a reader; then it is asked whether there is time for another."""


def keep_standard_streams() -> None:
    """A closed 0, 1 or 2 would be given to the next socket that is opened, and records would be written into it.

    In its place stands /dev/null, open the wrong way round: whoever reads or writes there is told "bad file
    descriptor", as if it were closed.
    """
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number, which is this one
    sys.stdout = _patient(sys.stdout, 1) if sys.stdout else _nowhere(1)
    sys.stderr = _patient(sys.stderr, 2) if sys.stderr else _nowhere(2)


class PatientFile(io.FileIO):
    """A standard stream that waits for its reader, also where somebody made it non-blocking, but not for ever.

    Whoever shares it may have done so (ssh, node), for that is a property of what is open, not of the process: what a
    full pipe or terminal did not take at once would be lost. And a run that a signal ends must end although nobody
    reads what it says, so a call that waits for that is none of the kernel's: after a poll there is room for PIPE_BUF
    bytes. What nobody has read by then is dropped.
    """

    def __init__(self, fd: int, wait: Callable[[float], bool] = may_wait) -> None:
        super().__init__(fd, "w", closefd=False)
        self._may_wait = wait
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._waited = 0.0

    def write(self, data: Any) -> int:
        """Write some of it, or drop it: never nothing, as a non-blocking stream may."""
        while True:
            if not self._poll.poll(0):
                if not self._may_wait(self._waited):
                    return len(data)
                if not self._poll.poll(SLICE * 1000):
                    self._waited += SLICE
                    continue
            written = super().write(memoryview(data)[: select.PIPE_BUF])
            if written is not None:
                self._waited = 0.0
                return written


def _patient(stream: io.TextIOBase | Any, fd: int) -> io.TextIOWrapper:
    """The same stream, written by line: what a function of the user's prints is out before a signal can end the run."""
    raw = io.BufferedWriter(PatientFile(fd))
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=True)


def _nowhere(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), write_through=True)

"""Keeps the three standard streams in their places when the caller closed one, and whole when it left one non-blocking.

It writes nothing by itself.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import sys
from typing import Any


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
    """A standard stream that waits for its reader also where somebody made it non-blocking.

    Whoever shares it may have done so (ssh, node), for that is a property of what is open, not of the process. What a
    full pipe or terminal did not take at once would be lost.
    """

    def write(self, data: Any) -> int:
        """Write some of it; as in io.RawIOBase, but never nothing."""
        while (written := super().write(data)) is None:
            poll = select.poll()
            poll.register(self, select.POLLOUT)
            poll.poll()
        return written


def _patient(stream: io.TextIOBase | Any, fd: int) -> io.TextIOWrapper:
    """The same stream, which loses nothing. Line by line: what a function of the user's prints is out before a signal."""
    raw = io.BufferedWriter(PatientFile(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=True)


def _nowhere(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), write_through=True)

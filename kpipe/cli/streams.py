"""Keeps the three standard streams in their places when the caller closed one (`>&-`, `<&-`, `2>&-`).

It writes nothing.
"""

from __future__ import annotations

import fcntl
import io
import os
import sys


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
    sys.stdout = sys.stdout or _nowhere(1)
    sys.stderr = sys.stderr or _nowhere(2)


def _nowhere(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(fd, "w", closefd=False), write_through=True)

"""Looks at the files that a run will write at its end, before it reads anything: then it is too late to say so.

It writes nothing and creates nothing; a disk that fills up meanwhile is told when it happens.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from kpipe.errors import UsageError


def check_outputs(summary: str, spill: str, metrics: str = "") -> None:
    """What --summary, --spill and --metrics-file name; empty: not given."""
    if metrics:
        _check("--metrics-file", metrics, replaces=True)
    if summary:
        _check("--summary", summary, replaces=True)
    if spill:
        _check("--spill", spill, replaces=False)
    if summary and spill and not is_given(summary) and os.path.realpath(summary) == os.path.realpath(spill):
        raise _fault("--summary", summary, "--spill writes there, too")


def check_stdout(option: str) -> None:
    """UsageError when stdout was closed by whoever started us (the porch keeps its place, read-only)."""
    if fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise UsageError("stdout is closed; redirect it to a file, or drop the option", where=option)


def _check(option: str, path: str, *, replaces: bool) -> None:
    """UsageError when a file cannot be written at `path`; `replaces`: as a new file that takes its place."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        _check_folder(option, path)
        return
    except OSError as error:
        raise _fault(option, path, str(error.strerror)) from None
    if stat.S_ISDIR(status.st_mode):
        raise _fault(option, path, "it is a directory")
    if stat.S_ISFIFO(status.st_mode):
        _check_reader(option, path)
    elif replaces and stat.S_ISREG(status.st_mode) and not is_given(path):
        _check_folder(option, path)
    elif stat.S_ISSOCK(status.st_mode) or not os.access(path, os.W_OK):
        raise _fault(option, path, _why_not(path))


def is_given(path: str) -> bool:
    """Whether a path names something that is open already (/dev/stderr, /dev/fd/3): nothing can take its place."""
    return os.path.abspath(path).startswith(("/dev/", "/proc/"))


def _check_folder(option: str, path: str) -> None:
    folder = os.path.dirname(os.path.realpath(path)) or "/"
    if path.endswith("/"):
        raise _fault(option, path, "it names no file")
    if not os.path.isdir(folder):
        raise _fault(option, path, f"there is no directory {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _fault(option, path, f"{folder}: {_why_not(folder)}")


def _check_reader(option: str, path: str) -> None:
    """A pipe without a reader would be waited for at the end of the run."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        why = "nobody reads this pipe" if error.errno == errno.ENXIO else str(error.strerror)
        raise _fault(option, path, why) from None


def _why_not(path: str) -> str:
    try:
        flags = os.statvfs(path).f_flag
    except OSError:
        flags = 0
    return os.strerror(errno.EROFS if flags & os.ST_RDONLY else errno.EACCES)


def _fault(option: str, path: str, why: str) -> UsageError:
    return UsageError(f"cannot be written: {why}; name another file", where=f"{option} {path}")

"""Reads stdin and files in blocks and hands each block to a decoder as soon as it is there.

It never waits where a signal could not wake it, and holds no more than one block and the decoder's unfinished record.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
import termios
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.formats import Decoder
    from kpipe.record import Batch

BLOCK = 262144  # bytes; a turn of the pipeline costs 60 us, which 64 KiB of short lines (a pipe gives no more) feel


class FileSource:
    """Records from files in the order given; `-` is stdin. One decoder per file, so that positions are exact.

    `wakeup` becomes readable when a signal arrives. `tee` gets every block, and b"" at the end of each file, once its
    records are on their way: its reader may sleep until the drain is over. `opened` has file descriptors of paths that
    are open already; they are closed when they are read.
    """

    def __init__(
        self,
        paths: Sequence[str],
        decoder: Callable[[str], Decoder],
        wakeup: int,
        tee: Callable[[bytes], None] | None = None,
        opened: Mapping[str, int] | None = None,
    ) -> None:
        self.finished = False
        self.fragment = 0
        self.total_bytes, self.read_bytes = _total_size(paths), 0
        self.is_typed = "-" in paths and os.isatty(0)
        self._paths = list(paths)
        self._make_decoder = decoder
        self._wakeup = wakeup
        self._tee = tee
        self._untold: bytes | None = None
        self._opened = dict(opened or {})
        self._fd: int | None = None
        self._decoder: Decoder | None = None
        self._poll = select.poll()
        _check_readable(self._paths)

    def read(self) -> Batch | None:
        """The records of the next block; None when 0.1 s brought nothing."""
        self._pass_on()
        if self._fd is None and not self._open_next():
            return None
        if not self._is_ready():
            return None
        block = self._read_block()
        decoder = self._decoder
        if decoder is None or block is None:
            return None
        if not block:
            batch = decoder.finish()
            self._untold = block
            self._close_file()
            self.finished = not self._paths
            return batch
        self.read_bytes += len(block)
        self._untold = block
        return decoder.feed(block)

    def _pass_on(self) -> None:
        """Give `tee` the block that it has not got yet; KpipeError when its reader went away, say."""
        block, self._untold = self._untold, None
        if self._tee is not None and block is not None:
            self._tee(block)

    def _open_next(self) -> bool:
        if not self._paths:
            self.finished = True
            return False
        path = self._paths.pop(0)
        self._fd = 0 if path == "-" else self._opened.pop(path, -1)
        if self._fd < 0:
            self._fd = _open_file(path)
        self._decoder = self._make_decoder("stdin" if path == "-" else path)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN | select.POLLHUP | select.POLLERR)
        self._poll.register(self._wakeup, select.POLLIN)
        return True

    def _is_ready(self) -> bool:
        """Poll the file, not the decoder: regular files are always ready, pipes and terminals when they have data."""
        return any(fd == self._fd for fd, _ in self._poll.poll(100))

    def _read_block(self) -> bytes | None:
        """The next bytes; b"" at the end, None when a file that others share had nothing left for us."""
        try:
            return os.read(self._fd if self._fd is not None else 0, BLOCK)
        except BlockingIOError:
            return None
        except OSError as error:
            where = "stdin" if self._fd == 0 else ""
            raise KpipeError(f"cannot read: {error.strerror}", where=where, stage=Stage.READ) from None

    def _close_file(self) -> None:
        if self._fd:
            os.close(self._fd)
        self._fd = self._decoder = None

    def keep_alive(self) -> None:
        """Nothing to keep alive: a full sink simply stops the reading."""

    def leave(self) -> None:
        """Stop reading; what has begun but not ended becomes the reported fragment."""
        if self._decoder is not None:
            self.fragment = self._decoder.pending

    def close(self, timeout: float) -> None:
        """Close the file that is open; what was read last is passed on only now."""
        self._close_file()
        self._pass_on()


def _open_file(path: str) -> int:
    try:
        # O_NONBLOCK: a FIFO without a writer would block here, and no signal could end that (PEP 475).
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"cannot open: {error.strerror}", where=path) from None


def _check_readable(paths: Sequence[str]) -> None:
    """Find a missing file before the first record is sent, not in the middle of the run."""
    for path in paths:
        try:
            mode = _stdin_mode() if path == "-" else os.stat(path).st_mode
        except OSError as error:
            raise UsageError(f"cannot open: {error.strerror}", where="stdin" if path == "-" else path) from None
        if stat.S_ISDIR(mode):
            raise UsageError("is a directory, not a file", where="stdin" if path == "-" else path)
        if path != "-" and not os.access(path, os.R_OK):
            raise UsageError("cannot open: Permission denied", where=path)


def _stdin_mode() -> int:
    """The kind of file that stdin is; OSError when it was closed (the porch then keeps its place write-only)."""
    if fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return os.fstat(0).st_mode


def _total_size(paths: Sequence[str]) -> int | None:
    """Bytes to read when every input is a regular file, for the progress line; None otherwise."""
    total = 0
    for path in paths:
        try:
            status = os.fstat(0) if path == "-" else os.stat(path)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size
    return total


def is_complete(paths: Sequence[str], most: int) -> bool:
    """Whether all of the input is there, at most `most` bytes: files, and a pipe that nobody writes to any more."""
    total = 0
    for path in paths:
        try:
            status = os.fstat(0) if path == "-" else os.stat(path)
            if stat.S_ISREG(status.st_mode):
                total += status.st_size
            elif path == "-" and stat.S_ISFIFO(status.st_mode) and _writer_is_gone():
                total += _bytes_waiting()
            else:
                return False
        except OSError:
            return False
    return total <= most


def _writer_is_gone() -> bool:
    poll = select.poll()
    poll.register(0, select.POLLIN)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def _bytes_waiting() -> int:
    answer = fcntl.ioctl(0, termios.FIONREAD, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])

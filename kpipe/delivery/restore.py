"""Sends home what a run could not deliver: the envelopes of a spill file, each once (`kpipe produce --restore FILE`).

It never forgets a record that was not acknowledged: what is left stays in FILE, and only a file that was delivered
whole is renamed. It touches no file but the one that it opened.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from kpipe.errors import BadRecord, KpipeError, Stage, UsageError
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kpipe.flight import Flight
    from kpipe.formats import Decoder
    from kpipe.ledger import Ledger

BLOCK = 1 << 20
DONE, REST = ".restored", ".rest"


class SpillRest:
    """What becomes of the spill file: it is told of records that were lost (as a spill), and ends with the run.

    The file is locked while it is being restored, so that two runs cannot send it twice. Raises UsageError for what is
    no plain file (a link, a pipe, a device), and where what is left could not be put back.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.note = ""
        self._lost: set[int] = set()
        self._fd = _open_plain(path)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise UsageError("is being restored by another process; wait for it", where=path) from None
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            os.close(self._fd)
            what = "its directory is not writable, so it could not be renamed when it was sent; copy it elsewhere"
            raise UsageError(what, where=path)
        self._size, self._digest = 0, b""

    def check(self, decoder: Decoder) -> int:
        """Read the whole file before the first record is sent; BadRecord for what is no envelope. Returns the count."""
        count, digest = 0, blake2b()
        os.lseek(self._fd, 0, os.SEEK_SET)
        while True:
            block = os.read(self._fd, BLOCK)
            digest.update(block)
            self._size += len(block)
            batch = decoder.feed(block) if block else decoder.finish()
            if batch.bad:
                raise batch.bad[0].error
            count += len(batch)
            if not block:
                self._digest = digest.digest()
                return count

    def reopen(self) -> int:
        """A file descriptor to read what was checked, from its beginning; whatever has the name by then."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        return os.dup(self._fd)

    def write(self, lost: Sequence[tuple[Flight, int]]) -> int:
        """Remember the lines that were read and not delivered; returns how many."""
        for flight, index in lost:
            origin = flight.origin
            if origin is not None and origin.lines is not None:
                self._lost.add(origin.lines[index])
        return len(lost)

    def tick(self, ledger: Ledger) -> None:
        """The file changes only at the end."""

    def finish(self, ledger: Ledger, timeout: float) -> None:
        """Keep what was lost and what was not read, in their order; or rename the file when nothing is left."""
        try:
            if self._is_rewritten():
                message = "was changed while it was sent, and is left as it is; some of its records were delivered"
                raise KpipeError(message, where=str(self.path), stage=Stage.COMMIT)
            self.note = f"restore: {self.path}: {self._put_away(ledger.read)}"
        except OSError as error:
            message = f"cannot write what is left: {error.strerror}; the file still has all its records"
            raise KpipeError(message, where=str(self.path), stage=Stage.COMMIT) from None
        finally:
            os.close(self._fd)

    def _put_away(self, read: int) -> str:
        """What was done: the name may belong to another file by now, which is not touched."""
        while True:
            size = os.fstat(self._fd).st_size
            rest, left = self._write_rest(read)
            try:
                if os.fstat(self._fd).st_size != size:  # somebody has appended to it meanwhile
                    continue
                if not self._is_named():
                    if not left:
                        return "all was delivered; another file has its name now, and is left as it is"
                    other = _free_name(self.path, REST)
                    os.link(rest, other)
                    lies = f"{counted(left, 'record is', 'records are')} left in {other.name}"
                    return f"another file has its name now; {lies}"
                if left:
                    rest.replace(self.path)
                    return f"{counted(left, 'record is', 'records are')} left in it; run again to send the rest"
                done = _free_name(self.path, DONE)
                self.path.rename(done)
                return f"all was delivered; it is {done.name} now"
            finally:
                with suppress(FileNotFoundError):
                    rest.unlink()

    def _is_named(self) -> bool:
        """Whether the name still means the file that was opened."""
        try:
            now, then = os.lstat(self.path), os.fstat(self._fd)
        except FileNotFoundError:
            return False
        return (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino)

    def _is_rewritten(self) -> bool:
        """Whether what was checked is not there any more; more behind it is no harm."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        digest, missing = blake2b(), self._size
        while missing and (block := os.read(self._fd, min(BLOCK, missing))):
            digest.update(block)
            missing -= len(block)
        return digest.digest() != self._digest

    def _write_rest(self, read: int) -> tuple[Path, int]:
        """A file beside it with the records that are left, and how many they are."""
        rest = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        left = 0
        with rest.open("xb") as file:
            os.chmod(file.fileno(), os.fstat(self._fd).st_mode & 0o777)
            for record, number, line in self._records():
                if number in self._lost or record > read:
                    file.write(line)
                    left += 1
            file.flush()
            os.fsync(file.fileno())
        return rest, left

    def _records(self) -> Iterator[tuple[int, int, bytes]]:
        """(number of the record, number of the line, line) of every line with something in it."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        record = 0
        with open(self._fd, "rb", closefd=False) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    record += 1
                    yield record, number, line if line.endswith(b"\n") else line + b"\n"


def _open_plain(path: str) -> int:
    """A plain file itself: it is renamed in the end, and a device or what a link leads to must not be."""
    try:
        # O_NONBLOCK: a FIFO without a writer would wait here, and swallow a signal.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError("is a symbolic link; --restore takes the plain file itself", where=path) from None
        what = "is no plain file" if error.errno == errno.ENXIO else f"cannot open: {error.strerror}"
        raise UsageError(what, where=path) from None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise UsageError(
        "is no plain file; --restore takes a file that --spill wrote, a pipe is read by --input json", where=path
    )


def _free_name(path: Path, suffix: str) -> Path:
    """`FILE.restored`, or `FILE.restored.2` ... when there is one already."""
    name = path.with_name(path.name + suffix)
    number = 2
    while os.path.lexists(name):
        name = path.with_name(f"{path.name}{suffix}.{number}")
        number += 1
    return name


def check_spill(rest: SpillRest, make: Callable[[str], Decoder]) -> None:
    """A spill is written by a machine: one that cannot be read whole is damaged, and a part of it helps nobody."""
    try:
        rest.check(make(str(rest.path)))
    except BadRecord as error:
        what = f"{error.what}; the spill is damaged there, and nothing of it was sent"
        raise BadRecord(what, where=error.where, stage=Stage.READ) from None

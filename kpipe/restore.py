"""Sends home what a run could not deliver: the envelopes of a spill file, each once (`kpipe produce --restore FILE`).

It never forgets a record that was not acknowledged: what is left stays in FILE, and only a file that was delivered
whole is renamed.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kpipe.errors import BadRecord, KpipeError, Stage, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kpipe.formats import Decoder
    from kpipe.ledger import Flight, Ledger

BLOCK = 1 << 20
DONE = ".restored"


class SpillRest:
    """What becomes of the spill file: it is told of records that were lost (as a spill), and ends with the run.

    The file is locked while it is being restored, so that two runs cannot send it twice.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.note = ""
        self._lost: set[int] = set()
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError("is being restored by another process; wait for it", where=path) from None
        except OSError as error:
            raise UsageError(f"cannot open: {error.strerror}", where=path) from None

    def check(self, decoder: Decoder) -> int:
        """Read the whole file before the first record is sent; BadRecord for what is no envelope. Returns the count."""
        count = 0
        os.lseek(self._fd, 0, os.SEEK_SET)
        while True:
            block = os.read(self._fd, BLOCK)
            batch = decoder.feed(block) if block else decoder.finish()
            if batch.bad:
                raise batch.bad[0].error
            count += len(batch)
            if not block:
                return count

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
            left = self._keep_rest(ledger.read)
            if left:
                self.note = f"restore: {self.path}: {left:,} records are left in it; run again to send them"
            else:
                done = _free_name(self.path)
                self.path.rename(done)
                self.note = f"restore: {self.path}: all was delivered; it is {done.name} now"
        except OSError as error:
            message = f"cannot write what is left: {error.strerror}; the file still has all its records"
            raise KpipeError(message, where=str(self.path), stage=Stage.COMMIT) from None
        finally:
            os.close(self._fd)

    def _keep_rest(self, read: int) -> int:
        """Write the rest beside the file and put it in its place in one step; returns the number of records left."""
        rest = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        left = 0
        try:
            with rest.open("xb") as file:
                os.chmod(file.fileno(), os.fstat(self._fd).st_mode & 0o777)
                for record, number, line in self._records():
                    if number in self._lost or record > read:
                        file.write(line)
                        left += 1
                file.flush()
                os.fsync(file.fileno())
            if left:
                rest.replace(self.path)
        finally:
            with suppress(FileNotFoundError):
                rest.unlink()
        return left

    def _records(self) -> Iterator[tuple[int, int, bytes]]:
        """(number of the record, number of the line, line) of every line with something in it."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        record = 0
        with open(self._fd, "rb", closefd=False) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    record += 1
                    yield record, number, line if line.endswith(b"\n") else line + b"\n"


def _free_name(path: Path) -> Path:
    """`FILE.restored`, or `FILE.restored.2` … when there is one already."""
    name = path.with_name(path.name + DONE)
    number = 2
    while name.exists():
        name = path.with_name(f"{path.name}{DONE}.{number}")
        number += 1
    return name


def check_spill(rest: SpillRest, make: Callable[[str], Decoder]) -> None:
    """A spill is written by a machine: one that cannot be read whole is damaged, and a part of it helps nobody."""
    try:
        rest.check(make(str(rest.path)))
    except BadRecord as error:
        what = f"{error.what}; the spill is damaged there, and nothing of it was sent"
        raise BadRecord(what, where=error.where, stage=Stage.READ) from None

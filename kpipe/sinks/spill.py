"""Writes records that could not be delivered to a file, as envelopes that `kpipe produce --input json` reads.

It never overwrites what an earlier run left there: it appends, then syncs.
"""

from __future__ import annotations

import os
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kpipe.flight import Flight
    from kpipe.record import Batch


class SpillFile:
    """Undelivered records at `path`; opened (0600) only when there is one."""

    def __init__(self, path: str, encode: Callable[[Batch], bytes]) -> None:
        self.path = path
        self.written = 0
        """Records that it keeps of this run."""
        self._encode = encode

    def write(self, lost: Iterable[tuple[Flight, int]]) -> int:
        """Append the records that were about to be sent, in the order they were read; returns how many.

        A record that a transform refused was never about to be sent. Raises KpipeError on a full disk.
        """
        count, blocks = 0, []
        for part, records in _parts(lost):
            count += records
            blocks.append(self._encode(part))
        if not count:
            return 0
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "ab") as file:
                file.writelines(blocks)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            message = f"cannot spill {counted(count, 'undelivered record')}: {error.strerror}"
            raise KpipeError(message, where=str(Path(self.path)), stage=Stage.SEND) from None
        self.written += count
        return count


def _parts(lost: Iterable[tuple[Flight, int]]) -> Iterator[tuple[Batch, int]]:
    """What is left of each batch as it was about to be sent, with the target's headers, and of how many records it is.

    Batch by batch: picked one by one, 17,600 records of one block of stdin took longer than any drain deadline.
    """
    for flight, group in groupby(lost, key=itemgetter(0)):
        batch = flight.batch
        if batch is None:
            continue
        wanted = {index for _, index in group if index < flight.read}
        entries = range(len(batch)) if batch.index is None else batch.index
        part = batch.snapshot()
        part.keep([entry in wanted for entry in entries])
        if len(part):
            yield part, len(wanted.intersection(entries))


def open_spill(path: str) -> SpillFile:
    """The file of --spill, which keeps records as envelopes."""
    from kpipe.formats.envelope_output import EnvelopeEncoder

    return SpillFile(path, EnvelopeEncoder())

"""Writes records that could not be delivered to a file, as envelopes that `kpipe produce --input json` reads.

It never overwrites what an earlier run left there: it appends, then syncs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.ledger import Flight
    from kpipe.record import Batch


class SpillFile:
    """Undelivered records at `path`; opened (0600) only when there is one."""

    def __init__(self, path: str, encode: Callable[[Batch], bytes]) -> None:
        self.path = path
        self._encode = encode

    def write(self, lost: Sequence[tuple[Flight, int]]) -> int:
        """Append the records that were about to be sent, in the order they were read; returns how many.

        A record that a transform refused was never about to be sent. Raises KpipeError on a full disk.
        """
        blocks = [self._encode(one) for one in (_pick(flight, index) for flight, index in lost) if one is not None]
        if not blocks:
            return 0
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "ab") as file:
                file.writelines(blocks)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            message = f"cannot spill {len(blocks):,} undelivered records: {error.strerror}"
            raise KpipeError(message, where=str(Path(self.path)), stage=Stage.SEND) from None
        return len(blocks)


def _pick(flight: Flight, index: int) -> Batch | None:
    """The record at `index` as it was about to be sent, with the target's headers; None when a stage took it out."""
    batch = flight.batch
    if batch is None or index >= flight.read or (batch.index is not None and index not in batch.index):
        return None
    one = batch.snapshot()
    one.keep([entry == index for entry in (range(len(one)) if one.index is None else one.index)])
    return one

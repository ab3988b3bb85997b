"""What a run knows of its records beside the ledger, shared by the loop, filters and transactions.

It moves no record: it is told what was sent and what failed, and goes back to a mark when a transaction is undone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kpipe.errors import UndeliveredError
from kpipe.flight import is_open
from kpipe.ledger import Mark
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kpipe.errors import KpipeError
    from kpipe.flight import Flight, Position, TopicPartition
    from kpipe.ledger import Ledger


@dataclass(slots=True)
class RunState:
    """One run, as far as it has come. A record is named by its flight and its place in it."""

    ledger: Ledger
    sent: int = 0
    """Records handed to the sink."""
    draining: bool = False
    """Whether nothing more will be read: what is sent now is the last."""
    error: KpipeError | None = None
    """The first thing that went wrong: what the run ends with."""
    lost: list[tuple[str, str]] = field(default_factory=list)
    """(position, reason) of records that were not delivered and of which nothing was said yet."""
    refused: list[tuple[Flight, int]] = field(default_factory=list)
    """Records that were certainly not written."""
    reasons: dict[tuple[int, int], object] = field(default_factory=dict)
    """Why a record was not delivered, by the flight's id and the record's place."""
    observers: list[Callable[[], None]] = field(default_factory=list)
    """Who looks on: called once a turn of the main loop, and by whoever keeps it waiting. None waits, none fails."""
    told: set[Position] = field(default_factory=set)
    """Records of which it was said that they are left out, as long as an aborted transaction may read them again."""
    _mark: tuple[Mark, int] = field(default_factory=lambda: (Mark(), 0))

    def progress(self) -> None:
        """The run lives, though it may be waiting: whoever looks on is told."""
        for observe in self.observers:
            observe()

    def mark(self) -> None:
        """What was read so far is final; `rewind` and `write_off` come back to here."""
        self._mark = (self.ledger.mark(), self.sent)
        self.told = {position for position in self.told if is_open(position, self.ledger.next_offsets)}

    def rewind(self, next_offsets: Mapping[TopicPartition, int]) -> int:
        """What was read since the mark is read again, and was never read as far as anyone is concerned."""
        mark, self.sent = self._mark
        self.refused.clear()
        self.reasons.clear()
        return self.ledger.rewind(mark, next_offsets)

    def write_off(self, next_offsets: Mapping[TopicPartition, int], *, unknown: bool = False) -> None:
        """What was read since the mark did not get through: a transaction was aborted, and the run is over."""
        count = self.ledger.write_off(self._mark[0], next_offsets, unknown=unknown)
        self.refused.clear()
        if count and self.error is None:
            what = "nobody knows whether it was committed" if unknown else "it was aborted"
            self.error = UndeliveredError(
                f"{counted(count, 'record was', 'records were')} in a transaction that did not end: {what}; "
                "the next start goes on from there"
            )

    def give_up(self) -> None:
        """What was read since the mark may or may not be visible one day: nobody is left who could find out."""
        self.ledger.write_off(self._mark[0], {}, unknown=True)

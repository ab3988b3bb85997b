"""Which records are proven: written to the pipe by consume, and acknowledged by the far end of it.

It reads and writes nothing: it is told what was written and acknowledged, and answers with offsets.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kpipe.flight import TopicPartition
    from kpipe.ledger import Ledger
    from kpipe.record import Batch


class Gate:
    """Which offsets are proven: written to the pipe and acknowledged by its far end. `each` as in the room."""

    def __init__(self, *, each: bool = False) -> None:
        self._each = each
        self._written: dict[TopicPartition, int] = {}
        self._acked: dict[TopicPartition, int] = {}
        self._waiting: dict[TopicPartition, deque[int]] = {}
        self._early: dict[TopicPartition, set[int]] = {}

    def wrote(self, batch: Batch) -> None:
        """These records are about to be written; nothing of them is proven yet."""
        places = zip(batch.topics or (), batch.partitions or (), strict=True)
        if not self._each:
            self._written.update(zip(places, batch.offsets or (), strict=True))  # type: ignore[arg-type]
            return
        for place, offset in zip(places, batch.offsets or (), strict=True):
            self._waiting.setdefault(place, deque()).append(offset)  # type: ignore[arg-type]

    def acked(self, place: TopicPartition, offsets: list[int]) -> None:
        """The far end has delivered these."""
        if not self._each:
            if place in self._written and offsets:
                self._acked[place] = max(self._acked.get(place, -1), *offsets)
            return
        waiting, early = self._waiting.get(place), self._early.setdefault(place, set())
        early.update(offsets)
        while waiting and waiting[0] in early:
            early.discard(waiting.popleft())

    def proven(self, places: Iterable[TopicPartition] | None = None) -> bool:
        """Whether all that was written of these partitions (None: of all) is proven."""
        if self._each:
            wanted = self._waiting if places is None else places
            return not any(self._waiting.get(place) for place in wanted)
        wanted = self._written if places is None else places
        return all(self._acked.get(place, -1) >= self._written.get(place, -1) for place in wanted)

    def committable(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Of offsets that may be committed as far as the pipe was written: what may be, as far as acknowledged."""
        allowed: dict[TopicPartition, int] = {}
        for place, offset in offsets.items():
            if self.proven((place,)):
                allowed[place] = offset
            elif self._each:
                allowed[place] = min(offset, self._waiting[place][0])
            elif place in self._acked:
                allowed[place] = min(offset, self._acked[place] + 1)
        return allowed

    def settle_rest(self) -> None:
        """All that was written counts as proven."""
        self._acked.update(self._written)
        self._waiting.clear()

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """Partitions went away, or begin anew."""
        for place in places:
            for known in (self._written, self._acked, self._waiting, self._early):
                known.pop(place, None)


class GatedLedger:
    """A ledger as the committer and a rebalance see it when only what is proven may be committed."""

    def __init__(self, ledger: Ledger, gate: Gate) -> None:
        self._ledger, self._gate = ledger, gate

    @property
    def flights(self) -> object:
        """Whether anything is on its way."""
        return self._ledger.flights or not self._gate.proven()

    @property
    def read(self) -> int:
        """As the ledger's."""
        return self._ledger.read

    @property
    def cut_short(self) -> bool:
        """As the ledger's."""
        return self._ledger.cut_short

    @property
    def next_offsets(self) -> dict[TopicPartition, int]:
        """What may be committed of the flights that are complete."""
        return self._ledger.next_offsets if self._gate.proven() else self._gate.committable(self._ledger.next_offsets)

    def settle(self) -> None:
        """As the ledger's."""
        self._ledger.settle()

    def prefix(self) -> dict[TopicPartition, int]:
        """What may be committed, exact to the record."""
        return self._gate.committable(self._ledger.prefix())

    def has_in_flight(self, places: Iterable[TopicPartition]) -> bool:
        """Whether a record of one of these partitions is unproven."""
        wanted = list(places)
        return self._ledger.has_in_flight(wanted) or not self._gate.proven(wanted)

    def begin(self, starts: Mapping[TopicPartition, int]) -> None:
        """Partitions begin here."""
        self._gate.forget(starts)
        self._ledger.begin(starts)

    def revoke(self, places: Iterable[TopicPartition]) -> None:
        """Partitions went away."""
        gone = list(places)
        self._ledger.revoke(gone)
        self._gate.forget(gone)

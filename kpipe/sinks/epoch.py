"""Counts records whose time is 0, which no client of librdkafka can send: it takes 0 for "now".

It changes no record. `rd_kafka_msg_new0` has no other way, whatever is called: `produce`, `producev`, `produceva` and
`produce_batch` all end there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.record import Batch


class EpochTimes:
    """One count for a run; `say` is told of the first such record."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.count = 0
        self._say = say

    def note(self, batch: Batch, target: str) -> None:
        """Count the records of a batch that is sent to `target`."""
        places = [place for place, (kind, ms) in enumerate(batch.timestamps or ()) if kind and not ms]
        if places and not self.count:
            what = "the time 0 (1970-01-01T00:00:00Z) becomes the time of sending, for Kafka's client takes 0 for now"
            then = "the summary counts such records, and the run ends with 1; --timestamp now asks for it"
            self._say(f"send: {batch.where(places[0]) or target} -> {target}: {what}; {then}")
        self.count += len(places)

    def facts(self) -> dict[str, object]:
        """For the summary; nothing when there was none."""
        return {"times_replaced": self.count} if self.count else {}

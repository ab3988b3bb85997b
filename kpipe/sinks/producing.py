"""The producer of one cluster, as all sinks that send through it see it: it may be replaced under them.

A batch that a broker refuses tears the producer (`enable.gapless.guarantee`): what stands behind the batch is given
back unsent, so that nothing overtakes the records that are sent again. librdkafka would go on with the next batch.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpipe.kafka.errors import Cause, cause_of
from kpipe.shutdown import run_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kpipe.kafka.troubles import Troubles

CAREFUL: dict[str, Any] = {
    "enable.gapless.guarantee": False,  # nothing stands behind the records that it is given
    "max.in.flight.requests.per.connection": 1,
    "linger.ms": 200,  # they leave together when they are flushed, in one batch for each partition
    "batch.num.messages": 1_000_000,
}
"""Of the producer for records of which one may be refused."""


@dataclass(slots=True)
class Producing:
    """`open_one` makes a producer with these properties in place of the usual ones, None: of the usual kind."""

    producer: Any
    troubles: Troubles
    open_one: Callable[[Mapping[str, Any] | None], tuple[Any, Troubles]] | None = None

    stopped: Callable[[], bool] = lambda: False
    """Whether a signal has come."""
    keeps_order: bool = False
    """Whether a refused batch tears it, so that nothing overtakes what is sent again."""
    was_torn: bool = False
    """Whether a predecessor was; its reports may still be waiting for their turn."""

    @property
    def is_torn(self) -> bool:
        """Whether a refused batch has stopped it."""
        return self.troubles.fatal is not None and cause_of(self.troubles.fatal[0]) is Cause.TORN

    @property
    def fatal(self) -> tuple[str, str] | None:
        """Why it is beyond repair, as (name, text)."""
        return None if self.is_torn else self.troubles.fatal

    def give_back(self) -> None:
        """Have a producer that sends nothing any more report what is in its queue; what is in flight is answered yet.

        librdkafka purges the queue once, when the fatal error comes: a record that was given to it at that moment, or
        came back into the queue after it, would wait there for ever (seen where single records are refused).
        """
        if self.troubles.fatal is not None and len(self.producer):
            self.producer.purge(in_queue=True, in_flight=False)

    @contextmanager
    def careful(self) -> Iterator[tuple[Any, Troubles]]:
        """A producer for records of which one may be refused."""
        producer, troubles = self._open(CAREFUL)
        troubles.listener = self.troubles.listener
        try:
            yield producer, troubles
        finally:
            run_bounded(producer.close, 1.0)

    def renew(self) -> None:
        """A new producer in place of one that is torn, with nothing in it."""
        old, listener = self.producer, self.troubles.listener
        self.producer, self.troubles = self._open(None)
        self.troubles.listener = listener
        self.was_torn = True
        run_bounded(old.close, 1.0)

    def _open(self, changed: Mapping[str, Any] | None) -> tuple[Any, Troubles]:
        if self.open_one is None:
            raise RuntimeError("nobody has said how to open another producer")
        return self.open_one(changed)

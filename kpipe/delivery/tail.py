"""Reads the end of the target topic, for what is there already (`--resume-by-trace`).

It writes nothing, and gives the loop a turn every half second.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.kafka.errors import Cause, cause_of
from kpipe.kafka.lookups import find_watermarks
from kpipe.kafka.metadata import find_partitions
from kpipe.shutdown import run_bounded
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from confluent_kafka import Consumer

    from kpipe.kafka.lookups import Bounds

SILENCE = 30.0
"""Seconds without a record after which reading the target's tail is given up."""

ANSWER, SLICE, CLOSING, LEAST = 10.0, 0.5, 2.0, 0.1
"""Seconds for an answer of the target's cluster, for one question, for a goodbye, and for each when time is used up."""


class TargetTail:
    """Reads the end of the target topic; `open_consumer` gives a consumer for an isolation level."""

    def __init__(
        self,
        topic: str,
        where: str,
        open_consumer: Callable[[str], Consumer],
        limit: int,
        stopped: Callable[[], bool],
        remaining: Callable[[float], float] = lambda otherwise: otherwise,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.topic = topic
        self.where = where
        self._open_consumer = open_consumer
        self._limit = limit
        self._stopped = stopped
        self._remaining = remaining
        self._clock = clock
        self._asking: Consumer | None = None

    def ends(self, timeout: float = ANSWER) -> dict[int, int]:
        """The end of each partition, open transactions included. UnreachableError after `timeout` seconds."""
        return {partition: bound.high for partition, bound in self._bounds(timeout).items()}

    def _bounds(self, timeout: float = ANSWER) -> dict[int, Bounds]:
        from confluent_kafka import KafkaException

        asking, deadline = self._asker(), self._clock() + timeout
        try:
            partitions = find_partitions(asking, self.topic, self._left(deadline))
            return {
                partition: find_watermarks(asking, (self.topic, partition), self._left(deadline))
                for partition in partitions
            }
        except KafkaException as error:
            message = f"cannot find the end of the target: {error.args[0].str()}; try again"
            raise UnreachableError(message, where=self.where, stage=Stage.READ) from None

    def _left(self, deadline: float) -> float:
        """Seconds for one answer, which the deadline of a signal leaves to it, too."""
        return max(LEAST, self._remaining(deadline - self._clock()))

    def search(
        self, floors: Mapping[int, int], take: Callable[[list[Any]], None]
    ) -> Generator[None, None, dict[int, int]]:
        """Give every committed record behind the floors to `take`; returns the ends up to which it has looked.

        It yields every 0.1 to 0.5 s, so that the reader of the sources stays in its group meanwhile.
        """
        bounds = yield from self._find_bounds()
        starts = {p: min(max(floors.get(p, 0), bound.low), bound.high) for p, bound in bounds.items()}
        todo = {p: bounds[p].high for p, start in starts.items() if start < bounds[p].high}
        count = sum(high - starts[p] for p, high in todo.items())
        if count > self._limit:
            what = f"{counted(count, 'record')} would have to be read to know what is there already"
            advice = f"raise --resume-limit ({self._limit:,}), or commit with -G so that the next start needs less"
            raise KpipeError(f"{what}; {advice}", where=self.where, stage=Stage.READ)
        if todo:
            yield from self._read_to_ends(starts, todo, take)
        return {partition: bound.high for partition, bound in bounds.items()}

    def _find_bounds(self) -> Generator[None, None, dict[int, Bounds]]:
        asking, deadline = self._asker(), self._clock() + ANSWER
        partitions = yield from self._ask(lambda: find_partitions(asking, self.topic, SLICE), deadline)
        bounds: dict[int, Bounds] = {}
        for partition in partitions:
            place = (self.topic, partition)
            bounds[partition] = yield from self._ask(partial(find_watermarks, asking, place, SLICE), deadline)
        return bounds

    def _asker(self) -> Consumer:
        """The client that is asked for ends: one that sees open transactions."""
        if self._asking is None:
            self._asking = self._open_consumer("read_uncommitted")
        return self._asking

    def _ask(self, question: Callable[[], Any], deadline: float) -> Generator[None, None, Any]:
        """The answer to a question of half a second that is asked until the deadline."""
        from confluent_kafka import KafkaException

        while True:
            try:
                return question()
            except KafkaException as error:
                if self._clock() >= deadline or self._stopped():
                    message = f"cannot find the end of the target: {error.args[0].str()}; try again"
                    raise UnreachableError(message, where=self.where, stage=Stage.READ) from None
            yield

    def _read_to_ends(
        self, starts: Mapping[int, int], todo: dict[int, int], take: Callable[[list[Any]], None]
    ) -> Generator[None, None, None]:
        from confluent_kafka import TopicPartition

        consumer = self._open_consumer("read_committed")
        try:
            consumer.assign([TopicPartition(self.topic, p, starts[p]) for p in todo])
            deadline = self._clock() + SILENCE
            while todo:
                messages = consumer.consume(500, 0) or consumer.consume(1, 0.1)
                if messages:
                    deadline = self._clock() + SILENCE
                if self._clock() > deadline:
                    what = (
                        "the end of the target was not reached; is a transaction open there? wait for it, or abort it"
                    )
                    raise UnreachableError(what, where=self.where, stage=Stage.READ)
                take([message for message in messages if message.error() is None])
                self._cross_off(messages, todo)
                yield
        finally:
            run_bounded(consumer.close, max(LEAST, self._remaining(CLOSING)))

    def _cross_off(self, messages: Sequence[Any], todo: dict[int, int]) -> None:
        """Partitions whose end was reached; one that ends with transaction markers only says so itself."""
        for message in messages:
            error = message.error()
            if error is not None and cause_of(error) is not Cause.PARTITION_END:
                if error.retriable():
                    continue
                raise UnreachableError(error.str(), where=self.where, stage=Stage.READ)
            reached = message.offset() + (error is None)
            end = todo.get(message.partition())
            if end is not None and reached >= end:
                del todo[message.partition()]

    def close(self) -> None:
        """Let go of the target."""
        if self._asking is not None:
            run_bounded(self._asking.close, max(LEAST, self._remaining(CLOSING)))
            self._asking = None

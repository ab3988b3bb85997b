"""A sink that stands before another one and sends records through a filter on the way; what both modes share.

It never lets a record count as done before everything that came back for it has reached its target.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from zlib import crc32

from kpipe.errors import BadRecord, KpipeError, Stage
from kpipe.parts import SinkBefore
from kpipe.through.child import LONGEST_LINE, Child, pump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kpipe.flight import Flight
    from kpipe.parts import Sent, Sink
    from kpipe.record import Batch

    PipelineStage: TypeAlias = Callable[[Batch], None]
    Note: TypeAlias = Callable[[Batch | None, int, KpipeError | None], None]

TURN = 0.05
"""Seconds of one wait for the filter."""
BYTES = 4 << 20
"""Bytes that are given to the filter before its answers are awaited; a larger value goes alone."""
NOT_ANSWERED = "the filter did not give it back"
LAST_WORDS = 0.3
"""Seconds to wait for the stderr and the exit code of a filter that died."""


class FilterError(KpipeError):
    """The filter died, hung or could not be started; no record is to blame."""

    stage = Stage.TRANSFORM
    code = "FILTER"


class FilterMismatch(BadRecord):
    """The filter answered too much, too little, or something that belongs to no record."""

    stage = Stage.TRANSFORM
    code = "FILTER"


class Unanswered:
    """What stands for the delivery report of a record that the filter never gave back."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Refused:
    """What stands for the delivery report of a record that a stage behind the filter refused."""

    def __init__(self, error: BadRecord) -> None:
        self.error = error


@dataclass(slots=True, frozen=True)
class Filter:
    """What to run: `command` for /bin/sh, `title` as it was typed, `timeout` in seconds, `jobs` processes of it."""

    command: str
    title: str
    timeout: float = 60.0
    jobs: int = 1


@dataclass(slots=True, frozen=True)
class Surroundings:
    """What a filter asks of its run: whether the input has ended, how many records may still be sent (None: all).

    `note` hears of filtered and bad records.
    """

    ending: Callable[[], bool] = lambda: False
    wanted: Callable[[], int | None] = lambda: None
    note: Note = lambda _origin, _index, _error: None


class FilterSink(SinkBefore):
    """The part of a way through a filter that does not depend on what is written to it.

    `stages` run on what came back.
    """

    def __init__(
        self,
        what: Filter,
        inner: Sink,
        stages: Sequence[PipelineStage],
        tell: Callable[[str], None],
        around: Surroundings = Surroundings(),
    ) -> None:
        super().__init__(inner)
        self.ending, self.wanted, self.note = around.ending, around.wanted, around.note
        self.what = what
        self.children: dict[int, Child] = {}
        self._stages = stages
        self._tell = tell
        self._passing = False

    # --- the filter --------------------------------------------------------------------------------------------

    def child(self, number: int) -> Child:
        """The filter's process with this number, started when it is not there."""
        if number not in self.children:
            try:
                self.children[number] = Child(self.what.command, lambda line: self._tell(f"through: {line}"))
            except OSError as error:
                raise FilterError(f"{self.what.title}: cannot start the filter: {error.strerror}") from None
        return self.children[number]

    def number_of(self, batch: Batch, place: int) -> int:
        """Which process a record goes to: equal keys to the same one; without a key, by the source partition."""
        if self.what.jobs == 1:
            return 0
        key = batch.keys[place] if batch.keys is not None else None
        if key is None:
            return ((batch.partitions[place] if batch.partitions is not None else None) or 0) % self.what.jobs
        return crc32(key) % self.what.jobs

    def numbers_of(self, batch: Batch) -> list[int]:
        """Which process each record goes to."""
        if self.what.jobs == 1:
            return [0] * len(batch)
        return [self.number_of(batch, place) for place in range(len(batch))]

    def hangs(self, child: Child) -> bool:
        """Whether it has neither read nor answered for too long; to be asked only while it owes something."""
        return time.monotonic() - child.busy > self.what.timeout

    def hung(self) -> FilterError:
        """The error for a filter that hangs."""
        advice = (
            "it may hold its output back (jq --unbuffered, sed -u, mawk -W interactive), or raise --through-timeout"
        )
        return FilterError(f"{self.what.title}: no answer for {self.what.timeout:g} s; {advice}")

    def endless(self) -> FilterError:
        """The error for a filter that writes and writes without the end of a line."""
        what = f"more than {LONGEST_LINE >> 20} MiB without the end of a line"
        return FilterError(f"{self.what.title}: the filter answered {what}; it must answer in lines")

    def died(self, child: Child, advice: str = "what it owes is not sent") -> FilterError:
        """The error for a filter that ended on its own, after it has said its last words."""
        pump([child], LAST_WORDS)
        code = child.reap(LAST_WORDS)
        how = "ended" if not code else f"died by signal {-code}" if code < 0 else f"failed with exit code {code}"
        return FilterError(f"{self.what.title}: the filter {how} before its input did; {advice}")

    def end(self) -> None:
        """Kill what runs."""
        for child in self.children.values():
            child.kill()
        self.children.clear()

    # --- what came back ----------------------------------------------------------------------------------------

    def pass_on(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Run the stages behind the filter and send what is left; each entry of `batch` is one that is awaited."""
        entered = Counter(range(flight.read) if batch.index is None else batch.index)
        try:
            for stage in self._stages:
                stage(batch)
        except KpipeError:
            flight.leave_unsent(entered)
            raise
        self._account(batch, flight, entered)
        if len(batch):
            self._passing = True
            try:
                self.inner.send(batch, flight, idle)
            finally:
                self._passing = False

    def _account(self, batch: Batch, flight: Flight, entered: Counter[int]) -> None:
        """Settle what the stages filtered, report what they refused, and give back what the limit does not let pass."""
        batch.unite_bad()
        bad = {each.index: each.error for each in batch.bad}
        left = entered if batch.index is None else Counter(batch.index)
        for index in self._behind_the_last(batch, entered):
            if not left[index]:  # else the limit gives it back
                flight.give_back((index,))
            bad.pop(index, None)
            del entered[index]
        for index, count in entered.items():
            if index in bad:
                flight.settled += [index] * (count - 1)  # a failure below stands for the last one
                self.note(flight.origin, index, bad[index])
            elif left[index] > count:
                flight.expect(index, left[index] - count)
            else:
                for _ in range(count - left[index]):
                    flight.drop(index)
                if not left[index]:
                    self.note(flight.origin, index, None)
        flight.failures += [(index, Refused(error)) for index, error in bad.items()]

    def enough(self) -> bool:
        """Whether nothing more is wanted."""
        wanted = self.wanted()
        return wanted is not None and wanted <= 0

    def _behind_the_last(self, batch: Batch, entered: Iterable[int]) -> list[int]:
        """Those of `entered` that stand behind the last record that the limit lets pass."""
        wanted = self.wanted()
        if wanted is None or not 0 < wanted <= len(batch):
            return []
        last = wanted - 1 if batch.index is None else batch.index[wanted - 1]
        return [index for index in entered if index > last]

    # --- the sink's other duties -------------------------------------------------------------------------------

    def poll(self) -> None:
        """As the sink behind it."""
        self.inner.poll()

    def explain(self, error: object, where: str, record: Sent | None = None) -> KpipeError:
        """What became of a record on its way through the filter and behind it."""
        if isinstance(error, Unanswered):
            return FilterError(error.reason, where=where)
        if isinstance(error, Refused):
            error.error.where = error.error.where or where
            return error.error
        return self.inner.explain(error, where, record)

    def refused(self, error: object) -> bool:
        """Whether the record was judged; after the filter's death nobody goes on with the next one."""
        if isinstance(error, Unanswered):
            return False
        return isinstance(error, Refused) or self.inner.refused(error)

    def unwritten(self, error: object) -> bool:
        """Whether the record was certainly not written; what a dead filter did with it nobody knows."""
        if isinstance(error, Unanswered):
            return False
        return isinstance(error, Refused) or self.inner.unwritten(error)

    def purge(self) -> None:
        """End the filter; what it has not answered is not sent."""
        self.end()
        self.inner.purge()

    def close(self, timeout: float) -> None:
        """Nothing outlives the run."""
        self.end()
        self.inner.close(timeout)


def slices(batch: Batch) -> Iterator[tuple[int, int]]:
    """(start, end) of parts of at most BYTES, or one record."""
    start = size = 0
    for place, value in enumerate(batch.values):
        length = len(value or b"") + 1
        if size and size + length > BYTES:
            yield start, place
            start, size = place, 0
        size += length
    if len(batch):
        yield start, len(batch)

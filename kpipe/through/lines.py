"""`--through`: the value of each record becomes a line for the filter, and the line it answers becomes the value.

It never passes an answer on before the filter has answered all it was given, line for line: nothing else would notice
a line too few or too many, and every value behind it would belong to another record.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.errors import BadRecord, KpipeError, Stage
from kpipe.through.child import pump
from kpipe.through.filtering import NOT_ANSWERED, TURN, FilterMismatch, FilterSink, Unanswered, slices
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import Flight
    from kpipe.record import Batch
    from kpipe.through.child import Child

GRACE = 1.0
"""Seconds after which a filter that ended and owes nothing ends the run: until then the input may end as well."""
QUIET = 0.05
"""Seconds that a new filter is watched after its first answer: one that answers two lines to one is found here. For as
long any filter may compute on behind its last answer."""
MOMENT = 0.0001
"""Seconds between two looks whether it does."""


def refuse_newlines(title: str) -> Callable[[Batch], None]:
    """A stage for before the filter: a value that holds a newline cannot be one line."""

    def refuse(batch: Batch) -> None:
        what = f"{title}: the value holds a newline, so it is not one line; use --through-json"
        bad = [place for place, value in enumerate(batch.values) if value is not None and b"\n" in value]
        batch.reject({place: BadRecord(what, stage=Stage.TRANSFORM) for place in bad})

    return refuse


class Lines(FilterSink):
    """The line mode: a slice of a batch is written, its answers are awaited and counted, then it is passed on."""

    _proved: frozenset[int] = frozenset()

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Send every record's value through the filter; null values pass by it. Raises when the filter fails."""
        indexes = range(flight.read) if batch.index is None else batch.index
        for start, end in slices(batch):
            if self.enough():
                flight.give_back(indexes[start:])
                return
            part = batch.cut_out(start, end)
            try:
                if not self._exchange(part, idle):
                    return
            except KpipeError as error:
                flight.failures += [(index, Unanswered(NOT_ANSWERED)) for index in indexes[start:]]
                error.where = error.where or part.where(0)
                self.end()
                raise
            try:
                self.pass_on(part, flight, idle)
            except KpipeError:
                flight.leave_unsent(indexes[end:])
                raise

    def _exchange(self, part: Batch, idle: Callable[[], bool]) -> bool:
        """Replace the values by their answers; False when the run must end before they came."""
        places: dict[int, list[int]] = {}
        for place, number in enumerate(self.numbers_of(part)):
            if part.values[place] is not None:
                places.setdefault(number, []).append(place)
        for number, own in places.items():
            self._refuse_surplus(self.child(number), 0)
            if number not in self._proved and not self._prove(number, part, own, idle):
                return False
        asked: dict[int, int] = {}
        for number, own in places.items():
            rest = own[len(self.child(number).lines) :]
            if rest:
                self.child(number).write(b"\n".join([part.values[place] or b"" for place in rest] + [b""]))
            asked[number] = len(own)
        if not self._await(asked, idle):
            return False
        values = list(part.values)
        for number, own in places.items():
            lines = self.child(number).lines
            self._let_it_finish(self.child(number), len(own))
            self._refuse_surplus(self.child(number), len(own))
            for place in own:
                values[place] = lines.popleft()
        part.values = values
        return True

    def _prove(self, number: int, part: Batch, own: list[int], idle: Callable[[], bool]) -> bool:
        """Give a new filter one line and see that it answers with one: most wrong commands show here."""
        child = self.child(number)
        child.write((part.values[own[0]] or b"") + b"\n")
        if not self._await({number: 1}, idle):
            return False
        quiet = time.monotonic() + QUIET
        while time.monotonic() < quiet and len(child.lines) == 1 and not child.ended:
            pump([child], QUIET)
        if len(child.lines) > 1:
            raise self._too_many()
        self._proved |= {number}
        return True

    def _await(self, asked: dict[int, int], idle: Callable[[], bool]) -> bool:
        """Wait until every process has answered so many lines."""
        while True:
            owing = [number for number, count in asked.items() if len(self.child(number).lines) < count]
            if not owing:
                return True
            pump(self.children.values(), TURN)
            for number in owing:
                self._check(self.child(number), asked[number])
            if not idle():
                return False

    def _check(self, child: Child, count: int) -> None:
        if len(child.lines) >= count:
            return
        if child.endless:
            raise self.endless()
        if child.ended:
            raise self.died(child)
        if self.hangs(child):
            hung = self.hung()
            hung.what = (
                f"{hung.what} (it answered {len(child.lines):,} of {counted(count, 'line')}; it must answer each)"
            )
            raise hung

    @staticmethod
    def _let_it_finish(child: Child, count: int) -> None:
        """A line too many in the midst shows behind the last answer only: on a busy machine a moment later."""
        limit = time.monotonic() + QUIET
        while len(child.lines) == count and not child.rests() and time.monotonic() < limit:
            time.sleep(MOMENT)
            pump([child], 0)

    def _refuse_surplus(self, child: Child, count: int) -> None:
        pump([child], 0)
        if len(child.lines) > count:
            raise self._too_many()

    def _too_many(self) -> FilterMismatch:
        advice = "it must answer one line to each (jq -c), or use --through-json"
        return FilterMismatch(f"{self.what.title}: the filter answered more lines than it was given; {advice}")

    def poll(self) -> None:
        """Look whether a filter ended while the source has nothing to give it, and collect delivery reports."""
        if self.children and not self._passing and not self.ending():
            pump(self.children.values(), 0)
            for child in self.children.values():
                if child.endless:
                    self.end()
                    raise self.endless()
                if child.ended and time.monotonic() - child.busy > GRACE:
                    error = self.died(child, "it must read on until then")
                    self.end()
                    raise error
        self.inner.poll()

    def flush(self, timeout: float) -> bool:
        """At the end of the input: let the filter end, see that it says no more, and wait for the sink behind it."""
        if self.children and not self._passing and self.ending():
            for child in self.children.values():
                child.close_input()
            pump(self.children.values(), timeout)
            self._finish()
            if self.children:
                return False
        return self.inner.flush(timeout)

    def _finish(self) -> None:
        """Forget those that have ended; nothing is owed here, so only a surplus is an error."""
        for number, child in list(self.children.items()):
            if child.lines or child.endless or self.hangs(child):
                error = self._too_many() if child.lines else self.endless() if child.endless else self.hung()
                self.end()
                raise error
            if child.ended:
                child.let_go()
                del self.children[number]

"""Regular expressions that people typed: compiled, and matched for so long and no longer.

It never lets a match that backtracks hold up a signal, and never changes what a pattern means: the engine is Python's.

A match with `(a+)+$` takes twice as long for each further `a`. Python's engine looks for signals every 4,096 steps, so
a timer of the process's own CPU time ends it: 2.5 us a batch. Engines with a limit of their own take 1 to 2 us more for
each record (`regex` with a timeout, `google-re2`; plain `re` takes 0.15), and mean other things by some patterns. One
step can be as long as the value: in 1 MB without an x, `.*x` was ended after 4 s, all others tried after 0.5 to 0.9 s.
"""

from __future__ import annotations

import re
import signal
import threading
import warnings
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

Result = TypeVar("Result")

LIMIT = 0.5
"""Seconds of CPU time for one match. Megabytes take milliseconds; what takes longer is backtracking."""
TOO_SLOW = f"the expression was still trying after {LIMIT:g} s (it backtracks)"
RING = 0.05
"""Seconds of CPU time between two looks at a match: whether it has had its time, and whether the run has."""


class TookTooLong(Exception):
    """A match did not end within its limit."""


class _Timer:
    """The one timer of the process; it rings only while something is being matched."""

    def __init__(self) -> None:
        self.armed = False
        self._installed = False
        self._left = 0.0
        self._is_over: Callable[[], bool] = bool

    def arm(self, limit: float, is_over: Callable[[], bool]) -> None:
        if not self._installed:
            signal.signal(signal.SIGVTALRM, self._ring)
            self._installed = True
        self._left, self._is_over, self.armed = limit, is_over, True
        ring = min(limit, RING)
        signal.setitimer(signal.ITIMER_VIRTUAL, ring, ring)

    def disarm(self) -> None:
        self.armed = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        self._left -= RING
        if self.armed and (self._left <= 0 or self._is_over()):
            self.armed = False
            raise TookTooLong


_TIMER = _Timer()


def run_within(limit: float, action: Callable[[], Result], is_over: Callable[[], bool] = bool) -> Result:
    """Do something in Python that calls nothing but `re`; TookTooLong after `limit` seconds of CPU time.

    The same once `is_over()`: on a crowded machine half a second of CPU time takes many.

    The handler raises, which no other may: an exception inside a call of the Kafka client loses records. Only the main
    thread has signals; elsewhere there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        return action()
    wakeup = signal.set_wakeup_fd(-1)  # who sleeps until a signal comes need not wake up for this one
    try:
        _TIMER.arm(limit, is_over)
        try:
            return action()
        finally:
            _TIMER.disarm()
    finally:
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)


def compile_pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """A pattern over text; ValueError says in words what is wrong with it.

    What Python only warns about (`[[:alpha:]]`) would not match as it was meant, so it is refused.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            return re.compile(text, flags)
    except (re.error, FutureWarning, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None


def find_matches(text: str, names: Iterable[str]) -> list[str]:
    """The names in which the pattern is found; ValueError says what is wrong with it, or that its search never ends."""
    pattern, known = compile_pattern(text), list(names)
    try:
        return run_within(LIMIT, lambda: [name for name in known if pattern.search(name)])
    except TookTooLong:
        raise ValueError(f"{TOO_SLOW}; write it without one repetition inside another") from None


class Patience:
    """What a stage asks while it is busy for long. The pipeline of the run takes it over once it exists."""

    def __init__(self) -> None:
        self.go_on: Callable[[], bool] = lambda: True
        """Keeps the place in the group; False when the run must end now."""
        self.is_over: Callable[[], bool] = bool
        """Whether it must, asked from within a match: it does nothing else."""
        self.first_bad_ends = False
        """Whether the run ends at the first bad record, so that nobody wants to know about those behind it."""

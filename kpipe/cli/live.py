"""The live line of a terminal: rate, in flight, how much is left, and which cluster is away; gone when the run ends.

It writes only where nobody else writes, and is taken away before anything else is told.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from kpipe.cli import before_telling
from kpipe.units import clock_time, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.run.summary import Summary

REDRAW = 0.2  # seconds between live lines
ERASE = "\r\x1b[2K"


def may_draw(*, prints: bool = False, typed: bool = False) -> bool:
    """Whether stderr is a terminal on which nothing else appears.

    A filter behind our stdout (`kpipe consume t | grep x`) writes to the same terminal, records do, when stdout is one
    (`prints`), and so does the person who types our input (`typed`).
    """
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb" or os.environ.get("KPIPE_DEBUG"):
        return False
    return not (_is_piped_on() or typed or (prints and sys.stdout.isatty()))


def _is_piped_on() -> bool:
    try:
        mode = os.fstat(1).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class LiveLine:
    """The line. `done` of `total` is the share, in whatever unit the source counts; `away` tells of clusters."""

    def __init__(
        self,
        summary: Summary,
        stream: IO[str],
        done: Callable[[], float],
        total: Callable[[], float | None],
        away: Callable[[], str] = str,
    ) -> None:
        self._summary, self._stream, self._away = summary, stream, away
        self._done, self._total = done, total
        self._next = summary.clock() + REDRAW
        self._last: tuple[float, int] = (summary.clock(), 0)
        self._rate = 0.0
        self._is_shown = False
        before_telling.append(self.wipe)

    def __call__(self) -> None:
        """Redraw when it is time to; called once a turn."""
        now = self._summary.clock()
        if now < self._next:
            return
        self._next = now + REDRAW
        text = self._text(now)
        if self._is_ours():
            self._write(f"\r{text[: self._columns() - 1]}\x1b[K")
            self._is_shown = True

    def wipe(self) -> None:
        """Take the line away; the next redraw brings it back."""
        if self._is_shown:
            self._is_shown = False
            self._write(ERASE)

    def close(self) -> None:
        """Take the line away for good."""
        self.wipe()
        before_telling.remove(self.wipe)

    def _is_ours(self) -> bool:
        """Not in the background, where a shell's prompt stands, nor while the terminal is stopped (Ctrl-S)."""
        with suppress(OSError, ValueError):
            fd = self._stream.fileno()
            if os.isatty(fd):
                return os.tcgetpgrp(fd) == os.getpgrp() and bool(select.select([], [fd], [], 0)[1])
        return True

    def _columns(self) -> int:
        with suppress(OSError, ValueError):
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        return 80

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # nobody is left to look
            self._stream.write(text)
            self._stream.flush()

    def _text(self, now: float) -> str:
        ledger = self._summary.ledger
        then, read = self._last
        if now > then:
            fresh = (ledger.read - read) / (now - then)
            self._rate = fresh if not self._rate else 0.7 * self._rate + 0.3 * fresh
        self._last = (now, ledger.read)
        parts = [f"{ledger.read:,} read", f"{short(self._rate)}/s"]
        if self._summary.outcome == "delivered":
            parts.append(f"{ledger.waiting:,} in flight")
        if away := self._away():
            return "kpipe: " + ", ".join([*parts, away])
        total = self._total()
        if total:
            share = min(1.0, self._done() / total)
            parts.append(f"{share:.0%}")
            elapsed = self._summary.seconds
            if 0 < share < 1 and elapsed > 1:
                parts.append(f"{clock_time(elapsed / share * (1 - share))} left")
        return "kpipe: " + ", ".join(parts)

"""The balance of a run, for people on stderr and for programs as JSON; and the live line on a terminal.

It decides nothing and writes nothing to stdout.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kpipe.errors import KpipeError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.ledger import Ledger

SHOWN = 10  # positions of lost records printed before the rest is only counted
REDRAW = 0.2  # seconds between live lines


@dataclass(slots=True)
class Summary:
    """What the run did; `started` and the clock are monotonic seconds."""

    ledger: Ledger
    clock: Callable[[], float] = time.monotonic
    started: float = field(default_factory=time.monotonic)
    facts: Callable[[], dict[str, object]] = dict
    """What else the run knows, beside the balance."""

    def line(self) -> str:
        """`1,000,000 read, 1,000,000 delivered, 0 failed in 1.4 s (702k/s)`."""
        ledger, seconds = self.ledger, self.seconds
        parts = [f"{ledger.read:,} read", f"{ledger.delivered:,} delivered"]
        if ledger.filtered:
            parts.append(f"{ledger.filtered:,} filtered")
        if ledger.dead_lettered:
            parts.append(f"{ledger.dead_lettered:,} dead-lettered")
        parts.append(f"{ledger.failed:,} failed")
        if ledger.unknown:
            parts.append(f"{ledger.unknown:,} unknown")
        return f"{', '.join(parts)} in {seconds:.1f} s ({short(ledger.read / max(seconds, 1e-9))}/s)"

    @property
    def seconds(self) -> float:
        """Seconds since the start of the run."""
        return self.clock() - self.started

    def as_dict(self, **more: object) -> dict[str, object]:
        """The balance as one flat object; the five outcomes add up to `read`."""
        ledger = self.ledger
        return {
            "read": ledger.read,
            "delivered": ledger.delivered,
            "filtered": ledger.filtered,
            "dead_lettered": ledger.dead_lettered,
            "failed": ledger.failed,
            "unknown": ledger.unknown,
            "seconds": round(self.seconds, 3),
            **self.facts(),
            **more,
        }

    def write(self, path: str, **more: object) -> None:
        """Replace `path` by the balance as one JSON object, in one step: a reader never sees half of it."""
        import orjson

        target = Path(path)
        try:
            if target.exists() and not target.is_file():  # /dev/stderr, a FIFO
                target.write_bytes(orjson.dumps(self.as_dict(**more)) + b"\n")
                return
            _replace(target, orjson.dumps(self.as_dict(**more)) + b"\n")
        except OSError as error:
            raise KpipeError(f"cannot write the summary: {error.strerror}", where=path, stage=Stage.SETTLE) from None


def _replace(target: Path, text: bytes) -> None:
    fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    except OSError:
        os.unlink(name)
        raise


def short(number: float) -> str:
    """702k, 1.4M: three digits are enough for a rate."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            scaled = number / limit
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{number:.0f}"


def clock_time(seconds: float) -> str:
    """Seconds left, for people: 4 s, 3:20, 2:05:00."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class LiveLine:
    """A line on the terminal: rate, in flight, and how much is left; gone when the run ends.

    Only made when stderr is a terminal. `total` and `done` give the share, in whatever unit the source counts.
    """

    def __init__(
        self, summary: Summary, stream: IO[str], done: Callable[[], float], total: Callable[[], float | None]
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=stream, highlight=False, markup=False)
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._summary = summary
        self._done, self._total = done, total
        self._next = 0.0
        self._last: tuple[float, int] = (summary.clock(), 0)
        self._rate = 0.0
        self._started = False

    def __call__(self) -> None:
        """Redraw when it is time to; called once a turn."""
        now = self._summary.clock()
        if now < self._next:
            return
        self._next = now + REDRAW
        if not self._started:
            self._started = True
            self._last = (now, self._summary.ledger.read)
            self._live.start()
            return
        from rich.text import Text

        self._live.update(Text(self._text(now), no_wrap=True, overflow="ellipsis"), refresh=True)

    def _text(self, now: float) -> str:
        ledger = self._summary.ledger
        then, read = self._last
        if now > then:
            fresh = (ledger.read - read) / (now - then)
            self._rate = fresh if not self._rate else 0.7 * self._rate + 0.3 * fresh
        self._last = (now, ledger.read)
        parts = [f"{ledger.read:,} read", f"{short(self._rate)}/s", f"{ledger.waiting:,} in flight"]
        total = self._total()
        if total:
            share = min(1.0, self._done() / total)
            parts.append(f"{share:.0%}")
            elapsed = self._summary.seconds
            if 0 < share < 1 and elapsed > 1:
                parts.append(f"{clock_time(elapsed / share * (1 - share))} left")
        return "kpipe: " + ", ".join(parts)

    def close(self) -> None:
        """Take the line away."""
        if self._started:
            self._live.stop()

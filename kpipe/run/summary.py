"""The balance of a run, for people on stderr and for programs as JSON.

It decides nothing and writes nothing to stdout.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage
from kpipe.units import short

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.ledger import Ledger

SHOWN = 10  # positions of lost records printed before the rest is only counted


@dataclass(slots=True)
class Summary:
    """What the run did; `started` and the clock are monotonic seconds."""

    ledger: Ledger
    clock: Callable[[], float] = time.monotonic
    started: float = field(default_factory=time.monotonic)
    facts: Callable[[], dict[str, object]] = dict
    """What else the run knows, beside the balance."""
    outcome: str = "delivered"
    """What people are told of a delivered record: stdout is written to, and acknowledges nothing."""

    def line(self) -> str:
        """`1,000,000 read, 1,000,000 delivered, 0 failed in 1.4 s (702k/s)`."""
        ledger, seconds = self.ledger, self.seconds
        parts = [f"{ledger.read:,} read", f"{ledger.delivered:,} {self.outcome}"]
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
        """Replace `path`, behind links, by the balance as one JSON object, in one step: nobody sees half of it."""
        import orjson

        try:
            write_file(path, orjson.dumps(self.as_dict(**more)) + b"\n")
        except OSError as error:
            raise KpipeError(
                f"cannot write the summary: {error.strerror}", where=f"--summary {path}", stage=Stage.SETTLE
            ) from None


def write_file(path: str, text: bytes) -> None:
    """Replace a file in one step; what is no file (a FIFO, a terminal, our own stdout) is written to as it is."""
    target = Path(path)
    if (stream := _open_stream(path)) is not None:
        os.write(stream, text)
    elif target.exists() and not target.is_file():
        target.write_bytes(text)
    else:
        _replace(Path(os.path.realpath(path)), text)


def _open_stream(path: str) -> int | None:
    """Our own stdout or stderr, when a path means it (/dev/stderr), though a plain file may be behind it.

    Nothing takes its place: /dev/stderr would be gone from the machine, and what is told later from the file.
    """
    try:
        return next((fd for fd in (1, 2) if os.path.samestat(os.stat(path), os.fstat(fd))), None)
    except OSError:
        return None


def _replace(target: Path, text: bytes) -> None:
    import tempfile

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

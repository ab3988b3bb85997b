"""Drops records that are too old when they come by.

Never drops a record without a timestamp: its age is unknown.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.step import Stage, Step

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float | None:
    """Seconds of `500ms`, `30s`, `5m`, `2h` or `7d`; None for anything else."""
    match = _DURATION.fullmatch(text)
    return None if match is None else float(match["number"]) * _SECONDS[match["unit"]]


def max_age(step: Step, _context: Context) -> Stage:
    """`--max-age DURATION`: keep the records whose timestamp is no older than that."""
    seconds = parse_duration(step.text)
    if seconds is None:
        raise step.usage("not a duration; write 500ms, 30s, 5m, 2h or 7d")
    allowed = seconds * 1000

    def stage(batch: Batch) -> None:
        if batch.timestamps is None:
            return
        oldest = time.time() * 1000 - allowed
        batch.keep([not kind or ms >= oldest for kind, ms in batch.timestamps])

    return stage

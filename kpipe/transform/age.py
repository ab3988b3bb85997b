"""Drops records that are too old when they come by.

Never drops a record without a timestamp: its age is unknown.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.step import Step, TransformStage


def max_age(step: Step, _context: Context) -> TransformStage:
    """`--max-age DURATION`: keep the records whose timestamp is no older than that."""
    allowed = step.duration() * 1000

    def stage(batch: Batch) -> None:
        if batch.timestamps is None:
            return
        oldest = time.time() * 1000 - allowed
        batch.keep([not kind or ms >= oldest for kind, ms in batch.timestamps])

    return stage

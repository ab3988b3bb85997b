"""Tells null from empty at the edges: a marker becomes null, null becomes an empty value.

Never guesses: empty values and the word null are data until an option says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.step import Step, TransformStage


def value_null(step: Step, _context: Context) -> TransformStage:
    """`--value-null MARKER`: a value that equals MARKER becomes null; an empty MARKER stands for empty values."""
    marker = step.text.encode(errors="surrogateescape")

    def stage(batch: Batch) -> None:
        if marker in batch.values:
            batch.values = [None if value == marker else value for value in batch.values]

    return stage


def value_empty(_step: Step, _context: Context) -> TransformStage:
    """`--value-empty`: null becomes an empty value, for targets that take no tombstones."""

    def stage(batch: Batch) -> None:
        if None in batch.values:
            batch.values = [b"" if value is None else value for value in batch.values]

    return stage

"""Turns one record into as many as an expression gives results.

Never settles: the new records carry the place of the one they came from, which is settled when all of them are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.record import COLUMNS

if TYPE_CHECKING:
    from kpipe.record import Batch
    from kpipe.transform.results import Evaluate
    from kpipe.transform.step import TransformStage


def split_stage(evaluate: Evaluate) -> TransformStage:
    """A row of results becomes records with these values; a row of None (a tombstone) stays one record."""

    def stage(batch: Batch) -> None:
        rows, bad = evaluate(batch)
        rows = [row for place, row in enumerate(rows) if place not in bad]
        batch.reject(bad)
        values = [(value,) if row is None else row for value, row in zip(batch.values, rows, strict=True)]
        places = [place for place, row in enumerate(values) for _ in row]
        index = range(len(batch)) if batch.index is None else batch.index
        batch.index = [index[place] for place in places]
        batch.values = [value for row in values for value in row]
        for name in COLUMNS:
            column = getattr(batch, name)
            if column is not None:
                setattr(batch, name, [column[place] for place in places])

    return stage

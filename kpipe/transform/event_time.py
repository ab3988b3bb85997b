"""Sets the timestamps of records from a field of their values.

Never guesses a unit: numbers are milliseconds since the epoch, strings those or ISO 8601.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kpipe.record import NO_TIMESTAMP, TIMESTAMP_CREATE
from kpipe.transform.document import Field
from kpipe.transform.path import parse
from kpipe.transform.step import reject

if TYPE_CHECKING:
    from kpipe.record import Batch, Timestamp
    from kpipe.transform.context import Context
    from kpipe.transform.step import Step, TransformStage

_LATEST = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp_from(step: Step, context: Context) -> TransformStage:
    """`--timestamp-from PATH`: a tombstone, which has no fields, keeps its timestamp."""
    try:
        field = Field(parse(step.text), step.text, context.documents)
    except ValueError as error:
        raise step.usage(str(error)) from None

    def stage(batch: Batch) -> None:
        old = batch.timestamps or [NO_TIMESTAMP] * len(batch)
        new: list[Timestamp] = []
        reasons: dict[int, str] = {}
        for place, (before, value, text) in enumerate(zip(old, batch.values, field.column(batch), strict=True)):
            timestamp = before
            if text is not None:
                try:
                    timestamp = (TIMESTAMP_CREATE, parse_time(text.decode()))
                except ValueError as error:
                    reasons[place] = str(error)
            elif value is not None:
                reasons[place] = field.why_missing(batch, place)
            new.append(timestamp)
        if batch.source_timestamps is None:
            batch.source_timestamps = old
        batch.timestamps = new
        reject(batch, step, reasons)

    return stage


def parse_time(text: str) -> int:
    """Milliseconds since the epoch from a number of them or from ISO 8601 (without a zone: UTC), cut below the ms."""
    whole = text.removesuffix(".0")
    if whole.isdecimal() and whole.isascii():
        ms = int(whole) if len(whole) < 20 else _LATEST + 1
    else:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                f"{text[:60]!r} is no time; write milliseconds since the epoch or ISO 8601 (2026-01-31T12:00:00Z)"
            ) from None
        since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
        ms = (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
    if not 0 <= ms <= _LATEST:
        raise ValueError(f"{text[:60]!r} is out of range; Kafka takes times from 1970 on")
    return ms

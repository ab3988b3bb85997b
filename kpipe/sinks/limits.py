"""What a topic takes, asked of its configuration at the start: records beyond that are never sent.

A broker refuses a whole batch for one of them; what it alone can know is found out there (`kpipe.sinks.bisect_batch`).
"""

from __future__ import annotations

import time
from operator import itemgetter
from typing import TYPE_CHECKING

from kpipe.errors import BadRecord, Exit, Stage
from kpipe.kafka.errors import Cause
from kpipe.record import TIMESTAMP_NONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kpipe.pipeline import PipelineStage
    from kpipe.record import Batch
    from kpipe.sinks.target import Target

CLOCKS_DIFFER = 7 * 24 * 3_600_000
"""Milliseconds by which the broker's clock may be another: what is that near to a limit is left to the broker. A week:
a clock of ours that is wrong by hours, or jumps, must not condemn a record that the broker would take."""
_MS = itemgetter(1)
MICROSECONDS = 1 << 46
"""Milliseconds from which on a time is past the year 4000: somebody counted in microseconds or nanoseconds."""


class KeylessRecord(BadRecord):
    """A record that its compacted target would refuse; nothing is wrong with its data."""

    exit_code = Exit.UNDELIVERED
    stage = Stage.SEND


class UntimelyRecord(BadRecord):
    """A record whose time its target would refuse."""

    exit_code = Exit.UNDELIVERED
    stage = Stage.SEND
    code = Cause.BAD_TIME.value


def refuse_unfit(
    targets: Sequence[Target],
    targets_of: Callable[[str | None], Sequence[Target]],
    clock: Callable[[], float] = time.time,
    *,
    routes: bool = False,
) -> list[PipelineStage]:
    """The stage behind all others: takes out what a target would refuse, and says so.

    `targets` are those that are known at the start, `targets_of` gives those of a record by what a route chose for it;
    with `routes` more of them are found as records come.
    """
    if not routes and not any(_has_limits(target) for target in targets):
        return []

    def refuse(batch: Batch) -> None:
        errors: dict[int, BadRecord] = {}
        chosen = batch.targets
        for word in (None,) if chosen is None else dict.fromkeys(chosen):
            places = range(len(batch)) if chosen is None else [at for at, own in enumerate(chosen) if own == word]
            for target in targets_of(word):
                errors.update(_unfit(target, batch, places, clock))
        batch.reject(errors)

    return [refuse]


def _has_limits(target: Target) -> bool:
    return target.compacted or target.before_ms is not None or target.after_ms is not None


def _unfit(target: Target, batch: Batch, places: Sequence[int], clock: Callable[[], float]) -> dict[int, BadRecord]:
    errors: dict[int, BadRecord] = {}
    if target.compacted:
        errors.update(_keyless(target, batch, places))
    if batch.timestamps is not None and (target.before_ms is not None or target.after_ms is not None):
        errors.update(_untimely(target, batch, places, int(clock() * 1000)))
    return errors


def _keyless(target: Target, batch: Batch, places: Iterable[int]) -> dict[int, BadRecord]:
    keys = batch.keys if batch.keys is not None else [None] * len(batch)
    if None not in keys:
        return {}
    what = f"has no key, and {target.where} is compacted; use --keyless key, --key-field or --on-error skip"
    return {place: KeylessRecord(what) for place in places if keys[place] is None}


# Hot path: 35 ns a record, for the largest of a batch's times decides (`make bench`, forward).
def _untimely(target: Target, batch: Batch, places: Iterable[int], now: int) -> dict[int, BadRecord]:
    stamps = batch.timestamps or []
    latest = NEVER if target.after_ms is None else now + target.after_ms + CLOCKS_DIFFER
    earliest = -NEVER if target.before_ms is None else now - target.before_ms - CLOCKS_DIFFER
    if max(map(_MS, stamps), default=0) <= latest and (
        target.before_ms is None or min(map(_MS, stamps), default=0) >= earliest
    ):
        return {}
    errors: dict[int, BadRecord] = {}
    for place in places:
        kind, ms = stamps[place]
        if kind != TIMESTAMP_NONE and not earliest <= ms <= latest:
            errors[place] = UntimelyRecord(_why(target, ms, now))
    return errors


NEVER = 1 << 63


def _why(target: Target, ms: int, now: int) -> str:
    if ms > now:
        limit = f"{target.where} takes {_span(target.after_ms or 0)} (message.timestamp.after.max.ms)"
        unit = "; it looks like micro- or nanoseconds, and Kafka counts milliseconds" if ms >= MICROSECONDS else ""
        return f"its time {ms} is {_span(ms - now)} ahead, and {limit}{unit}; --timestamp now sends it as of now"
    limit = f"{target.where} takes {_span(target.before_ms or 0)} (message.timestamp.before.max.ms)"
    return f"its time {ms} is {_span(now - ms)} old, and {limit}; --timestamp now sends it as of now"


def _span(ms: int) -> str:
    """A length of time in the largest unit that fits it."""
    for unit, size in (("years", 31_557_600_000), ("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if ms >= 2 * size:
            return f"{ms // size:,} {unit}"
    return f"{ms // 1000:,} s"

"""Keeps a random share of the records.

Never the same share twice, unless a seed is given.
"""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.step import Step, TransformStage

_RATE = re.compile(r"(?P<number>\d*\.?\d+)(?:(?P<percent>%)|/(?P<divisor>\d+))?", re.ASCII)


def sample(step: Step, context: Context) -> TransformStage:
    """`--sample RATE`: each record with the probability RATE, on its own."""
    rate = _parse_rate(step)
    random = Random(_seed(context)).random  # noqa: S311 - a sample, not a secret

    def stage(batch: Batch) -> None:
        batch.keep([random() < rate for _ in range(len(batch))])

    return stage


def _parse_rate(step: Step) -> float:
    form = "write a share such as 0.01, 1% or 1/100"
    match = _RATE.fullmatch(step.text)
    if match is None:
        raise step.usage(f"not a share; {form}")
    divisor = 100.0 if match["percent"] else float(match["divisor"] or 1)
    rate = float(match["number"]) / divisor if divisor else 2.0
    if not 0 <= rate <= 1:
        raise step.usage(f"a share is between 0 and 1; {form}")
    return rate


def _seed(context: Context) -> int | None:
    setting = context.setting("sample-seed")
    if setting is None:
        return None
    try:
        return int(setting.text)
    except ValueError:
        raise setting.usage("not a number; write an integer, for example 7") from None

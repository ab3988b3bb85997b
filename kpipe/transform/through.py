"""Marks where in the chain records go through a Unix filter: what to run, and how.

Never runs it: a filter is I/O, so the plan puts `kpipe.through` in the place of the mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage

if TYPE_CHECKING:
    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.step import Step

DEFAULT_TIMEOUT = 60.0
MAX_JOBS = 64


@dataclass(frozen=True, slots=True)
class FilterMark:
    """`command` for the shell, `title` for messages, `timeout` in seconds, `jobs` processes of it."""

    command: str
    title: str
    json: bool
    timeout: float
    jobs: int

    def __call__(self, _batch: Batch) -> None:
        """Refuse: where nobody starts filters, a chain with one in it must not go on without."""
        raise KpipeError(f"{self.title}: filters are not run here", stage=Stage.TRANSFORM)


def through(step: Step, context: Context) -> FilterMark:
    """`--through COMMAND`: a line for each value, and a line back."""
    return _mark(step, context, json=False)


def through_json(step: Step, context: Context) -> FilterMark:
    """`--through-json COMMAND`: an envelope for each record, and any number back."""
    return _mark(step, context, json=True)


def _mark(step: Step, context: Context, *, json: bool) -> FilterMark:
    if not step.text.strip():
        raise step.usage(f"the command is empty; write --{step.name} COMMAND, for example 'sed -u s/a/b/'")
    return FilterMark(step.text, step.title, json, _timeout(context), _jobs(context))


def _timeout(context: Context) -> float:
    setting = context.setting("through-timeout")
    if setting is None:
        return DEFAULT_TIMEOUT
    seconds = setting.duration()
    if not 0 < seconds < 1e6:
        raise setting.usage("out of range; write more than 0s and less than 11d")
    return seconds


def _jobs(context: Context) -> int:
    setting = context.setting("through-jobs")
    if setting is None:
        return 1
    if not (setting.text.isdecimal() and 1 <= int(setting.text) <= MAX_JOBS):
        raise setting.usage(f"not a number of processes; write 1 to {MAX_JOBS}")
    return int(setting.text)

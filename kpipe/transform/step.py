"""One transform as the user asked for it: its name, its argument, and how messages speak of it.

Never looks at a record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from kpipe import errors
from kpipe.record import Batch
from kpipe.units import DURATIONS, parse_duration

TransformStage: TypeAlias = Callable[[Batch], None]
"""What a transform becomes: it changes the columns of a batch in place, keeps what passes and rejects what is bad."""

_SHOWN = 60  # characters of an argument that a message repeats


class Step(NamedTuple):
    """A transform in the order given; `where` is `FILE: transform N` when it came from a file."""

    name: str
    argument: str | None = None
    where: str = ""

    @property
    def text(self) -> str:
        """The argument, empty for a switch."""
        return self.argument or ""

    @property
    def title(self) -> str:
        """How messages name this transform: as it was typed."""
        argument = "" if self.argument is None else f" {_shorten(self.argument)}"
        return f"{self.where}: {self.name}{argument}" if self.where else f"--{self.name}{argument}"

    def usage(self, what: str) -> errors.UsageError:
        """The argument is wrong: `what` says why and gives the nearest right form."""
        return errors.UsageError(f"{self.title}: {what}")

    def duration(self) -> float:
        """The argument in seconds, as in every option that takes a duration."""
        try:
            return parse_duration(self.text)
        except errors.UsageError:
            raise self.usage(f"not a duration; write {DURATIONS}") from None

    def bad(self, what: str, do: str = errors.GO_ON) -> errors.BadRecord:
        """One record cannot go through this transform: `what` says why, `do` what to do."""
        return errors.BadRecord(f"{self.title}: {what}; {do}", stage=errors.Stage.TRANSFORM)


def reject(batch: Batch, step: Step, reasons: dict[int, str]) -> None:
    """Take the records out for which `step` failed: `reasons` maps places to what is wrong."""
    if reasons:
        batch.reject({place: step.bad(reason) for place, reason in reasons.items()})


def split_assignment(step: Step, form: str, example: str) -> tuple[str, str]:
    """Cut `NAME=REST` at the first `=`; neither the sign nor the name may be missing."""
    name, sign, rest = step.text.partition("=")
    if not sign or not name:
        missing = "no name before" if sign else "no"
        raise step.usage(f'{missing} "="; write {form}, for example --{step.name} {example}')
    return name, rest


def _shorten(text: str) -> str:
    shown = text if text.isprintable() else repr(text)[1:-1]
    return f"{shown[: _SHOWN - 1]}…" if len(shown) > _SHOWN else shown

"""Builds the transforms of a run, in the order given, into stages that change a batch.

Never runs them: the pipeline does, one after another, and stops when a batch is empty.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from itertools import groupby
from typing import TYPE_CHECKING, Protocol, Self, cast, runtime_checkable

from kpipe.errors import UsageError
from kpipe.transform.context import Context
from kpipe.transform.patterns import Patience
from kpipe.transform.registry import BY_NAME
from kpipe.transform.step import Step, TransformStage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.transform.results import Evaluator

__all__ = ["Step", "TransformStage", "build"]


@runtime_checkable
class Fusable(Protocol):
    """A transform that becomes one stage together with neighbours of its class."""

    @classmethod
    def fuse(cls, parts: Sequence[Self], context: Context) -> list[TransformStage]:
        """The stages for consecutive parts, in order."""
        ...


def build(
    steps: Sequence[Step],
    *,
    environ: Mapping[str, str] | None = None,
    read_file: Callable[[str], bytes] | None = None,
    patience: Patience | None = None,
    run_apart: Callable[[str, Patience], Evaluator] | None = None,
) -> list[TransformStage]:
    """Build the stages for `steps`; a UsageError names the step that is wrong and the nearest right form.

    `environ` and `read_file` (path -> content, OSError) serve arguments that are references, such as a salt;
    `patience` is what a stage asks that is busy for long, `run_apart` runs jq programs that may never end.
    """
    for step in steps:
        _check(step)
    outside = (environ or {}, read_file or _read_nothing)
    context = Context(_settings(steps), *outside, patience=patience or Patience(), run_apart=run_apart)
    parts = [_build_one(step, context) for step in steps]
    stages: list[TransformStage] = []
    for kind, group in groupby((part for part in parts if part is not None), key=type):
        neighbours = list(group)
        if issubclass(kind, Fusable):
            stages += kind.fuse(cast("list[Fusable]", neighbours), context)
        else:
            stages += cast("list[TransformStage]", neighbours)
    return stages


def _check(step: Step) -> None:
    transform = BY_NAME.get(step.name)
    if transform is None:
        near = get_close_matches(step.name, BY_NAME, n=1)
        advice = f"did you mean {near[0]}?" if near else "`kpipe transforms` lists them"
        raise UsageError(f"{step.where or 'transforms'}: no transform is called {step.name}; {advice}")
    if transform.metavar is None and step.argument is not None:
        raise step.usage(f"it takes no argument; write --{step.name}")
    if transform.metavar is not None and step.argument is None and transform.default is None:
        raise step.usage(f"it needs an argument; write --{step.name} {transform.metavar}")


def _settings(steps: Sequence[Step]) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = {}
    for step in steps:
        if BY_NAME[step.name].category == "setting":
            found.setdefault(step.name, []).append(step)
    return found


def _build_one(step: Step, context: Context) -> TransformStage | Fusable | None:
    """A stage, a part to fuse, or None for a setting."""
    module, _, function = BY_NAME[step.name].builder.partition(":")
    builder = getattr(import_module(f"kpipe.transform.{module}"), function)
    return cast("TransformStage | Fusable | None", builder(step, context))


def _read_nothing(path: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory", path)

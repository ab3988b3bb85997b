"""What stands between the stages and the target: filters, a throttle, or a preview instead of it all.

It moves no record.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.options import TargetOptions
    from kpipe.pace import Pace
    from kpipe.parts import Sink
    from kpipe.pipeline import Pipeline
    from kpipe.pipeline import Stage as PipelineStage
    from kpipe.shutdown import Stop
    from kpipe.sinks.preview import Preview
    from kpipe.transform.step import Step

FILTERS = ("through", "through-json")


def filter_in(steps: Sequence[Step]) -> str:
    """The first step that is a Unix filter, empty when there is none."""
    return next((step.name for step in steps if step.name in FILTERS), "")


def put_filters(
    steps: Sequence[Step],
    stages: Sequence[PipelineStage],
    sink: Sink,
    say: Callable[[str], None],
    preview: Preview | None = None,
) -> tuple[list[PipelineStage], Sink]:
    """Put every filter before the sink, with the stages behind it; what is left runs before the first filter."""
    if not filter_in(steps):
        return list(stages), sink
    from kpipe.through.envelopes import Envelopes
    from kpipe.through.filtering import Filter
    from kpipe.through.limit import Limited
    from kpipe.through.lines import Lines, refuse_newlines
    from kpipe.transform.through import FilterMark

    sink = Limited(sink)
    behind: list[PipelineStage] = []
    for stage in reversed(stages):
        if not isinstance(stage, FilterMark):
            behind.insert(0, stage)
            continue
        what = Filter(stage.command, stage.title, stage.timeout, stage.jobs)
        filtering: Any = (Envelopes if stage.json else Lines)(what, sink, behind, say)
        if preview is not None:
            filtering.note = preview.note
        sink = cast("Sink", filtering)
        behind = [] if stage.json else [refuse_newlines(stage.title)]
    return behind, sink


def bind_filters(pipeline: Pipeline) -> None:
    """Tell the filters where to see that the input has ended, and count behind them what passes."""
    filters = _filters(pipeline.sink)
    if filters:
        limited = filters[-1].inner
        limited.left, pipeline.limit, pipeline.enough = pipeline.limit, None, limited.enough
        for filtering in filters:
            filtering.ending, filtering.wanted = lambda: pipeline.draining, lambda: limited.left


def end_filters(sink: Sink) -> None:
    """End the processes of all filters, at once."""
    for filtering in _filters(sink):
        filtering.end()


def _filters(sink: Any) -> list[Any]:
    found: list[Any] = []
    while sink is not None:
        if hasattr(sink, "ending"):
            found.append(sink)
        sink = getattr(sink, "inner", None)
    return found


def make_pace(rates: Sequence[str], stop: Stop) -> Pace | None:
    """`--rate`, if there is a limit."""
    if not rates:
        return None
    from kpipe.pace import Pace, parse_rates

    return Pace(*parse_rates(rates), lambda: stop.requested)


def throttle(sink: Sink, pace: Pace | None, *, waits: bool) -> Sink:
    """The sink behind a throttle, if there is a limit; `waits` when the source does not keep the pace itself."""
    if pace is None:
        return sink
    from kpipe.sinks.throttle import Throttle

    return Throttle(sink, pace, waits=waits)


def check_rate(sending: TargetOptions) -> None:
    """What --rate does not take is found before anything is opened."""
    if sending.rate:
        from kpipe.pace import parse_rates

        parse_rates(sending.rate)


UNSENT: dict[str, Any] = {"enable.idempotence": False}
"""Nothing is produced in a dry run, so the cluster is not asked for a producer id either."""


def unsent(sending: TargetOptions) -> TargetOptions:
    """The options of a dry run: no topic is created."""
    return replace(sending, create=False)


def dry_warning(sending: TargetOptions) -> list[str]:
    """What is said before a dry run: the summary's words would mislead without it."""
    return ["dry run: nothing is produced, committed or joined"] if sending.dry_run else []


def build_preview(
    steps: Sequence[Step], stages: Sequence[PipelineStage], topic: str, stop: Stop, say: Callable[[str], None]
) -> tuple[list[PipelineStage], Sink]:
    """The stages and the sink of a dry run; filters do run."""
    preview = make_preview(topic, stop)
    before, sink = put_filters(steps, stages, preview, say, preview)
    return [preview.enter, *before, preview.leave], sink


def make_preview(topic: str, stop: Stop) -> Preview:
    """`--dry-run`: to stdout, a diff on a terminal and JSON lines otherwise."""
    from kpipe.sinks.preview import Preview
    from kpipe.sinks.stdout import Stdout

    stdout = Stdout()

    def write(block: bytes) -> None:
        stdout.write(block, lambda: not stop.forced)

    color = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Preview(topic, write, terminal=sys.stdout.isatty(), color=color)


def refuse_together(exclusive: str, given: Sequence[tuple[str, object]]) -> None:
    """One way of delivering that leaves no room for others."""
    for name, is_given in given:
        if is_given:
            raise UsageError(f"{exclusive} and {name} do not go together; drop one")

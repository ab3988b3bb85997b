"""What stands between the stages and the target: filters, a throttle, or a preview instead of it all.

It moves no record.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kpipe.plan.rules import FILTERS, first_step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.options import TargetOptions
    from kpipe.pace import Pace
    from kpipe.parts import Sink
    from kpipe.pipeline import Stage as PipelineStage
    from kpipe.run_state import RunState
    from kpipe.shutdown import Stop
    from kpipe.sinks.preview import Preview
    from kpipe.through.filtering import FilterSink
    from kpipe.through.limit import Limited
    from kpipe.transform.step import Step


@dataclass(slots=True, frozen=True)
class Filters:
    """The way to the sink with its filters put in: `stages` run before the first of them.

    `running` are the filters; `limited` counts what comes out behind the last one, where -c counts (None: no filter).
    """

    stages: list[PipelineStage]
    sink: Sink
    running: Sequence[FilterSink] = ()
    limited: Limited | None = None

    def end(self) -> None:
        """End the processes of all filters, at once."""
        for each in self.running:
            each.end()


def put_filters(
    steps: Sequence[Step],
    stages: Sequence[PipelineStage],
    sink: Sink,
    say: Callable[[str], None],
    state: RunState,
    limit: int | None,
    preview: Preview | None = None,
) -> Filters:
    """Put every filter before the sink, with the stages behind it.

    `state` tells a filter that its input has ended, `limit` is how many records may come out (None: any number).
    """
    if not first_step(steps, FILTERS):
        return Filters(list(stages), sink)
    from kpipe.through.envelopes import Envelopes
    from kpipe.through.filtering import Filter, Surroundings
    from kpipe.through.limit import Limited
    from kpipe.through.lines import Lines, refuse_newlines
    from kpipe.transform.through import FilterMark

    limited = Limited(sink, limit)
    sink = limited
    around = Surroundings(lambda: state.draining, lambda: limited.left)
    if preview is not None:
        around = replace(around, note=preview.note)
    running: list[FilterSink] = []
    behind: list[PipelineStage] = []
    for stage in reversed(stages):
        if not isinstance(stage, FilterMark):
            behind.insert(0, stage)
            continue
        what = Filter(stage.command, stage.title, stage.timeout, stage.jobs)
        filtering = (Envelopes if stage.json else Lines)(what, sink, behind, say, around)
        running.append(filtering)
        sink = filtering
        behind = [] if stage.json else [refuse_newlines(stage.title)]
    return Filters(behind, sink, running, limited)


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


UNSENT: dict[str, Any] = {"enable.idempotence": False}
"""Nothing is produced in a dry run, so the cluster is not asked for a producer id either."""


def unsent(sending: TargetOptions) -> TargetOptions:
    """The options of a dry run: no topic is created."""
    return replace(sending, create=False)


def dry_warning(sending: TargetOptions) -> list[str]:
    """What is said before a dry run: the summary's words would mislead without it."""
    return ["dry run: nothing is produced, committed or joined"] if sending.dry_run else []


def build_preview(
    steps: Sequence[Step],
    stages: Sequence[PipelineStage],
    topic: str,
    stop: Stop,
    say: Callable[[str], None],
    state: RunState,
    limit: int | None,
) -> Filters:
    """The stages and the sink of a dry run; filters do run."""
    preview = make_preview(topic, stop)
    filters = put_filters(steps, stages, preview, say, state, limit, preview)
    return replace(filters, stages=[preview.enter, *filters.stages, preview.leave])


def make_preview(topic: str, stop: Stop) -> Preview:
    """`--dry-run`: to stdout, a diff on a terminal and JSON lines otherwise."""
    from kpipe.sinks.preview import Preview
    from kpipe.sinks.stdout import Stdout

    stdout = Stdout()

    def write(block: bytes) -> None:
        stdout.write(block, lambda: not stop.forced)

    color = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Preview(topic, write, terminal=sys.stdout.isatty(), color=color)

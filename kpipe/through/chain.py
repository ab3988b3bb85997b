"""The filters of a run, put between the stages and the sink: what stands before the first runs in the pipeline.

It starts no process before the first record comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kpipe.through.envelopes import Envelopes
from kpipe.through.filtering import Filter, Surroundings
from kpipe.through.limit import LimitedSink
from kpipe.through.lines import Lines, refuse_newlines
from kpipe.transform.through import FilterMark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.parts import Sink
    from kpipe.pipeline import PipelineStage
    from kpipe.run_state import RunState
    from kpipe.through.filtering import FilterSink, Note


@dataclass(slots=True, frozen=True)
class Filters:
    """The way to the sink with its filters put in: `stages` run before the first of them.

    `running` are the filters; `limited` counts what comes out behind the last one, where -c counts.
    """

    stages: list[PipelineStage]
    sink: Sink
    running: Sequence[FilterSink]
    limited: LimitedSink

    def end(self) -> None:
        """End the processes of all filters, at once."""
        for each in self.running:
            each.end()


def put_filters(
    stages: Sequence[PipelineStage],
    sink: Sink,
    say: Callable[[str], None],
    state: RunState,
    limit: int | None,
    note: Note | None = None,
) -> Filters:
    """Put every filter before the sink, with the stages behind it.

    `state` tells a filter that its input has ended, `limit` is how many records may come out (None: any number),
    `note` hears of what filters leave out, for a preview.
    """
    limited = LimitedSink(sink, limit)
    sink = limited
    around = Surroundings(lambda: state.draining, lambda: limited.left)
    if note is not None:
        around = replace(around, note=note)
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

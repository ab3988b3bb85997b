"""The face that every way of delivering has: what stands in the run for it, and who hears of its group.

It decides nothing: the plan builds one way, and the pipeline runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.parts import Committer, Sink, Source, Transaction
    from kpipe.pipeline import PipelineStage
    from kpipe.sources.selection import GroupListener


@dataclass(slots=True, frozen=True)
class Way:
    """One way of delivering. `before` and `behind` are its stages in front of the run's own and after them.

    None is what the way does without: a committer (there is no group), a transaction, a listener.
    """

    source: Source
    sink: Sink
    stages: Sequence[PipelineStage]
    before: Sequence[PipelineStage] = ()
    behind: Sequence[PipelineStage] = ()
    committer: Committer | None = None
    group: GroupListener | None = None
    transaction: Transaction | None = None
    notes: Callable[[], list[str]] = list
    """What people should know at the end."""

"""The composition root: options and profiles become a wired pipeline; every rule that needs two options is here.

It moves no record: what it returns is run by the porch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.delivery.commit import Commits
    from kpipe.kafka.troubles import Troubles
    from kpipe.pipeline import Pipeline
    from kpipe.sources.opening import OpenSource


@dataclass(slots=True)
class Watched:
    """What may be looked at from outside while a run goes on, from any thread; the names are for people."""

    source: str = ""
    target: str = ""
    opened: OpenSource | None = None
    """The topics that are read, if any are."""
    commits: Commits | None = None
    """What became of the commits of its group, if it has one."""
    writers: Callable[[], list[Troubles]] = list
    """What the producers said of themselves."""


@dataclass(slots=True)
class Planned:
    """A pipeline ready to run. `done` and `total` feed the live line; `notes` are told at the end, if any."""

    pipeline: Pipeline
    done: Callable[[], float] = lambda: 0.0
    total: Callable[[], float | None] = lambda: None
    notes: Callable[[], list[str]] = list
    facts: Callable[[], dict[str, object]] = dict
    away: Callable[[], str] = str
    """Which clusters do not answer, in people's words."""
    typed: bool = False
    """Whether a person types the input."""
    prints: bool = False
    """Whether something besides the sink writes to stdout while the run goes on."""
    fell_short: Callable[[], bool] = lambda: False
    """Whether something asked for could not be done although every record arrived; the run ends with 1."""
    outcome: str = "delivered"
    """What became of a record that went well, in people's words."""
    watched: Watched = field(default_factory=Watched)
    end_filters: Callable[[], None] = lambda: None
    """Ends the processes that records go through, at once."""

"""Who watches a run beside its records: one table, from which all that are asked for are opened.

The terminal's live line is none of them: it belongs to the terminal, and is closed before anything else is told.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.options import RunOptions
    from kpipe.plan import Planned
    from kpipe.run.summary import Summary
    from kpipe.run.workers import Supervisor
    from kpipe.shutdown import Stop


class Observer(Protocol):
    """Opened before anything is planned: what it cannot open ends the run before a record is read."""

    def begin(self, planned: Planned, summary: Summary) -> None:
        """The run is planned, and its loop turns from now on."""

    def begin_workers(self, supervisor: Supervisor, summary: Summary) -> None:
        """The same of the supervisor of several processes."""

    def __call__(self) -> None:
        """A turn of the main loop: never waits, never fails."""

    def finish(self, code: int) -> object:
        """The run is over, or never began. KpipeError: what it was to leave behind is not there (exit 1)."""


class ObserverRow(NamedTuple):
    """`opens` in `module` is given the options, the stop and how to tell; it may return None.

    It is imported when one of `options` (names in RunOptions) is given; without any it is asked in each run.
    """

    options: tuple[str, ...]
    module: str
    opens: str


OBSERVERS = (
    ObserverRow(("metrics", "metrics_file"), "telemetry", "Telemetry"),
    ObserverRow((), "notify", "open_notifier"),
    ObserverRow((), "memory", "open_trimmer"),
)


def open_observers(options: RunOptions, stop: Stop, say: Callable[[str], None]) -> list[Observer]:
    """All that are asked for; nothing is loaded for the others."""
    found = []
    for row in OBSERVERS:
        if not row.options or any(getattr(options, name) for name in row.options):
            observer = getattr(import_module(f"kpipe.run.{row.module}"), row.opens)(options, stop, say)
            if observer is not None:
                found.append(observer)
    return found

"""`--workers N`: the same command line in N processes, with one report and one exit code.

It runs no pipeline itself.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.cli.run import finish_observers
from kpipe.clusters.environment import WORKER, add_hidden, given, hide
from kpipe.errors import Exit, KpipeError
from kpipe.run.observers import open_observers
from kpipe.run.summary import Summary
from kpipe.run.workers import Supervisor, Worker, worker_command
from kpipe.shutdown import Stop, die_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.options import RunOptions, SelectionOptions
    from kpipe.run.observers import Observer


def as_worker(selection: SelectionOptions, run: RunOptions) -> tuple[Worker | None, SelectionOptions, RunOptions]:
    """The options of this process, if it is a worker: its own name in the group, its balance to the supervisor."""
    worker = Worker.from_environment(given())
    if worker is None:
        return None, selection, run
    hide([WORKER])  # a kpipe that this one starts, as a filter, is none
    add_hidden(worker.take_secrets())
    worker.drain_with_supervisor()
    instance = f"{selection.instance}-{worker.slot}" if selection.instance else ""
    return worker, replace(selection, instance=instance), replace(run, summary=worker.summary_path, verbose=False)


def supervise(workers: int, arguments: Sequence[str], run: RunOptions, *, fail_if_empty: bool) -> int:
    """Run the workers to their end; returns the exit code, or dies by the signal that ended them well."""
    stop = Stop(run.drain_timeout)
    stop.install()
    observers = open_observers(run, stop, tell)
    supervisor = Supervisor(worker_command(arguments), workers, stop, tell)
    summary = Summary(supervisor.ledger, facts=supervisor.facts)
    live: Any = None
    from kpipe.cli.live import LiveLine, may_draw

    if not run.quiet and may_draw():
        live = LiveLine(summary, sys.stderr, lambda: 0.0, lambda: None, supervisor.away)
        supervisor.observers.append(live)
    for observer in observers:
        observer.begin_workers(supervisor, summary)
        supervisor.observers.append(observer)
    try:
        code = supervisor.run()
    finally:
        if live is not None:
            live.close()
    return _conclude(supervisor, summary, run, stop, observers, code, fail_if_empty=fail_if_empty)


def _conclude(
    supervisor: Supervisor,
    summary: Summary,
    run: RunOptions,
    stop: Stop,
    observers: list[Observer],
    code: int,
    *,
    fail_if_empty: bool,
) -> int:
    ledger = supervisor.ledger
    if not ledger.complete:
        code = code or int(Exit.UNDELIVERED)
    if not ledger.complete or run.verbose or (sys.stderr.isatty() and not run.quiet):
        tell(summary.line())
    unsaved = _write(summary, run, stop)
    unsaved = finish_observers(observers, code or unsaved) or unsaved
    code = code or unsaved
    if stop.signal is not None and not code:
        die_by(stop.signal)
    if not code and fail_if_empty and not ledger.read:
        tell("read: no record was read (--fail-if-empty)")
        return int(Exit.DIFFERENCE)
    return code


def _write(summary: Summary, run: RunOptions, stop: Stop) -> int:
    if not run.summary:
        return 0
    try:
        summary.write(run.summary, signal=stop.signal.name if stop.signal is not None else None)
    except KpipeError as error:
        tell(str(error), error.id)
        return int(Exit.UNDELIVERED)
    return 0

"""Runs what was planned and says how it went: the live line, the summary, the exit code or the death by signal.

It decides nothing about records.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from kpipe.cli import leave, tell
from kpipe.errors import Exit, Interrupted, KpipeError
from kpipe.ledger import Ledger
from kpipe.run.observers import open_observers
from kpipe.run.summary import SHOWN, Summary
from kpipe.shutdown import Stop, die_by
from kpipe.sinks.outputs import check_outputs
from kpipe.sinks.stdout import ReaderGone, WriteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.cli.live import LiveLine
    from kpipe.options import RunOptions
    from kpipe.pipeline import Pipeline
    from kpipe.plan import Planned
    from kpipe.run.observers import Observer


def execute(
    plan: Callable[[Stop, Callable[[str], None]], Planned],
    options: RunOptions,
    *,
    fail_if_empty: bool = False,
    spill: str = "",
) -> int:
    """Plan and run; returns the exit code, or does not return at all when a signal ended the run."""
    check_outputs(options.summary, spill, options.metrics_file)
    stop = Stop(options.drain_timeout)
    stop.starting = True
    stop.install()
    ending = Ending(options, stop)
    stop.watch(ending.abandon)
    observers = ending.observers = open_observers(options, stop, tell)
    try:
        planned = plan(stop, tell)
    except KpipeError as error:
        _write_summary(Summary(Ledger()), options, stop)
        finish_observers(observers, error.exit_code)
        if isinstance(error, Interrupted):
            die_by(stop.signal or signal.SIGINT)
        raise
    stop.starting = False
    pipeline = planned.pipeline
    summary = Summary(pipeline.ledger, facts=planned.facts, outcome=planned.outcome)
    if planned.typed and sys.stderr.isatty() and not options.quiet:
        tell("read: stdin: reading what you type; Ctrl-D ends")
    live = _live_line(summary, planned, options)
    if live is not None:
        pipeline.observers.append(live)
    for observer in observers:
        observer.begin(planned, summary)
        pipeline.observers.append(observer)
    ending.planned, ending.summary = planned, summary
    gc.freeze()  # what start-up left is never looked at again; `kpipe.__main__` makes looks rare (bench: 5-22 %)
    try:
        pipeline.run()
    finally:
        if live is not None:
            live.close()
    ending.claim()
    return _conclude(planned, summary, options, stop, observers, fail_if_empty=fail_if_empty)


def finish_observers(observers: list[Observer], code: int) -> Exit:
    """Let each write what it leaves behind; how that went."""
    ended = Exit.OK
    for observer in observers:
        try:
            observer.finish(code)
        except KpipeError as error:
            tell(str(error), error.id)
            ended = Exit.UNDELIVERED
    return ended


class Ending:
    """Who says how a run went: the main thread, or once a drain is overdue the one that watches it."""

    def __init__(self, options: RunOptions, stop: Stop) -> None:
        self.planned: Planned | None = None
        self.observers: list[Observer] = []
        self.summary = Summary(Ledger())
        self._options, self._stop = options, stop
        self._claim = threading.Lock()

    def claim(self) -> None:
        """Taken for good; who comes second waits for the end of the process."""
        self._claim.acquire()

    def abandon(self) -> None:
        """Something does not come back: say what is known, and leave it behind."""
        if not self._claim.acquire(blocking=False):
            return
        if self.planned is None:
            leave(128 + (self._stop.signal or signal.SIGINT))  # nothing was read
        self.planned.pipeline.abandon()
        self.planned.end_filters()
        leave(_conclude(self.planned, self.summary, self._options, self._stop, self.observers, fail_if_empty=False))


def _live_line(summary: Summary, planned: Planned, options: RunOptions) -> LiveLine | None:
    """Only on a terminal on which nothing else appears."""
    from kpipe.cli.live import LiveLine, may_draw

    prints = planned.prints or _prints_records(planned.pipeline)
    if options.quiet or not may_draw(prints=prints, typed=planned.typed):
        return None
    return LiveLine(summary, sys.stderr, planned.done, planned.total)


def _prints_records(pipeline: Pipeline) -> bool:
    sink: object = pipeline.sink
    while hasattr(sink, "inner"):  # behind a filter
        sink = sink.inner
    return getattr(sink, "prints", False)  # asked of the sink: importing those that do takes 12 ms


def _conclude(
    planned: Planned,
    summary: Summary,
    options: RunOptions,
    stop: Stop,
    observers: list[Observer],
    *,
    fail_if_empty: bool,
) -> int:
    pipeline, ledger, error = planned.pipeline, planned.pipeline.ledger, planned.pipeline.error
    code = _exit_code(planned, fail_if_empty=fail_if_empty)
    unsaved = _write_summary(summary, options, stop)
    unsaved = finish_observers(observers, code or unsaved) or unsaved
    # What stdout did not take is still in the topic: one line (or none, for a reader that had enough) says it all.
    unwritten = isinstance(error, WriteError) and _prints_records(pipeline)
    if isinstance(error, ReaderGone) and (unwritten or ledger.complete):
        die_by(signal.SIGPIPE)
    if error is not None:
        _tell_error(error)
    if not options.quiet:
        for note in planned.notes():
            tell(note)
    lost = not (ledger.complete or unwritten)
    if lost:
        _list_lost(pipeline)
    if lost or options.verbose or (sys.stderr.isatty() and not options.quiet):
        tell(summary.line())
    if not ledger.balanced:
        tell("the ledger does not balance; please report this")
        code = code or Exit.UNDELIVERED
    code = code or unsaved
    if stop.signal is not None and code == Exit.OK:
        die_by(stop.signal)
    if code == Exit.DIFFERENCE:
        tell("read: no record was read (--fail-if-empty)")
    return int(code)


def _tell_error(error: KpipeError) -> None:
    """One line; with KPIPE_DEBUG=1 also where a fault of ours was, or what the client raised."""
    tell(str(error), error.id)
    cause = error.__cause__
    if cause is not None and os.environ.get("KPIPE_DEBUG"):
        sys.excepthook(type(cause), cause, cause.__traceback__)


def _exit_code(planned: Planned, *, fail_if_empty: bool) -> Exit:
    ledger, error = planned.pipeline.ledger, planned.pipeline.error
    if error is not None:
        return error.exit_code
    if not ledger.complete or planned.fell_short():
        return Exit.UNDELIVERED
    return Exit.DIFFERENCE if fail_if_empty and not ledger.read else Exit.OK


def _list_lost(pipeline: Pipeline) -> None:
    """The positions of what was not delivered; a run of equal reasons is told once."""
    lost = pipeline.lost
    for where, reason in lost[:SHOWN]:
        tell(f"not delivered: {where}: {reason}" if where else f"not delivered: {reason}")
    if len(lost) > SHOWN:
        first, last = lost[SHOWN][0], lost[-1][0]
        kept = getattr(pipeline.spill, "written", 0)
        advice = f"; {getattr(pipeline.spill, 'path', '')} keeps {kept:,}" if kept else "; --spill FILE keeps them all"
        advice = "" if _prints_records(pipeline) else advice
        tell(f"not delivered: {len(lost) - SHOWN:,} more, from {first} to {last}{advice}")


def _write_summary(summary: Summary, options: RunOptions, stop: Stop) -> Exit:
    if not options.summary:
        return Exit.OK
    try:
        summary.write(options.summary, signal=stop.signal.name if stop.signal is not None else None)
    except KpipeError as error:
        tell(str(error), error.id)
        return Exit.UNDELIVERED
    return Exit.OK

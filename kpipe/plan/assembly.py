"""A run made of its parts: what was opened, a way of delivering and how far the reading has come become a Planned.

It opens no client and moves no record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpipe.clusters.address import place_name
from kpipe.kafka.client import label
from kpipe.pipeline import Pipeline
from kpipe.plan import Planned, Watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.delivery.way import Way
    from kpipe.kafka.troubles import Troubles
    from kpipe.parts import Spill
    from kpipe.plan.wiring import Wiring
    from kpipe.run_state import RunState
    from kpipe.sources.opening import OpenSource

FLUSH_TIMEOUT = 150.0
"""Seconds at the end of the input without a single delivery report, above the delivery timeout of one record."""


@dataclass(slots=True)
class Reading:
    """How far that has come: `done` of `total`, in bytes or records (None: nobody knows)."""

    done: Callable[[], float]
    total: Callable[[], float | None]
    facts: Callable[[], dict[str, object]] = dict
    opened: OpenSource | None = None
    name: str = "stdin"
    """What people call it."""


def read_topics(opened: OpenSource) -> Reading:
    """Topics."""
    source = opened.source
    return Reading(
        done=lambda: float(source.progress.count),
        total=lambda: float(source.progress.expected()) or None,
        facts=source.gaps.facts,
        opened=opened,
        name=place_name(label(opened.cluster), ",".join(source.topics)),
    )


def assemble(
    wiring: Wiring,
    way: Way,
    state: RunState,
    reading: Reading,
    notes: Callable[[], list[str]] = list,
    *,
    spill: Spill | None = None,
    flush_timeout: float = FLUSH_TIMEOUT,
    prints: bool = False,
) -> Planned:
    """The run; `spill` is in place of the file that --spill names, `prints` says that stdout has a reader."""
    filters = wiring.filters
    limited = None if filters is None else filters.limited
    pipeline = Pipeline(
        way.source,
        [*way.before, *way.stages, *way.behind],
        way.sink,
        way.committer,
        state.ledger,
        wiring.stop,
        on_error=wiring.policy.name,
        limit=wiring.limit if limited is None else None,  # behind filters it is counted there
        enough=None if limited is None else limited.enough,
        state=state,
        dead_letters=wiring.letters,
        transaction=way.transaction,
        say=wiring.say,
        spill=spill or _spill(wiring.sending.spill),
        flush_timeout=flush_timeout,
    )
    reader: Callable[[], None] | None = None
    if prints or wiring.sending.dry_run:
        from kpipe.sinks.stdout import ReaderWatch

        reader = ReaderWatch()
    wiring.patience.is_over = lambda: wiring.stop.forced
    wiring.patience.go_on, wiring.patience.first_bad_ends = pipeline.idle, wiring.policy.name == "stop"
    dry: dict[str, object] = {"dry_run": True} if wiring.sending.dry_run else {}
    if dry:  # the summary's words would mislead without it
        wiring.warn("dry run: nothing is produced, committed or joined")
    outlet = wiring.outlet

    def facts() -> dict[str, object]:
        return {**dry, **reading.facts(), **wiring.epoch.facts(), **(outlet.facts() if outlet else {})}

    def all_notes() -> list[str]:
        return [*way.notes(), *notes(), *(outlet.notes() if outlet else [])]

    wiring.watch.start(state.ledger)
    planned = Planned(pipeline, reading.done, reading.total, all_notes, facts, away=wiring.watch.away)
    planned.fell_short = lambda: wiring.epoch.count > 0
    if filters is not None:
        planned.end_filters = filters.end
    planned.watched = _watched(wiring, reading)
    pipeline.observers.append(wiring.watch)
    pipeline.watch = _purpose(wiring.watch.check, reader)
    if dry:
        planned.outcome = "shown"
    return planned


def _spill(path: str) -> Spill | None:
    """The file of --spill, if one is asked for."""
    if not path:
        return None
    from kpipe.sinks.spill import open_spill

    return open_spill(path)


def _purpose(clusters: Callable[[], None], reader: Callable[[], None] | None) -> Callable[[], None]:
    """Ends a run that nobody reads, or that no longer reaches its cluster."""
    if reader is None:
        return clusters

    def check() -> None:
        reader()
        clusters()

    return check


def _watched(wiring: Wiring, reading: Reading) -> Watched:
    outlet = wiring.outlet
    topics = [] if outlet is None else [*outlet.targets, *outlet.clusters.values()]
    letters = [] if wiring.letter_topic is None else [wiring.letter_topic]

    def writers() -> list[Troubles]:
        found = [target.troubles for target in (*topics, *letters)]  # a transaction may have renewed them
        return list({id(troubles): troubles for troubles in found}.values())

    target = "stdout" if outlet is None else outlet.ready.where
    return Watched(reading.name, target, reading.opened, wiring.commits, writers)

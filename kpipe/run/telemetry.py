"""`--metrics` and `--metrics-file`: a run that can be watched from outside.

An observer of the main loop. Alive means that the loop turns; that says nothing of brokers, or an outage of theirs
would restart every forwarder. Ready means that its share of the partitions is known and its producers are connected.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError, Stage
from kpipe.ledger import Ledger
from kpipe.run.lag import Lag
from kpipe.run.metrics import Families
from kpipe.run.seen import Seen, look, merge, next_offsets
from kpipe.run.serve import Answer, import_client, json_answer, metrics_page, serve
from kpipe.run.summary import Summary, write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.options import RunOptions
    from kpipe.plan import Planned, Watched
    from kpipe.run.workers import Supervisor, WorkerSlot
    from kpipe.shutdown import Stop

STALLED = 90.0
"""Seconds without a turn after which a run is not alive: a rebalance may hold it for 60 (`REVOKE_TIMEOUT`)."""


class Telemetry:
    """What watches one run. Made before anything is planned: a port that is taken ends the run before a record."""

    def __init__(
        self, run: RunOptions, stop: Stop, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        option = "--metrics" if run.metrics else "--metrics-file"
        self._client = import_client(option)
        self._file, self._stop, self._clock = run.metrics_file, stop, clock
        self._summary = Summary(Ledger())
        self._turned: float | None = None
        self._ready: Callable[[], str] = lambda: "starting"
        self._seen: Callable[[], Seen] = Seen
        self._fresh: Callable[[], None] = lambda: None
        self._end: dict[str, float] = {}
        self._started = time.time()
        self._families = self._make_families(lambda: ("", ""))
        if run.metrics:
            pages: Any = {
                "/metrics": self._metrics,
                "/healthz": self._health,
                "/readyz": self._readiness,
                "/status": self._status,
            }
            where = serve(run.metrics, pages)
            if run.verbose or run.metrics.rpartition(":")[2].strip("0") == "":
                say(f"metrics: http://{where}/metrics")

    def _make_families(self, places: Callable[[], tuple[str, str]]) -> Families:
        families = Families(self._summary, lambda: self._seen(), places)  # noqa: PLW0108 - set later
        families.started = self._started
        families.extra = lambda: self._end
        self._page: Any = metrics_page(families)
        return families

    def __call__(self) -> None:
        """A turn of the main loop."""
        self._turned = self._clock()

    def begin(self, planned: Planned, summary: Summary) -> None:
        """The run is planned, and its loop turns from now on."""
        watched, ledger = planned.watched, planned.pipeline.ledger
        lag = lag_of(watched, ledger)
        self._summary = summary
        self._seen = lambda: look(watched, ledger, lag, planned.done())
        self._fresh = lag.look if lag is not None else lambda: None
        self._ready = lambda: why_not_ready(watched)
        self._families = self._make_families(lambda: (watched.source, watched.target))
        self()

    def begin_workers(self, supervisor: Supervisor, summary: Summary) -> None:
        """The same of several processes: they tell, and their supervisor speaks."""
        members = supervisor.members
        self._summary = summary

        def seen() -> Seen:
            ended = [counters for member in members for counters in member.seen_before]
            return merge([Seen(**member.seen["seen"]) for member in members if member.seen], ended)

        def why_not() -> str:
            waiting = [f"worker {each.slot}: {each.seen.get('waits', 'starting')}" for each in members]
            return next((text for text in waiting if not text.endswith(": ")), "")

        def extra() -> dict[str, float]:
            running = sum(member.process is not None for member in members)
            return {"workers": running, "worker_restarts_total": sum(each.restarts for each in members), **self._end}

        self._seen, self._ready = seen, why_not
        self._families = self._make_families(lambda: _places_of(members))
        self._families.extra = extra
        self()

    def finish(self, code: int) -> int:
        """The run is over: write the file, if one is asked for. Returns the exit code, 1 if the file fails."""
        self._end = {"exit_code": code, "end_timestamp_seconds": time.time(), "duration_seconds": self._summary.seconds}
        if not self._file:
            return code
        registry = self._client.CollectorRegistry(auto_describe=False)
        registry.register(self._families)
        try:
            write_file(self._file, self._client.generate_latest(registry))
        except OSError as error:
            raise KpipeError(
                f"cannot write the metrics: {error.strerror}", where=self._file, stage=Stage.SETTLE
            ) from None
        return code

    # --- pages ---------------------------------------------------------------------------------------------------

    def _metrics(self, headers: Mapping[str, str]) -> Answer:
        self._fresh()
        return Answer(*self._page(headers))

    def _health(self, _headers: Mapping[str, str]) -> Answer:
        if self._turned is None:
            return Answer(200, b"starting\n")
        still = self._clock() - self._turned
        if still > STALLED:
            return Answer(503, f"the main loop has not moved for {still:.0f} s\n".encode())
        return Answer(200, b"alive\n")

    def _readiness(self, _headers: Mapping[str, str]) -> Answer:
        why = "draining" if self._stop.requested else self._ready()
        return Answer(503, f"{why}\n".encode()) if why else Answer(200, b"ready\n")

    def _status(self, _headers: Mapping[str, str]) -> Answer:
        seen = self._seen()
        state = "starting" if self._turned is None else "draining" if self._stop.requested else "running"
        return json_answer(
            {"state": state, **self._summary.as_dict(), "in_flight": self._summary.ledger.waiting, **seen.as_dict()}
        )


def _places_of(members: Sequence[WorkerSlot]) -> tuple[str, str]:
    """All workers have the same; nobody knows them before one has told."""
    source, target = next((member.seen["places"] for member in members if member.seen), ("", ""))
    return source, target


def lag_of(watched: Watched, ledger: Ledger) -> Lag | None:
    """What asks for the lag of a run; None where no topic is read."""
    opened = watched.opened
    if opened is None:
        return None

    def wanted() -> dict[tuple[str, int], int]:
        offsets = next_offsets(opened, ledger)
        return {place: offsets[place] for place in set(opened.source.owned) if place in offsets}

    return Lag(opened.cluster, wanted)


def why_not_ready(watched: Watched) -> str:
    """What a run still waits for; empty when it waits for nothing."""
    if watched.opened is not None and not watched.opened.source.is_placed:
        return "the group has given out no partitions yet"
    for troubles in watched.writers():
        if troubles.fatal is not None:
            return f"{troubles.cluster}: {troubles.fatal[1]}"
    seen = look(watched, Ledger(), None, 0)
    away = [troubles.cluster for troubles in watched.writers() if seen.brokers.get(troubles.cluster) == 0]
    return f"{away[0]}: no broker is connected" if away else ""


def telling(planned: Planned) -> Callable[[], dict[str, Any]]:
    """What a worker tells its supervisor beside its balance; the lag is asked for in a thread of its own."""
    watched, ledger = planned.watched, planned.pipeline.ledger
    lag = lag_of(watched, ledger)
    if lag is not None:
        lag.keep_looking()

    def tell() -> dict[str, Any]:
        return {
            "seen": look(watched, ledger, lag, planned.done()).as_dict(),
            "waits": why_not_ready(watched),
            "places": [watched.source, watched.target],
        }

    return tell

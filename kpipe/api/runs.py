"""`forward`, `consume` and `produce` as functions: the same plans, delivery, ledger and errors as on the command line.

They print nothing, end nothing, and install no signal handler. Options and transforms have the names of the command
line's, with _ for the dashes; what may be repeated there is a sequence here.
"""

from __future__ import annotations

import atexit
import difflib
import logging
import os
import sys
import time
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from kpipe.api.producer import to_bytes
from kpipe.errors import KpipeError, UndeliveredError, UsageError
from kpipe.options import (
    ConnectionOptions,
    EncodeOptions,
    ForwardOptions,
    InputOptions,
    OutputOptions,
    RecordOptions,
    ReencodeOptions,
    RunOptions,
    SchemaOptions,
    SelectionOptions,
    TargetOptions,
    TraceOptions,
    declared,
)
from kpipe.parts import SinkAtOnce
from kpipe.record import Record, records_of
from kpipe.shutdown import Stop
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from kpipe.api.producer import Bytes
    from kpipe.flight import Flight
    from kpipe.ledger import Ledger
    from kpipe.options import Options
    from kpipe.pipeline import Pipeline
    from kpipe.plan import Planned
    from kpipe.record import Batch
    from kpipe.transform.step import Step

log = logging.getLogger("kpipe")

NOT_HERE = frozenset({"workers", "metrics", "metrics_file", "log_format", "summary", "verbose", "quiet", "commit_acked",
                      "acks", "trust_end", "fail_if_empty", "dry_run", "tee", "ack", "raw", "report",
                      "restore"})  # fmt: skip
"""Options of a process of its own."""
ALIVE = 1.0
"""Seconds of work on one record after which the source is asked to keep its place in the group."""
LISTED = 20
"""Records that were not delivered and are logged one by one."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the records: `read` is the sum of the others."""

    read: int = 0
    delivered: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    failed: int = 0
    unknown: int = 0


def forward(
    sources: str | Sequence[str],
    target: str,
    *,
    group: str = "",
    transform: Callable[[Record], object] | None = None,
    stop: Stop | None = None,
    **options: object,
) -> Result:
    """Send the records of topics to a topic until the sources end (`exit=True`) or `stop.ask()` is called.

    `transform` is given each Record, and returns None (drop it), a Record, or several; an exception is a bad record,
    for which `on_error` decides. KpipeError for what ends a run; its `result` says what became of the records before.
    """
    from kpipe.plan.forward import plan_forward

    groups = (
        ConnectionOptions,
        SelectionOptions,
        ForwardOptions,
        TargetOptions,
        TraceOptions,
        SchemaOptions,
        ReencodeOptions,
        RunOptions,
    )
    steps, others = _split(options, transform)
    built = _build(groups, {"group": group, **others})
    with _stopping(stop) as asked:
        arguments: list[Any] = [[*_places(sources), target], *built, steps, asked, log.info]
        return _run(plan_forward(*arguments))


def consume(
    sources: str | Sequence[str],
    *,
    group: str = "",
    transform: Callable[[Record], object] | None = None,
    stop: Stop | None = None,
    **options: object,
) -> Iterator[Record]:
    """The records of topics, until they end (`exit=True`, `count=N`, `until=…`) or `stop.ask()` is called.

    With a group a record is settled when the next one is asked for, and what is settled is committed: a record whose
    work raised comes again, and so does the one at which a loop was left early. Close the iterator, or exhaust it.
    """
    records = _consumed(_places(sources), group, transform, stop, options)
    _unfinished.add(records)
    return records


def _consumed(
    places: Sequence[str],
    group: str,
    transform: Callable[[Record], object] | None,
    stop: Stop | None,
    options: Mapping[str, object],
) -> Generator[Record]:
    from kpipe.plan.consume import plan_consume

    hand = _Hand()
    groups = (ConnectionOptions, SelectionOptions, OutputOptions, SchemaOptions, RunOptions)
    steps, others = _split(options, transform)
    built = _build(groups, {"group": group, **others})
    with _stopping(stop) as asked:
        arguments: list[Any] = [list(places), *built, steps, asked, log.info, hand]
        planned = plan_consume(*arguments)
        yield from _handed_over(planned.pipeline, hand)


def produce(
    target: str,
    records: Iterable[Bytes | Record],
    *,
    transform: Callable[[Record], object] | None = None,
    stop: Stop | None = None,
    **options: object,
) -> Result:
    """Send values, or Records with key, headers and timestamp, to a topic; returns when all are acknowledged.

    Memory is bounded, however many there are. A Record that was read from a topic gets trace headers that say where.
    KpipeError for what ends a run, with a `result`; what the iterable raises comes out as it is, behind the records
    before it.
    """
    from kpipe.plan.produce import plan_produce
    from kpipe.sources.given import GivenSource

    groups = (ConnectionOptions, RecordOptions, TargetOptions, TraceOptions, EncodeOptions, RunOptions)
    steps, others = _split(options, transform)
    connection, *rest = _build(groups, others)
    source = GivenSource(records, _as_record)
    with _stopping(stop) as asked:
        arguments: list[Any] = [target, (), connection, InputOptions(), *rest, steps, asked, log.info, source]
        return _run(plan_produce(*arguments), lambda: source.failure)


def _as_record(entry: object) -> Record:
    """An entry of `produce`; TypeError for what is neither bytes, text nor None, or a Record of such."""
    if not isinstance(entry, Record):
        return Record(to_bytes(entry, "value"))
    headers = tuple((name, to_bytes(value, f"header {name}")) for name, value in entry.headers)
    return replace(entry, value=to_bytes(entry.value, "value"), key=to_bytes(entry.key, "key"), headers=headers)


def _run(planned: Planned, failure: Callable[[], Exception | None] = lambda: None) -> Result:
    """Move the records; what ended the run is raised, and its `result` says what became of the records before."""
    pipeline = planned.pipeline
    pipeline.run()
    result = _result(pipeline.ledger)
    for note in planned.notes():
        log.info("kpipe: %s", note)
    for where, reason in pipeline.lost[:LISTED]:
        log.error("kpipe: not delivered: %s", ": ".join(filter(None, (where, reason))))
    error: Any = pipeline.error or failure()
    if error is None and result.unknown:
        error = UndeliveredError(f"whether {counted(result.unknown, 'record')} arrived is not known")
    if error is not None:
        error.result = result
        raise error
    return result


# --- options -------------------------------------------------------------------------------------------------------


def _places(sources: str | Sequence[str]) -> list[str]:
    return [sources] if isinstance(sources, str) else list(sources)


def _build(groups: Sequence[type[Options]], given: dict[str, object]) -> list[Any]:
    """An object of each group; UsageError for an option that there is not, naming the nearest."""
    known = {each.name for group in groups for each in fields(group)} - NOT_HERE  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(f"no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    built = []
    for group in groups:
        values = {}
        for name, _, default, described in declared(group):
            if name in given:
                value: Any = given[name]
                if isinstance(default, tuple):
                    value = (value,) if isinstance(value, str) else tuple(value)
                elif described.reads is not None and isinstance(value, str):
                    value = described.reads(value)
                values[name] = value
        built.append(group(**values))
    return built


def _split(
    options: Mapping[str, object], transform: Callable[[Record], object] | None
) -> tuple[list[Step], dict[str, object]]:
    """The transforms among the options, in their order and before the function; and the other options."""
    from kpipe.transform.call import offer
    from kpipe.transform.file import steps_of
    from kpipe.transform.registry import BY_NAME
    from kpipe.transform.step import Step

    steps: list[Step] = []
    others: dict[str, object] = {}
    for name, value in options.items():
        if (long := name.replace("_", "-")) not in BY_NAME:
            others[name] = value
        elif value is not False:
            steps += steps_of(long, value)
    return steps if transform is None else [*steps, Step("call", offer(transform))], others


class _stopping:  # noqa: N801 - used as `with _stopping(...)`
    """A Stop for a run: the caller's, or one that nobody asks."""

    def __init__(self, stop: Stop | None) -> None:
        from kpipe.clusters.environment import share

        share()
        self._own = stop is None
        self._stop = stop or Stop()

    def __enter__(self) -> Stop:
        return self._stop

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._stop.close()


def _result(ledger: Ledger) -> Result:
    return Result(**{each.name: getattr(ledger, each.name) for each in fields(Result)})


# --- consume -------------------------------------------------------------------------------------------------------


_unfinished: weakref.WeakSet[Generator[Record]] = weakref.WeakSet()
"""Iterators that somebody may have left open: at the end of the interpreter no thread can be started to close them."""


def _finish() -> None:
    for records in list(_unfinished):
        with suppress(ValueError):  # another thread is at work on it
            records.close()


atexit.register(_finish)
os.register_at_fork(after_in_child=_unfinished.clear)


class _Hand(SinkAtOnce):
    """A sink that keeps what it is sent until somebody takes it."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Batch, Flight]] = deque()

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Keep it."""
        self.waiting.append((batch, flight))

    def explain(self, error: object, where: str, record: object = None) -> KpipeError:
        """There are no delivery reports."""
        raise AssertionError(error)

    def unwritten(self, error: object) -> bool:
        """There are no delivery reports."""
        return False

    def flush(self, timeout: float) -> bool:
        """A rebalance does not wait for records that nobody has taken: their next owner reads them."""
        return True


def _handed_over(pipeline: Pipeline, hand: _Hand) -> Iterator[Record]:
    complete, owner = False, os.getpid()
    try:
        while True:
            while hand.waiting:
                yield from _of_batch(*hand.waiting.popleft(), pipeline)
            if pipeline.is_over():
                break
            pipeline.turn()
        complete = True
    finally:
        # The child of a fork has the iterator and not the client's threads; at the very end no thread can be started.
        if os.getpid() == owner and not sys.is_finalizing():
            _leave(pipeline, quiet=not complete)
    if pipeline.error is not None:
        raise pipeline.error


def _of_batch(batch: Batch, flight: Flight, pipeline: Pipeline) -> Iterator[Record]:
    polled = time.monotonic()
    indexes = range(len(batch)) if batch.index is None else batch.index
    for index, record in zip(indexes, records_of(batch), strict=True):
        if (record.topic, record.partition) not in flight.revoked:  # else another member has it
            yield record
        flight.settled.append(index)
        if time.monotonic() - polled >= ALIVE:
            polled = time.monotonic()
            pipeline.source.keep_alive()
            if pipeline.committer is not None:
                pipeline.committer.tick(pipeline.ledger)


def _leave(pipeline: Pipeline, *, quiet: bool) -> None:
    """Commit exactly what is settled, and let go; an error of it must not hide the one that ends the loop."""
    problem: KpipeError | None = None
    try:
        pipeline.source.leave()
        if pipeline.committer is not None:
            pipeline.committer.finish(pipeline.ledger, 10.0)
    except KpipeError as error:
        problem = error
        log.error("kpipe: %s", error)  # noqa: TRY400 - one line is enough
    with suppress(KpipeError):
        pipeline.source.close(5.0)
    if problem is not None and not quiet:
        raise problem

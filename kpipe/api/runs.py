"""`forward`, `consume` and `produce` as functions: the same plans, delivery, ledger and errors as on the command line.

They print nothing, end nothing, and install no signal handler. Options have the names of the command line's, with _ for
the dashes; what may be repeated there is a sequence here.
"""

from __future__ import annotations

import difflib
import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from kpipe.api.producer import Message, Producer
from kpipe.errors import KpipeError, UsageError
from kpipe.options import (
    ConnectionOptions,
    ForwardOptions,
    OutputOptions,
    RunOptions,
    SchemaOptions,
    SelectionOptions,
    TargetOptions,
    TraceOptions,
    declared,
)
from kpipe.record import Record, records_of
from kpipe.shutdown import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kpipe.ledger import Flight, Ledger
    from kpipe.options import Options
    from kpipe.pipeline import Pipeline
    from kpipe.record import Batch
    from kpipe.transform.step import Step

log = logging.getLogger("kpipe")

NOT_HERE = frozenset({"workers", "metrics", "metrics_file", "log_format", "summary", "verbose", "quiet", "commit_acked",
                      "acks", "trust_end", "fail_if_empty", "dry_run"})  # fmt: skip
"""Options of a process of its own."""
ALIVE = 1.0
"""Seconds of work on one record after which the source is asked to keep its place in the group."""
AHEAD = 10_000
"""Records that `produce` may have in flight before it looks at the oldest."""


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
        RunOptions,
    )
    built = _build(groups, {"group": group, **options})
    with _stopping(stop) as asked:
        arguments: list[Any] = [[*_places(sources), target], *built, _steps(transform), asked, log.info]
        planned = plan_forward(*arguments)
        pipeline = planned.pipeline
        pipeline.run()
        result = _result(pipeline.ledger)
        if pipeline.error is not None:
            pipeline.error.result = result  # type: ignore[attr-defined]
            raise pipeline.error
        return result


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
    from kpipe.plan.consume import plan_consume

    hand = _Hand()
    built = _build(
        (ConnectionOptions, SelectionOptions, OutputOptions, SchemaOptions, RunOptions), {"group": group, **options}
    )
    with _stopping(stop) as asked:
        arguments: list[Any] = [_places(sources), *built, _steps(transform), asked, log.info, hand]
        planned = plan_consume(*arguments)
        yield from _handed_over(planned.pipeline, hand)


def produce(target: str, records: Iterable[bytes | str | Record | None], **options: Any) -> Result:
    """Send values, or Records with key and headers, to a topic, in bounded memory; returns when all are acknowledged.

    `options` are those of a Producer. UndeliveredError for the first record that failed, once all are known.
    """
    from kpipe.plan.places import target_place

    place = target_place(target)
    cluster = options.pop("cluster", "") or place.cluster or ""
    waiting: deque[Any] = deque()
    read = delivered = 0
    failure: Any = None
    with Producer(cluster, **options) as producer:
        for each in records:
            record = each if isinstance(each, Record) else Record(each)  # type: ignore[arg-type]
            message = Message(place.topic, record.value, record.key, record.headers, None, record.timestamp)
            waiting += producer.produce_many([message])
            read += 1
            while waiting and (waiting[0].done() or len(waiting) > AHEAD):
                problem = waiting.popleft().exception()
                delivered, failure = delivered + (problem is None), failure or problem
        producer.flush()
        problems = [future.exception() for future in waiting]
    delivered += problems.count(None)
    failure = failure or next((problem for problem in problems if problem is not None), None)
    result = Result(read, delivered, failed=read - delivered)
    if failure is not None:
        failure.result = result
        raise failure
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


def _steps(transform: Callable[[Record], object] | None) -> list[Step]:
    if transform is None:
        return []
    from kpipe.transform.call import offer
    from kpipe.transform.step import Step

    return [Step("call", offer(transform))]


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


class _Hand:
    """A sink that keeps what it is sent until somebody takes it."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Batch, Flight]] = deque()

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Keep it."""
        self.waiting.append((batch, flight))

    def poll(self) -> None:
        """Nothing comes by itself."""

    def explain(self, error: object, where: str, record: object = None) -> KpipeError:
        """There are no delivery reports."""
        raise AssertionError(error)

    def took_along(self, failures: object, idle: object) -> bool:
        """There are no delivery reports."""
        return False

    def resend(self, failures: Sequence[Any], judge: object, idle: object) -> Sequence[Any]:
        """There are no delivery reports."""
        return failures

    def refused(self, error: object) -> bool:
        """There are no delivery reports."""
        return False

    def unwritten(self, error: object) -> bool:
        """There are no delivery reports."""
        return False

    def flush(self, timeout: float) -> bool:
        """A rebalance does not wait for records that nobody has taken: their next owner reads them."""
        return True

    def purge(self) -> None:
        """Nothing is on its way."""

    def close(self, timeout: float) -> None:
        """Nothing is open."""


def _handed_over(pipeline: Pipeline, hand: _Hand) -> Iterator[Record]:
    complete = False
    try:
        while True:
            while hand.waiting:
                yield from _of_batch(*hand.waiting.popleft(), pipeline)
            if pipeline.is_over():
                break
            pipeline.turn()
        complete = True
    finally:
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

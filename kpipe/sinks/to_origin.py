"""Sends each record of a dead-letter topic home: to the topic and partition it came from, one attempt more on it.

It never sends a record to another cluster than its own, and none more often than it is told to.
"""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING

from kpipe.errors import BadRecord, Exit, Interrupted, KpipeError, Stage, UndeliveredError, UnreachableError
from kpipe.sinks.dead_letters import ATTEMPTS, ERROR_HEADERS, attempts_so_far
from kpipe.sinks.topic import NotSent
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.flight import Flight
    from kpipe.parts import Failed, Judge, Sent
    from kpipe.record import Batch, Headers
    from kpipe.sinks.topic import TopicSink


class ExhaustedRecord(BadRecord):
    """A record that failed as often as is allowed."""

    exit_code = Exit.UNDELIVERED
    stage = Stage.TRACE
    code = "TOO_MANY_ATTEMPTS"


class ToOrigin:
    """The last stage of `--to-origin`: reads where each record came from, then lets `stamp` write this hop over it."""

    def __init__(
        self,
        cluster_id: str,
        letters: list[str],
        stamp: Callable[[Batch], None],
        *,
        max_attempts: int,
        same_cluster: bool,
        prefix: str = "",
        look_up: Callable[[str], object] = lambda _topic: None,
    ) -> None:
        self._cluster = cluster_id.encode()
        self._letters = frozenset(letters) if same_cluster else frozenset()
        self._stamp = stamp
        self._max_attempts = max_attempts
        self._prefix = prefix
        self._look_up = look_up
        self._errors = frozenset(prefix + name for name in (*ERROR_HEADERS, ATTEMPTS))

    def __call__(self, batch: Batch) -> None:
        """Set targets and partitions to those of the origin; what has no home, or failed too often, is bad."""
        homes: list[str | None] = []
        partitions: dict[int, int | None] = {}
        headers: list[Headers | None] = []
        errors: dict[int, BadRecord] = {}
        index = range(len(batch)) if batch.index is None else batch.index
        for place, entry in enumerate(index):
            own = batch.header(place)
            try:
                topic, partitions[entry] = self._home(own)
                attempts = self._count(own)
            except BadRecord as error:
                errors[place] = error
                topic, attempts = "", 0
            homes.append(topic)
            kept = [header for header in own if header[0] not in self._errors]
            headers.append([*kept, (self._prefix + ATTEMPTS, b"%d" % (attempts + 1))])
        batch.headers, batch.targets = headers, homes
        batch.reject(errors)
        for home in dict.fromkeys(batch.targets):
            self._learn(str(home))
        self._stamp(batch)
        index = range(len(batch)) if batch.index is None else batch.index
        batch.partitions = [partitions[entry] for entry in index]

    def _learn(self, topic: str) -> None:
        """Whether a home keeps a record's time decides what the trace tells; that it is gone, the sink says."""
        try:
            self._look_up(topic)
        except KpipeError as error:
            if error.exit_code is Exit.UNREACHABLE or isinstance(error, Interrupted):
                raise

    def _home(self, headers: Headers) -> tuple[str, int | None]:
        known = dict(headers)
        topic, cluster = known.get(f"{self._prefix}source_topic"), known.get(f"{self._prefix}source_cluster")
        if not topic or not cluster:
            name = "source_cluster" if topic else "source_topic"
            raise BadRecord(f"it has no header {name}, so nobody knows its home", stage=Stage.TRACE)
        if cluster != self._cluster:
            what = f"its home is on cluster {cluster.decode(errors='replace')}, not on {self._cluster.decode()}"
            raise BadRecord(f"{what}; name its cluster: kpipe forward DLQ CLUSTER: --to-origin", stage=Stage.TRACE)
        name = topic.decode(errors="replace")
        if name in self._letters:
            raise BadRecord(f"would loop: {name} is its home and the topic it is read from", stage=Stage.TRACE)
        partition = known.get(f"{self._prefix}source_partition") or b""
        return name, int(partition) if partition.isdigit() and len(partition) < 10 else None

    def _count(self, headers: Headers) -> int:
        attempts = attempts_so_far(headers, self._prefix)
        if attempts >= self._max_attempts:
            what = f"it failed {counted(attempts, 'time')} (--max-attempts {self._max_attempts})"
            raise ExhaustedRecord(f"{what}; correct it or raise the limit")
        return max(1, attempts)


class NoHome(NotSent):
    """A record whose home is not there, or does not answer."""

    def __init__(self, error: KpipeError, *, judged: bool) -> None:
        super().__init__(error.what, UndeliveredError if judged else UnreachableError, judged=judged)
        self.where = error.where


class HomesSink:
    """Several topics of one cluster, over one client. `open_topic` gives a topic's sink; KpipeError if it is gone."""

    def __init__(self, first: TopicSink, open_topic: Callable[[str], TopicSink]) -> None:
        self._first = first
        self._open_topic = open_topic
        self._topics: dict[str, TopicSink] = {}

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Send each topic's records in their order."""
        targets = batch.targets or []
        for topic in dict.fromkeys(targets):
            part = batch.snapshot()
            part.keep([target == topic for target in targets])
            sink = self._sink_for(str(topic))
            if isinstance(sink, KpipeError):
                judged = sink.exit_code is not Exit.UNREACHABLE  # a home that does not answer is no verdict on a record
                for report in flight.take_reports(part)[: len(part)]:
                    report(NoHome(sink, judged=judged), None)
            else:
                sink.send(part, flight, idle)

    def _sink_for(self, topic: str) -> TopicSink | KpipeError:
        if topic in self._topics:
            return self._topics[topic]
        try:
            sink = self._topics[topic] = self._open_topic(topic)
        except KpipeError as error:
            return error
        return sink

    def poll(self) -> None:
        """Serve delivery reports."""
        self._first.poll()

    def explain(self, error: object, where: str, record: Sent | None = None) -> KpipeError:
        """In the words of its topic's sink."""
        if isinstance(error, NoHome):
            return error.kind(error.reason, where=f"{where} -> {error.where}", stage=Stage.SEND)
        own = (sink for sink in self._topics.values() if record is not None and sink.has_sent(*record))
        return next(own, self._first).explain(error, where, record)

    def refused(self, error: object) -> bool:
        """As a topic's sink knows it."""
        return self._first.refused(error)

    def unwritten(self, error: object) -> bool:
        """As a topic's sink knows it."""
        return self._first.unwritten(error)

    def took_along(self, failures: Sequence[Failed], idle: Callable[[], bool]) -> bool:
        """As a topic's sink; they share a client."""
        return self._first.took_along(failures, idle)

    def resend(self, failures: Sequence[Failed], judge: Judge, idle: Callable[[], bool]) -> Sequence[Failed]:
        """Each home sends its own again."""
        for sink in self._topics.values():
            mine = [sink.has_sent(flight, index) for flight, index, _ in failures]
            own = list(compress(failures, mine))
            others = [failure for failure, is_mine in zip(failures, mine, strict=True) if not is_mine]
            failures = [*others, *sink.resend(own, judge, idle)] if own else others
        return failures

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for what was sent."""
        return self._first.flush(timeout)

    def purge(self) -> None:
        """Give up what is in flight."""
        self._first.purge()

    def close(self, timeout: float) -> None:
        """Close the client."""
        self._first.close(timeout)

"""How far a run is behind the end of what it reads, in records and in seconds; both are asked of the cluster.

The client knows an end only from its last fetch, and fetches nothing while its queue is full, which is when lag
matters. It reads no record of the run: the first one that waits is looked up by a client of its own.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError
from kpipe.run.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.clusters.profiles import Cluster
    from kpipe.flight import TopicPartition

FRESH, STALE = 3.0, 60.0
"""Seconds for which a look is good enough, and after which it says nothing any more."""
EVERY = 5.0
"""Seconds between looks where nobody asks (a worker tells its supervisor)."""
TIMEOUT = 3.0
"""Seconds for an answer: Prometheus gives a scrape ten by default."""
DATED = 50
"""Partitions whose first waiting record is looked up at once; those with most records behind come first."""

Behind = dict["TopicPartition", tuple[int, "float | None"]]
"""Where a partition ends, and how old the first record that waits is: seconds, None where that could not be asked."""


class Lag:
    """Looks at most every FRESH seconds, unless partitions have come. `wanted` gives where each partition goes on."""

    def __init__(self, cluster: Cluster, wanted: Callable[[], dict[TopicPartition, int]]) -> None:
        self._cluster, self._wanted = cluster, wanted
        self._lock = threading.Lock()
        self._connection: Any = None
        self._reader: Any = None
        self._found: Behind = {}
        self._asked: set[TopicPartition] = set()
        self._at = -STALE

    def keep_looking(self) -> None:
        """From now on, in a thread of its own."""

        def go_on() -> None:
            while True:
                self.look()
                time.sleep(EVERY)

        start_thread(go_on)

    def look(self) -> None:
        """Ask, unless somebody has just asked; the one before counts when there is no answer."""
        with self._lock:
            wanted = self._wanted()
            if time.monotonic() - self._at < FRESH and wanted.keys() <= self._asked:
                return
            try:
                self._found = self._ask(wanted)
                self._asked = set(wanted)
                self._at = time.monotonic()
            except KpipeError:
                return  # away, or not allowed: a gauge that is gone says so

    def by_topic(
        self, owned: set[TopicPartition], next_offsets: dict[TopicPartition, int]
    ) -> dict[str, list[float | None]]:
        """Partitions, records and seconds by topic, of partitions that are still read here.

        What is settled counts as it is now; the ends and the age of what waits are those of the last look.
        """
        known = time.monotonic() - self._at < STALE
        found, rows = self._found if known else {}, dict[str, "list[float | None]"]()
        for place in owned:
            row = rows.setdefault(place[0], [0, 0, 0.0])
            row[0] = (row[0] or 0) + 1
            end, seconds = found.get(place, (None, None))
            records = None if end is None or place not in next_offsets else max(0, end - next_offsets[place])
            seconds = 0.0 if records == 0 else seconds
            row[1] = None if row[1] is None or records is None else row[1] + records
            row[2] = None if row[2] is None or seconds is None else max(row[2], seconds)
        return rows

    def _ask(self, starts: dict[TopicPartition, int]) -> Behind:
        from kpipe.kafka import questions
        from kpipe.kafka.connection import Connection

        if self._connection is None:
            self._connection = Connection(self._cluster, TIMEOUT)
        committed = self._cluster.properties.get("isolation.level", "read_committed") == "read_committed"
        ends = questions.latest(self._connection, starts, committed=committed)
        found: Behind = {}
        waiting: dict[TopicPartition, tuple[int, int]] = {}
        for place, start in starts.items():
            end = ends[place]
            if isinstance(end, questions.Failure):
                continue
            found[place] = (end.offset, None if end.offset > start else 0.0)
            if end.offset > start:
                waiting[place] = (start, end.offset)
        return {**found, **self._date(waiting, committed=committed)}

    def _date(self, waiting: dict[TopicPartition, tuple[int, int]], *, committed: bool) -> Behind:
        """The age of the first record that waits in each partition; only markers wait where there is none."""
        from kpipe.kafka.questions import Failure
        from kpipe.kafka.ranges import RangeReader

        if not waiting:
            return {}
        if self._reader is None:
            self._reader = RangeReader(self._connection, committed=committed, peeking=True)
        worst = sorted(waiting, key=lambda place: waiting[place][0] - waiting[place][1])[:DATED]
        first = self._reader.first({place: waiting[place] for place in worst}, time.monotonic() + TIMEOUT)
        now, dated = time.time(), Behind()
        for place, message in first.items():
            start, end = waiting[place]
            if message is None:
                dated[place] = (start, 0.0)  # only markers
            elif not isinstance(message, Failure):
                kind, ms = message.timestamp()
                dated[place] = (end, max(0.0, now - ms / 1000) if kind else None)
        return dated

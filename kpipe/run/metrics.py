"""A run in Prometheus's words: families made of what is known at the moment of a scrape.

It keeps no count of its own, but for one thing: a counter never goes back, also when a transaction was aborted and its
records are read again.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from kpipe import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kpipe.run.seen import Seen
    from kpipe.run.summary import Summary

Rows = dict[tuple[str, ...], float]
"""Numbers by the values of their labels."""
OUTCOMES = ("delivered", "filtered", "dead_lettered", "failed", "unknown")
TOPICS = 200
"""Topics with a series of their own, the worst first; a pattern may mean thousands. The rest is one, `(others)`."""


class Families:
    """What the client's registry asks for a scrape. `places` are source and target, as messages call them."""

    def __init__(self, summary: Summary, seen: Callable[[], Seen], places: Callable[[], tuple[str, str]]) -> None:
        self._summary, self._seen = summary, seen
        self._places = places
        self._highest: Rows = {}
        self.started: float | None = None
        self.extra: Callable[[], Mapping[str, float]] = dict
        """Further gauges by name: how many workers, how a batch run ended."""

    def describe(self) -> Sequence[Any]:
        """Nothing beforehand: a registry would scrape to find out."""
        return ()

    def collect(self) -> Iterator[Any]:
        """All families of one scrape."""
        yield from self._about()
        yield from self._records()
        seen = self._seen()
        yield from self._traffic(seen)
        yield from self._lag(seen)
        yield from self._commits(seen)

    def _counter(self, name: str, text: str, labels: Sequence[str], rows: Rows) -> Any:
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(name, text, labels=labels)
        for values, count in rows.items():
            highest = self._highest[(name, *values)] = max(count, self._highest.get((name, *values), 0))
            family.add_metric(values, highest)
        return family

    @staticmethod
    def _gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> Any:
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily(name, text, labels=labels)
        for values, number in rows.items():
            family.add_metric(values, number)
        return family

    def _about(self) -> Iterator[Any]:
        from confluent_kafka import libversion

        versions = (__version__, libversion()[0], platform.python_version())
        names = ("version", "librdkafka", "python")
        yield self._gauge("kpipe_build_info", "Always 1; what runs here.", names, {versions: 1})
        if self.started is not None:
            text = "When this run began, in Unix seconds."
            yield self._gauge("kpipe_start_timestamp_seconds", text, (), {(): self.started})
        for name, number in self.extra().items():
            make = self._counter if name.endswith("_total") else self._gauge
            text = name.removesuffix("_total").replace("_", " ").capitalize() + "."
            yield make(f"kpipe_{name}", text, (), {(): number})

    def _records(self) -> Iterator[Any]:
        ledger, places = self._summary.ledger, self._places()
        names = ("source", "target")
        text = "Records that were read."
        yield self._counter("kpipe_records_read", text, names, {places: ledger.read})
        outcomes: Rows = {(outcome, *places): getattr(ledger, outcome) for outcome in OUTCOMES}
        text = "Records by what became of them; the outcomes add up to the records read, but for those in flight."
        yield self._counter("kpipe_records", text, ("outcome", *names), outcomes)
        clusters: Any = self._summary.facts().get("clusters", {})
        by_cluster: Rows = {
            (cluster, outcome): float(facts[outcome])
            for cluster, facts in clusters.items()
            for outcome in OUTCOMES
            if outcome in facts
        }
        if by_cluster:
            text = "Records by target cluster, where there are several."
            yield self._counter("kpipe_cluster_records", text, ("cluster", "outcome"), by_cluster)
        text = "Records that were read and are not settled yet."
        yield self._gauge("kpipe_in_flight_records", text, (), {(): ledger.waiting})

    def _traffic(self, seen: Seen) -> Iterator[Any]:
        rows: Rows = {("read", name): size for name, size in seen.read_bytes.items()}
        rows |= {("sent", name): size for name, size in seen.sent_bytes.items()}
        text = "Bytes of records, with their framing, before compression."
        yield self._counter("kpipe_bytes", text, ("direction", "cluster"), rows)
        records: Rows = {(cluster,): row[0] for cluster, row in seen.queue.items()}
        sizes: Rows = {(cluster,): row[1] for cluster, row in seen.queue.items()}
        yield self._gauge("kpipe_queue_records", "Records in the producers' queues.", ("cluster",), records)
        yield self._gauge("kpipe_queue_bytes", "Bytes in the producers' queues.", ("cluster",), sizes)
        up: Rows = {(cluster,): count for cluster, count in seen.brokers.items()}
        yield self._gauge("kpipe_brokers_connected", "Brokers with a connection.", ("cluster",), up)
        latencies = {
            (cluster, *key.split(" ")): seconds
            for cluster, waits in seen.latency.items()
            for key, seconds in waits.items()
        }
        text = "How long records wait in the queue, and requests for their answer: the slowest broker, the last second."
        yield self._gauge("kpipe_produce_latency_seconds", text, ("cluster", "stage", "quantile"), latencies)

    def _lag(self, seen: Seen) -> Iterator[Any]:
        source = self._places()[0]
        names = ("source", "topic")
        for place, name, text in (
            (0, "kpipe_partitions", "Partitions that are read here."),
            (1, "kpipe_lag_records", "Records (offsets) from what is settled to the end, of partitions read here."),
            (2, "kpipe_lag_seconds", "Age of the first record that is not settled."),
        ):
            rows: Rows = {}
            worst = sorted(seen.lag, key=lambda topic: -(seen.lag[topic][place] or 0))
            for rank, topic in enumerate(worst):
                number = seen.lag[topic][place]
                labels = (source, topic if rank < TOPICS else "(others)")
                if number is not None:
                    rows[labels] = number if name == "kpipe_lag_seconds" else rows.get(labels, 0) + number
            yield self._gauge(name, text, names, rows)

    def _commits(self, seen: Seen) -> Iterator[Any]:
        made, failed, last = seen.commits
        rows: Rows = {("taken",): made, ("refused",): failed}
        yield self._counter("kpipe_commits", "Commits of the group.", ("result",), rows)
        if last:
            text = "When the group last took a commit, in Unix seconds."
            yield self._gauge("kpipe_last_commit_timestamp_seconds", text, (), {(): last})

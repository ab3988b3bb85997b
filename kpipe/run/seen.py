"""What a run shows of itself beside its balance: bytes, queues, lag, commits, latency; read when somebody asks.

It counts nothing itself: the clients' own statistics, the ledger and the group's commits are there already.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kpipe.flight import TopicPartition
    from kpipe.kafka.troubles import Troubles
    from kpipe.ledger import Ledger
    from kpipe.plan import Watched
    from kpipe.run.lag import Lag

QUANTILES = (("p50", "0.5"), ("p99", "0.99"))
WAITS = (("int_latency", "queue"), ("rtt", "request"))
"""Where a record's time goes: in the client's queue, and from the request to the broker's answer."""


@dataclass(slots=True)
class Seen:
    """One look. Plain values only, for a worker sends it to its supervisor as JSON."""

    read_bytes: dict[str, int] = field(default_factory=dict)
    """By cluster; `stdin` for lines."""
    sent_bytes: dict[str, int] = field(default_factory=dict)
    queue: dict[str, list[int]] = field(default_factory=dict)
    """By target cluster: records and bytes in the producers' queues."""
    latency: dict[str, dict[str, float]] = field(default_factory=dict)
    """By target cluster, then `queue 0.99` or `request 0.99`: seconds, of the broker that is slowest."""
    brokers: dict[str, int] = field(default_factory=dict)
    """By cluster: brokers with a connection."""
    lag: dict[str, list[float | None]] = field(default_factory=dict)
    """By topic: partitions read here, records behind, seconds behind; None is what could not be asked."""
    commits: list[float] = field(default_factory=lambda: [0, 0, 0])
    """Taken, refused, and when the last one was taken (Unix seconds, 0: never)."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def counters(self) -> dict[str, Any]:
        """What stays true of a process that has ended."""
        return {"read_bytes": self.read_bytes, "sent_bytes": self.sent_bytes, "commits": self.commits}


def look(watched: Watched, ledger: Ledger, lag: Lag | None, input_bytes: float) -> Seen:
    """How a run is at this moment; `input_bytes` are those of files and stdin."""
    seen = Seen()
    opened = watched.opened
    if opened is None:
        seen.read_bytes["stdin"] = int(input_bytes)
    else:
        _add_consumer(seen, opened.troubles)
        if watched.commits is not None:
            commits = watched.commits
            seen.commits = [commits.made, commits.failed, commits.last or 0]
        if lag is not None:
            seen.lag = lag.by_topic(set(opened.source.owned), next_offsets(opened, ledger))
    for troubles in watched.writers():
        _add_producer(seen, troubles)
    return seen


def next_offsets(opened: Any, ledger: Ledger) -> dict[TopicPartition, int]:
    """Where each partition goes on after what is settled; without a group after what was handed out."""
    found: dict[TopicPartition, int] = dict(opened.source.progress.starts)
    if ledger.keeps_offsets:
        return {**found, **dict(ledger.next_offsets)}
    for topic, entry in _statistics(opened.troubles).get("topics", {}).items():
        for number, partition in entry.get("partitions", {}).items():
            if partition.get("app_offset", -1) >= 0:
                found[topic, int(number)] = partition["app_offset"]
    at_eof = dict(opened.source.at_eof)
    return {place: max(offset, at_eof.get(place, offset)) for place, offset in found.items()}


def _statistics(troubles: Troubles) -> dict[str, Any]:
    return dict(json.loads(troubles.statistics)) if troubles.statistics else {}


def _add_consumer(seen: Seen, troubles: Troubles) -> None:
    if told := _statistics(troubles):
        seen.read_bytes[troubles.cluster] = told["rxmsg_bytes"]
        _add_brokers(seen, troubles.cluster, told)


def _add_producer(seen: Seen, troubles: Troubles) -> None:
    told, cluster = _statistics(troubles), troubles.cluster
    if not told:
        return  # it has not said how it is yet
    seen.sent_bytes[cluster] = seen.sent_bytes.get(cluster, 0) + told["txmsg_bytes"]
    records, size = seen.queue.get(cluster, [0, 0])
    seen.queue[cluster] = [records + told["msg_cnt"], size + told["msg_size"]]
    _add_brokers(seen, cluster, told)
    waits = seen.latency.setdefault(cluster, {})
    for broker in told.get("brokers", {}).values():
        for name, stage in WAITS:
            window = broker.get(name, {})
            for quantile, number in QUANTILES if window.get("cnt") else ():
                key = f"{stage} {number}"
                waits[key] = max(waits.get(key, 0.0), window[quantile] / 1e6)


def _add_brokers(seen: Seen, cluster: str, told: Mapping[str, Any]) -> None:
    up = {broker.get("nodeid") for broker in told.get("brokers", {}).values() if broker.get("state") == "UP"}
    seen.brokers[cluster] = max(seen.brokers.get(cluster, 0), len(up))


def merge(running: Iterable[Seen], ended: Iterable[Mapping[str, Any]] = ()) -> Seen:
    """Several processes as one: counters and lags add up, the longest time counts."""
    total = Seen()
    for each in (*running, *(Seen(**counters) for counters in ended)):
        for mine, other in ((total.read_bytes, each.read_bytes), (total.sent_bytes, each.sent_bytes)):
            for cluster, count in other.items():
                mine[cluster] = mine.get(cluster, 0) + count
        for cluster, (records, size) in each.queue.items():
            before = total.queue.get(cluster, [0, 0])
            total.queue[cluster] = [before[0] + records, before[1] + size]
        for cluster, waits in each.latency.items():
            known = total.latency.setdefault(cluster, {})
            for key, seconds in waits.items():
                known[key] = max(known.get(key, 0.0), seconds)
        for cluster, count in each.brokers.items():
            total.brokers[cluster] = max(total.brokers.get(cluster, 0), count)
        for topic, row in each.lag.items():
            total.lag[topic] = _add_lags(total.lag.get(topic), row)
        made, failed, last = each.commits
        total.commits = [total.commits[0] + made, total.commits[1] + failed, max(total.commits[2], last)]
    return total


def _add_lags(known: list[float | None] | None, row: list[float | None]) -> list[float | None]:
    """What one process does not know, nobody knows of all of them."""
    if known is None:
        return list(row)
    partitions = (known[0] or 0) + (row[0] or 0)
    records = None if known[1] is None or row[1] is None else known[1] + row[1]
    seconds = None if known[2] is None or row[2] is None else max(known[2], row[2])
    return [partitions, records, seconds]

"""One cluster as one run knows it: its properties, its complaints, and one admin client for all questions.

Asking creates nothing: the creation of topics by metadata requests is switched off, whatever the configuration says.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kpipe.kafka.client import EMBEDDED, NEVER_CREATE, label, open_consumer, watched_admin_of
from kpipe.kafka.metadata import fetch_metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer
    from confluent_kafka.admin import AdminClient

    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.troubles import Troubles

READING = {
    "group.id": "kpipe-without-group",  # the client wants a name; nobody joins and nothing is committed
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 100,
    "fetch.error.backoff.ms": 50,  # default 500: a partition whose leader has just moved would wait that long
}

AFTER_SILENCE = 2.0
"""Seconds that brokers have to answer when one of them has let a whole timeout pass."""


class Connection:
    """A cluster and how long its answers may take, in seconds. Clients are opened when they are first needed."""

    def __init__(self, cluster: Cluster, timeout: float, stopped: Callable[[], bool] = lambda: False) -> None:
        self.cluster = cluster
        self.name = cluster.name
        """The profile's name; "" for a cluster that has none."""
        self.label = label(cluster)
        self.timeout = timeout
        self.stopped = stopped
        self.silent = False
        """Whether a question of this look was not answered in time: by a broker that is frozen, or away."""
        self.silent_leaders: set[int] = set()
        """Brokers that kept silent while others answered: the partitions they lead are not asked for again."""
        self._metadata: Any = None

    @property
    def admin(self) -> AdminClient:
        """The client that asks; all of a run that ask this cluster share it."""
        return watched_admin_of(self.cluster)[0]

    @property
    def troubles(self) -> Troubles:
        """What the client complained about."""
        return watched_admin_of(self.cluster)[1]

    def metadata(self, *, fresh: bool = False) -> Any:
        """All topics, partitions and brokers; UnreachableError when the cluster does not answer in time.

        All topics are asked for, never one by name: a request for one may create it (Kafka protocol, Metadata).
        """
        if self._metadata is None or fresh:
            self._metadata = fetch_metadata(self.admin, self.troubles, self.timeout, None, self.stopped)
        return self._metadata

    @property
    def cluster_id(self) -> str:
        """The cluster's own id, which trace headers carry."""
        return str(self.metadata().cluster_id or "")

    @property
    def is_embedded(self) -> bool:
        """Whether it is kpipe's own broker in memory, which knows no configuration and cannot list groups."""
        return self.cluster_id.startswith(EMBEDDED)

    def consumer(self, **own: Any) -> Consumer:
        """A consumer for `assign` alone; `own` are further properties, their dots written as underscores."""
        properties = {name.replace("_", "."): value for name, value in own.items()}
        return open_consumer(self.cluster, {**READING, **properties, **NEVER_CREATE})[0]

    def begin_look(self) -> None:
        """Everybody is asked again."""
        self.silent = False
        self.silent_leaders.clear()

    def leader_of(self, topic: str, partition: int) -> int | None:
        """The broker that leads a partition, as far as it was told."""
        entry = self._metadata.topics.get(topic) if self._metadata is not None else None
        known = entry.partitions.get(partition) if entry is not None else None
        return None if known is None else known.leader

    @property
    def patience(self) -> float:
        """Seconds that the next answer may take: `timeout`, and little once a broker has been silent for so long.

        What it leads stays silent; the others answer at once, and the whole look takes little longer than `timeout`.
        """
        return min(self.timeout, AFTER_SILENCE) if self.silent else self.timeout

    def deadline(self) -> float:
        """When an answer that is asked for now is too late, as `time.monotonic` counts."""
        return time.monotonic() + self.patience

    def where(self, topic: str, partition: int | None = None, offset: int | None = None) -> str:
        """A place for people: `prod:orders[3]@42`."""
        prefix = f"{self.name}:" if self.name else ""
        number = "" if partition is None else f"[{partition}]"
        return f"{prefix}{topic}{number}" + ("" if offset is None else f"@{offset}")

"""The producer of transactions: its id, what it is opened with, and how a run takes it over.

It begins no transaction; those are in `kpipe.delivery.transaction`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kpipe.clusters.address import place_name
from kpipe.delivery.transaction import TransactionLine
from kpipe.kafka.client import label, open_producer

if TYPE_CHECKING:
    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.troubles import Troubles
    from kpipe.shutdown import Stop
    from kpipe.sinks.target import Target

TRANSACTION_TIMEOUT_MS = 60_000  # librdkafka's default; a broker allows up to transaction.max.timeout.ms, 15 min
INIT_TIMEOUT = 30.0
"""Seconds for the first transaction of a cluster: it makes the topic __transaction_state."""
SLOT = "KPIPE_SLOT"
"""Environment: the number of this worker on this machine; part of the default instance."""


def transactional_id(group: str, instance: str) -> str:
    """`kpipe:GROUP:INSTANCE`: the same for a restarted process, so that it ends what its predecessor left open."""
    slot = os.environ.get(SLOT, "0")
    return f"kpipe:{group}:{instance or f'{os.uname().nodename}-{slot}'}"


def transaction_properties(group: str, instance: str, cluster: Cluster) -> dict[str, Any]:
    """What makes a producer transactional; a record may wait no longer than its transaction."""
    timeout = int(cluster.properties.get("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS))
    own: dict[str, Any] = {
        "transactional.id": transactional_id(group, instance),
        "transaction.timeout.ms": timeout,
    }
    if "delivery.timeout.ms" not in cluster.properties:
        own["delivery.timeout.ms"] = timeout
    # When all connections break, librdkafka forgets its brokers, but not that one of them was the group's coordinator,
    # and offsets sent to it hang until the transaction times out (confluentinc/librdkafka#5511).
    if "metadata.recovery.strategy" not in cluster.properties:
        own["metadata.recovery.strategy"] = "none"
    return own


def open_line(ready: Target, stop: Stop) -> TransactionLine:
    """Take the transactional id over; before the group is joined, so that committed offsets are stable when read."""
    properties = ready.properties
    timeout = int(properties["transaction.timeout.ms"]) / 1000

    def reopen() -> tuple[Any, Troubles]:
        producer, troubles = open_producer(ready.cluster, properties)
        troubles.listener = ready.troubles.listener
        return producer, troubles

    where = place_name(label(ready.cluster), properties["transactional.id"])
    line = TransactionLine(
        ready.producer,
        ready.troubles,
        reopen,
        where,
        timeout,
        given_up=lambda: stop.forced,
        remaining=stop.remaining,
    )
    line.start(INIT_TIMEOUT)
    return line

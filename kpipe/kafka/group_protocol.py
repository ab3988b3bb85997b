"""Which group protocol a cluster speaks, and which one a group's members speak now: asked once, before it is joined.

It joins nothing and commits nothing. A dead member counts until its session has ended.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any

from kpipe.kafka.client import NEVER_CREATE, forget_admin, open_admin, share_admin

if TYPE_CHECKING:
    from kpipe.clusters.profiles import Cluster


CLASSIC_ONLY = ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms", "group.protocol.type")
"""Properties that librdkafka refuses together with `group.protocol=consumer`: the broker decides these (KIP-848)."""

WAIT = 2.0  # seconds for the answer about the protocol once the cluster has answered anything at all

TIMEOUT = 3.0
"""Seconds for the answer; without one the group is taken for one that can be joined either way."""
ASSIGNORS = ("range", "roundrobin")
"""What a classic group may have agreed on that the client can do, beside its default."""

_HEARTBEAT = re.compile(r"ApiKey ConsumerGroupHeartbeat \(68\) Versions (\d+)\.\.(\d+)")


class _ApiVersions(logging.Handler):
    """Reads the range of versions of one request from the client's own log: no API of the client tells it.

    Version 0 alone is the early access of Kafka 3.7 to 3.9, where it is switched off; 1 came with 4.0 (KIP-848).
    """

    def __init__(self) -> None:
        super().__init__()
        self.highest: int | None = None
        self.complete = False

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        found = _HEARTBEAT.search(text)
        if found is not None:
            self.highest = max(self.highest or 0, int(found[2]))
        self.complete = self.complete or "Feature BrokerBalancedConsumer" in text


class GroupAdmin:
    """An admin client that has noted which group protocol the brokers speak.

    Hand `client` and `troubles` to `fetch_metadata` first: an unreachable cluster is reported there, in its words.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._versions = _ApiVersions()
        logger = logging.Logger("kpipe.group", logging.DEBUG)  # noqa: LOG001  # a registered one would outlive the run
        logger.addHandler(self._versions)
        client, self.troubles = open_admin(cluster, {**NEVER_CREATE, "debug": "feature"}, logger)
        share_admin(cluster, client, self.troubles)
        self.client: Any = client

    def retire(self) -> None:
        """Close the client. One that has asked for a group's coordinator keeps a connection to it for ever.

        While the cluster is away its thread wakes 800 times a second for that (librdkafka 2.16): 1.2 % of a core.
        """
        forget_admin(self.client)
        self.client = None

    def speaks_consumer(self) -> bool:
        """Whether the brokers have the group protocol `consumer` switched on."""
        deadline = time.monotonic() + WAIT
        while not self._versions.complete and time.monotonic() < deadline:
            self.client.poll(0.01)
        return (self._versions.highest or 0) >= 1


def choose_protocol(wanted: str, cluster: Cluster, admin: GroupAdmin) -> str:
    """`classic` or `consumer`, for one run: the new one where the brokers have it and no property is of the old one."""
    if wanted != "auto":
        return wanted
    if any(name in cluster.properties for name in CLASSIC_ONLY):
        return "classic"
    return "consumer" if admin.speaks_consumer() else "classic"


def classic_assignor(client: Any, group: str) -> str | None:
    """The assignor of a group that has classic members, "" for the client's default; None when it has none.

    With `group.consumer.migration.policy=disabled` or `downgrade` the coordinator tells a member of the newer protocol
    (KIP-848) that such a group does not exist, which is fatal to the client.
    """
    from confluent_kafka import ConsumerGroupState, ConsumerGroupType, KafkaException

    try:
        asked = client.describe_consumer_groups([group], request_timeout=TIMEOUT)[group]
        # Not raised from the future: it would keep this frame, and the client with it, until a collection of garbage.
        if asked.exception(TIMEOUT) is not None:
            return None
    except (KafkaException, TimeoutError):
        return None
    found = asked.result()
    idle = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)
    if found.type != ConsumerGroupType.CLASSIC or found.state in idle:
        return None
    return found.partition_assignor if found.partition_assignor in ASSIGNORS else ""

"""Which group protocol a cluster speaks, and under which id it knows a topic: asked once, before a group is joined.

It joins nothing and commits nothing.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any

from kpipe.kafka.client import open_watched_admin
from kpipe.kafka.errors import NO_TOPIC, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpipe.clusters.profiles import Cluster


CLASSIC_ONLY = ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms", "group.protocol.type")
"""Properties that librdkafka refuses together with `group.protocol=consumer`: the broker decides these (KIP-848)."""

WAIT = 2.0  # seconds for the answer about the protocol once the cluster has answered anything at all
ID_TIMEOUT = 3.0  # seconds for the ids of topics: they guard against a re-created topic, a run goes on without them

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
        client, self.troubles = open_watched_admin(cluster, {"debug": "feature"}, logger)
        self.client: Any = client

    def speaks_consumer(self) -> bool:
        """Whether the brokers have the group protocol `consumer` switched on."""
        deadline = time.monotonic() + WAIT
        while not self._versions.complete and time.monotonic() < deadline:
            self.client.poll(0.01)
        return (self._versions.highest or 0) >= 1


def ask_ids(client: Any, topics: Iterable[str]) -> dict[str, Any]:
    """Ask for the ids of topics without waiting: topic -> future."""
    from confluent_kafka import KafkaException, TopicCollection

    names = sorted(topics)
    try:
        return dict(client.describe_topics(TopicCollection(names), request_timeout=ID_TIMEOUT)) if names else {}
    except (KafkaException, ValueError):
        return {}


def collect_ids(asked: dict[str, Any], timeout: float) -> dict[str, str]:
    """The answers to `ask_ids`: a topic that does not exist (any more) has the id "", an unanswered one is left out."""
    from confluent_kafka import KafkaException

    deadline = time.monotonic() + timeout
    ids: dict[str, str] = {}
    for topic, future in asked.items():
        try:
            known = str(future.result(max(0.0, deadline - time.monotonic())).topic_id)
        except KafkaException as error:
            if name_of(error.args[0]) in NO_TOPIC:
                ids[topic] = ""
            continue
        except TimeoutError:
            continue
        if known.strip("A="):  # all zeros, in base64: a broker without topic ids
            ids[topic] = known
    return ids


def choose_protocol(wanted: str, cluster: Cluster, admin: GroupAdmin) -> str:
    """`classic` or `consumer`, for one run: the new one where the brokers have it and no property is of the old one."""
    if wanted != "auto":
        return wanted
    if any(name in cluster.properties for name in CLASSIC_ONLY):
        return "classic"
    return "consumer" if admin.speaks_consumer() else "classic"

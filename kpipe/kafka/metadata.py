"""The first answer of a cluster: its metadata, or in a person's words why there is none.

It opens no client.
"""

from __future__ import annotations

import difflib
import time
from typing import TYPE_CHECKING, Any, NoReturn

from kpipe.clusters.address import place_name
from kpipe.errors import Interrupted, KpipeError, Stage, UnreachableError
from kpipe.kafka.diagnosis import denied, from_listeners, plain_reason
from kpipe.kafka.errors import Cause, cause_of, is_unauthorised

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import AdminClient

    from kpipe.flight import TopicPartition
    from kpipe.kafka.diagnosis import Finding
    from kpipe.kafka.librdkafka import ColumnProducer
    from kpipe.kafka.troubles import Troubles

SLICE = 0.5
"""Seconds of one wait for metadata."""
LOOK = 3.0
"""Seconds that a look at one address may take, to explain why the client cannot connect."""
ADDRESSES = 3
"""How many bootstrap addresses are looked at for an explanation."""


def fetch_metadata(
    client: Consumer | Producer | AdminClient | ColumnProducer,
    troubles: Troubles,
    timeout: float,
    topic: str | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Any:
    """The cluster's metadata (of one topic, or of all); UnreachableError within `timeout` seconds.

    Waits in slices, because the client tells a refused login only through its error callback, and a signal must not
    wait for the network.
    """
    from confluent_kafka import KafkaException

    deadline = time.monotonic() + timeout
    looked = False
    while True:
        left = max(0.05, deadline - time.monotonic())
        try:
            if topic is None:
                return client.list_topics(timeout=min(left, SLICE))
            return client.list_topics(topic, timeout=min(left, SLICE))
        except KafkaException as error:
            if stopped():
                raise Interrupted("stopped before the cluster answered") from None
            client.poll(0)
            if troubles.errors and not looked:
                looked = True
                finding = find_fault(troubles, min(LOOK, left))
                if finding is not None and finding.is_definite:
                    raise finding.error(troubles.cluster) from None
            elif (finding := troubles.finding()) is not None:
                raise finding.error(troubles.cluster) from None
            if time.monotonic() >= deadline:
                raise_unreachable(troubles, troubles.latest() or str(error.args[0].str()), timeout)
        time.sleep(0.02)


def try_metadata(client: Any, timeout: float, topic: str = "") -> Any:
    """One try, for who can wait for a better moment: the metadata of a topic, or of all; None without an answer."""
    from confluent_kafka import KafkaException

    try:
        return client.list_topics(topic or None, timeout=timeout)
    except KafkaException:
        return None


def try_topic(client: Any, timeout: float, topic: str) -> Any:
    """The same, of one topic alone; None also where there is none of that name."""
    found = try_metadata(client, timeout, topic)
    return found.topics.get(topic) if found is not None else None


def find_partitions(client: Any, topic: str, timeout: float) -> list[int]:
    """The partitions of a topic that is there; KafkaException without an answer."""
    return sorted(client.list_topics(topic, timeout=timeout).topics[topic].partitions)


def find_all_partitions(client: Any, timeout: float) -> frozenset[TopicPartition]:
    """The partitions of all topics; KafkaException without an answer."""
    topics = client.list_topics(timeout=timeout).topics
    return frozenset((name, number) for name, topic in topics.items() for number in topic.partitions)


def is_answered(client: Any, timeout: float, topic: str = "") -> bool:
    """Whether a client's cluster answers: it is asked for one topic, which is small, and any broker knows it."""
    try:
        return try_metadata(client, timeout, topic) is not None
    except RuntimeError:  # the client is closed: nobody waits for it
        return True


def ask_cluster_id(bootstrap: str, timeout: float) -> str | None:
    """The id of whatever cluster serves at an address; None when none answers in time."""
    from confluent_kafka import Producer

    client = Producer({"bootstrap.servers": bootstrap, "log_level": 0, "allow.auto.create.topics": False})
    found = try_metadata(client, timeout)
    return found.cluster_id if found is not None else None


def find_fault(troubles: Troubles, timeout: float) -> Finding | None:
    """Why the client cannot connect: what it was told, else what a look at its addresses shows."""
    from kpipe.kafka.diagnosis import diagnose
    from kpipe.kafka.probe import look, split_address

    if (told := troubles.finding()) is not None:
        return told
    addresses = [text for text in str(troubles.properties.get("bootstrap.servers", "")).split(",") if text.strip()]
    findings = []
    for text in addresses[:ADDRESSES]:
        seen = look(*split_address(text), troubles.properties, timeout / min(len(addresses), ADDRESSES))
        findings.append(diagnose(seen, troubles.properties))
    if None in findings:
        return from_listeners(troubles.errors)  # one address is good: the client comes through it, or is sent elsewhere
    return next((finding for finding in findings if finding and finding.is_definite), findings[0] if findings else None)


def raise_unreachable(troubles: Troubles, reason: str, timeout: float) -> NoReturn:
    """Say that the cluster cannot be used, and why the client thinks so."""
    finding = find_fault(troubles, 1.0)
    if finding is not None:
        raise finding.error(troubles.cluster)
    message = f"cannot use the cluster within {timeout:.3g} s: {plain_reason(reason)}; check -b and the network"
    raise UnreachableError(message, where=troubles.cluster, stage=Stage.CONNECT)


def check_topic(metadata: Any, topic: str, where: str, advice: str = "") -> int:
    """The number of partitions of a topic; KpipeError (exit 1) when it does not exist, naming the nearest match."""
    entry = metadata.topics.get(topic)
    error = entry.error if entry is not None else None
    if entry is not None and error is None:
        return len(entry.partitions)
    if is_unauthorised(error):
        raise denied(f"topic {topic}", "DESCRIBE").error(place_name(where, topic))
    if error is not None and cause_of(error) is not Cause.NO_TOPIC:
        raise KpipeError(str(error.str()), where=place_name(where, topic))
    raise unknown_topic(topic, where, list(metadata.topics), advice)


def unknown_topic(topic: str, where: str, known: list[str], advice: str = "") -> KpipeError:
    """The error for a topic that the cluster does not have."""
    near = difflib.get_close_matches(topic, [name for name in known if name != topic], n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else advice or "check the name and the cluster"
    if near and advice:
        hint = f"{hint} ({advice})"
    return KpipeError(f"no such topic; {hint}", where=place_name(where, topic), stage=Stage.CONFIG)

"""Questions to a cluster about its groups: which there are, who is in them, and what they have committed.

They change nothing; a group that cannot be asked has a `Failure` in its place.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from kpipe.kafka.questions import Failure, fail, hear, in_flight

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection


class Commit(NamedTuple):
    """What a group committed: the next offset to read, and the text it left with it."""

    offset: int
    metadata: str


class Listing(NamedTuple):
    """A group as the list of groups has it. `kind` is `consumer`, `simple`, `connect` or another protocol type."""

    group: str
    kind: str
    protocol: str
    state: str


class Member(NamedTuple):
    """A member of a group and the partitions it was given."""

    member_id: str
    client_id: str
    host: str
    instance: str
    partitions: tuple[TopicPartition, ...]


class Description(NamedTuple):
    """A group with its members; `exists` is False when the coordinator knows nothing of it."""

    state: str
    protocol: str
    assignor: str
    members: tuple[Member, ...]
    exists: bool


def list_groups(connection: Connection) -> tuple[list[Listing], list[str]]:
    """All groups of the cluster, and what could not be asked: a broker that is away hides the groups it coordinates.

    Connect workers, share and streams groups come from the older list, which knows protocol types but not KIP-848.
    """
    troubles: list[str] = []
    found: dict[str, Listing] = {}
    patience, deadline = connection.patience, connection.deadline()
    future = connection.admin.list_consumer_groups(request_timeout=patience)
    everything, missing = _list_all_kinds(connection, patience)  # meanwhile: a silent broker is waited for once
    try:
        listed = future.result(max(0.0, deadline - time.monotonic()) + 0.5)
    except Exception as error:  # noqa: BLE001 - the client raises its own exceptions and Python's alike
        raise fail(error, "groups").error(connection.label) from None
    for each in listed.valid or ():
        kind = "simple" if each.is_simple_consumer_group else "consumer"
        found[each.group_id] = Listing(each.group_id, kind, _word(each.type), _word(each.state))
    failures = [fail(error, "groups") for error in listed.errors]
    hear(connection, [*failures, *missing])
    troubles += sorted({f"groups of one broker are missing: {failure.text}" for failure in failures})
    troubles += [f"groups that are not consumer groups are missing: {failure.text}" for failure in missing]
    for each in everything:
        kind = str(each.protocol_type or "other")
        name = str(each.id)
        found.setdefault(name, Listing(name, kind, "classic" if each.protocol_type else "", str(each.state)))
    return sorted(found.values()), troubles


def try_group_names(admin: Any, timeout: float) -> list[str]:
    """The names of consumer groups, for TAB: nothing when they do not come in time."""
    from confluent_kafka import KafkaException

    try:
        asked = admin.list_consumer_groups(request_timeout=timeout)
        return sorted(each.group_id for each in asked.result(timeout).valid)
    except (KafkaException, TimeoutError):
        return []


def _list_all_kinds(connection: Connection, timeout: float) -> tuple[list[Any], list[Failure]]:
    """The older list, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # nothing else lists what is not a consumer group
            return list(connection.admin.list_groups(timeout=timeout)), []
    except Exception as error:  # noqa: BLE001 - the client raises its own exceptions and Python's alike
        return [], [fail(error, "groups")]


def describe_groups(connection: Connection, groups: Iterable[str]) -> Iterator[tuple[str, Description | Failure]]:
    """Members and states, as the answers arrive.

    Whoever decides by it looks at the members, never at the name of a state: the client lacks those of KIP-848.
    """

    def ask(group: str) -> Future[Any]:
        asked = connection.admin.describe_consumer_groups([group], request_timeout=patience)
        return asked[group]

    patience, deadline = connection.patience, connection.deadline() + 0.5
    for group, answer in in_flight(groups, ask, deadline, lambda group: f"group {group}"):
        hear(connection, [answer])
        yield group, answer if isinstance(answer, Failure) else _description(answer)


def _description(answer: Any) -> Description:
    state = _word(answer.state)
    members = tuple(
        Member(
            str(member.member_id),
            str(member.client_id),
            str(member.host).removeprefix("/"),
            str(member.group_instance_id or ""),
            tuple(sorted((tp.topic, tp.partition) for tp in member.assignment.topic_partitions)),
        )
        for member in answer.members
    )
    exists = bool(members) or state != "Dead"
    return Description(state, _word(answer.type), str(answer.partition_assignor or ""), members, exists)


def committed_offsets(
    connection: Connection, groups: Iterable[str]
) -> Iterator[tuple[str, dict[TopicPartition, Commit | Failure] | Failure]]:
    """What groups have committed, as the answers arrive; a partition without a commit is left out."""
    from confluent_kafka import ConsumerGroupTopicPartitions

    def ask(group: str) -> Future[Any]:
        asked = connection.admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], request_timeout=patience
        )
        return asked[group]

    patience, deadline = connection.patience, connection.deadline() + 0.5
    for group, answer in in_flight(groups, ask, deadline, lambda group: f"group {group}"):
        hear(connection, [answer])
        yield group, answer if isinstance(answer, Failure) else _commits(answer.topic_partitions or ())


def _commits(entries: Iterable[Any]) -> dict[TopicPartition, Commit | Failure]:
    found: dict[TopicPartition, Commit | Failure] = {}
    for entry in entries:
        place = (entry.topic, entry.partition)
        if entry.error is not None:
            found[place] = fail(entry.error, f"topic {entry.topic}")
        elif entry.offset >= 0:
            found[place] = Commit(entry.offset, entry.metadata or "")
    return found


WORDS = {"PREPARING_REBALANCING": "PreparingRebalance", "COMPLETING_REBALANCING": "CompletingRebalance"}
"""Kafka's own words, where the client has others."""


def _word(value: Any) -> str:
    """A state as Kafka writes it, a type in small letters; "" for what the client does not know."""
    name = str(getattr(value, "name", value) or "")
    if name == "UNKNOWN":
        return ""
    if name in ("CONSUMER", "CLASSIC"):
        return name.lower()
    return WORDS.get(name, name.capitalize())

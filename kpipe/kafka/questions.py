"""Questions to a cluster, each with an answer per topic, partition or group: a value, or why there is none.

They change nothing. One that times out or is denied spoils no other: the `Failure` stands in its place.
"""

from __future__ import annotations

import time
import warnings
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.kafka.diagnosis import denied, plain_reason
from kpipe.kafka.errors import Cause, Kind, cause_of, is_unauthorised, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from kpipe.kafka.connection import Connection
    from kpipe.ledger import TopicPartition

Key = TypeVar("Key")

IN_FLIGHT = 50
"""Requests on the way at once: each question about a group costs a look-up of its coordinator and a request."""
NO_OFFSET = -1
"""What a broker says where no record is of the time asked for, or later."""
AGAIN = 0.1
"""Seconds before a coordinator that was away is asked again, while there is time."""
CONFIGS_AT_ONCE = 250
LATE = "no answer in time"


class Failure(NamedTuple):
    """Why there is no answer; `text` is for people."""

    kind: Kind
    text: str

    def error(self, where: str, stage: Stage = Stage.READ) -> KpipeError:
        """The failure as the error that ends a run."""
        if self.kind in (Kind.DENIED, Kind.AWAY):
            return UnreachableError(self.text, where=where, stage=stage)
        return KpipeError(self.text, where=where, stage=stage)


UNCONFIGURED = Failure(Kind.GONE, "the embedded broker has no configurations")


class Listed(NamedTuple):
    """An offset and, where it was asked for by time, the record's timestamp in ms (else -1)."""

    offset: int
    timestamp: int


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


def fail(error: Any, resource: str, operation: str = "DESCRIBE") -> Failure:
    """What a KafkaError, a KafkaException or a timeout says."""
    if isinstance(error, TimeoutError):
        return Failure(Kind.AWAY, LATE)
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    kind = kind_of(inner)
    if is_unauthorised(inner):
        return Failure(kind, denied(resource, operation).text)
    if kind is Kind.GONE:
        return Failure(kind, f"no {resource}")
    if cause_of(inner) is Cause.SLOW:
        return Failure(kind, LATE)
    return Failure(kind, plain_reason(str(inner.str()) if hasattr(inner, "str") else str(inner)))


def collect(
    asked: Mapping[Key, Future[Any]], deadline: float, resource: Callable[[Key], str]
) -> dict[Key, Any | Failure]:
    """The answers to questions that are on the way; what is not there at the deadline is a Failure."""
    answers: dict[Key, Any | Failure] = {}
    for key, future in asked.items():
        try:
            answers[key] = future.result(max(0.05, deadline - time.monotonic()))
        except Exception as error:  # noqa: BLE001 - the client raises its own exceptions and Python's alike
            answers[key] = fail(error, resource(key))
    return answers


def in_flight(
    keys: Iterable[Key], ask: Callable[[Key], Future[Any]], deadline: float, resource: Callable[[Key], str]
) -> Iterator[tuple[Key, Any | Failure]]:
    """Ask one question for each key, at most IN_FLIGHT at once; answers come as they arrive."""
    waiting: dict[Future[Any], Key] = {}
    todo = iter(keys)
    while True:
        for key in todo:
            waiting[ask(key)] = key
            if len(waiting) >= IN_FLIGHT:
                break
        if not waiting:
            return
        done, _ = wait(waiting, max(0.05, deadline - time.monotonic()), FIRST_COMPLETED)
        if not done:
            for future in list(waiting):
                yield waiting.pop(future), Failure(Kind.AWAY, LATE)
            for key in todo:
                yield key, Failure(Kind.AWAY, "not asked, the time was over")
            return
        for future in done:
            key = waiting.pop(future)
            answer = _outcome(future, resource(key))
            if isinstance(answer, Failure) and answer.kind is Kind.AWAY and time.monotonic() + AGAIN < deadline:
                time.sleep(AGAIN)  # a coordinator that is just loading, or moving
                waiting[ask(key)] = key
            else:
                yield key, answer


def client_names() -> Any:
    """The client's admin module, whose names it does not declare as exported; imported when it is first needed."""
    from confluent_kafka import admin

    return admin


def _outcome(future: Future[Any], resource: str) -> Any | Failure:
    """What a question that has been answered gave."""
    try:
        return future.result(0)
    except Exception as error:  # noqa: BLE001 - the client raises its own exceptions and Python's alike
        return fail(error, resource)


# Offsets


def offsets(
    connection: Connection, places: Iterable[TopicPartition], spec: Any, *, committed: bool = False
) -> dict[TopicPartition, Listed | Failure]:
    """Offsets of partitions by one `OffsetSpec`; `committed`: the end is the last stable offset, not the high mark."""
    from confluent_kafka import IsolationLevel
    from confluent_kafka import TopicPartition as Asked

    answering, silent = _split(connection, places)
    if not answering:
        return silent
    wanted = {Asked(*place): spec for place in answering}
    isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    deadline = connection.deadline()
    asked = connection.admin.list_offsets(wanted, isolation_level=isolation, request_timeout=connection.patience)
    return {**_offsets(connection, asked, deadline), **silent}


def _split(
    connection: Connection, places: Iterable[TopicPartition]
) -> tuple[list[TopicPartition], dict[TopicPartition, Listed | Failure]]:
    """The partitions to ask for, and those whose leader has been silent in this look."""
    wanted = list(places)
    if not connection.silent_leaders:
        return wanted, {}
    mute = {place for place in wanted if connection.leader_of(*place) in connection.silent_leaders}
    return [place for place in wanted if place not in mute], dict.fromkeys(mute, Failure(Kind.AWAY, LATE))


def _offsets(connection: Connection, asked: Any, deadline: float) -> dict[TopicPartition, Listed | Failure]:
    answers = collect(asked, deadline + 0.5, lambda tp: f"partition {tp.topic}[{tp.partition}]")
    found = {(tp.topic, tp.partition): _listed(answer) for tp, answer in answers.items()}
    late = [place for place, answer in found.items() if isinstance(answer, Failure) and answer.text == LATE]
    if late:
        connection.silent = True
        answered = {connection.leader_of(*place) for place in found.keys() - set(late)}
        if answered:
            leaders = {connection.leader_of(*place) for place in late} - answered
            connection.silent_leaders |= {leader for leader in leaders if leader is not None}
    return found


def _hear(connection: Connection, answers: Iterable[Any]) -> None:
    """Note when somebody kept silent; see `Connection.patience`."""
    if any(isinstance(answer, Failure) and answer.text == LATE for answer in answers):
        connection.silent = True


class Extent(NamedTuple):
    """Where a partition starts and ends: `end` is the high mark, `stable` what a `read_committed` reader can reach."""

    start: int
    end: int
    stable: int


def extents(connection: Connection, places: Iterable[TopicPartition]) -> dict[TopicPartition, Extent | Failure]:
    """Start and ends of each partition; asked for side by side, so that a silent broker is waited for once."""
    from confluent_kafka import IsolationLevel
    from confluent_kafka import TopicPartition as Asked

    wanted = list(places)
    answering, _ = _split(connection, wanted)
    spec, levels = client_names().OffsetSpec, IsolationLevel
    deadline, patience, admin = connection.deadline(), connection.patience, connection.admin
    kinds = (
        (spec.earliest(), levels.READ_UNCOMMITTED),
        (spec.latest(), levels.READ_UNCOMMITTED),
        (spec.latest(), levels.READ_COMMITTED),
    )
    asked = [
        admin.list_offsets(
            {Asked(*place): kind for place in answering}, isolation_level=level, request_timeout=patience
        )
        for kind, level in (kinds if answering else ())
    ]
    found = [_offsets(connection, each, deadline) for each in asked]
    mute = Failure(Kind.AWAY, LATE)
    return {place: _extent(*(each.get(place, mute) for each in found)) if found else mute for place in wanted}


def _extent(*answers: Listed | Failure) -> Extent | Failure:
    for answer in answers:
        if isinstance(answer, Failure):
            return answer
    return Extent(*(answer.offset for answer in answers if isinstance(answer, Listed)))


def _listed(answer: Any | Failure) -> Listed | Failure:
    """An offset; a leader that does not answer leaves RD_KAFKA_OFFSET_INVALID without an error (librdkafka 2.16)."""
    if isinstance(answer, Failure):
        return answer
    return Listed(int(answer.offset), int(answer.timestamp)) if answer.offset >= NO_OFFSET else Failure(Kind.AWAY, LATE)


def earliest(connection: Connection, places: Iterable[TopicPartition]) -> dict[TopicPartition, Listed | Failure]:
    """The first offset of each partition."""
    return offsets(connection, places, client_names().OffsetSpec.earliest())


def latest(
    connection: Connection, places: Iterable[TopicPartition], *, committed: bool = False
) -> dict[TopicPartition, Listed | Failure]:
    """The end of each partition (exclusive): the high mark, or what a `read_committed` reader can reach."""
    return offsets(connection, places, client_names().OffsetSpec.latest(), committed=committed)


def newest(connection: Connection, places: Iterable[TopicPartition]) -> dict[TopicPartition, Listed | Failure]:
    """The record with the largest timestamp (not always the last one); offset -1 in an empty partition."""
    return offsets(connection, places, client_names().OffsetSpec.max_timestamp())


def at_time(
    connection: Connection, places: Iterable[TopicPartition], ms: int
) -> dict[TopicPartition, Listed | Failure]:
    """In log order the first record with a timestamp of `ms` or later; offset -1 when every record is older."""
    return offsets(connection, places, client_names().OffsetSpec.for_timestamp(ms))


# Topics


def ask_configurations(admin: Any, topics: Iterable[str], timeout: float) -> dict[str, Future[dict[str, Any]]]:
    """Ask for the configuration of topics without waiting for it, with an admin client; `timeout` in seconds."""
    kinds = client_names()
    asked = admin.describe_configs(
        [kinds.ConfigResource(kinds.ResourceType.TOPIC, name) for name in topics], request_timeout=timeout
    )
    return {str(resource.name): future for resource, future in asked.items()}


def configurations(connection: Connection, topics: Iterable[str]) -> dict[str, dict[str, Any] | Failure]:
    """The configuration entries of topics (`confluent_kafka.admin.ConfigEntry`, by name)."""
    names = list(topics)
    if connection.is_embedded:
        return dict.fromkeys(names, UNCONFIGURED)
    answers: dict[str, Any] = {}
    for start in range(0, len(names), CONFIGS_AT_ONCE):
        asked = ask_configurations(connection.admin, names[start : start + CONFIGS_AT_ONCE], connection.patience)
        answers |= collect(asked, connection.deadline() + 0.5, lambda name: f"configuration of topic {name}")
        _hear(connection, answers.values())
    return answers


def broker_configuration(connection: Connection) -> dict[str, Any] | Failure:
    """The configuration entries of one broker: what topics have that were not given their own."""
    if connection.is_embedded:
        return UNCONFIGURED
    kinds = client_names()
    asked = connection.admin.describe_configs(
        [kinds.ConfigResource(kinds.ResourceType.BROKER, str(min(connection.metadata().brokers)))],
        request_timeout=connection.patience,
    )
    (answer,) = collect(asked, connection.deadline() + 0.5, lambda _broker: "configuration of the brokers").values()
    return answer


# Groups


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
    _hear(connection, [*failures, *missing])
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
        _hear(connection, [answer])
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


def committed(
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
        _hear(connection, [answer])
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

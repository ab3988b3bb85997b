"""Questions to a cluster about partitions and topics, each with an answer for every one: a value, or why there is none.

They change nothing. One that times out or is denied spoils no other: the `Failure` stands in its place.
"""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, wait
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.kafka.diagnosis import denied, plain_reason
from kpipe.kafka.errors import Cause, Kind, cause_of, is_moved, is_unauthorised, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection

    Ask = Callable[[Iterable[TopicPartition]], Any]
    """Asks the leaders of partitions, without waiting for the answers."""

Key = TypeVar("Key")

IN_FLIGHT = 50
"""Requests on the way at once: each question about a group costs a look-up of its coordinator and a request."""
NO_OFFSET = -1
"""What a broker says where no record is of the time asked for, or later."""
AGAIN = 0.1
"""Seconds before a coordinator that was away, or who leads now, is asked again, while there is time."""
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
    asked: Mapping[Key, Future[Any]], deadline: float, resource: Callable[[Key], str], operation: str = "DESCRIBE"
) -> dict[Key, Any | Failure]:
    """The answers to questions that are on the way; what is not there at the deadline is a Failure."""
    answers: dict[Key, Any | Failure] = {}
    for key, future in asked.items():
        try:
            answers[key] = future.result(max(0.05, deadline - time.monotonic()))
        except Exception as error:  # noqa: BLE001 - the client raises its own exceptions and Python's alike
            answers[key] = fail(error, resource(key), operation)
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

    answering, silent = _split(connection, places)
    if not answering:
        return silent
    ask = _asking(connection, spec, IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED)
    deadline = connection.deadline()
    return {**_offsets(connection, ask, ask(answering), deadline), **silent}


def _asking(connection: Connection, spec: Any, level: Any) -> Ask:
    from confluent_kafka import TopicPartition as Asked

    def ask(places: Iterable[TopicPartition]) -> Any:
        wanted = {Asked(*place): spec for place in places}
        return connection.admin.list_offsets(wanted, isolation_level=level, request_timeout=connection.patience)

    return ask


def _split(
    connection: Connection, places: Iterable[TopicPartition]
) -> tuple[list[TopicPartition], dict[TopicPartition, Listed | Failure]]:
    """The partitions to ask for, and those whose leader has been silent in this look."""
    wanted = list(places)
    if not connection.silent_leaders:
        return wanted, {}
    mute = {place for place in wanted if connection.leader_of(*place) in connection.silent_leaders}
    return [place for place in wanted if place not in mute], dict.fromkeys(mute, Failure(Kind.AWAY, LATE))


def _offsets(connection: Connection, ask: Ask, asked: Any, deadline: float) -> dict[TopicPartition, Listed | Failure]:
    answers = of_leaders(connection, ask, asked, deadline, lambda tp: f"partition {tp.topic}[{tp.partition}]")
    found = {place: _listed(answer) for place, answer in answers.items()}
    late = [place for place, answer in found.items() if isinstance(answer, Failure) and answer.text == LATE]
    if late:
        connection.silent = True
        answered = {connection.leader_of(*place) for place in found.keys() - set(late)}
        if answered:
            leaders = {connection.leader_of(*place) for place in late} - answered
            connection.silent_leaders |= {leader for leader in leaders if leader is not None}
    return found


def of_leaders(
    connection: Connection,
    ask: Ask,
    asked: Any,
    deadline: float,
    resource: Callable[[Any], str],
    operation: str = "DESCRIBE",
) -> dict[TopicPartition, Any | Failure]:
    """The answers of partitions' leaders to what is on the way; `resource` and `operation` name what may be denied.

    A leader that was just chosen may not know it yet, and the client asks the one it knew: partitions of a topic that
    was made a moment ago, or of a broker that restarts, are asked for again, with fresh metadata.
    """
    found: dict[TopicPartition, Any | Failure] = {}
    while True:
        answers = collect(asked, deadline + 0.5, resource, operation)
        found.update({(tp.topic, tp.partition): answer for tp, answer in answers.items()})
        moved = [(tp.topic, tp.partition) for tp, future in asked.items() if _is_moved(future)]
        if not moved or time.monotonic() + AGAIN >= deadline:
            return found
        time.sleep(AGAIN)
        try:
            connection.metadata(fresh=True)
        except UnreachableError:
            return found
        asked = ask(moved)


def _is_moved(future: Future[Any]) -> bool:
    """Whether a broker was asked that does not lead the partition, or not yet."""
    error = future.exception() if future.done() else None
    return error is not None and bool(error.args) and is_moved(error.args[0])


def hear(connection: Connection, answers: Iterable[Any]) -> None:
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

    wanted = list(places)
    answering, _ = _split(connection, wanted)
    spec, levels = client_names().OffsetSpec, IsolationLevel
    deadline = connection.deadline()
    asking = [
        _asking(connection, kind, level)
        for kind, level in (
            (spec.earliest(), levels.READ_UNCOMMITTED),
            (spec.latest(), levels.READ_UNCOMMITTED),
            (spec.latest(), levels.READ_COMMITTED),
        )
        if answering
    ]
    asked = [ask(answering) for ask in asking]
    found = [_offsets(connection, ask, each, deadline) for ask, each in zip(asking, asked, strict=True)]
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
        hear(connection, answers.values())
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

"""Changes to a cluster: topics, their settings and records, groups and their offsets; each is refused where nobody may.

Nothing here asks or previews: what is called is done. A `read_only` cluster refuses all of it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kpipe.errors import Stage, UsageError
from kpipe.kafka.questions import Failure, client_names, fail, of_leaders

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection
    from kpipe.kafka.groups import Commit


def refuse_read_only(connection: Connection) -> None:
    """UsageError for a cluster whose profile says `read_only`, and for the embedded broker, which cannot be changed."""
    if connection.cluster.read_only:
        what = f"cluster {connection.label} is read_only; remove read_only from its profile to change it"
        raise UsageError(what)
    if connection.is_embedded:
        raise UsageError("the embedded broker has no administration; this needs a real cluster")


def create_topic(
    connection: Connection,
    name: str,
    partitions: int,
    replication: int,
    config: Mapping[str, str],
    *,
    only_check: bool = False,
) -> None:
    """Make a topic, or with `only_check` ask whether it could be; -1 for the cluster's own number of either."""
    refuse_read_only(connection)
    error = ask_to_create(
        connection.admin, name, partitions, replication, config, connection.timeout, only_check=only_check
    )
    if error is not None:
        raise fail(error, f"topic {name}", "CREATE").error(connection.where(name), Stage.CONFIG)


def ask_to_create(
    admin: Any,
    name: str,
    partitions: int,
    replication: int,
    config: Mapping[str, str],
    timeout: float,
    *,
    only_check: bool = False,
) -> Any:
    """Make a topic with an admin client, within `timeout` seconds: None, or the client's error where it was not made.

    A broker that does not answer in time is a TimeoutError.
    """
    new = client_names().NewTopic(name, num_partitions=partitions, replication_factor=replication, config=dict(config))
    asked = admin.create_topics([new], request_timeout=timeout, operation_timeout=timeout, validate_only=only_check)
    try:
        asked[name].result(timeout + 1)
    except TimeoutError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the client raises its own exceptions and Python's alike
        return error.args[0] if error.args else error
    return None


def add_partitions(connection: Connection, name: str, partitions: int, *, only_check: bool = False) -> None:
    """Give a topic so many partitions in all; `only_check`: only ask whether it could have them."""
    refuse_read_only(connection)
    asked = connection.admin.create_partitions(
        [client_names().NewPartitions(name, partitions)], request_timeout=connection.timeout, validate_only=only_check
    )
    _finish(connection, asked[name], name, f"topic {name}", "ALTER")


def alter_topic(
    connection: Connection, name: str, config: Mapping[str, str | None], *, only_check: bool = False
) -> None:
    """Set settings of a topic; None takes one back to its default. What is not named stays.

    `only_check`: only ask the broker whether it would.
    """
    refuse_read_only(connection)
    admin = client_names()
    kinds = admin.AlterConfigOpType
    resource = admin.ConfigResource(
        admin.ResourceType.TOPIC,
        name,
        incremental_configs=[
            admin.ConfigEntry(key, value or "", incremental_operation=kinds.DELETE if value is None else kinds.SET)
            for key, value in config.items()
        ],
    )
    asked = connection.admin.incremental_alter_configs(
        [resource], request_timeout=connection.timeout, validate_only=only_check
    )
    _finish(connection, asked[resource], name, f"topic {name}", "ALTER_CONFIGS")


def delete_topic(connection: Connection, name: str) -> None:
    """Delete a topic and all its records."""
    refuse_read_only(connection)
    asked = connection.admin.delete_topics(
        [name], request_timeout=connection.timeout, operation_timeout=connection.timeout
    )
    _finish(connection, asked[name], name, f"topic {name}", "DELETE")


def delete_records(
    connection: Connection, befores: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int | Failure]:
    """Delete the records before an offset; the new first offset of each partition, or why it stays."""
    from confluent_kafka import TopicPartition as Asked

    refuse_read_only(connection)

    def ask(places: Iterable[TopicPartition]) -> Any:
        wanted = [Asked(*place, befores[place]) for place in places]
        return connection.admin.delete_records(wanted, request_timeout=connection.timeout)

    deadline = time.monotonic() + connection.timeout
    answers = of_leaders(connection, ask, ask(befores), deadline, lambda tp: f"topic {tp.topic}", "DELETE")
    return {
        place: answer if isinstance(answer, Failure) else int(answer.low_watermark) for place, answer in answers.items()
    }


def delete_group(connection: Connection, name: str) -> None:
    """Delete a group without members, and what it committed."""
    refuse_read_only(connection)
    asked = connection.admin.delete_consumer_groups([name], request_timeout=connection.timeout)
    _finish(connection, asked[name], name, f"group {name}", "DELETE")


def commit(
    connection: Connection, group: str, commits: Mapping[TopicPartition, Commit]
) -> dict[TopicPartition, Failure]:
    """Commit for a group without members; what was not taken, by partition.

    The client reports success as a whole while partitions failed, so each entry is looked at. It also sends a text with
    the NUL that ends it in C (confluent-kafka 2.16, as in every commit of its consumers), and cuts it off at reading.
    """
    from confluent_kafka import ConsumerGroupTopicPartitions
    from confluent_kafka import TopicPartition as Asked

    refuse_read_only(connection)
    entries = [Asked(*place, commit.offset, commit.metadata) for place, commit in sorted(commits.items())]
    asked = connection.admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group, entries)], request_timeout=connection.timeout
    )
    result: Any = _finish(connection, asked[group], group, f"group {group}", "READ")
    return {
        (entry.topic, entry.partition): fail(entry.error, f"group {group}", "READ")
        for entry in result.topic_partitions
        if entry.error is not None
    }


def _finish(connection: Connection, future: Any, name: str, resource: str, operation: str) -> Any:
    """The answer; KpipeError for a refusal, in the broker's words."""
    try:
        return future.result(connection.timeout + 1)
    except Exception as error:  # noqa: BLE001 - the client raises its own exceptions and Python's alike
        failure = fail(error, resource, operation)
    raise failure.error(connection.where(name), Stage.CONFIG)

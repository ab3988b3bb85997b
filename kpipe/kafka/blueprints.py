"""What a topic is, as far as a copy should be the same: partitions, and settings that differ from the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.kafka import questions
from kpipe.kafka.questions import Failure, client_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpipe.kafka.connection import Connection

LOCAL = "replication.throttled"
"""Settings that name brokers: they mean something only where they were set."""


class Blueprint(NamedTuple):
    """Partitions (-1: as the cluster does it by itself), and settings."""

    partitions: int
    config: dict[str, str]


def like(connection: Connection, topic: str) -> Blueprint:
    """What another topic is; replicas are left to the cluster of the copy. KpipeError where that may not be asked."""
    entry = connection.metadata().topics.get(topic)
    if entry is None or entry.error is not None:
        raise KpipeError("no such topic to copy from", where=connection.where(topic), stage=Stage.CONFIG)
    answer = questions.configurations(connection, [topic])[topic]
    if isinstance(answer, Failure):
        raise answer.error(connection.where(topic), Stage.CONFIG)
    own = client_names().ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    config = {
        name: str(each.value)
        for name, each in sorted(answer.items())
        if each.source == own and each.value is not None and LOCAL not in name
    }
    return Blueprint(len(entry.partitions), config)


def parse_settings(texts: Iterable[str]) -> dict[str, str | None]:
    """`KEY=VALUE…` as settings; `KEY=` is an empty value, `KEY` alone takes one back to its default (None)."""
    settings: dict[str, str | None] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"--config {text!r}: write KEY=VALUE")
        settings[name] = value if equals else None
    return settings


def parse_blueprint(text: str) -> Blueprint:
    """`PARTITIONS[,KEY=VALUE…]` or `KEY=VALUE…` of `--create=…`; a value may hold commas (`compact,delete`)."""
    first, *rest = text.split(",")
    partitions = -1
    if first.isascii() and first.isdigit():
        partitions = int(first)
    elif "=" in first:
        rest = [first, *rest]
    else:
        raise UsageError(f"--create={text}: write --create=PARTITIONS[,KEY=VALUE…]")
    if partitions == 0:
        raise UsageError(f"--create={text}: a topic has at least one partition")
    config: dict[str, str] = {}
    name = ""
    for part in rest:
        if "=" in part:
            name, _, value = part.partition("=")
            config[name] = value
        elif name:
            config[name] += f",{part}"
        else:
            raise UsageError(f"--create={text}: {part!r} is no KEY=VALUE")
    return Blueprint(partitions, config)

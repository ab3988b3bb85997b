"""`kpipe load` of old records: whether the target would delete them at once. It changes nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.kafka import questions
from kpipe.kafka.questions import Failure
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kpipe.archive.manifest import Contents
    from kpipe.kafka.connection import Connection

HOURS, MINUTES = 3_600_000, 60_000


def warn_of_retention(connection: Connection, topic: str, contents: Contents, say: Callable[[str], None]) -> None:
    """Tell how many records are older than the topic keeps them; nothing where that cannot be known."""
    if connection.is_embedded:
        return
    from kpipe.ops.table import duration

    keeps = _of_topic(connection, topic)
    keeps = _of_new_topic(connection, contents.config or {}) if keeps is None else keeps
    if keeps < 0:
        return
    expired, mixed = older_than(contents, int(time.time() * 1000) - keeps)
    if not expired and not mixed:
        return
    where = connection.where(topic)
    count = f"{'at least ' if mixed else ''}{expired:,}" if expired else "some"
    advice = f"kpipe admin alter-topic {where} --config retention.ms=-1 --execute keeps them"
    say(
        f"config: {where}: {count} of {counted(contents.records, 'record is', 'records are')} older than it keeps them "
        f"({duration(keeps)}, retention.ms): Kafka deletes them soon; {advice}"
    )


def older_than(contents: Contents, ms: int) -> tuple[int, bool]:
    """How many records are in files of which every record is older, and whether a file has older and newer ones."""
    expired, mixed = 0, False
    for segment in contents.segments:
        if segment.newest_ms is not None and segment.newest_ms < ms:
            expired += segment.records
        elif segment.oldest_ms is not None and segment.oldest_ms < ms:
            mixed = True
    return expired, mixed


def _of_topic(connection: Connection, topic: str) -> int | None:
    """How many ms a topic keeps records, -1 for ever or by its own clock; None where there is no such topic."""
    if topic not in connection.metadata(fresh=True).topics:
        return None
    entries = questions.configurations(connection, [topic])[topic]
    return -1 if isinstance(entries, Failure) else _keeps({name: str(each.value) for name, each in entries.items()})


def _of_new_topic(connection: Connection, config: Mapping[str, str]) -> int:
    """The same of a topic that is still to be made with these settings, by the defaults of a broker."""
    entries = questions.broker_configuration(connection)
    if isinstance(entries, Failure):
        return -1
    broker = {name: str(each.value) for name, each in entries.items() if each.value is not None}
    known = {
        "cleanup.policy": broker.get("log.cleanup.policy", "delete"),
        "message.timestamp.type": broker.get("log.message.timestamp.type", "CreateTime"),
        "retention.ms": broker.get("log.retention.ms")
        or str(
            int(broker.get("log.retention.minutes", 0)) * MINUTES or int(broker.get("log.retention.hours", -1)) * HOURS
        ),
    }
    return _keeps({**known, **config})


def _keeps(settings: Mapping[str, str]) -> int:
    if "delete" not in settings["cleanup.policy"] or settings["message.timestamp.type"] == "LogAppendTime":
        return -1
    return int(settings["retention.ms"])

"""Reads `--topics name:partitions,...`, the topics that exist before the first record arrives.

It never talks to a broker.
"""

from __future__ import annotations

import re

from kpipe.errors import UsageError

DEFAULT_PARTITIONS = 4
"""What the mock cluster gives a topic that a client creates by using it; it has no setting for this."""

MAX_PARTITIONS = 10_000
"""Far more than a trial needs; a typo such as 1000000 would only eat memory."""

LEGAL_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
"""Kafka's rule for topic names (org.apache.kafka.common.internals.Topic); `.` and `..` are refused besides."""

FORM = "write NAME:PARTITIONS,NAME:PARTITIONS"


def parse_topics(text: str) -> dict[str, int]:
    """Turn `orders:3,audit` into `{"orders": 3, "audit": 4}`; blank text means no topics.

    Raises UsageError for an empty entry, an illegal or repeated name, or a partition count that is no number from
    1 to MAX_PARTITIONS.
    """
    topics: dict[str, int] = {}
    if not text.strip():
        return topics
    for entry in text.split(","):
        name, partitions = _parse_entry(entry.strip(), text)
        if name in topics:
            raise UsageError(f"topic {name} is named twice; name each topic once", where="--topics")
        topics[name] = partitions
    return topics


def _parse_entry(entry: str, text: str) -> tuple[str, int]:
    if not entry:
        raise UsageError(f"an entry of {text!r} is empty; {FORM}", where="--topics")
    name, colon, count = entry.partition(":")
    if LEGAL_NAME.fullmatch(name) is None or name in (".", ".."):
        raise UsageError(
            f"{name!r} is no topic name; use 1 to 249 of the letters a-z A-Z, digits, '.', '_' and '-'",
            where="--topics",
        )
    if not colon:
        return name, DEFAULT_PARTITIONS
    if re.fullmatch(r"[0-9]{1,9}", count) is None or not 1 <= int(count) <= MAX_PARTITIONS:
        raise UsageError(
            f"{entry!r} needs a number of partitions from 1 to {MAX_PARTITIONS} after the colon; {FORM}",
            where="--topics",
        )
    return name, int(count)

"""What the client says between the records, in a person's words: what passes by itself, and what ends the run.

It decides nothing about gaps and ends, which are no errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpipe.clusters.diagnosis import denied, plain_reason
from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.sources.selection import where

if TYPE_CHECKING:
    from confluent_kafka import Message

    from kpipe.sources.reading import Reading

GONE = frozenset(("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION"))
OTHER_MEMBERS = {
    "GROUP_ID_NOT_FOUND": "it has classic members, and the cluster does not convert it; "
    "join with --group-protocol classic, or stop them first",
    "INCONSISTENT_GROUP_PROTOCOL": "its members use another assignor; "
    "set partition.assignment.strategy as they do, or stop them first",
}
"""Why the coordinator does not let us into a group. It tells a member of the newer protocol (KIP-848) that a group of
the classic one does not exist."""
FATAL = {
    "Group authorization failed": "GROUP_AUTHORIZATION_FAILED",
    "The group id does not exist": "GROUP_ID_NOT_FOUND",
}
"""What the heartbeat of the newer protocol tells as a fatal error, by its text."""


class Events:
    """The client's events of one source."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._cluster = reading.cluster
        self._group = reading.selection.group

    def explain(self, message: Message) -> KpipeError | None:
        """What a message that is no record means; None when it passes."""
        error: Any = message.error()
        name, text = str(error.name()), str(error.str())
        if name == "_FATAL":
            name = next((found for words, found in FATAL.items() if words in text), name)
        at = self._cluster
        if message.topic() is not None:
            at = where(self._cluster, str(message.topic()), message.partition())
        if name == "GROUP_AUTHORIZATION_FAILED" and not self._group:
            return None  # the client looks for its group's coordinator even where there is no group
        if "AUTHORIZATION" in name:
            group = f"group {self._group}" if name.startswith("GROUP") else ""
            return denied(group or f"topic {message.topic() or ''}".strip(), "READ").error(at, Stage.READ)
        if "AUTHENTICATION" in name:
            return UnreachableError(f"{plain_reason(text)}; check the login", where=at, stage=Stage.READ)
        if name in GONE:
            return KpipeError("the topic or partition is gone", where=at, stage=Stage.READ)
        if name in OTHER_MEMBERS:
            return KpipeError(OTHER_MEMBERS[name], where=self._reading.group, stage=Stage.READ)
        if name == "_MAX_POLL_EXCEEDED":
            self._reading.hooks.say(f"read: {at}: {text}; joining the group again")
            return None
        if error.retriable() and not error.fatal():
            return None
        return KpipeError(text, where=at, stage=Stage.READ)

"""What the client tells between the records, in a person's words: refusals, topics that are gone, other members.

It ends nothing itself: what ends a run is given to whoever reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.kafka.diagnosis import denied, plain_reason
from kpipe.kafka.errors import Cause, cause_of, is_gone, is_login, is_unauthorised
from kpipe.sources.selection import where

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message

    from kpipe.sources.selection import Selection

OTHER_MEMBERS = {
    Cause.NO_GROUP: "it has classic members, and the cluster does not convert it; "
    "join with --group-protocol classic, or stop them first",
    Cause.OTHER_PROTOCOL: "its members use another assignor; "
    "set partition.assignment.strategy as they do, or stop them first",
}
"""Why the coordinator does not let us into a group. It tells a member of the newer protocol (KIP-848) that a group of
the classic one does not exist."""
FATAL_WORDS = {
    "Group authorization failed": Cause.GROUP_DENIED,
    "The group id does not exist": Cause.NO_GROUP,
}
"""What the heartbeat of the newer protocol tells as a fatal error, by its text."""


class Events:
    """The client's events of one source."""

    def __init__(self, selection: Selection, say: Callable[[str], None]) -> None:
        self._selection = selection
        self._say = say
        self._cluster = selection.cluster
        self._group = selection.group

    def explain(self, message: Message) -> KpipeError | None:
        """What a message that is no record means; None when it passes."""
        error: Any = message.error()
        text, cause = str(error.str()), cause_of(error)
        if cause is Cause.FATAL:
            cause = next((found for words, found in FATAL_WORDS.items() if words in text), cause)
        at = self._cluster
        if message.topic() is not None:
            at = where(self._cluster, str(message.topic()), message.partition())
        if cause is Cause.GROUP_DENIED and not self._group:
            return None  # the client looks for its group's coordinator even where there is no group
        if cause is Cause.GROUP_DENIED or is_unauthorised(error):
            group = f"group {self._group}" if cause is Cause.GROUP_DENIED else ""
            return denied(group or f"topic {message.topic() or ''}".strip(), "READ").error(at, Stage.READ)
        if is_login(error):
            return UnreachableError(f"{plain_reason(text)}; check the login", where=at, stage=Stage.READ)
        if is_gone(error):
            return self._explain_gone(message.topic(), at)
        if cause in OTHER_MEMBERS:
            return KpipeError(OTHER_MEMBERS[cause], where=self._selection.group_place, stage=Stage.READ)
        if cause is Cause.POLLED_TOO_LATE:
            self._say(f"read: {at}: {text}; joining the group again")
            return None
        if error.retriable() and not error.fatal():
            return None
        return KpipeError(text, where=at, stage=Stage.READ)

    def _explain_gone(self, topic: str | None, at: str) -> KpipeError | None:
        """A topic that only a pattern meant may go: the others that match are read on."""
        selection = self._selection
        if selection.has_patterns and topic not in selection.topics:
            return None
        return KpipeError("the topic or partition is gone", where=at, stage=Stage.READ)

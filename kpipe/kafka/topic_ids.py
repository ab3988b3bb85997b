"""Whether a topic is still the one that was opened: Kafka gives a re-created topic another id under the same name.

It reads no record and changes nothing. The client itself goes on silently, at the old offset of the new topic.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from kpipe.kafka.client import forget_admin
from kpipe.kafka.errors import Cause, Kind, cause_of, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ID_TIMEOUT = 3.0  # seconds for the ids of topics: they guard against a re-created topic, a run goes on without them
LOOK = 5.0  # seconds between looks; one small request
FIRST_LOOK = 1.0  # a run shorter than this needs no further connection
SOON = 1.0  # a topic that is said to be unknown is asked for again: a broker that has just started may not know it yet

LEAKY = "2.16."
"""Versions of the client whose descriptions of topics hold each id once too often."""
HELD = 2
"""References to an id in mid-question that only its description holds: its own, and that of the question."""

PREFIX = "topic-id="
"""Beside a commit: which topic of that name it belongs to."""


class TopicIds:
    """The ids of topics, learnt when they are first asked for. `open_admin` is called when there is need of a client.

    `retire` is called once, before the first look: a client that served the start is not asked again, but let go.
    """

    def __init__(
        self,
        open_admin: Callable[[], Any],
        clock: Callable[[], float] = time.monotonic,
        *,
        retire: Callable[[], None] | None = None,
    ) -> None:
        self.known: dict[str, str] = {}
        self._open_admin = open_admin
        self._retire = retire
        self._admin: Any = None
        self._clock = clock
        self.next_look = clock() + FIRST_LOOK
        self._asked: dict[str, Any] = {}
        self._asked_at = 0.0
        self._absent: set[str] = set()
        self.is_away: Callable[[], bool] = bool
        """Whether the cluster seems not to answer. An admin request that waits for a broker keeps two threads of
        librdkafka 2.16 busy until it times out: 3 s in every 8 took 11-20 % of a core while a cluster was away."""

    def learn(self, topics: Iterable[str]) -> None:
        """Ask for the ids of topics that are not known yet, and wait for them."""
        new = set(topics) - self.known.keys()
        if new:
            found = collect_ids(ask_ids(self._client(), new), ID_TIMEOUT)
            self.known.update({topic: known for topic, known in found.items() if known})

    def accept(self, topics: Iterable[str]) -> None:
        """Take the topics as they are now for the ones that are meant."""
        for topic in topics:
            self.known.pop(topic, None)
        self.learn(topics)

    def metadata(self, topic: str) -> str:
        """What to commit beside an offset, so that the next run can tell a re-created topic from this one."""
        known = self.known.get(topic)
        return f"{PREFIX}{known}" if known else ""

    def contradicts(self, topic: str, metadata: str) -> bool:
        """Whether an offset that was committed with this metadata belongs to an earlier topic of the same name."""
        known = self.known.get(topic)
        committed = metadata.partition(" ")[0]  # what follows is about the target, see `kpipe.delivery.resume`
        return bool(known) and committed.startswith(PREFIX) and committed != f"{PREFIX}{known}"

    def look(self, topics: Iterable[str]) -> tuple[set[str], set[str]]:
        """The topics that were (created again, deleted) since; empty while it is not time or the answer is out.

        It never waits: an answer is picked up by a later call.
        """
        now = self._clock()
        if now < self.next_look:
            return set(), set()
        if not self._asked:
            if self.is_away():
                return set(), set()
            if self._retire is not None:
                self._admin = None
                self._retire()
                self._retire = None
            self._asked = ask_ids(self._client(), topics)
            self._asked_at = now
            return set(), set()
        if not all(future.done() for future in self._asked.values()) and now < self._asked_at + 2 * ID_TIMEOUT:
            return set(), set()
        asked, self._asked = self._asked, {}
        return self._compare(self._collect(asked, 0.0), now)

    def check(self, topics: Iterable[str]) -> tuple[set[str], set[str]]:
        """Look now and wait for the answer."""
        return self._compare(self._collect(ask_ids(self._client(), topics), ID_TIMEOUT), self._clock())

    def _collect(self, asked: dict[str, Any], timeout: float) -> dict[str, str]:
        found = collect_ids(asked, timeout)
        if is_silent(asked):
            forget_admin(self._admin)
            self._admin = None
        return found

    def _compare(self, found: dict[str, str], now: float) -> tuple[set[str], set[str]]:
        absent = {topic for topic, known in found.items() if not known and topic in self.known}
        again = {topic for topic, known in found.items() if known and self.known.get(topic, known) != known}
        for topic, known in found.items():
            if known:
                self.known.setdefault(topic, known)
        gone = absent & self._absent
        self._absent = absent
        self.next_look = now + (SOON if absent else LOOK)
        return again, gone

    def _client(self) -> Any:
        if self._admin is None:
            self._admin = self._open_admin()
        return self._admin


def ask_ids(client: Any, topics: Iterable[str]) -> dict[str, Any]:
    """Ask for the ids of topics without waiting: topic -> future."""
    from confluent_kafka import KafkaException, TopicCollection

    names = sorted(topics)
    try:
        return dict(client.describe_topics(TopicCollection(names), request_timeout=ID_TIMEOUT)) if names else {}
    except (KafkaException, ValueError):
        return {}


def is_silent(asked: dict[str, Any]) -> bool:
    """Whether not one question of `ask_ids` was answered: then let go of the client, it may never answer again.

    A description that names no broker, as a cluster gives it whose only one is fenced for a moment (it was suspended
    with its machine), makes librdkafka 2.16 forget the last broker it knows. It should start over from the bootstrap
    addresses, but behind 4 of 1,000 thaws on a busy machine it did not, and knew of no broker for good.
    """
    return bool(asked) and not any(map(_is_answered, asked.values()))


def _is_answered(future: Any) -> bool:
    from confluent_kafka import KafkaException

    error = future.exception() if future.done() else TimeoutError()
    if isinstance(error, KafkaException):
        return kind_of(error.args[0]) is not Kind.AWAY
    return not isinstance(error, TimeoutError)


def description(future: Any, timeout: float = 0.0) -> Any:
    """The answer to one question of `ask_ids`, or what `Future.result` raises.

    Without the reference that the client forgets, no id was ever let go: 150 bytes a topic and question, which is
    2.6 GB a day for a mirror of 1,000 topics.
    """
    from confluent_kafka import Uuid, version

    found = future.result(timeout)
    known = getattr(found, "topic_id", None)
    is_leaky = isinstance(known, Uuid) and str(version()).startswith(LEAKY)
    del known
    if is_leaky and sys.getrefcount(found.topic_id) > HELD:
        import ctypes

        ctypes.pythonapi.Py_DecRef(ctypes.py_object(found.topic_id))
    return found


def collect_ids(asked: dict[str, Any], timeout: float) -> dict[str, str]:
    """The answers to `ask_ids`: a topic that does not exist (any more) has the id "", an unanswered one is left out."""
    from confluent_kafka import KafkaException

    deadline = time.monotonic() + timeout
    ids: dict[str, str] = {}
    for topic, future in asked.items():
        try:
            known = str(description(future, max(0.0, deadline - time.monotonic())).topic_id)
        except KafkaException as error:
            if cause_of(error.args[0]) is Cause.NO_TOPIC:
                ids[topic] = ""
            continue
        except TimeoutError:
            continue
        if known.strip("A="):  # all zeros, in base64: a broker without topic ids
            ids[topic] = known
    return ids

"""When a settled prefix becomes a committed offset of the consumer group (at-least-once).

It never commits what is not settled, never auto-commits, and never lets a late report move a partition that went away.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.kafka.diagnosis import denied
from kpipe.kafka.errors import Cause, Kind, cause_of, is_unauthorised, kind_of
from kpipe.kafka.lookups import find_committed
from kpipe.shutdown import run_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Consumer
    from confluent_kafka import TopicPartition as ClientPartition

    from kpipe.flight import TopicPartition
    from kpipe.ledger import Ledger

INTERVAL = 1.0
"""Seconds between commits while running: what a kill -9 may deliver twice is what was settled since the last one."""
UNANSWERED = 10.0
"""Seconds after which a commit without an answer is sent again; until then no other is under way, for the client sends
one again when its broker goes, and an older one that arrives after a newer one takes the group back (measured)."""
REJOINING = 5.0
"""Seconds that a last commit waits for a rebalance to pass."""
LETTING_GO = 5.0
"""Seconds that a commit may hold a rebalance up: the group's other members wait, and a second signal is not seen."""
RETRY = 0.2
"""Seconds between tries of the last commit."""

OVERTAKEN = "another member took over before the commit"
REPEATS = "records may come twice"


class Commits:
    """How many commits of a run the group has taken and how many not, and when the last one was (seconds, Unix)."""

    __slots__ = ("failed", "last", "made")

    def __init__(self) -> None:
        self.made = self.failed = 0
        self.last: float | None = None

    def count(self, *, taken: bool) -> None:
        """One more."""
        if taken:
            self.made += 1
            self.last = time.time()
        else:
            self.failed += 1


class NotCommitted(KpipeError):
    """The coordinator is away; the same commit may succeed later."""


class Rebalancing(NotCommitted):
    """A rebalance is under way and the member does not know its new generation yet; what it has not let go is its own.

    A cooperative member keeps its partitions meanwhile (KIP-429), so the same commit succeeds a moment later.
    """


class LetGo(Rebalancing):
    """Partitions went before their commit was known to be in time: the next owner may repeat records, none is lost."""


class GroupCommitter:
    """Commits next offsets for one consumer; `at_eof` are positions behind the last record of idle partitions.

    `note` gives what is committed beside the offsets of a topic, `tail` what more for one partition. `is_awaited` says
    whether the other members wait for this one: it is read to its end, and they see that by its commits.
    """

    def __init__(  # noqa: PLR0913 - one for each side it touches
        self,
        consumer: Consumer,
        where: str,
        at_eof: Mapping[TopicPartition, int],
        clock: Callable[[], float] = time.monotonic,
        note: Callable[[str], str] = lambda _topic: "",
        tail: Callable[[TopicPartition], str] = lambda _place: "",
        *,
        is_awaited: Callable[[], bool] = lambda: False,
        commits: Commits | None = None,
    ) -> None:
        self._consumer = consumer
        self.commits = commits or Commits()
        self._is_awaited = is_awaited
        self._where = where
        self._at_eof = at_eof
        self._clock = clock
        self._next = clock() + INTERVAL
        self._sent_at: float | None = None
        self._acknowledged: dict[TopicPartition, int | None] = {}
        self._refusal: KpipeError | None = None
        self._note = note
        self._tail = tail

    def hasten(self) -> None:
        """Commit at the next tick: where a partition begins shall be known to the group before a record of it is."""
        self._next = self._clock()

    def tick(self, ledger: Ledger) -> None:
        """Commit asynchronously once an interval; failures of it surface at the next one or at the end."""
        if self._refusal is not None:
            raise self._refusal
        now = self._clock()
        if now < self._next and (ledger.flights or not self._is_awaited()):
            return
        self._next = now + INTERVAL
        if self._sent_at is not None and now - self._sent_at < UNANSWERED:
            return
        if not (ledger.flights or ledger.cut_short):
            self._pass_markers(ledger)
        news = self._news(ledger.next_offsets)
        if news:
            from confluent_kafka import KafkaException

            for place in news:
                self._acknowledged.setdefault(place, None)
            offsets = self._in_words_of_the_client(news)
            self._sent_at = now
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                self.note_answer(error.args[0], offsets)

    def note_answer(self, error: Any, partitions: list[ClientPartition]) -> None:
        """What became of a commit, told by the client in a callback: it takes notes and never raises.

        The group has what the last answer says, also when that is less than an earlier one said. A coordinator that is
        away comes back, and a rebalance gives the partitions to somebody who reads on from the last commit; only a
        refusal that stays one ends the run, at the next tick.
        """
        self._sent_at = None
        self.commits.count(taken=error is None and not any(entry.error for entry in partitions))
        if error is not None and not partitions:
            self._acknowledged = dict.fromkeys(self._acknowledged)
        for entry in partitions:
            place = (entry.topic, entry.partition)
            if place in self._acknowledged:
                self._acknowledged[place] = entry.offset if error is None and entry.error is None else None
        for failure in (error, *(entry.error for entry in partitions)):
            if failure is not None and kind_of(failure) not in (Kind.AWAY, Kind.TAKEN_OVER):
                self._refusal = self._explain(failure)

    def _pass_markers(self, ledger: Ledger) -> None:
        """With nothing in flight, the end of a partition may be committed: transaction markers leave no lag behind."""
        for place, offset in self._at_eof.items():
            if offset > ledger.next_offsets.get(place, 0):
                ledger.next_offsets[place] = offset

    def _news(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        return {place: offset for place, offset in offsets.items() if self._acknowledged.get(place) != offset}

    def _in_words_of_the_client(self, offsets: Mapping[TopicPartition, int]) -> list[ClientPartition]:
        """With the topic's id beside each offset: at the next start it tells a re-created topic from this one."""
        from confluent_kafka import TopicPartition

        return [
            TopicPartition(
                topic, partition, offset, metadata=f"{self._note(topic)} {self._tail((topic, partition))}".strip()
            )
            for (topic, partition), offset in sorted(offsets.items())
        ]

    def commit_now(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit before partitions go, within a rebalance callback; LetGo when it is not known to be in time.

        There, no second thread can bound a commit that waits: the client serves one call at a time. So the commit is
        sent without waiting, and the question what is committed, which has a time limit, goes after it.
        """
        from confluent_kafka import KafkaException

        news = self._news(offsets)
        if not news:
            return
        try:
            self._consumer.commit(offsets=self._in_words_of_the_client(news), asynchronous=True)
            there = find_committed(self._consumer, news, LETTING_GO, again=lambda: False)
        except KafkaException as error:
            raise self._explain_parting(error.args[0]) from None
        if any(there[place][0] < offset for place, offset in news.items()):
            raise LetGo(f"{OVERTAKEN}; {REPEATS}", where=self._where, stage=Stage.COMMIT)

    def _explain_parting(self, error: Any) -> KpipeError:
        if kind_of(error) is Kind.AWAY:
            what = f"no answer to the commit before partitions went to others ({error.str()})"
        elif kind_of(error) is Kind.TAKEN_OVER:
            what = f"{OVERTAKEN} ({error.str()})"
        else:
            return self._explain(error)
        return LetGo(f"{what}; {REPEATS}", where=self._where, stage=Stage.COMMIT)

    def _commit_and_wait(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit and wait for the answer, however long it takes."""
        from confluent_kafka import KafkaException

        if not offsets:
            return
        try:
            answers = self._consumer.commit(offsets=self._in_words_of_the_client(offsets), asynchronous=False) or []
        except KafkaException as error:
            self.commits.count(taken=False)
            raise self._explain(error.args[0]) from None
        for answer in answers:
            if answer.error is not None:
                raise self._explain(answer.error)
        self._acknowledged.update(offsets)
        self.commits.count(taken=True)

    def forget(self, places: list[TopicPartition]) -> None:
        """Partitions went away: what was committed for them says nothing about their next stay."""
        for place in places:
            self._acknowledged.pop(place, None)

    def finish(self, ledger: Ledger, timeout: float) -> None:
        """Commit the exact prefix within `timeout` seconds: with a frozen broker a commit hangs for over a minute."""
        ledger.settle()
        if not (ledger.flights or ledger.cut_short):
            self._pass_markers(ledger)  # in the ledger, for leaving the group commits its prefix once more
        self.commit_within(ledger.prefix(), timeout)

    def commit_within(self, offsets: Mapping[TopicPartition, int], timeout: float) -> None:
        """Commit and wait for the answer at most `timeout` seconds; signals are served meanwhile.

        No answer is an error (exit 4), also after a signal and with everything delivered: the end is a clean one only
        when the next start goes on behind it, and this one will repeat what came since the last commit.
        """
        failure: list[KpipeError] = []
        deadline = self._clock() + timeout
        rejoined = min(deadline, self._clock() + REJOINING)

        def commit() -> None:
            while True:
                try:
                    return self._commit_and_wait(offsets)
                except NotCommitted as error:
                    if self._clock() >= (rejoined if isinstance(error, Rebalancing) else deadline) - RETRY:
                        return failure.append(error)
                except KpipeError as error:
                    return failure.append(error)
                time.sleep(RETRY)

        if not run_bounded(commit, timeout):
            message = "the last commit was not answered in time; records may come twice at the next start"
            raise UnreachableError(message, where=self._where, stage=Stage.COMMIT)
        if failure:
            raise failure[0]

    def _explain(self, error: Any) -> KpipeError:
        text, cause = str(error.str()), cause_of(error)
        if is_unauthorised(error):
            group = self._where.rpartition(":")[2] if cause is Cause.GROUP_DENIED else "the group's topics"
            return denied(group, "READ").error(self._where, Stage.COMMIT)
        if kind_of(error) is Kind.TAKEN_OVER:
            what = f"{OVERTAKEN} ({text}); {REPEATS}"
            taken_over = Rebalancing if cause is Cause.REBALANCING else KpipeError
            return taken_over(what, where=self._where, stage=Stage.COMMIT)
        kind = NotCommitted if kind_of(error) is Kind.AWAY else KpipeError
        return kind(f"cannot commit: {text}", where=self._where, stage=Stage.COMMIT)

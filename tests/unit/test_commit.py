"""What a commit before partitions go may cost the group, and what is said when nobody knows whether it was in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kpipe.delivery.commit import INTERVAL, LETTING_GO, UNANSWERED, GroupCommitter, LetGo
from kpipe.errors import KpipeError
from kpipe.ledger import Ledger
from kpipe.record import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = ("t", 0)


class Coordinator:
    """A consumer whose coordinator takes commits as `answer` says: an error by name, or the offset that it has then."""

    def __init__(self, answer: str | int | None = None) -> None:
        self.answer = answer
        self.said: list[tuple[str, object]] = []
        self.offset = -1001

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition] | None:
        self.said.append(("commit", asynchronous))
        self.offset = offsets[0].offset
        return None if asynchronous else offsets

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self.said.append(("committed", timeout))
        if isinstance(self.answer, str):
            raise KafkaException(KafkaError(getattr(KafkaError, self.answer)))
        offset = self.offset if self.answer is None else self.answer
        return [TopicPartition(entry.topic, entry.partition, offset) for entry in asked]


def test_a_commit_before_partitions_go_never_waits_without_limit() -> None:
    """A commit that waits hangs for over a minute on a frozen broker, and the whole group with it."""
    consumer = Coordinator()
    GroupCommitter(consumer, "prod:group g", {}).commit_now({PLACE: 5})
    assert consumer.said == [("commit", True), ("committed", LETTING_GO)]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("_TIMED_OUT", "no answer to the commit before partitions went to others"),
        ("_WAIT_COORD", "no answer to the commit before partitions went to others"),
        ("UNKNOWN_MEMBER_ID", "another member took over before the commit"),
        (4, "another member took over before the commit"),
        (-1001, "another member took over before the commit"),
    ],
)
def test_what_is_not_known_to_be_committed_is_told_and_ends_no_run(answer: str | int, said: str) -> None:
    with pytest.raises(LetGo, match=said) as caught:
        GroupCommitter(Coordinator(answer), "prod:group g", {}).commit_now({PLACE: 5})
    assert "prod:group g" in str(caught.value)
    assert "records may come twice" in str(caught.value)


def test_a_refusal_before_partitions_go_is_an_error() -> None:
    with pytest.raises(KpipeError, match="no ACL allows READ on group g") as caught:
        GroupCommitter(Coordinator("GROUP_AUTHORIZATION_FAILED"), "prod:group g", {}).commit_now({PLACE: 5})
    assert not isinstance(caught.value, LetGo)


def test_what_the_last_commit_settled_is_not_asked_for_again_while_leaving() -> None:
    consumer = Coordinator()
    committer = GroupCommitter(consumer, "prod:group g", {})
    committer.commit_within({PLACE: 5}, 5)
    committer.commit_now({PLACE: 5})
    assert consumer.said == [("commit", False)]
    committer.forget([PLACE])
    committer.commit_now({PLACE: 5})
    assert consumer.said[1:] == [("commit", True), ("committed", LETTING_GO)]


class Running:
    """A run whose commits are answered when the test says so; `sent` are the offsets of each commit, in order."""

    def __init__(self, is_awaited: Callable[[], bool] = lambda: False) -> None:
        self.now = 0.0
        self.sent: list[list[tuple[int, int]]] = []
        self.ledger = Ledger()
        self.committer = GroupCommitter(
            self,
            "prod:group g",
            {},
            clock=lambda: self.now,
            is_awaited=is_awaited,  # type: ignore[arg-type]
        )

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous
        self.sent.append([(entry.partition, entry.offset) for entry in offsets])

    def settled(self, *offsets: int) -> None:
        self.ledger.next_offsets = {("t", partition): offset for partition, offset in enumerate(offsets)}

    def passes(self, seconds: float) -> None:
        for _ in range(round(seconds / INTERVAL)):
            self.now += INTERVAL
            self.committer.tick(self.ledger)

    def answered(self, *offsets: int, errors: tuple[str, ...] = ()) -> None:
        entries = [TopicPartition("t", partition, offset) for partition, offset in enumerate(offsets)]
        names = errors or [""] * len(entries)
        self.committer.note_answer(None, [Answer(*pair) for pair in zip(entries, names, strict=True)])  # type: ignore[misc]


class Answer:
    """One partition's answer, as the client gives it: the client alone can set `error` on its own."""

    def __init__(self, entry: TopicPartition, error: str) -> None:
        self.topic, self.partition, self.offset = entry.topic, entry.partition, entry.offset
        self.error = KafkaError(getattr(KafkaError, error)) if error else None


def test_a_commit_that_was_answered_is_not_sent_again() -> None:
    run = Running()
    run.settled(5)
    run.passes(1)
    run.answered(5)
    run.passes(30)
    assert run.sent == [[(0, 5)]]


def test_a_commit_without_an_answer_is_sent_again_and_none_goes_beside_it() -> None:
    run = Running()
    run.settled(5)
    run.passes(1)
    run.settled(9)
    run.passes(UNANSWERED - 1)
    assert run.sent == [[(0, 5)]]
    run.passes(1)
    assert run.sent == [[(0, 5)], [(0, 9)]]


def test_an_older_commit_that_arrives_after_a_newer_one_is_made_good() -> None:
    """The client sends a commit again when its broker goes: seen with a frozen one, and the group stayed behind."""
    run = Running()
    run.settled(5)
    run.passes(1)
    run.settled(9)
    run.passes(UNANSWERED)
    run.answered(9)
    run.answered(5)
    run.passes(1)
    assert run.sent == [[(0, 5)], [(0, 9)], [(0, 9)]]


def test_one_partition_without_its_commit_is_committed_again() -> None:
    run = Running()
    run.settled(5, 7)
    run.passes(1)
    run.answered(5, 7, errors=("", "NOT_COORDINATOR"))
    run.passes(1)
    assert run.sent == [[(0, 5), (1, 7)], [(1, 7)]]


def test_one_partition_that_is_refused_ends_the_run() -> None:
    run = Running()
    run.settled(5, 7)
    run.passes(1)
    run.answered(5, 7, errors=("", "TOPIC_AUTHORIZATION_FAILED"))
    with pytest.raises(KpipeError, match="no ACL allows READ"):
        run.passes(1)


def test_a_failure_that_names_no_partition_leaves_nothing_committed() -> None:
    run = Running()
    run.settled(5)
    run.passes(1)
    run.committer.note_answer(KafkaError(KafkaError._TRANSPORT), [])
    run.passes(1)
    assert run.sent == [[(0, 5)], [(0, 5)]]


def test_an_answer_that_comes_after_its_partition_went_away_says_nothing_about_the_next_stay() -> None:
    run = Running()
    run.settled(5)
    run.passes(1)
    run.committer.forget([PLACE])
    run.answered(5)
    run.passes(1)
    assert run.sent == [[(0, 5)], [(0, 5)]]


def test_a_member_that_the_others_wait_for_commits_at_once_and_once() -> None:
    """They see by its commits that it is done: with the next interval's they waited for up to 2 s at the end."""
    awaited = [False]
    run = Running(is_awaited=lambda: awaited[0])
    run.settled(5)
    run.committer.tick(run.ledger)
    assert run.sent == []
    awaited[0] = True
    batch = Batch([b"v"])
    flight = run.ledger.track(batch, batch.snapshot())
    run.committer.tick(run.ledger)
    assert run.sent == [], "what is in flight comes first"
    flight.settle_sent(batch)
    run.ledger.settle()
    run.committer.tick(run.ledger)
    run.answered(5)
    run.committer.tick(run.ledger)
    assert run.sent == [[(0, 5)]]


# --- what a commit may hold ---------------------------------------------------------------------------------------


def flight(run: Running, *offsets: int) -> Any:
    batch = Batch(
        [b"v"] * len(offsets), topics=["t"] * len(offsets), partitions=[0] * len(offsets), offsets=list(offsets)
    )
    return run.ledger.track(batch, batch.snapshot())


def with_end(end: int) -> Running:
    """A run whose partition 0 is read up to `end`, behind which lies nothing."""
    run = Running()
    run.ledger = Ledger(keeps_offsets=True)
    run.committer = GroupCommitter(run, "prod:group g", {PLACE: end}, clock=lambda: run.now)  # type: ignore[arg-type]
    return run


def test_the_end_of_a_partition_is_committed_only_when_nothing_is_in_flight() -> None:
    """The end lies behind records that are on their way: to commit it would lose them if they do not arrive."""
    run = with_end(9)
    sent = flight(run, 4, 5)
    run.passes(INTERVAL)
    assert run.sent == []
    sent.settle_sent(sent.origin)
    run.ledger.settle()
    run.passes(INTERVAL)
    assert run.sent == [[(0, 9)]]


def test_the_end_of_a_partition_is_not_committed_when_the_run_was_cut_short() -> None:
    """Behind `-c N` lie records that were read and count as unread."""
    run = with_end(9)
    sent = flight(run, 4, 5)
    run.ledger.cut(sent, 1)
    sent.settled.append(0)
    run.ledger.settle()
    assert not run.ledger.flights
    run.passes(INTERVAL)
    assert run.sent == [[(0, 5)]]


def test_the_next_commit_comes_an_interval_later_and_not_at_once() -> None:
    run = Running()
    run.settled(1)
    run.passes(INTERVAL)
    run.answered(1)
    run.settled(2)
    run.now += INTERVAL / 2
    flight(run, 7)
    run.committer.tick(run.ledger)
    assert len(run.sent) == 1
    run.now += INTERVAL / 2
    run.committer.tick(run.ledger)
    assert len(run.sent) == 2


def test_a_commit_that_failed_as_a_whole_is_sent_again_for_every_partition() -> None:
    run = Running()
    run.settled(3, 4)
    run.passes(INTERVAL)
    run.answered(3, 4)
    run.committer.note_answer(KafkaError(KafkaError._TRANSPORT), [])
    run.passes(INTERVAL)
    assert run.sent == [[(0, 3), (1, 4)], [(0, 3), (1, 4)]]


@pytest.mark.parametrize("name", ["ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "STALE_MEMBER_EPOCH"])
def test_a_last_commit_in_a_rebalance_is_tried_until_it_has_passed(name: str) -> None:
    """The member has not let its partitions go: a moment later it knows its generation, and the commit succeeds."""

    class Moving(Coordinator):
        def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition] | None:
            super().commit(offsets=offsets, asynchronous=asynchronous)
            if len(self.said) == 1:
                raise KafkaException(KafkaError(getattr(KafkaError, name)))
            return offsets

    consumer = Moving()
    GroupCommitter(consumer, "prod:group g", {}).commit_within({PLACE: 5}, 5)
    assert consumer.said == [("commit", False), ("commit", False)]


@pytest.mark.parametrize(
    "name",
    ["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "STALE_MEMBER_EPOCH", "_ASSIGNMENT_LOST"],
)
def test_a_commit_that_somebody_else_overtook_ends_no_run(name: str) -> None:
    """While running, the partitions are or will be another member's, who reads on from the last commit."""
    run = Running()
    run.settled(3)
    run.passes(INTERVAL)
    run.committer.note_answer(KafkaError(getattr(KafkaError, name)), [])
    run.committer.tick(run.ledger)


def test_the_last_commit_names_the_partition_that_was_refused() -> None:
    """The client raises nothing when one partition of several is refused: its answer says so."""

    class Partial(Coordinator):
        def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition] | None:
            refused = TopicPartition("t", 1)
            refused_error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
            return [*offsets, _Answer(refused, refused_error)]  # type: ignore[list-item]

    with pytest.raises(KpipeError, match="no ACL allows READ"):
        GroupCommitter(Partial(), "prod:group g", {}).commit_within({PLACE: 5}, 5)


class _Answer:
    def __init__(self, place: TopicPartition, error: KafkaError) -> None:
        self.topic, self.partition, self.offset, self.error = place.topic, place.partition, place.offset, error


def test_the_end_commits_the_exact_prefix_of_what_is_settled() -> None:
    consumer, ledger = Coordinator(), Ledger(keeps_offsets=True)
    batch = Batch([b"v"] * 3, topics=["t"] * 3, partitions=[0] * 3, offsets=[4, 5, 6])
    sent = ledger.track(batch, batch.snapshot())
    sent.settled += [0, 2]
    GroupCommitter(consumer, "prod:group g", {PLACE: 7}).finish(ledger, 5)
    assert consumer.offset == 5

"""What a commit before partitions go may cost the group, and what is said when nobody knows whether it was in time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kpipe.delivery.commit import INTERVAL, LETTING_GO, UNANSWERED, Commits, GroupCommitter, LetGo
from kpipe.errors import KpipeError, Stage
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


def test_where_partitions_begin_is_committed_at_the_next_tick() -> None:
    run = Running()
    run.settled(5)
    run.committer.hasten()
    for _ in range(2):
        run.committer.tick(run.ledger)
    assert run.sent == [[(0, 5)]]


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


# --- what is counted, and what an answer says ----------------------------------------------------------------------


def test_commits_are_counted_by_what_became_of_them() -> None:
    run = Running()
    commits = run.committer.commits
    assert (commits.made, commits.failed, commits.last) == (0, 0, None)
    before = time.time()
    run.committer.note_answer(None, [Answer(TopicPartition("t", 0, 5), "")])  # type: ignore[list-item]
    run.committer.note_answer(None, [Answer(TopicPartition("t", 0, 6), "")])  # type: ignore[list-item]
    assert (commits.made, commits.failed) == (2, 0)
    assert commits.last is not None
    assert before <= commits.last <= time.time()
    last = commits.last
    run.committer.note_answer(KafkaError(KafkaError._TRANSPORT), [])
    run.committer.note_answer(None, [Answer(TopicPartition("t", 0, 6), "_TRANSPORT")])  # type: ignore[list-item]
    run.committer.note_answer(KafkaError(KafkaError._TRANSPORT), [Answer(TopicPartition("t", 0, 6), "")])  # type: ignore[list-item]
    assert (commits.made, commits.failed, commits.last) == (2, 3, last)


def test_who_counts_commits_elsewhere_is_told_of_these() -> None:
    commits = Commits()
    committer = GroupCommitter(Coordinator(), "prod:group g", {}, commits=commits)  # type: ignore[arg-type]
    assert committer.commits is commits
    committer.commit_within({PLACE: 5}, 5)
    assert (commits.made, commits.failed) == (1, 0)


def test_an_answer_about_one_partition_says_nothing_about_the_others() -> None:
    run = Running()
    run.settled(3, 4)
    run.passes(INTERVAL)
    run.answered(3, 4)
    run.committer.note_answer(None, [])
    run.committer.note_answer(KafkaError(KafkaError._TRANSPORT), [Answer(TopicPartition("t", 0, 3), "")])  # type: ignore[list-item]
    run.passes(INTERVAL)
    assert run.sent == [[(0, 3), (1, 4)], [(0, 3)]]


def test_a_commit_that_the_client_does_not_even_send_ends_the_run_at_the_next_turn() -> None:
    class Refusing(Running):
        def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
            raise KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))

    run = Refusing()
    run.settled(3)
    run.passes(INTERVAL)
    with pytest.raises(KpipeError, match="no ACL allows READ on group g"):
        run.committer.tick(run.ledger)


def test_others_wait_for_nobody_who_was_not_asked_about() -> None:
    """A member commits early when the others wait for it; one that knows nothing of others keeps its interval."""
    run, consumer = Running(), Coordinator()
    committer = GroupCommitter(consumer, "prod:group g", {}, clock=lambda: run.now)  # type: ignore[arg-type]
    run.settled(3)
    committer.tick(run.ledger)
    assert consumer.said == []


# --- the last commit -----------------------------------------------------------------------------------------------


def last_commit(ledger: Ledger, end: int) -> int | None:
    consumer = Coordinator()
    GroupCommitter(consumer, "prod:group g", {PLACE: end}).finish(ledger, 5)  # type: ignore[arg-type]
    return consumer.offset if consumer.said else None


def in_a_ledger(*settled: int, count: int = 3) -> Ledger:
    ledger = Ledger(keeps_offsets=True)
    batch = Batch([b"v"] * count, topics=["t"] * count, partitions=[0] * count, offsets=list(range(4, 4 + count)))
    ledger.track(batch, batch.snapshot()).settled += settled
    return ledger


def test_the_end_of_a_partition_is_committed_at_last_with_everything_settled() -> None:
    """Also when the last report has just come in: a transaction marker leaves no lag behind."""
    assert last_commit(in_a_ledger(0, 1, 2), end=9) == 9
    assert last_commit(Ledger(keeps_offsets=True), end=1) == 1
    assert last_commit(Ledger(keeps_offsets=True), end=0) is None


def test_the_end_of_a_partition_is_not_committed_at_last_past_what_is_open_or_unread() -> None:
    assert last_commit(in_a_ledger(), end=9) is None
    ledger = in_a_ledger(0, 1)
    ledger.cut(ledger.flights[0], 2)
    assert last_commit(ledger, end=9) == 6
    untouched = Ledger(keeps_offsets=True)
    untouched.cut_short = True
    assert last_commit(untouched, end=9) is None


class Away(Coordinator):
    """Answers each commit that waits with this error, and every answer takes a while."""

    def __init__(self, name: str, step: float, silent: bool = False) -> None:
        super().__init__()
        self.name, self.step, self.now, self.silent = name, step, 0.0, silent

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition] | None:
        super().commit(offsets=offsets, asynchronous=asynchronous)
        self.now += self.step
        if self.silent:
            return None
        raise KafkaException(KafkaError(getattr(KafkaError, self.name)))

    def committer(self) -> GroupCommitter:
        return GroupCommitter(self, "prod:group g", {}, clock=lambda: self.now)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "step", "timeout", "tries"),
    [
        ("_TRANSPORT", 1.0, 2.0, 2),  # as long as there is time for one more
        ("_TRANSPORT", 0.9, 2.0, 2),  # the wait before it counts, too
        ("REBALANCE_IN_PROGRESS", 2.4, 60.0, 2),  # a rebalance passes soon, or it was lost to somebody
        ("GROUP_AUTHORIZATION_FAILED", 1.0, 60.0, 1),
    ],
)
def test_the_last_commit_is_tried_again_while_that_can_help(name: str, step: float, timeout: float, tries: int) -> None:
    consumer = Away(name, step)
    committer = consumer.committer()
    with pytest.raises(KpipeError) as caught:
        committer.commit_within({PLACE: 5}, timeout)
    assert caught.value.stage is Stage.COMMIT
    assert len(consumer.said) == tries
    assert (committer.commits.made, committer.commits.failed) == (0, tries)


def test_a_client_that_answers_nothing_has_committed() -> None:
    consumer = Away("", 1.0, silent=True)
    consumer.committer().commit_within({PLACE: 5}, 5)
    assert consumer.said == [("commit", False)]


def test_with_nothing_to_commit_the_coordinator_is_not_asked() -> None:
    consumer = Coordinator()
    GroupCommitter(consumer, "prod:group g", {}).commit_within({}, 5)  # type: ignore[arg-type]
    assert consumer.said == []

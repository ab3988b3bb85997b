"""What a commit before partitions go may cost the group, and what is said when nobody knows whether it was in time."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kpipe.commit import LETTING_GO, GroupCommitter, LetGo
from kpipe.errors import KpipeError

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

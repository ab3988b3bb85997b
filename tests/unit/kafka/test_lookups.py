"""What a consumer is asked: it is asked again while that may help, up to its time, and what it says is put in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kpipe.errors import KpipeError, UnreachableError
from kpipe.kafka.lookups import (
    EARLIEST,
    LATEST,
    LEAST,
    Bounds,
    fetched_end,
    find_bounds,
    find_committed,
    find_offsets,
    find_watermarks,
)
from kpipe.kafka.metadata import find_all_partitions, find_partitions, is_answered, try_metadata, try_topic

A, B = ("t", 0), ("t", 1)


def failing(name: str) -> KafkaException:
    return KafkaException(KafkaError(getattr(KafkaError, name)))


class Client:
    """Gives one prepared answer after the other, the last one for ever; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []
        self.timeouts: list[float] = []

    def _answer(self, asked: Any, timeout: float) -> Any:
        self.asked.append(asked)
        self.timeouts.append(timeout)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def committed(self, asked: list[TopicPartition], timeout: float) -> Any:
        return self._answer(asked, timeout)

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> Any:
        answer = self._answer(asked, timeout)
        return answer[asked[0].offset] if isinstance(answer, dict) else answer

    def get_watermark_offsets(self, asked: TopicPartition, timeout: float = 0, *, cached: bool = False) -> Any:
        return self._answer(asked, timeout)

    def list_topics(self, topic: str | None = None, timeout: float = 0) -> Any:
        return self._answer(topic, timeout)


def told(place: tuple[str, int], offset: int, error: str = "", metadata: str | None = None) -> SimpleNamespace:
    problem = KafkaError(getattr(KafkaError, error)) if error else None
    return SimpleNamespace(topic=place[0], partition=place[1], offset=offset, metadata=metadata, error=problem)


# --- committed offsets -------------------------------------------------------------------------------------------


def test_what_was_committed_comes_with_the_note_beside_it() -> None:
    client = Client([told(A, 7, metadata="topic-id=x"), told(B, -1001)])
    assert find_committed(client, [A, B], 5.0) == {A: (7, "topic-id=x"), B: (-1001, "")}  # type: ignore[arg-type]
    assert client.timeouts == [5.0]


def test_nobody_is_asked_about_nothing() -> None:
    assert find_committed(Client(failing("_TRANSPORT")), [], 5.0) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["NOT_COORDINATOR", "_TIMED_OUT", "UNSTABLE_OFFSET_COMMIT", "_UNKNOWN_PARTITION"])
def test_a_coordinator_that_moves_or_is_held_up_is_asked_again(name: str) -> None:
    client = Client(failing(name), [told(A, 7)])
    assert find_committed(client, [A], 5.0, slice_s=lambda: 2.0) == {A: (7, "")}  # type: ignore[arg-type]
    assert client.timeouts == [2.0, 2.0]


def test_it_is_asked_until_the_time_is_over_and_each_time_for_what_is_left() -> None:
    client = Client(failing("_TRANSPORT"))
    with pytest.raises(KafkaException):
        find_committed(client, [A], 0.15)  # type: ignore[arg-type]
    assert client.timeouts[0] == 0.15
    assert set(client.timeouts[1:]) == {LEAST}


def test_it_is_not_asked_again_by_who_cannot_wait_or_where_that_helps_nobody() -> None:
    for client, again in (
        (Client(failing("_TRANSPORT")), False),
        (Client(failing("GROUP_AUTHORIZATION_FAILED")), True),
    ):
        with pytest.raises(KafkaException):
            find_committed(client, [A], 5.0, again=lambda again=again: again)  # type: ignore[arg-type,misc]
        assert len(client.asked) == 1


def test_one_partition_without_an_answer_is_no_answer() -> None:
    client = Client([told(A, 7), told(B, -1001, "TOPIC_AUTHORIZATION_FAILED")])
    with pytest.raises(KafkaException) as caught:
        find_committed(client, [A, B], 5.0)  # type: ignore[arg-type]
    assert caught.value.args[0].name() == "TOPIC_AUTHORIZATION_FAILED"


# --- where partitions start and end ------------------------------------------------------------------------------


def test_bounds_are_asked_in_one_request_each_and_are_never_negative() -> None:
    client = Client({EARLIEST: [told(A, 3), told(B, -1)], LATEST: [told(A, 9), told(B, -1)]})
    assert find_bounds(client, iter([A, B]), 5.0, "prod") == {A: Bounds(3, 9), B: Bounds(0, 0)}  # type: ignore[arg-type]
    assert [[entry.offset for entry in asked] for asked in client.asked] == [[EARLIEST] * 2, [LATEST] * 2]


def test_a_partition_that_the_client_has_not_heard_of_is_looked_up_and_asked_for_again() -> None:
    """A group may assign a partition that was added since (KIP-848)."""
    client = Client([told(A, -1, "_UNKNOWN_PARTITION")], SimpleNamespace(topics={}), [told(A, 4)])
    assert find_offsets(client, [A], 17, 5.0, "prod") == {A: 4}  # type: ignore[arg-type]
    assert client.asked[1] == "t"


def test_a_leader_that_moves_is_waited_for_and_a_silent_cluster_is_not_reachable() -> None:
    client = Client(failing("_TRANSPORT"), [told(A, 4)])
    assert find_offsets(client, [A], 17, 5.0, "prod") == {A: 4}  # type: ignore[arg-type]
    with pytest.raises(UnreachableError, match=r"no answer to a list-offsets request: .*; kpipe check says why"):
        find_offsets(Client(failing("_TRANSPORT")), [A], 17, 0.0, "prod")  # type: ignore[arg-type]


def test_what_one_partition_says_is_told_with_its_place() -> None:
    with pytest.raises(UnreachableError, match=r"prod:t\[0\]: .*DESCRIBE"):
        find_offsets(Client([told(A, -1, "TOPIC_AUTHORIZATION_FAILED")]), [A], 17, 5.0, "prod")  # type: ignore[arg-type]
    with pytest.raises(KpipeError, match=r"prod:t\[0\]: cannot list offsets"):
        find_offsets(Client([told(A, -1, "INVALID_REQUEST")]), [A], 17, 5.0, "prod")  # type: ignore[arg-type]


def test_watermarks_are_those_of_the_cluster_or_of_the_last_fetch() -> None:
    assert find_watermarks(Client((3, 9)), A, 2.0) == Bounds(3, 9)  # type: ignore[arg-type]
    assert find_watermarks(Client(None), A, 2.0) == Bounds(0, 0)  # type: ignore[arg-type]
    found = [fetched_end(Client(answer), A) for answer in ((3, 9), None, failing("_TRANSPORT"))]  # type: ignore[arg-type]
    assert found == [9, -1, -1]


# --- which partitions there are ----------------------------------------------------------------------------------


def test_one_try_for_metadata_ends_in_nothing_where_nobody_answers() -> None:
    topics = SimpleNamespace(
        topics={"t": SimpleNamespace(partitions={1: 0, 0: 0}), "u": SimpleNamespace(partitions={})}
    )
    silent = failing("_TIMED_OUT")
    assert [try_metadata(Client(answer), 1.0) for answer in (topics, silent)] == [topics, None]
    assert [try_topic(Client(answer), 1.0, "x") for answer in (topics, silent)] == [None, None]
    assert try_topic(Client(topics), 1.0, "t") is topics.topics["t"]
    assert find_partitions(Client(topics), "t", 1.0) == [0, 1]
    assert find_all_partitions(Client(topics), 1.0) == {("t", 0), ("t", 1)}


def test_a_client_that_is_closed_waits_for_nobody() -> None:
    answers = (SimpleNamespace(topics={}), failing("_TIMED_OUT"), RuntimeError("the producer is closed"))
    assert [is_answered(Client(answer), 1.0, "t") for answer in answers] == [True, False, True]

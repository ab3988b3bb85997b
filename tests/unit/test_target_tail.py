"""What is read of the target before a resumed run goes on: from the floors to the ends, no record more, and no wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kpipe.delivery.tail import ANSWER, SILENCE, TargetTail
from kpipe.errors import KpipeError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AWAY = KafkaException(KafkaError(KafkaError._TRANSPORT, "away"))


class Message:
    def __init__(self, partition: int, offset: int, error: Any = None) -> None:
        self._place, self._error = (partition, offset), error

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]

    def error(self) -> Any:
        return self._error


def end(partition: int, offset: int) -> Message:
    return Message(partition, offset, KafkaError(KafkaError._PARTITION_EOF))


class Target:
    """A topic with these (low, high) per partition; its reader is given `messages`, a list for each call."""

    def __init__(
        self, bounds: Mapping[int, tuple[int, int] | None], messages: Sequence[list[Message]] = (), failures: int = 0
    ) -> None:
        self.bounds, self.messages, self.failures = dict(bounds), list(messages), failures
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.starts: dict[int, int] = {}
        self.stopped = False

    def open(self, isolation: str) -> Any:
        self.opened.append(isolation)
        return SimpleNamespace(
            list_topics=self._list_topics,
            get_watermark_offsets=lambda place, timeout: self.bounds[place.partition],
            assign=lambda places: self.starts.update({place.partition: place.offset for place in places}),
            consume=lambda count, timeout: self.messages.pop(0) if self.messages else [],
            close=lambda: self.closed.append(isolation),
        )

    def _list_topics(self, topic: str, timeout: float) -> Any:
        assert 0 < timeout <= 10
        if self.failures:
            self.failures -= 1
            raise AWAY
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=dict.fromkeys(self.bounds))})

    def tail(self, limit: int = 1000) -> TargetTail:
        return TargetTail("copy", "b:copy", self.open, limit, lambda: self.stopped)

    def search(self, floors: Mapping[int, int], limit: int = 1000) -> tuple[list[tuple[int, int]], dict[int, int]]:
        taken: list[tuple[int, int]] = []
        search = self.tail(limit).search(
            floors, lambda messages: taken.extend((each.partition(), each.offset()) for each in messages)
        )
        while True:
            try:
                next(search)
            except StopIteration as over:
                return taken, over.value


def test_what_lies_behind_the_floors_is_read_to_the_ends() -> None:
    target = Target({0: (0, 10), 1: (5, 7)}, [[Message(0, 8), Message(1, 5)], [Message(0, 9), Message(1, 6)]])
    assert target.search({0: 8}) == ([(0, 8), (1, 5), (0, 9), (1, 6)], {0: 10, 1: 7})
    assert target.starts == {0: 8, 1: 5}, "a floor below what is left of the log is its first offset"
    assert target.opened == ["read_uncommitted", "read_committed"]
    assert target.closed == ["read_committed"]


def test_a_floor_behind_the_end_reads_nothing_and_opens_no_reader() -> None:
    target = Target({0: (0, 10)})
    assert target.search({0: 99}) == ([], {0: 10})
    assert target.opened == ["read_uncommitted"]


def test_an_empty_partition_and_one_without_an_answer_are_read_to_their_ends() -> None:
    assert Target({0: (3, 3), 1: None}).search({}) == ([], {0: 3, 1: 0})


def test_reading_stops_at_the_last_record_and_at_the_end_behind_markers() -> None:
    target = Target({0: (0, 2), 1: (0, 9)}, [[Message(0, 1)], [Message(1, 6)], [end(1, 9)], [Message(1, 10)]])
    taken, ends = target.search({})
    assert taken == [(0, 1), (1, 6)]
    assert ends == {0: 2, 1: 9}
    assert target.messages != [], "no record is read behind the ends"


def test_an_end_that_was_told_early_is_not_the_end() -> None:
    target = Target({0: (0, 5)}, [[end(0, 3)], [Message(0, 4)]])
    assert target.search({})[0] == [(0, 4)]


def test_a_partition_that_was_not_asked_for_changes_nothing() -> None:
    target = Target({0: (0, 2)}, [[Message(7, 99)], [Message(0, 1)]])
    assert target.search({})[0] == [(7, 99), (0, 1)]


def test_as_many_records_as_the_limit_are_read_and_one_more_is_refused() -> None:
    target = Target({0: (0, 3), 1: (0, 2)}, [[Message(0, 2), Message(1, 1)]])
    assert target.search({}, limit=5)[1] == {0: 3, 1: 2}
    with pytest.raises(KpipeError, match=r"5 records would have to be read.*--resume-limit \(4\)"):
        Target({0: (0, 3), 1: (0, 2)}).search({}, limit=4)


def test_an_error_that_passes_is_waited_out_and_any_other_ends_the_look_up() -> None:
    passing = KafkaError(KafkaError._TRANSPORT, "away", retriable=True)
    target = Target({0: (0, 2)}, [[Message(0, 0, passing)], [Message(0, 1)]])
    assert target.search({})[0] == [(0, 1)]
    refused = Message(0, 0, KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "denied"))
    target = Target({0: (0, 2)}, [[refused]])
    with pytest.raises(UnreachableError, match="denied"):
        target.search({})
    assert target.closed == ["read_committed"]


def test_a_cluster_that_is_away_is_asked_again() -> None:
    target = Target({0: (0, 0)}, failures=3)
    assert target.search({}) == ([], {0: 0})


def test_after_a_signal_it_is_not_asked_again() -> None:
    target = Target({0: (0, 0)}, failures=10**9)
    search = target.tail().search({}, lambda _messages: None)
    next(search)
    target.stopped = True
    with pytest.raises(UnreachableError, match="cannot find the end of the target"):
        next(search)


def test_the_ends_are_asked_of_one_client_that_sees_open_transactions() -> None:
    target = Target({0: (2, 10), 1: None})
    tail = target.tail()
    assert [tail.ends(), tail.ends(5.0)] == [{0: 10, 1: 0}] * 2
    assert target.opened == ["read_uncommitted"]
    tail.close()
    tail.close()
    assert target.closed == ["read_uncommitted"]


def test_ends_that_nobody_tells_are_an_error_of_the_cluster() -> None:
    with pytest.raises(UnreachableError, match="cannot find the end of the target"):
        Target({0: (0, 1)}, failures=1).tail().ends()


# --- how long it waits ---------------------------------------------------------------------------------------------


class Timed(Target):
    """Every question takes as long as it may, and so does every look at the reader that brings nothing."""

    def __init__(
        self, bounds: Mapping[int, tuple[int, int] | None], messages: Sequence[list[Message]] = (), failures: int = 0
    ) -> None:
        super().__init__(bounds, messages, failures)
        self.now = 0.0
        self.looks: list[tuple[int, float]] = []
        self.limits: list[float] = []

    def open(self, isolation: str) -> Any:
        client = super().open(isolation)
        client.consume = self._consume
        return client

    def _consume(self, count: int, timeout: float) -> list[Message]:
        self.looks.append((count, timeout))
        if timeout == 0 or not self.messages:
            self.now += timeout
            return []
        return self.messages.pop(0)

    def _list_topics(self, topic: str, timeout: float) -> Any:
        self.limits.append(timeout)
        if self.failures:
            self.now += timeout
        return super()._list_topics(topic, timeout)

    def tail(self, limit: int = 1000) -> TargetTail:
        return TargetTail("copy", "b:copy", self.open, limit, lambda: self.stopped, clock=lambda: self.now)


def test_what_is_there_is_taken_at_once_and_what_is_not_is_waited_for_briefly() -> None:
    target = Timed({0: (0, 2)}, [[Message(0, 0)], [Message(0, 1)]])
    assert target.search({})[0] == [(0, 0), (0, 1)]
    for at_once, waits in (target.looks[:2], target.looks[2:]):
        assert (at_once[0] > 100, at_once[1]) == (True, 0)
        assert 0 < waits[1] <= 0.5, "the group must hear of us meanwhile"


def test_a_target_that_says_nothing_more_is_given_up() -> None:
    """An open transaction in the target hides what is behind it for as long as it lasts."""
    target = Timed({0: (0, 2)}, [[Message(0, 0)]])
    with pytest.raises(UnreachableError, match="the end of the target was not reached; is a transaction open there"):
        target.search({})
    assert SILENCE < target.now < SILENCE + 1
    assert target.closed == ["read_committed"]


def test_each_record_is_a_sign_of_life() -> None:
    target = Timed({0: (0, 3)})
    taken: list[Message] = []
    search = target.tail().search({}, taken.extend)
    next(search)
    for offset in range(2):
        target.now += SILENCE * 0.75
        target.messages = [[Message(0, offset)]]
        next(search)
    target.messages = [[Message(0, 2)]]
    list(search)
    assert [each.offset() for each in taken] == [0, 1, 2]


def test_a_cluster_that_does_not_answer_is_given_up_in_time() -> None:
    target = Timed({0: (0, 0)}, failures=10**9)
    with pytest.raises(UnreachableError, match="cannot find the end of the target"):
        target.search({})
    assert ANSWER <= target.now <= ANSWER + 1
    assert max(target.limits) <= 1, "between two questions the group hears of us"


def test_the_ends_have_the_time_they_are_given_and_never_none() -> None:
    target = Timed({0: (0, 1)})
    target.tail().ends()
    target.tail().ends(3.0)
    target.tail().ends(-1.0)
    assert target.limits == [ANSWER, 3.0, pytest.approx(0.1, abs=0.1)]
    assert target.limits[-1] > 0


def test_only_what_lies_behind_the_floors_counts_for_the_limit() -> None:
    target = Target({0: (0, 1000)}, [[Message(0, 999)]])
    assert target.search({0: 995}, limit=5)[0] == [(0, 999)]

"""Ranges of offsets are read to their ends, and nothing else, however a consumer mixes its partitions."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kpipe.kafka.questions import Failure
from kpipe.kafka.ranges import RangeReader
from tests.fakes import ClientError

PLACES = [("a", 0), ("a", 1), ("b", 0)]


class Message:
    def __init__(self, place: tuple[str, int], offset: int, error: Any = None) -> None:
        self._place, self._offset, self._error = place, offset, error

    def topic(self) -> str:
        return self._place[0]

    def partition(self) -> int:
        return self._place[1]

    def offset(self) -> int:
        return self._offset

    def error(self) -> Any:
        return self._error

    def __len__(self) -> int:
        return 100_000  # a jump is worth it from the third record on


class Consumer:
    """Gives what the logs hold from where it was assigned, `size` records at a time, taking turns as `order` says."""

    def __init__(self, logs: dict[tuple[str, int], list[int]], order: list[int], size: int) -> None:
        self._logs, self._order, self._size = logs, order, size
        self._queues: dict[tuple[str, int], list[Message]] = {}
        self.broken: set[tuple[str, int]] = set()
        self.assigned = self.given = 0

    def assign(self, places: list[Any]) -> None:
        self.assigned += 1
        self._queues = {(each.topic, each.partition): self._queue(each) for each in places}

    def _queue(self, asked: Any) -> list[Message]:
        place = (asked.topic, asked.partition)
        if place in self.broken:
            return [Message(place, -1, ClientError("TOPIC_AUTHORIZATION_FAILED"))]
        found = [Message(place, offset) for offset in self._logs[place] if offset >= asked.offset]
        return [*found, Message(place, -1, ClientError("_PARTITION_EOF"))]

    def seek(self, place: Any) -> None:
        assert (place.topic, place.partition) in self._queues
        self._queues[place.topic, place.partition] = self._queue(place)

    def incremental_unassign(self, places: list[Any]) -> None:
        for each in places:
            self._queues.pop((each.topic, each.partition), None)

    def unassign(self) -> None:
        self._queues.clear()

    def consume(self, count: int, wait: float) -> list[Message]:
        found: list[Message] = []
        for turn in self._order:
            queues = [queue for _, queue in sorted(self._queues.items()) if queue]
            if queues:
                queue = queues[turn % len(queues)]
                found += queue[: self._size]
                del queue[: self._size]
        self.given += len(found)
        return found


class Connection:
    """What a reader asks of a cluster."""

    patience = 5.0

    def __init__(self, consumer: Consumer) -> None:
        self.cluster = type("Cluster", (), {"properties": {}})()
        self._consumer = consumer

    def consumer(self, **own: Any) -> Any:
        return self._consumer


LOG = st.lists(st.integers(0, 30), unique=True).map(sorted)


@given(
    st.fixed_dictionaries(dict.fromkeys(PLACES, LOG)),
    st.dictionaries(st.sampled_from(PLACES), st.tuples(st.integers(0, 30), st.integers(0, 31)), min_size=1),
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
    st.integers(1, 7),
)
def test_all_records_of_the_ranges_and_no_others(
    logs: dict[tuple[str, int], list[int]],
    ranges: dict[tuple[str, int], tuple[int, int]],
    order: list[int],
    size: int,
) -> None:
    reader = RangeReader(Connection(Consumer(logs, order, size)))  # type: ignore[arg-type]
    found: dict[tuple[str, int], list[int]] = {place: [] for place in ranges}
    for messages in reader.records(ranges):
        for message in messages:
            found[str(message.topic()), int(message.partition() or 0)].append(int(message.offset() or 0))
    assert found == {
        place: [offset for offset in logs[place] if start <= offset < end] for place, (start, end) in ranges.items()
    }


def test_a_partition_that_fails_is_noted_and_the_others_are_read() -> None:
    consumer = Consumer({place: [0, 1, 2] for place in PLACES}, [0, 1, 2], 2)
    consumer.broken = {("a", 1)}
    reader = RangeReader(Connection(consumer))  # type: ignore[arg-type]
    failed: dict[tuple[str, int], Failure] = {}
    read = [message for messages in reader.records(dict.fromkeys(PLACES, (0, 3)), failed) for message in messages]
    assert (len(read), list(failed)) == (6, [("a", 1)])


@given(
    st.fixed_dictionaries(dict.fromkeys(PLACES, LOG)),
    st.dictionaries(
        st.sampled_from(PLACES), st.tuples(st.sets(st.integers(0, 30), min_size=1), st.integers(31, 32)), min_size=1
    ),
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
    st.integers(1, 7),
)
def test_the_first_record_at_or_behind_each_of_many_offsets(
    logs: dict[tuple[str, int], list[int]],
    wanted: dict[tuple[str, int], tuple[set[int], int]],
    order: list[int],
    size: int,
) -> None:
    consumer = Consumer(logs, order, size)
    reader = RangeReader(Connection(consumer))  # type: ignore[arg-type]
    found = reader.first_from({place: (sorted(offsets), end) for place, (offsets, end) in wanted.items()})
    told = {key: None if message is None else message.offset() for key, message in found.items()}  # type: ignore[union-attr]
    assert told == {
        (place, at): next((offset for offset in logs[place] if at <= offset < end), None)
        for place, (offsets, end) in wanted.items()
        for at in offsets
    }
    assert consumer.assigned == 1  # 1,000 groups at 100 offsets of a partition took 26 s with an assignment for each


def test_far_offsets_are_jumped_to_and_a_silent_partition_is_late() -> None:
    consumer = Consumer({("a", 0): list(range(1000)), ("b", 0): []}, [0], 5)
    reader = RangeReader(Connection(consumer))  # type: ignore[arg-type]
    found = reader.first_from({("a", 0): ([3, 500, 501, 900], 1000)})
    assert [message.offset() for message in found.values() if message] == [3, 500, 501, 900]  # type: ignore[union-attr]
    assert consumer.given < 30
    consumer.consume = lambda count, wait: []  # type: ignore[method-assign]
    late = reader.first_from({("b", 0): ([0, 7], 9)}, silence=0.01)
    assert [(key, failure.text) for key, failure in late.items()] == [  # type: ignore[union-attr]
        ((("b", 0), 0), "no answer in time"),
        ((("b", 0), 7), "no answer in time"),
    ]

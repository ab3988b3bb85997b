"""What a refused batch took with it arrives in order, each record once, and only those that are refused alone are judged."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kpipe.flight import Flight, Unsent
from kpipe.kafka.troubles import Troubles
from kpipe.sinks.bisect_batch import PART, PART_BYTES, BatchBisection, Resent, parts_of
from tests.fakes import ClientError


class Broker:
    """Takes what was produced since the last flush as one batch for each partition, or refuses it as a whole.

    `bad` are values that it refuses; with two or more of them in a batch the good ones are told apart (KIP-467).
    """

    def __init__(self, bad: set[bytes], *, answer: str = "INVALID_RECORD", frozen: bool = False) -> None:
        self.bad, self.answer, self.frozen = bad, answer, frozen
        self.log: list[tuple[int, bytes]] = []
        self.queue: list[Any] = []
        self.batches = 0

    def __len__(self) -> int:
        return len(self.queue)

    def produce(self, *row: Any) -> None:
        self.queue.append(row)

    def flush(self, _timeout: float) -> None:
        if self.frozen:
            return
        queue, self.queue = self.queue, []
        for partition in sorted({row[3] for row in queue}):
            batch = [row for row in queue if row[3] == partition]
            self.batches += 1
            found = [row[1] in self.bad for row in batch]
            for row, is_bad in zip(batch, found, strict=True):
                if not any(found):
                    self.log.append((partition, row[1]))
                    row[4](None, None)
                else:
                    neighbour = sum(found) > 1 and not is_bad and self.answer == "INVALID_RECORD"
                    row[4](ClientError("_INVALID_DIFFERENT_RECORD" if neighbour else self.answer), None)

    def purge(self) -> None:
        queue, self.queue = self.queue, []
        for row in queue:
            row[4](ClientError("_PURGE_INFLIGHT"), None)


class Trial:
    def __init__(
        self, broker: Broker, values: list[bytes], *, partitions: int = 1, stop: bool = False, idle: bool = True
    ) -> None:
        self.settled: list[bytes] = []
        self.judged: list[tuple[bytes, str]] = []
        flight = Flight()

        def row(number: int, value: bytes) -> Resent:
            arguments = ("t", value, None, number % partitions, 0, None)
            return Resent(flight, number, arguments, lambda _message: self.settled.append(value))

        def judge(_flight: Flight, number: int, report: Any) -> bool:
            self.judged.append((values[number], "unsent" if isinstance(report, Unsent) else report.name()))
            return not stop and not isinstance(report, Unsent)

        rows = [row(number, value) for number, value in enumerate(values)]
        BatchBisection(broker, Troubles("c"), judge, lambda: idle).run(rows)


def values_of(count: int) -> list[bytes]:
    return [b"%05d" % number for number in range(count)]


@pytest.mark.parametrize("seed", range(30))
def test_only_the_culprits_are_judged_and_all_others_arrive_in_order(seed: int) -> None:
    chance = random.Random(seed)
    values = values_of(chance.choice([1, 2, 3, PART, PART + 1, 1700]))
    bad = set(chance.sample(values, min(len(values), chance.choice([1, 1, 2, 5, 20]))))
    partitions = chance.choice([1, 3])
    broker = Broker(bad, answer=chance.choice(["INVALID_RECORD", "INVALID_TIMESTAMP", "MSG_SIZE_TOO_LARGE"]))

    trial = Trial(broker, values, partitions=partitions)

    assert sorted(value for value, _ in trial.judged) == sorted(bad)
    for partition in range(partitions):
        written = [value for number, value in broker.log if number == partition]
        assert written == [value for value in values[partition::partitions] if value not in bad]
    assert sorted(trial.settled) == sorted(set(values) - bad)


def test_a_culprit_costs_few_batches() -> None:
    broker = Broker({b"00250"}, answer="INVALID_TIMESTAMP")
    Trial(broker, values_of(500))
    assert broker.batches <= 20


def test_under_stop_nothing_behind_the_culprit_is_sent() -> None:
    broker = Broker({b"00003", b"00007"}, answer="INVALID_TIMESTAMP")
    trial = Trial(broker, values_of(1200), stop=True)
    assert [value for _, value in broker.log] == values_of(3)
    assert trial.judged[0] == (b"00003", "INVALID_TIMESTAMP")
    assert trial.judged[1:] == [(value, "unsent") for value in values_of(1200)[4:]]


def test_what_no_record_is_to_blame_for_stands_as_it_is() -> None:
    broker = Broker(set(values_of(3)), answer="TOPIC_AUTHORIZATION_FAILED")
    trial = Trial(broker, values_of(3), stop=True)
    assert trial.judged == [(value, "TOPIC_AUTHORIZATION_FAILED") for value in values_of(3)]
    assert trial.settled == []


def test_when_nobody_waits_any_longer_what_is_out_is_unknown_and_the_rest_unsent() -> None:
    broker = Broker(set(), frozen=True)
    trial = Trial(broker, values_of(PART + 2), idle=False)
    assert [name for _, name in trial.judged] == ["_PURGE_INFLIGHT"] * PART + ["unsent"] * 2


def test_parts_are_small_enough_for_one_batch_each() -> None:
    flight = Flight()
    rows = [
        Resent(flight, n, ("t", b"x" * size, None, 0, 0, None), lambda _m: None)
        for n, size in enumerate([10] * 600 + [400_000, 10, 200_000])
    ]
    parts = list(parts_of(rows))
    assert [row for part in parts for row in part] == rows
    assert all(len(part) <= PART for part in parts)
    assert all(len(part) == 1 or sum(row.size for row in part) <= PART_BYTES for part in parts)


class Scripted:
    """Answers each value as `answers` says (None: delivered); takes `room` records at a time, needs `slow` flushes."""

    def __init__(self, answers: dict[bytes, str] | None = None, *, room: int = 10**6, slow: int = 0) -> None:
        self.answers, self.room, self.slow = answers or {}, room, slow
        self.queue: list[Any] = []
        self.sent: list[bytes] = []
        self.waits: list[float] = []
        self.purged = 0
        self.raises: Exception | None = None
        self.stuck = False

    def __len__(self) -> int:
        return len(self.queue)

    def produce(self, *row: Any) -> None:
        if self.raises is not None:
            raise self.raises
        if len(self.queue) >= self.room:
            raise BufferError
        self.queue.append(row)

    def flush(self, timeout: float) -> None:
        self.waits.append(timeout)
        if self.slow or self.stuck:
            self.slow -= 1
            return
        queue, self.queue = self.queue, []
        for row in queue:
            name = "_PURGE_QUEUE" if self.purged else self.answers.get(row[1])
            self.sent.append(row[1])
            row[4](None if name is None else ClientError(name), None)

    def purge(self) -> None:
        """Reports of what was purged come with the next flush."""
        self.purged += 1
        self.slow = 0


def test_where_nobody_is_to_blame_the_next_part_is_not_tried() -> None:
    values = values_of(PART + 2)
    trial = Trial(Scripted(dict.fromkeys(values, "TOPIC_AUTHORIZATION_FAILED")), values, stop=True)  # type: ignore[arg-type]
    assert [name for _, name in trial.judged] == ["TOPIC_AUTHORIZATION_FAILED"] * PART + ["unsent"] * 2


def test_what_fell_with_a_batch_beside_another_fault_is_still_sent_again() -> None:
    """One is refused alone, another fell with its batch: the second arrives, for nothing is wrong with it."""
    broker = Scripted({b"00000": "TOPIC_AUTHORIZATION_FAILED", b"00001": "INVALID_RECORD"})
    trial = Trial(broker, values_of(3))  # type: ignore[arg-type]
    assert trial.judged == [(b"00000", "TOPIC_AUTHORIZATION_FAILED"), (b"00001", "INVALID_RECORD")]
    assert broker.sent == [b"00000", b"00001", b"00002", b"00001"]
    assert trial.settled == [b"00002"]


def test_a_slow_broker_is_waited_for_in_short_slices() -> None:
    broker = Scripted(slow=3)
    trial = Trial(broker, values_of(2))  # type: ignore[arg-type]
    assert (trial.settled, trial.judged, broker.purged) == (values_of(2), [], 0)
    assert max(broker.waits) <= 0.2


def test_what_has_arrived_at_once_needs_nobodys_patience() -> None:
    values = values_of(PART + 2)
    broker = Scripted()
    trial = Trial(broker, values, idle=False)  # type: ignore[arg-type]
    assert (trial.settled, trial.judged, broker.purged) == (values, [], 0)


def test_what_was_purged_is_heard_of() -> None:
    broker = Scripted(slow=5)
    trial = Trial(broker, values_of(2), idle=False)  # type: ignore[arg-type]
    assert [name for _, name in trial.judged] == ["_PURGE_QUEUE"] * 2


def test_a_client_that_does_not_let_go_is_left() -> None:
    broker = Scripted()
    broker.stuck = True
    trial = Trial(broker, values_of(2), idle=False)  # type: ignore[arg-type]
    assert (trial.settled, trial.judged, broker.purged) == ([], [], 1)


def test_a_full_queue_is_waited_for() -> None:
    broker = Scripted(room=2)
    trial = Trial(broker, values_of(7))  # type: ignore[arg-type]
    assert (trial.settled, trial.judged) == (values_of(7), [])
    assert max(broker.waits) <= 0.2


def test_a_full_queue_that_nobody_waits_for_leaves_the_record_unsent() -> None:
    broker = Scripted(room=2, slow=1)
    trial = Trial(broker, values_of(PART + 1), idle=False)  # type: ignore[arg-type]
    assert trial.judged[0] == (b"00002", "unsent")
    assert trial.judged[-1] == (values_of(PART + 1)[-1], "unsent"), "nothing more is tried"
    assert not set(trial.settled) & {value for value, _ in trial.judged}
    assert len(trial.settled) + len(trial.judged) == PART + 1


@pytest.mark.parametrize("error", [ValueError(ClientError("_INVALID_ARG")), ValueError()])
def test_a_record_that_the_client_does_not_take_is_judged_as_it_says(error: Exception) -> None:
    broker, judged = Scripted(), []
    broker.raises = error
    row = Resent(Flight(), 0, ("t", b"v", None, 0, 0, None), lambda _message: None)
    bisection = BatchBisection(broker, Troubles("c"), lambda *judgement: bool(judged.append(judgement)), lambda: True)
    bisection.run([row])
    assert [report for _, _, report in judged] == [error.args[0] if error.args else error]


def test_the_size_of_a_record_is_that_of_key_and_value_and_some_bytes_around() -> None:
    sizes = {(b"abc", b"de"): 55, (None, b"de"): 52, (b"abc", None): 53, (None, None): 50}
    for (value, key), size in sizes.items():
        assert Resent(Flight(), 0, ("t", value, key, 0, 0, None), lambda _m: None).size == size


def test_a_part_is_filled_to_the_last_byte_and_none_is_empty() -> None:
    def rows(*sizes: int) -> list[Resent]:
        return [
            Resent(Flight(), n, ("t", b"x" * (s - 50), None, 0, 0, None), lambda _m: None) for n, s in enumerate(sizes)
        ]

    half = PART_BYTES // 2
    assert [len(part) for part in parts_of(rows(half, half, half, half, 60))] == [2, 2, 1]
    assert [len(part) for part in parts_of(rows(PART_BYTES + 1, 60))] == [1, 1]
    assert list(parts_of([])) == []

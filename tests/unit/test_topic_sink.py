"""Rows go to the client in order, each once, whatever the client says to one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kpipe.flight import Flight
from kpipe.kafka.troubles import Troubles
from kpipe.ledger import Ledger
from kpipe.record import TIMESTAMP_CREATE, Batch
from kpipe.sinks.producing import Producing
from kpipe.sinks.topic import NotSent, TopicSink

SIZE = 7


class Client:
    """Takes rows; `full` maps a value to how often there is no room for it first, `bad` are values that it refuses."""

    def __init__(self, full: dict[bytes, int] | None = None, bad: Iterable[bytes] = ()) -> None:
        self.full = full or {}
        self.bad = set(bad)
        self.rows: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def produce(self, topic: str, value: bytes, *rest: Any) -> None:
        if self.full.get(value, 0):
            self.full[value] -= 1
            raise BufferError
        if value in self.bad:
            raise ValueError("no such thing")
        self.rows.append((topic, value, *rest))

    def close(self) -> None:
        pass

    def poll(self, timeout: float) -> None:
        if self.full and max(self.full.values()) > 10:  # it will not get better
            time.sleep(timeout)


def send(
    client: Client,
    batch: Batch,
    partition_of: Callable[[Batch], Iterable[int]] | None = None,
    idle: Callable[[], bool] = lambda: True,
) -> Flight:
    flight = Ledger().track(batch, batch.snapshot())
    sink = TopicSink(Producing(client, Troubles("c")), "t", "c", partition_of=partition_of)  # type: ignore[arg-type]
    sink.send(batch, flight, idle)
    return flight


def values() -> list[bytes | None]:
    return [b"%d" % number for number in range(SIZE)]


def full_batch() -> Batch:
    return Batch(
        values(),
        keys=[None if number % 2 else b"k%d" % number for number in range(SIZE)],
        headers=[None if number == 3 else [("h", b"%d" % number)] for number in range(SIZE)],
        timestamps=[(TIMESTAMP_CREATE if number else 0, 1000 + number) for number in range(SIZE)],
    )


def expected(batch: Batch, flight: Flight, partitions: list[int]) -> list[tuple[Any, ...]]:
    return [
        ("t", value, key, partition, report, None, ms if kind else 0, headers)
        for value, key, partition, report, (kind, ms), headers in zip(
            batch.values,
            batch.keys or [],
            partitions,
            flight.reports,
            batch.timestamps or [],
            batch.headers or [],
            strict=True,
        )
    ]


@pytest.mark.parametrize(
    "full", [{}, {b"0": 1}, {b"3": 2, b"4": 1}, {b"6": 1}], ids=["never", "first", "middle", "last"]
)
def test_a_full_queue_changes_no_row_and_no_order(full: dict[bytes, int]) -> None:
    batch, client = full_batch(), Client(full)
    partitions = [number % 3 for number in range(SIZE)]
    flight = send(client, batch, lambda _batch: partitions)
    assert client.rows == expected(batch, flight, partitions)
    assert not flight.failures


def test_what_is_missing_is_filled_in() -> None:
    batch, client = Batch(values()), Client({b"5": 1})
    flight = send(client, batch)
    assert client.rows == [
        ("t", value, None, -1, report, None, 0, None) for value, report in zip(values(), flight.reports, strict=True)
    ]
    batch, client = Batch(values()), Client({b"5": 1})
    send(client, batch, lambda _batch: repeat(2))
    assert [row[3] for row in client.rows] == [2] * SIZE


def test_a_refused_row_is_its_own_failure_and_the_others_go_on() -> None:
    client = Client(bad=[b"0", b"4", b"6"])
    flight = send(client, full_batch())
    assert [row[1] for row in client.rows] == [b"1", b"2", b"3", b"5"]
    assert [index for index, _ in flight.failures] == [0, 4, 6]
    assert all("no such thing" in getattr(error, "reason", "") for _, error in flight.failures)


def test_when_waiting_makes_no_sense_any_more_the_rest_is_known_not_to_be_sent() -> None:
    client = Client({b"2": 1 << 30})
    flight = send(client, full_batch(), idle=lambda: False)
    assert [row[1] for row in client.rows] == [b"0", b"1"]
    assert [index for index, _ in flight.failures] == [2, 3, 4, 5, 6]
    assert all(isinstance(error, NotSent) for _, error in flight.failures)


@pytest.mark.parametrize(
    ("cause", "code", "said"),
    [
        (
            ("OUT_OF_ORDER_SEQUENCE_NUMBER", "a gap"),
            1,
            "the producer cannot go on (OUT_OF_ORDER_SEQUENCE_NUMBER): a gap",
        ),
        (("CLUSTER_AUTHORIZATION_FAILED", "no"), 4, "not authorised: no ACL allows WRITE on any topic"),
    ],
)
def test_a_record_that_went_down_with_the_producer_says_what_felled_it(
    cause: tuple[str, str], code: int, said: str
) -> None:
    """Also in the last flush, where nobody polls any more."""
    sink = TopicSink(Producing(Client(), Troubles("c", fatal=cause)), "t", "c")  # type: ignore[arg-type]
    for name, unwritten in (("_FATAL", False), ("_PURGE_QUEUE", True), ("_PURGE_INFLIGHT", False)):
        report = SimpleNamespace(name=lambda name=name: name)
        error = sink.explain(report, "s:0:7")
        assert str(error).startswith(f"send: s:0:7 -> c:t: {said}")
        assert (error.exit_code, error.code, sink.unwritten(report)) == (code, cause[0], unwritten)
        assert not sink.refused(report)
    own = TopicSink(Producing(Client(), Troubles("c")), "t", "c").explain(report, "")  # type: ignore[arg-type]
    assert "raise --drain-timeout" in str(own)


def test_what_a_filter_left_keeps_its_reports() -> None:
    batch, client = full_batch(), Client({b"4": 1}, bad=[b"5"])
    flight = Ledger().track(batch, batch.snapshot())
    batch.keep([number in {1, 4, 5} for number in range(SIZE)])
    TopicSink(Producing(client, Troubles("c")), "t", "c").send(batch, flight, lambda: True)  # type: ignore[arg-type]
    assert [row[1] for row in client.rows] == [b"1", b"4"]
    for row in client.rows:
        row[4](None, None)
    assert (flight.settled, [index for index, _ in flight.failures]) == ([1, 4], [5])


class Denied(Client):
    """A producer of somebody who may write nowhere: it is dead before it takes a record, and says why in a poll."""

    def produce(self, *_row: Any) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL, "Unable to produce message"))

    def poll(self, _timeout: float) -> None:
        raise KafkaException(KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, "no", fatal=True))


def test_a_right_that_is_withdrawn_while_records_are_on_their_way_is_what_the_run_ends_with() -> None:
    """The batch hears of it, those behind it fall with the producer, and a new producer is not even let in."""
    batch, torn = full_batch(), Troubles("c", fatal=("_GAPLESS_GUARANTEE", "a batch was refused"))
    producing = Producing(Client(), torn, lambda _changed: (Denied(), Troubles("c")), keeps_order=True)  # type: ignore[arg-type]
    sink = TopicSink(producing, "t", "c")
    flight = Ledger().track(batch, batch.snapshot())
    sink.send(batch, flight, lambda: True)
    refused = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    dead = KafkaError(KafkaError._FATAL)
    failures = [(flight, index, refused if index < 3 else dead) for index in range(SIZE)]
    judged: list[tuple[int, int, bool]] = []

    def judge(_flight: Flight, index: int, report: object) -> bool:
        error = sink.explain(report, "s:0:7")
        judged.append((index, error.exit_code, sink.unwritten(report)))
        assert "no ACL allows WRITE on" in str(error)
        assert not sink.refused(report)
        return False

    assert not sink.resend(failures[::-1], judge, lambda: True)
    assert sorted(judged) == [(index, 4, True) for index in range(SIZE)]
    assert {index for index, _, _ in judged[:3]} == {0, 1, 2}

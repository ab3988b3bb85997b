"""A target that grows is said once, without waiting for the answer."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from kpipe.record import Batch
from kpipe.sinks.partition_growth import LOOK, PartitionGrowth


class Admin:
    def __init__(self) -> None:
        self.asked: list[Future] = []

    def describe_topics(self, topics, request_timeout):
        self.asked.append(Future())
        return {"t": self.asked[-1]}


def test_growth_is_said_once() -> None:
    now, said, admin = [0.0], [], Admin()
    watch = PartitionGrowth(lambda: admin, "t", 2, "b:t", said.append, clock=lambda: now[0])
    watch(Batch([b"v"]))
    assert not admin.asked
    now[0] = LOOK + 1
    watch(Batch([b"v"]))
    watch(Batch([b"v"]))
    assert len(admin.asked) == 1
    admin.asked[0].set_result(SimpleNamespace(partitions=[0, 1, 2]))
    watch(Batch([b"v"]))
    (line,) = said
    assert line.startswith("send: b:t: has 3 partitions now, 2 at the start")
    now[0] = 2 * LOOK + 3
    watch(Batch([b"v"]))
    admin.asked[1].set_result(SimpleNamespace(partitions=[0, 1, 2]))
    watch(Batch([b"v"]))
    assert len(said) == 1


@pytest.mark.parametrize("error", [TimeoutError(), KafkaException(KafkaError(KafkaError._TIMED_OUT))])
def test_an_answer_that_fails_is_asked_for_again_by_a_client_that_may_be_answered(error: Exception) -> None:
    now, said, deaf, admin = [LOOK + 1.0], [], Admin(), Admin()
    clients = [deaf, admin]
    watch = PartitionGrowth(lambda: clients.pop(0), "t", 2, "b:t", said.append, clock=lambda: now[0])
    now[0] += LOOK
    watch(Batch([b"v"]))
    deaf.asked[0].set_exception(error)
    watch(Batch([b"v"]))
    for _ in range(2):
        now[0] += LOOK + 1
        watch(Batch([b"v"]))
        admin.asked[-1].set_exception(KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
        watch(Batch([b"v"]))
    assert (len(deaf.asked), len(admin.asked)) == (1, 2)
    assert not said

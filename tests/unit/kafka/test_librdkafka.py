"""The producer that takes columns, without a broker or with the one in the library: what it takes, refuses and tells."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections import Counter
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kpipe.kafka.librdkafka import ColumnProducer, can_send_columns


def threads() -> int:
    gc.collect()  # what earlier tests held in a circle
    return len(os.listdir("/proc/self/task"))


class Real:
    """The client, and what it told of."""

    def __init__(self, topic: str = "t", **properties: Any) -> None:
        self.failures: list[tuple[int, int, str]] = []
        self.errors: list[KafkaError] = []
        self.logs: list[str] = []
        own = {name.replace("_", "."): value for name, value in properties.items()}
        servers = {"bootstrap.servers": "127.0.0.1:1", **own}
        self.client = ColumnProducer(servers, topic, self.errors.append, self.logs.append)
        self.client.on_failure = lambda *failure: self.failures.append((*failure[:2], failure[2].name()))

    def wait(self, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while len(self.client) and time.monotonic() < deadline:
            self.client.poll(0.01)
        assert not len(self.client)


def test_what_fits_is_taken_and_a_purge_tells_of_each_record_once() -> None:
    run = Real(queue_buffering_max_messages=10)
    assert run.client.produce([b"v"] * 25, None, -1, 0xFFFFFFFF, 3) == (10, [])
    assert run.client.produce([b"v"], [b"k"], -1, 0) == (0, [])
    run.client.purge()
    assert run.failures == []
    run.wait()
    assert run.failures == [(0xFFFFFFFF, place, "_PURGE_QUEUE") for place in range(3, 13)]
    assert run.client.produce([b"v"], None, 0, 0) == (1, [])


def test_what_failed_counts_as_there_until_it_was_told() -> None:
    """The sink settles by it: were it less, a failed record would pass for a delivered one."""
    run = Real(delivery_timeout_ms=50, linger_ms=1)
    assert run.client.produce([b"v"] * 100, None, -1, 1) == (100, [])
    until = time.monotonic() + 2.2  # librdkafka looks for what is overdue once a second
    while time.monotonic() < until:
        assert len(run.client) >= 100
        time.sleep(0.01)
    run.client.flush(0.01)
    run.wait()
    assert Counter(run.failures) == Counter((1, place, "_MSG_TIMED_OUT") for place in range(100))


def test_nulls_and_empty_ones_arrive_and_what_is_too_large_is_refused() -> None:
    run = Real(test_mock_num_brokers=1, message_max_bytes=1000)
    values = [None, b"", b"x" * 2000, b"\0\xff", b""]
    taken, refused = run.client.produce(values, [b"", None, None, b"k", b"\0"], -1, 1)
    assert (taken, [(place, error.name()) for place, error in refused]) == (5, [(2, "MSG_SIZE_TOO_LARGE")])
    run.wait()
    assert run.failures == []


def test_a_fatal_error_is_told_with_its_cause_before_the_first_refusal() -> None:
    run = Real(enable_idempotence=True)
    assert run.client.produce([b"v"], None, -1, 1) == (1, [])
    run.client._library.rd_kafka_test_fatal_error(ctypes.c_void_p(run.client._client), 31, b"no right to it")
    taken, refused = run.client.produce([b"v", b"w"], None, -1, 2)
    assert (taken, [error.code() for _, error in refused]) == (2, [KafkaError._FATAL] * 2)
    assert [error.name() for error in run.errors if error.fatal()] == ["CLUSTER_AUTHORIZATION_FAILED"]
    run.wait()
    assert run.failures == [(1, 0, "_PURGE_QUEUE")]
    told = [(error.name(), "no right to it" in error.str()) for error in run.errors if error.fatal()]
    assert told == [("CLUSTER_AUTHORIZATION_FAILED", True)] * 2


def test_a_partition_that_is_not_there_refuses_every_record() -> None:
    run = Real(test_mock_num_brokers=1)
    assert len(run.client.list_topics("t").topics["t"].partitions) == 4
    taken, refused = run.client.produce([b"a", b"b"], None, 99, 1)
    assert (taken, [error.code() for _, error in refused]) == (2, [KafkaError._UNKNOWN_PARTITION] * 2)


def test_bad_properties_and_names_are_refused_and_nothing_stays_behind() -> None:
    before = threads()
    for topic, properties, says in (
        ("t", {"no_such": 1}, 'No such configuration property: "no.such"'),
        ("t", {"compression_type": "zip"}, "Invalid value"),
        ("t", {"ssl_ca_location": "/nowhere", "security_protocol": "ssl"}, "ssl.ca.location"),
        ("t" * 600, {}, "no topic can be called"),
    ):
        with pytest.raises(KafkaException, match=says):
            Real(topic, **properties)
    assert threads() <= before


def test_one_that_nobody_holds_lets_go_and_one_that_is_closed_does_nothing() -> None:
    before, run = threads(), Real()
    assert threads() > before
    del run.client
    assert threads() <= before
    run = Real()
    run.client.produce([b"v"], None, -1, 1)
    run.client.close()
    run.client.close()
    run.client.poll()
    run.client.purge()
    assert (len(run.client), run.client.flush(1), run.failures) == (0, 0, [])
    for use in (lambda: run.client.produce([b"v"], None, -1, 1), run.client.list_topics):
        with pytest.raises(RuntimeError, match="closed"):
            use()
    assert threads() <= before


@pytest.mark.parametrize("name", ["debug", "oauth_cb"])
def test_what_it_cannot_do_is_left_to_the_usual_client(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plain = {"bootstrap.servers": "localhost", "sasl.mechanism": "PLAIN"}
    assert can_send_columns(plain)
    assert not can_send_columns({**plain, name: print})
    monkeypatch.setenv("KPIPE_DEBUG", "1")
    assert not can_send_columns(plain)

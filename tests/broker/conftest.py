"""Give tests a real Kafka: `kafka`, a second cluster `kafka_b`, and `new_kafka` for one with its own settings.

A test never finds a shared broker as another test broke it: paused or dead ones are brought back after each test.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.broker.lab.broker import Broker, Listener
from tests.broker.lab.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


class NewKafka(Protocol):
    """What `new_kafka` is: it starts one more broker for this test alone (about 2 s)."""

    def __call__(
        self,
        properties: Mapping[str, str] | None = None,
        *,
        listeners: Sequence[Listener] = (),
        format_args: Sequence[str] = (),
        cluster_id: str = "",
    ) -> Cluster: ...


@pytest.fixture(scope="session")
def shared_brokers() -> list[Broker]:
    """Those that outlive a test."""
    return []


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, shared_brokers: list[Broker]) -> Iterator[Cluster]:
    """The cluster that all tests share, started when the first of them asks."""
    with _run(Broker(tmp_path_factory.mktemp("kafka"))) as cluster:
        shared_brokers.append(cluster.broker)
        yield cluster


@pytest.fixture(scope="session")
def kafka_b(tmp_path_factory: pytest.TempPathFactory, shared_brokers: list[Broker]) -> Iterator[Cluster]:
    """Another cluster, with another id, for what goes from one to the other."""
    with _run(Broker(tmp_path_factory.mktemp("kafka_b"))) as cluster:
        shared_brokers.append(cluster.broker)
        yield cluster


@pytest.fixture
def new_kafka(tmp_path: Path) -> Iterator[NewKafka]:
    """Start brokers with other properties and listeners (TLS, SASL, ACLs, a proxy); they stop with the test."""
    started: list[Cluster] = []

    def start(
        properties: Mapping[str, str] | None = None,
        *,
        listeners: Sequence[Listener] = (),
        format_args: Sequence[str] = (),
        cluster_id: str = "",
    ) -> Cluster:
        home = tmp_path / f"kafka-{len(started)}"
        broker = Broker(
            home, properties=properties, listeners=listeners, format_args=format_args, cluster_id=cluster_id
        )
        started.append(Cluster(broker))
        broker.start()
        return started[-1]

    yield start
    for cluster in started:
        _end(cluster.broker)


@pytest.fixture(autouse=True)
def _healed(shared_brokers: list[Broker]) -> Iterator[None]:
    yield
    for broker in shared_brokers:
        broker.heal()


@contextmanager
def _run(broker: Broker) -> Iterator[Cluster]:
    broker.start()
    yield Cluster(broker)
    _end(broker)


def _end(broker: Broker) -> None:
    broker.kill()
    shutil.rmtree(broker.home / "data", ignore_errors=True)

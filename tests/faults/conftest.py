"""A broker behind a proxy, a source topic full of records, and a table of what each fault did."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.broker.conftest import _healed, kafka, kafka_b, new_kafka, shared_brokers  # noqa: F401 - fixtures
from tests.broker.lab.broker import Broker, Listener
from tests.broker.lab.cluster import Cluster, Rec
from tests.faults.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = int(os.environ.get("FAULT_RUNS", "3"))
"""Repetitions of the random faults: 3 in CI, 100 in `make faults`."""
TABLE = os.environ.get("FAULT_TABLE", "")
"""The file that `make faults` writes the results to."""

_rows: list[tuple[str, str, str, str]] = []


@pytest.fixture(scope="session")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Proxy]]:
    """A cluster of its own, with a listener that sends clients through the proxy."""
    proxy = Proxy()
    broker = Broker(tmp_path_factory.mktemp("proxied"), listeners=[Listener("PROXIED", advertised_port=proxy.port)])
    broker.start()
    proxy.upstream = int(broker.address("PROXIED").rpartition(":")[2])
    yield Cluster(broker), proxy
    broker.heal()
    broker.stop()
    proxy.close()


@pytest.fixture
def lab(proxied: tuple[Cluster, Proxy]) -> Iterator[tuple[Cluster, Proxy]]:
    """The proxied cluster, healed before and after."""
    cluster, proxy = proxied
    proxy.heal()
    cluster.broker.heal()
    yield proxied
    proxy.heal()
    cluster.broker.heal()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed that is printed, so that a failure can be had again with FAULT_SEED."""
    chosen = int(os.environ.get("FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"{request.node.name}: FAULT_SEED={chosen}")
    return chosen


@pytest.fixture
def note(request: pytest.FixtureRequest):
    """Note a row of the table: what was promised, what happened."""

    def add(fault: str, runs: object, verdict: object, promise: str) -> None:
        _rows.append((fault, str(runs), str(verdict), promise))
        print(f"{request.node.name}: {fault}: {verdict}")

    return add


def fill(cluster: Cluster, count: int, partitions: int = 3) -> tuple[str, list[Rec]]:
    """A source topic with `count` records, keyed and keyless, each with a value of its own."""
    topic = cluster.topic(partitions)
    records = [
        Rec(b"value-%07d" % number, key=None if number % 5 == 0 else b"key-%d" % (number % 97), partition=number % 3)
        for number in range(count)
    ]
    return topic, cluster.write(topic, records)


def pytest_sessionfinish() -> None:
    if not TABLE or not _rows:
        return
    head = "| fault | runs | what happened | what is promised |\n|---|---|---|---|\n"
    body = "".join(f"| {' | '.join(row)} |\n" for row in _rows)
    text = "# What the fault suite did to kpipe\n\nWritten by `make faults`.\n\n"
    Path(TABLE).write_text(f"{text}{head}{body}")

"""A broker behind a proxy, a source topic full of records, and a table of what each fault did."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.broker.conftest import _healed, new_kafka, shared_brokers  # noqa: F401 - fixtures
from tests.broker.lab.broker import Broker, Listener
from tests.broker.lab.cluster import Cluster, Rec
from tests.faults.oracle import Verdict
from tests.faults.proxy import Proxy
from tests.faults.table import Row, render

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = int(os.environ.get("FAULT_RUNS", "3"))
"""Repetitions of the random faults: 3 in CI, 100 in `make faults`."""
LONG = RUNS >= 50
RECORDS = 60_000 if LONG else 12_000
FREEZE = 30.0 if LONG else 3.0
"""Seconds for which a broker stands still."""
FAT = 150_000 if LONG else 60_000
"""Records of 1 kB in a backlog that fits into no buffer."""
DISTURBED = ["silent", "thin", "frozen"] if LONG else ["silent"]
"""How a target does not take what there is."""
TABLE = os.environ.get("FAULT_TABLE", "")
"""The file that `make faults` writes the results to."""
SEED = int(os.environ.setdefault("FAULT_SEED", str(random.SystemRandom().randrange(1, 1 << 31))))
"""Of everything that is left to chance, so that a failure can be had again with FAULT_SEED."""
USER, PASSWORD = "alice", "sEcReT"
"""Who comes in by the listener GUARDED, and may do what ACLs allow; everybody else may do everything."""

_rows: list[Row] = []
_began = time.monotonic()


class Note(Protocol):
    """What `note` is: a row of the table."""

    def __call__(
        self, command: str, fault: str, happened: object, promise: str, *, runs: int = 1, records: int = 0
    ) -> None: ...


@pytest.fixture(scope="session")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Proxy]]:
    """A cluster of its own, with a listener that sends clients through the proxy, and a guarded one."""
    proxy = Proxy()
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
    broker = Broker(
        tmp_path_factory.mktemp("proxied"),
        properties={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "listener.name.guarded.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": f'{plain} required user_{USER}="{PASSWORD}";',
        },
        listeners=[Listener("PROXIED", advertised_port=proxy.port), Listener("GUARDED", "SASL_PLAINTEXT")],
    )
    broker.start()
    proxy.upstream = int(broker.address("PROXIED").rpartition(":")[2])
    yield Cluster(broker), proxy
    broker.kill()
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


@pytest.fixture(scope="session")
def stock(proxied: tuple[Cluster, Proxy]) -> tuple[str, list[Rec]]:
    """A source topic that all tests read and none writes, and its records."""
    return fill(proxied[0], RECORDS)


@pytest.fixture(scope="session")
def backlog(proxied: tuple[Cluster, Proxy]) -> tuple[str, list[Rec]]:
    """A source topic with more bytes than kpipe may hold."""
    return fill(proxied[0], FAT, padding=1000)


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Chance with a seed that is printed; it depends on no other test."""
    print(f"{request.node.name}: FAULT_SEED={SEED}")
    return random.Random(f"{SEED}:{request.node.name}")


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Note a row of the table: what was promised, what happened."""

    def add(command: str, fault: str, happened: object, promise: str, *, runs: int = 1, records: int = 0) -> None:
        records = happened.records if isinstance(happened, Verdict) else records
        row = (command, fault, runs, str(happened), promise, records)
        request.node.user_properties.append(("fault", row))
        print(f"{request.node.name}: {fault}: {happened}")

    return add


def fill(cluster: Cluster, count: int, *, padding: int = 0) -> tuple[str, list[Rec]]:
    """A topic of three partitions with `count` records, one in five without a key, each with a value of its own."""
    topic = cluster.topic(3)
    return topic, cluster.write(topic, [_record(number, padding) for number in range(count)])


def _record(number: int, padding: int) -> Rec:
    key = None if number % 5 == 0 else b"key-%d" % (number % 96)  # 96 = 3 * 32: a key is in one partition
    headers = (("h", b"%d" % number), ("h", None)) if number % 7 == 0 else ()
    return Rec(b"x" * padding + b"%07d" % number, key, headers, partition=number % 3)


def pytest_report_header() -> str:
    return f"faults: FAULT_RUNS={RUNS} FAULT_SEED={SEED}"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # By the reports, not by the tests: they reach the process that writes the table also from pytest-xdist's workers.
    if not TABLE or "faults" not in report.nodeid:
        return
    if report.when == "call":
        _rows.extend(Row(*row) for name, row in report.user_properties if name == "fault")
    if report.failed:
        _rows.append(Row("failed", report.nodeid.rpartition("::")[2], 1, f"**failed** ({report.when})", "to pass"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if TABLE and _rows and not hasattr(session.config, "workerinput"):
        Path(TABLE).write_text(render(_rows, SEED, time.monotonic() - _began))

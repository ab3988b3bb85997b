"""A cluster that goes away during a run is told of once, with what waits for it, and so is its return.

The embedded broker comes back empty, so what reads it goes on at its beginning (--on-gap).
"""

from __future__ import annotations

import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from kpipe.broker import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Kpipe, Running

GONE = "not reachable since "
BACK = "reachable again after "


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def broker() -> Iterator[str]:
    with EmbeddedBroker(topics={"s": 1, "t": 1}) as started:
        yield started.bootstrap


@pytest.fixture
def cluster(kpipe: Kpipe) -> tuple[str, Callable[[], Running]]:
    """An address, and what starts an embedded broker there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    address = f"127.0.0.1:{port}"

    def start() -> Running:
        running = kpipe.start("broker", "--port", str(port), "--topics", "s:1,t:1")
        running.wait_for(lambda: listens(port), what="the broker")
        return running

    return address, start


def wait_until_it_reads(kpipe: Kpipe, run: Running, words: list[str], address: str, broker: str) -> None:
    """A first record goes all the way; produce only has to have looked its topic up."""
    if words[0] == "produce":
        run.write(b"first\n")
        run.wait_for(lambda: b"first" in kpipe.at(address)("consume", "-e", "t").out, what="the first record")
        return
    source, target = (words[-2], words[-1]) if words[0] == "forward" else (words[-1], "")
    assert kpipe("produce", source, stdin=b"first\n").code == 0
    if target:
        run.wait_for(lambda: b"first" in kpipe("consume", "-e", target).out, 60, what="the first record")
    else:
        run.wait_for_stdout(b"first\n", 60)


@pytest.mark.parametrize(
    ("command", "stdin", "waits"),
    [
        (["consume", "--on-gap", "earliest", "AWAY/t"], b"", ""),
        pytest.param(["consume", "-G", "g", "--on-gap", "earliest", "AWAY/t"], b"", "", marks=pytest.mark.long),
        (["produce", "AWAY/t"], b"one\n", ", 1 record waits for it"),
        (["forward", "-G", "g", "--on-gap", "earliest", "AWAY/s", "THERE/t"], b"", ""),
        (["forward", "-G", "g", "THERE/s", "AWAY/t"], b"", ", 1 record waits for it"),
        pytest.param(
            ["forward", "-G", "g", "--workers", "2", "--on-gap", "earliest", "AWAY/s", "THERE/t"],
            b"",
            "",
            marks=pytest.mark.long,
        ),
    ],
    ids=["consume", "consume in a group", "produce", "source", "target", "workers"],
)
def test_a_cluster_that_goes_and_comes_is_told_of_once_each_and_costs_little(
    kpipe: Kpipe, broker: str, cluster: tuple[str, Callable[[], Running]], command: list[str], stdin: bytes, waits: str
) -> None:
    address, start = cluster
    there = start()
    words = [word.replace("AWAY", address).replace("THERE", broker) for word in command]
    run = kpipe.start(*words)
    wait_until_it_reads(kpipe, run, words, address, broker)
    there.end()
    if waits:
        run.write(stdin) if stdin else kpipe.at(broker)("produce", "s", stdin=b"one\n")
    run.wait_for_stderr(GONE, 30)
    used, began = run.cpu_s, time.monotonic()
    time.sleep(4)  # what it costs in some time is what is tested
    processes = 3 if "--workers" in words else 1
    # 0.5 % each when the machine has nothing else to do.
    assert (run.cpu_s - used) / (time.monotonic() - began) < 0.03 * processes
    start()
    run.wait_for_stderr(BACK, 40)
    run.signal(signal.SIGTERM)
    run.wait(40)
    told = [line for line in run.err.splitlines() if "reachable" in line]
    assert len(told) == 2
    assert f"connect: {address}: {GONE}" in told[0]
    assert f"{waits}; still trying, kpipe check -b {address} says more" in told[0]
    assert f"connect: {address}: {BACK}" in told[1]

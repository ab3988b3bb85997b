"""What a service manager hears: ready, signs of life from the main loop only, stopping; nothing when it did not ask."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import pytest

from kpipe.options import RunOptions
from kpipe.run.notify import Notifier, open_notifier
from kpipe.shutdown import Stop


class Manager:
    """A socket as systemd makes one."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        lines: list[str] = []
        while True:
            try:
                lines += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    path = str(tmp_path / "notify") if request.param == "path" else f"@kpipe-test-{os.getpid()}"
    made = Manager(path)
    made.path = path
    yield made
    made.close()


def test_ready_life_and_status_come_from_turns_alone(manager) -> None:
    now = [0.0]
    notifier = Notifier(manager.path, 30.0, lambda: "7 read", Stop(), clock=lambda: now[0])
    notifier.ready()
    assert manager.heard() == ["READY=1", "STATUS=7 read"]
    notifier()
    assert manager.heard() == []
    now[0] = 15.0
    notifier()
    assert manager.heard() == ["WATCHDOG=1", "STATUS=7 read", "STATUS=7 read"]
    notifier()
    assert manager.heard() == []
    notifier._socket.close()


def test_stopping_is_told_once_with_the_time_that_the_drain_may_take(manager) -> None:
    stop = Stop(20.0)
    notifier = Notifier(manager.path, None, lambda: "", stop)
    stop.signal = 15
    notifier()
    notifier()
    assert manager.heard() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=30000000", "STATUS="]
    notifier._socket.close()


def test_the_variables_are_taken_so_that_no_child_speaks_for_us(manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1", "HOME": "/"}
    notifier = open_notifier(RunOptions(), Stop(), print, environ)
    notifier.begin(None, SimpleNamespace(line=lambda: "s"))
    assert environ == {"HOME": "/"}
    assert manager.heard() == ["READY=1", "STATUS=s"]
    notifier()
    assert manager.heard() == [], "the watchdog of another process is none of ours"
    notifier._socket.close()


@pytest.mark.parametrize("address", ["", "relative", "vsock:1"])
def test_nothing_happens_when_nobody_asks(address) -> None:
    assert open_notifier(RunOptions(), Stop(), print, {"NOTIFY_SOCKET": address}) is None


def test_a_manager_that_is_gone_is_no_error(tmp_path) -> None:
    notifier = Notifier(str(tmp_path / "gone"), None, lambda: "s", Stop())
    notifier.ready()
    notifier._socket.close()

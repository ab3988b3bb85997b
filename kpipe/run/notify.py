"""Tells the service manager that started us how we are (sd_notify(3)): ready, alive, stopping, and a line of status.

Silent when nobody asked; never waits, never fails. Alive means that the main loop turns: a run that waits for a dead
broker is alive, one that hangs is not.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from kpipe.options import RunOptions
    from kpipe.run.summary import Summary
    from kpipe.shutdown import Stop

STATUS = 5.0
"""Seconds between two lines of status."""
GRACE = 10.0
"""Seconds beyond the drain in which the process ends."""


class Notifier:
    """An observer of the main loop; it exists only where NOTIFY_SOCKET names a socket, and no child sees that."""

    def __init__(
        self,
        address: str,
        watchdog: float | None,
        status: Callable[[], str],
        stop: Stop,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`watchdog` is how many seconds may pass between two signs of life (None: nobody waits for them)."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._every = watchdog / 2 if watchdog else None
        self._status, self._stop, self._clock = status, stop, clock
        self._alive_at = self._told_at = clock()
        self._stopping = False

    def begin(self, _planned: object, summary: Summary) -> None:
        """Records can move: ready is told at once."""
        self._status = summary.line
        self.ready()

    begin_workers = begin

    def finish(self, _code: int) -> None:
        """The end of the process says it."""

    def ready(self) -> None:
        """What was asked for is open, and records can move."""
        self._send("READY=1")

    def __call__(self) -> None:
        """A turn of the main loop: what is due is told."""
        now = self._clock()
        if self._stop.requested and not self._stopping:
            self._stopping = True
            left = int((self._stop.drain_timeout + GRACE) * 1e6)
            self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={left}")
        if self._every is not None and now - self._alive_at >= self._every:
            self._alive_at = now
            self._send("WATCHDOG=1")
        if now - self._told_at >= STATUS:
            self._told_at = now
            self._send("")

    def _send(self, text: str) -> None:
        lines = [line for line in (text, f"STATUS={self._status()}") if line]
        with suppress(OSError):
            self._socket.sendto("\n".join(lines).encode(), self._address)


def open_notifier(
    _run: RunOptions, stop: Stop, _say: Callable[[str], None], environ: MutableMapping[str, str] = os.environ
) -> Notifier | None:
    """The observer for the service manager, where one asks for it."""
    address = environ.pop("NOTIFY_SOCKET", "")
    microseconds, process = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not address.startswith(("/", "@")):
        return None
    ours = not process or process == str(os.getpid())
    watchdog = int(microseconds) / 1e6 if microseconds.isdigit() and ours else None
    return Notifier(address, watchdog, str, stop)

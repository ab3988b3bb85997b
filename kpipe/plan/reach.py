"""Says once, while kpipe keeps trying, that a broker cannot be reached at the address that its cluster gave.

It ends nothing: records wait for their delivery timeout, or for the broker.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from kpipe.clusters.diagnosis import from_listeners

if TYPE_CHECKING:
    from collections.abc import Callable

AFTER = 4.0
"""Seconds without an answer; a leader moves and a connection is made again in less."""
GAP = 15.0
"""Seconds between two complaints after which the address has answered in between: a client that needs a broker tries
again at least every 10 s (reconnect.backoff.max.ms)."""


class Reach:
    """Listens to what a client of `cluster` complains about: each connection that fails is tried again, and told of."""

    def __init__(self, cluster: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster, self._say, self._clock = cluster, say, clock
        self._heard: dict[str, tuple[float, float]] = {}
        """Of each address: since when there was no answer, and when that was complained of last."""
        self._said = False

    def hear(self, name: str, text: str) -> None:
        """Take down one complaint; called by the client while it is polled, so it never raises."""
        finding = None if self._said else from_listeners([(name, text)])
        if finding is None:
            return
        now = self._clock()
        tried = now - _seconds_tried(text)
        address = text.partition(": ")[0]
        since, last = self._heard.get(address, (tried, now))
        if tried - last > GAP:
            since = tried
        self._heard[address] = since, now
        if now - since >= AFTER:
            self._said = True
            self._say(f"send: {self._cluster}: {finding.text}; still trying")


def _seconds_tried(text: str) -> float:
    """How long the attempt took that is complained of: `... (after 10037ms in state CONNECT)`."""
    told = re.search(r"\(after (\d+)ms", text)
    return int(told[1]) / 1000 if told else 0.0

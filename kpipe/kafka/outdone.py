"""Whether a client waits in vain: its cluster answers a new one, and not ours.

It asks only while somebody waits and nothing is heard, and never gives a client up that gets an answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET = 8.0
"""Seconds without a delivery report before anybody asks; a leader moves in less."""
AGAIN = 4.0
"""Seconds between two questions."""
PROOFS = 2
"""Times in a row that a new client was answered and ours was not. A broker that has just come back and tells of no
brokers makes librdkafka forget all that it knew (confluentinc/librdkafka#5301): so it went in 3 of 28 runs whose single
broker was frozen for 3 s, with `metadata.recovery.strategy=none`; each stood still for two minutes, until its
transaction had timed out. With this rule none of 28 took longer than half a minute."""


class Outdone:
    """Call it while something is waited for. `ask`: our client is answered; `ask_anew`: a new one is."""

    def __init__(
        self, ask: Callable[[], bool], ask_anew: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._ask_anew, self._clock = ask, ask_anew, clock
        self._heard = -1
        self._next = 0.0
        self._proofs = 0

    def __call__(self, heard: int) -> bool:
        """Whether it is time to take a new client; `heard` counts what ours was told, and is known to be there by."""
        now = self._clock()
        if heard != self._heard:
            self._heard, self._next, self._proofs = heard, now + QUIET, 0
        elif now >= self._next:
            self._next = now + AGAIN
            self._proofs = self._proofs + 1 if not self._ask() and self._ask_anew() else 0
        if self._proofs < PROOFS:
            return False
        self._heard = -1
        return True

"""What is kept of memory for a rush of records is given back when it is over, once a minute.

glibc keeps it in an arena for each thread, and librdkafka has a thread a broker: after half an hour of outages 81 MB
were kept, of which 13 were in use (soak). Python gives a MiB back when nothing in it is in use, and the delivery
reports that a backlog leaves behind, 5 MB, lie among what it needed. A run that goes on for months stays as large as
its work.
"""

from __future__ import annotations

import gc
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.plan import Planned

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As malloc.h numbers them."""
EVERY = 60.0
"""Seconds. Giving 70 MB back takes some 20 ms; an idle run, which has none to give, 0.5 ms."""


class Trimmer:
    """An observer of the main loop."""

    def __init__(self, trim: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._trim, self._clock = trim, clock
        self._trimmed_at = clock()
        self._let_go: Callable[[], None] = lambda: None

    def begin(self, planned: Planned, _summary: object) -> None:
        """The run keeps things for its next records, too."""
        self._let_go = planned.pipeline.ledger.let_go

    def begin_workers(self, _supervisor: object, _summary: object) -> None:
        """A supervisor has no records."""

    def __call__(self) -> None:
        """A turn of the main loop: once a minute memory is given back."""
        now = self._clock()
        if now - self._trimmed_at >= EVERY:
            self._trimmed_at = now
            self._let_go()
            self._trim()

    def finish(self, _code: int) -> None:
        """The end of the process gives all of it back."""


def keep_little() -> None:
    """How much glibc keeps at the end of each arena: fixed, for it raises that by itself to up to 64 MiB.

    malloc_trim(3) leaves those ends as they are: a backlog left 20 MiB in them (soak). With 2 and 32 MiB, forward
    and consume took 0.91 and 0.98 of the CPU (7 runs each, in turns).
    """
    import ctypes

    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, 2 << 20)
        mallopt(M_MMAP_THRESHOLD, 4 << 20)


def trim() -> None:
    """What lies in young circles, and then malloc_trim(3), which glibc alone has."""
    import ctypes

    gc.collect(1)  # a look at everything, which an application's own function may have filled, could take a second
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def open_trimmer(_run: object, _stop: object, _say: object) -> Trimmer | None:
    """The observer, where the C library has something to give back."""
    if sys.platform != "linux":
        return None
    keep_little()
    return Trimmer(trim)

"""Threads beside the run: they end with the process, and leave signals to the thread that waits for them."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def start_thread(work: Callable[[], object]) -> threading.Thread:
    """Start it; a signal that came to it would not interrupt the main thread's wait."""

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread

"""When a run stops: signals become a flag, a deadline and, at the very end, the process's own death by that signal.

Handlers never do work and never raise: an exception inside a client call makes the binding drop the records it had
already fetched (measured: 100 records lost on a default SIGINT). No other room touches signals.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
INHERITABLE = (signal.SIGINT, signal.SIGHUP)
"""`nohup` ignores HUP, a shell ignores INT for background jobs; what was ignored at start stays ignored."""


OVERTIME = 0.85
"""Seconds after the deadline in which the last steps end: a commit, goodbyes; then what hangs is left behind."""
WATCH = 0.05
"""Seconds between two looks at the deadline."""
GOODBYE = 0.5
"""Seconds that code of the user's has at the end of a process, however it ends."""
WORD = 1.0
"""Seconds that a drain waits for somebody to read what kpipe says."""
_installed: list[Stop] = []
"""What signals ask to stop, once it has taken them over."""
ECHO = 0.5
"""Seconds in which the same signal again is the same wish: timeout(1) signals its child and then the whole group."""


class Stop:
    """Whether to stop, why, and how long the drain may take.

    `signal` is the first stopping signal or None; `forced` is true from the second signal on or once the drain
    deadline has passed. `fd` becomes readable when a signal arrives, so that a poll over stdin wakes up at once.
    While `starting` is true nothing has been read, so a second signal ends the process whatever it is waiting for.
    """

    def __init__(self, drain_timeout: float = 9.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.signal: signal.Signals | None = None
        self.drain_timeout = drain_timeout
        self.deadline: float | None = None
        self.starting = False
        self._first = 0.0
        self._clock = clock
        self.fd, self._wakeup = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._wakeup, False)

    def install(self) -> None:
        """Take over SIGTERM, SIGINT and SIGHUP, except those that were ignored when the process started."""
        _installed.append(self)
        for number in STOPPING:
            if number not in INHERITABLE or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = self._clock()
        if self.signal is None:
            self.signal = signal.Signals(number)
            self._first = now
            self.deadline = now + self.drain_timeout
            if self.starting:
                self._let_go()
        elif number != self.signal or now - self._first > ECHO:
            self.deadline = now if self.deadline is None else min(now, self.deadline)

    @staticmethod
    def _let_go() -> None:
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)

    def ask(self) -> None:
        """Stop as SIGTERM would: for a program, from any of its threads."""
        self._on_signal(signal.SIGTERM, None)
        self.wake()

    def close(self) -> None:
        """Let go of the pipe; nobody waits for this any more."""
        os.close(self.fd)
        os.close(self._wakeup)

    def wake(self) -> None:
        """Make `fd` readable, as a signal does."""
        os.write(self._wakeup, b"\0")

    @property
    def requested(self) -> bool:
        """Whether the input must not be read any further."""
        return self.signal is not None

    @property
    def forced(self) -> bool:
        """Whether what is in flight must be given up."""
        return self.deadline is not None and self._clock() >= self.deadline

    @property
    def overdue(self) -> bool:
        """Whether even the last steps of the drain have had their time."""
        return self.deadline is not None and self._clock() >= self.deadline + OVERTIME

    def remaining(self, otherwise: float, *, grace: float = 0.0) -> float:
        """Seconds left of the drain and `grace`, but at most `otherwise`, which is what there is without a signal.

        Whatever a drain waits for asks here: there is one deadline.
        """
        if self.deadline is None:
            return otherwise
        return min(otherwise, max(0.0, self.deadline + grace - self._clock()))

    def watch(self, give_up: Callable[[], object]) -> None:
        """Call `give_up` from a thread of its own when the drain is overdue: a call may hang in the main one.

        The thread sleeps until the first signal, and ends with the process.
        """

        def wait() -> None:
            while self.deadline is None:
                select.select([self.fd], [], [])
                time.sleep(WATCH)
            while not self.overdue:
                time.sleep(WATCH)
            give_up()

        threading.Thread(target=wait, daemon=True).start()


def may_wait(seconds: float) -> bool:
    """Whether who has waited so long for a reader of stderr may go on: without a signal always, then a moment."""
    return not any(stop.forced or (stop.requested and seconds >= WORD) for stop in _installed)


def run_bounded(action: Callable[[], object], timeout: float) -> bool:
    """Run something that may hang (a close on a frozen broker takes over a minute); False when it did not end.

    What it raises is raised here.
    """
    failure: list[Exception] = []

    def run() -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - it is raised again below, in the thread that asked
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout)
    if failure:
        raise failure[0]
    return not thread.is_alive()


def die_at_once_by_interrupt() -> None:
    """Until a run takes over, Ctrl-C ends the process silently: Python's own handler would print where it was."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_foreign_code() -> None:
    """Let functions of the user's come to their end, where some were loaded: the process will not return to them."""
    if "kpipe.plugins" in sys.modules:
        from kpipe.plugins import finish

        with suppress(Exception):
            run_bounded(finish, GOODBYE)


def die_by(number: signal.Signals, kill: Callable[[int, int], None] = os.kill) -> NoReturn:
    """End the process as the signal would have ended it, so that shells stop their loops and systemd calls it clean.

    A process with PID 1 survives its own signal: the exit code 128+n says the same.
    """
    if number == signal.SIGPIPE:
        sys.stdout = None  # a function of the user's that prints is not to fail at that
    end_foreign_code()
    if threading.current_thread() is not threading.main_thread():
        os._exit(128 + number)  # handlers are the main thread's, which does not come back
    sys.stdout = sys.stderr = None  # nothing may be written after the verdict
    signal.set_wakeup_fd(-1)
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    kill(os.getpid(), number)
    os._exit(128 + number)

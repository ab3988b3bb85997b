"""Consume's end: stdout whose records count only once the far end has delivered them, and the commit behind that.

It never commits what is not proven, and never waits for acknowledgements without taking part in the group.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.delivery.backchannel.gate import Gate, GatedLedger
from kpipe.delivery.backchannel.listener import Listener
from kpipe.errors import KpipeError, Stage
from kpipe.pipeline import COMMIT_GRACE
from kpipe.sinks.stdout import ReaderGone, StdoutSink, WriteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.delivery.commit import GroupCommitter
    from kpipe.flight import Flight
    from kpipe.ledger import Ledger
    from kpipe.record import Batch
    from kpipe.shutdown import Stop

SLICE = 0.1
PATIENCE = 10.0  # seconds at the end of the input in which somebody must have connected
WONDER = 3.0  # seconds of waiting at the end of the input after which it is said for what
WAITING = (
    "commit: waiting for the far end of the pipe to acknowledge what it was given; if nothing comes, a program between "
    "holds its output back (awk: fflush(), sed -u, jq --unbuffered), or one that started kpipe holds the pipe open "
    "(put it before the whole pipe: timeout 30 sh -c 'kpipe consume … | …')"
)
QUIET = 3.0  # seconds without an acknowledgement after which a rebalance does not wait for more


class AckedStdout(StdoutSink):
    """Stdout whose records are written, but proven only by the far end."""

    def __init__(self, encode: Callable[[Batch], bytes], gate: Gate, listener: Listener) -> None:
        super().__init__(encode)
        self.hold_more()
        self.broken = False
        self._gate, self._listener = gate, listener
        self._quiet = 0.0

    def send(self, batch: Batch, flight: Flight, idle: Callable[[], bool]) -> None:
        """Write the batch; acknowledgements are collected while the pipe is full, or both ends would wait."""
        self._gate.wrote(batch)

        def collect_and_idle() -> bool:
            self.poll()
            return idle()

        try:
            super().send(batch, flight, collect_and_idle)
        except WriteError:
            self.broken = True
            raise

    def poll(self) -> None:
        """Collect acknowledgements that have come in."""
        while self._listener.collect(0.0):
            pass

    def wait(self, timeout: float) -> bool:
        """Wait for an acknowledgement; True when waiting for more makes no sense (any more)."""
        came = self._listener.collect(timeout)
        self._quiet = 0.0 if came else self._quiet + timeout
        if self._listener.over or self._quiet >= QUIET:
            self._quiet = 0.0
            return True
        return False


class AckedCommitter:
    """Commits what is proven. `keep_alive` keeps our place in the group while the end of the pipe is waited for."""

    def __init__(  # noqa: PLR0913 - one for each side it touches
        self,
        group: GroupCommitter,
        gate: Gate,
        listener: Listener,
        sink: AckedStdout,
        stop: Stop,
        *,
        keep_alive: Callable[[], None],
        say: Callable[[str], None],
        trust_end: bool,
    ) -> None:
        self.unproven = False
        self._say = say
        self._group, self._gate, self._listener, self._sink = group, gate, listener, sink
        self._stop, self._keep_alive, self._trust_end = stop, keep_alive, trust_end

    def tick(self, ledger: Ledger) -> None:
        """Commit if it is time to; the run ends when the far end does."""
        self._sink.poll()
        if self._listener.over:
            if self._listener.clean:
                raise ReaderGone("the far end of the pipe has finished")
            if not self._stop.requested:
                raise self._gone()
        self._group.tick(GatedLedger(ledger, self._gate))  # type: ignore[arg-type]

    def finish(self, ledger: Ledger, timeout: float) -> None:
        """End the output, wait for the far end to deliver it, commit what is proven."""
        try:
            self._sink.end()
            self._wait()
            complete = self._listener.clean and not (self._sink.broken or ledger.flights)
            if complete and self._trust_end:
                self._gate.settle_rest()
            self._group.finish(GatedLedger(ledger, self._gate), self._stop.remaining(timeout, grace=COMMIT_GRACE))  # type: ignore[arg-type]
        finally:
            self._listener.close()
        self.unproven = not self._gate.proven()
        if self.unproven and not (self._listener.clean or self._stop.requested):
            raise self._gone()

    def _wait(self) -> None:
        """As long as somebody is there, however slow; a signal's deadline ends it, too."""
        began, said = time.monotonic(), False
        while not (self._listener.over or self._gate.proven() or self._stop.forced):
            self._listener.collect(SLICE)
            self._keep_alive()
            waited = time.monotonic() - began
            if not self._listener.connected and waited >= PATIENCE:
                return
            if waited >= WONDER and not said:
                said = True
                self._say(WAITING)

    def _gone(self) -> KpipeError:
        if not self._listener.connected:
            what = "nobody acknowledged anything; end the pipe with kpipe produce --ack and the same path"
        else:
            what = "the far end went away before it had delivered everything; what it did not is read again"
        return KpipeError(what, where="--commit-acked", stage=Stage.COMMIT)

    def notes(self) -> list[str]:
        """What people should know when a clean end left records unproven."""
        if not (self.unproven and self._listener.clean):
            return []
        what = (
            "records behind the last acknowledged ones were dropped on the way, or lost with a filter that was killed"
        )
        return [f"commit: {what}; they are not committed and come again at the next start (--trust-end commits them)"]


class Channel:
    """All that consume needs for `--commit-acked PATH`; it is what a rebalance waits for.

    `committer` commits what is proven, by way of the group's own; `ledger` is the run's, as far as it is proven.
    """

    def __init__(  # noqa: PLR0913 - one for each side it touches
        self,
        path: str,
        encode: Callable[[Batch], bytes],
        ledger: Ledger,
        group: GroupCommitter,
        stop: Stop,
        *,
        each: bool,
        keep_alive: Callable[[], None],
        say: Callable[[str], None],
        trust_end: bool,
    ) -> None:
        gate = Gate(each=each)
        listener = Listener(path, gate)
        self.sink = AckedStdout(encode, gate, listener)
        self.ledger = GatedLedger(ledger, gate)
        own = (group, gate, listener, self.sink, stop)
        self.committer = AckedCommitter(*own, keep_alive=keep_alive, say=say, trust_end=trust_end)

    def flush(self, timeout: float) -> bool:
        """Wait for acknowledgements as long as they come; True when no more can be expected."""
        return self.sink.wait(timeout)

"""The way back of a shell pipeline: what `produce` has delivered is told to the `consume` that read it, to commit it.

It moves no record. The two ends share a unix socket that consume makes (0600) and removes; a message is a line of JSON.

    {"acks":[["orders",0,[42,43,45]]]}      these coordinates were delivered, in the order in which they were read
    {"end":true}                            produce has read its input to the end and delivered all of it

Between the ends stands any filter. It may change records, and drop them: with `in-order` an acknowledged offset settles
all earlier ones of its partition. One that reorders must drop nothing: with `each` every offset is waited for.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import time
from collections import deque
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.sinks.stdout import ReaderGone, StdoutSink, WriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kpipe.commit import GroupCommitter
    from kpipe.ledger import Flight, Ledger, TopicPartition
    from kpipe.record import Batch
    from kpipe.shutdown import Stop

SLICE = 0.1
PATIENCE = 10.0  # seconds at the end of the input in which somebody must have connected
QUIET = 3.0  # seconds without an acknowledgement after which a rebalance does not wait for more
LONGEST_PATH = 107  # bytes; sockaddr_un holds no more (unix(7))


class Gate:
    """Which offsets are proven: written to the pipe and acknowledged by its far end. Pure; `each` as in the module."""

    def __init__(self, *, each: bool = False) -> None:
        self._each = each
        self._written: dict[TopicPartition, int] = {}
        self._acked: dict[TopicPartition, int] = {}
        self._waiting: dict[TopicPartition, deque[int]] = {}
        self._early: dict[TopicPartition, set[int]] = {}

    def wrote(self, batch: Batch) -> None:
        """These records are about to be written; nothing of them is proven yet."""
        places = zip(batch.topics or (), batch.partitions or (), strict=True)
        if not self._each:
            self._written.update(zip(places, batch.offsets or (), strict=True))  # type: ignore[arg-type]
            return
        for place, offset in zip(places, batch.offsets or (), strict=True):
            self._waiting.setdefault(place, deque()).append(offset)  # type: ignore[arg-type]

    def acked(self, place: TopicPartition, offsets: list[int]) -> None:
        """The far end has delivered these."""
        if not self._each:
            if place in self._written and offsets:
                self._acked[place] = max(self._acked.get(place, -1), *offsets)
            return
        waiting, early = self._waiting.get(place), self._early.setdefault(place, set())
        early.update(offsets)
        while waiting and waiting[0] in early:
            early.discard(waiting.popleft())

    def proven(self, places: Iterable[TopicPartition] | None = None) -> bool:
        """Whether all that was written of these partitions (None: of all) is proven."""
        if self._each:
            wanted = self._waiting if places is None else places
            return not any(self._waiting.get(place) for place in wanted)
        wanted = self._written if places is None else places
        return all(self._acked.get(place, -1) >= self._written.get(place, -1) for place in wanted)

    def committable(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Of offsets that may be committed as far as the pipe was written: what may be, as far as acknowledged."""
        allowed: dict[TopicPartition, int] = {}
        for place, offset in offsets.items():
            if self.proven((place,)):
                allowed[place] = offset
            elif self._each:
                allowed[place] = min(offset, self._waiting[place][0])
            elif place in self._acked:
                allowed[place] = min(offset, self._acked[place] + 1)
        return allowed

    def settle_rest(self) -> None:
        """All that was written counts as proven."""
        self._acked.update(self._written)
        self._waiting.clear()

    def forget(self, places: Iterable[TopicPartition]) -> None:
        """Partitions went away, or begin anew."""
        for place in places:
            for known in (self._written, self._acked, self._waiting, self._early):
                known.pop(place, None)


class GatedLedger:
    """A ledger as the committer and a rebalance see it when only what is proven may be committed."""

    def __init__(self, ledger: Ledger, gate: Gate) -> None:
        self._ledger, self._gate = ledger, gate

    @property
    def flights(self) -> object:
        """Whether anything is on its way."""
        return self._ledger.flights or not self._gate.proven()

    @property
    def cut_short(self) -> bool:
        """As the ledger's."""
        return self._ledger.cut_short

    @property
    def next_offsets(self) -> dict[TopicPartition, int]:
        """What may be committed of the flights that are complete."""
        return self._ledger.next_offsets if self._gate.proven() else self._gate.committable(self._ledger.next_offsets)

    def settle(self) -> None:
        """As the ledger's."""
        self._ledger.settle()

    def prefix(self) -> dict[TopicPartition, int]:
        """What may be committed, exact to the record."""
        return self._gate.committable(self._ledger.prefix())

    def has_in_flight(self, places: Iterable[TopicPartition]) -> bool:
        """Whether a record of one of these partitions is unproven."""
        wanted = list(places)
        return self._ledger.has_in_flight(wanted) or not self._gate.proven(wanted)

    def begin(self, starts: Mapping[TopicPartition, int]) -> None:
        """Partitions begin here."""
        self._gate.forget(starts)
        self._ledger.begin(starts)

    def revoke(self, places: Iterable[TopicPartition]) -> None:
        """Partitions went away."""
        gone = list(places)
        self._ledger.revoke(gone)
        self._gate.forget(gone)


class Listener:
    """Consume's end: one far end may connect. `over` once it is gone, `clean` when it said that it had finished."""

    def __init__(self, path: str, gate: Gate) -> None:
        self.connected = self.over = self.clean = False
        self._path = path
        self._gate = gate
        self._buffer = b""
        self._peer: socket.socket | None = None
        self._socket = _bind(path)
        self._inode = os.stat(path).st_ino

    def collect(self, timeout: float) -> bool:
        """Take in what was acknowledged, waiting up to `timeout` seconds for it; whether anything came."""
        if self.over:
            return False
        try:
            if self._peer is None:
                self._socket.settimeout(timeout)
                self._peer, _ = self._socket.accept()
                self.connected = True
                return True
            self._peer.settimeout(timeout)
            data = self._peer.recv(1 << 16)
        except (TimeoutError, BlockingIOError):
            return False
        except ConnectionError:
            data = b""
        if not data:
            self.over = True
            return False
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._take(line)
        return True

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            for topic, partition, offsets in message.get("acks", ()):
                self._gate.acked((str(topic), int(partition)), [int(offset) for offset in offsets])
            self.clean = self.clean or bool(message.get("end"))
        except (ValueError, TypeError, AttributeError):
            self.over = True  # not kpipe's far end: nothing more of it is believed

    def close(self) -> None:
        """Remove the socket, if it is still ours."""
        for end in (self._peer, self._socket):
            if end is not None:
                end.close()
        try:
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except OSError:
            pass  # somebody has removed it before


def _bind(path: str) -> socket.socket:
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise UsageError(
            f"the path is longer than the {LONGEST_PATH} bytes of a unix socket; use a shorter one", where=path
        )
    _remove_stale(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    umask = os.umask(0o177)
    try:
        server.bind(path)
        server.listen(1)
    except OSError as error:
        raise UsageError(f"cannot make the socket: {error.strerror}", where=path) from None
    finally:
        os.umask(umask)
    return server


def _remove_stale(path: str) -> None:
    """A socket that a killed run left behind makes room; anything else stays and is refused."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise UsageError("is there already and is not a socket of kpipe; name another path", where=path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                os.unlink(path)
                return
            raise UsageError(f"cannot make the socket: {error.strerror}", where=path) from None
    raise UsageError("another kpipe listens there; name another path", where=path)


class AckedStdout(StdoutSink):
    """Stdout whose records are written, but proven only by the far end."""

    def __init__(self, encode: Callable[[Batch], bytes], gate: Gate, listener: Listener) -> None:
        super().__init__(encode)
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

    def __init__(
        self,
        group: GroupCommitter,
        gate: Gate,
        listener: Listener,
        sink: AckedStdout,
        stop: Stop,
        keep_alive: Callable[[], None],
        *,
        trust_end: bool,
    ) -> None:
        self.unproven = False
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
            self._group.finish(GatedLedger(ledger, self._gate), self._stop.remaining(timeout))  # type: ignore[arg-type]
        finally:
            self._listener.close()
        self.unproven = not self._gate.proven()
        if self.unproven and not (self._listener.clean or self._stop.requested):
            raise self._gone()

    def _wait(self) -> None:
        """As long as somebody is there, however slow; a signal's deadline ends it, too."""
        deadline = time.monotonic() + PATIENCE
        while not (self._listener.over or self._gate.proven() or self._stop.forced):
            self._listener.collect(SLICE)
            self._keep_alive()
            if not self._listener.connected and time.monotonic() >= deadline:
                return

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
    """All that consume needs for `--commit-acked PATH`, wired; it is what a rebalance waits for."""

    def __init__(self, path: str, encode: Callable[[Batch], bytes], *, each: bool) -> None:
        self._gate = Gate(each=each)
        self._listener = Listener(path, self._gate)
        self._committer: AckedCommitter | None = None
        self.sink = AckedStdout(encode, self._gate, self._listener)

    def gated(self, ledger: Ledger) -> GatedLedger:
        """The ledger, as far as it is proven."""
        return GatedLedger(ledger, self._gate)

    def committer(
        self, group: GroupCommitter, stop: Stop, keep_alive: Callable[[], None], *, trust_end: bool
    ) -> AckedCommitter:
        """A committer of what is proven, by way of the group's own."""
        self._committer = AckedCommitter(
            group, self._gate, self._listener, self.sink, stop, keep_alive, trust_end=trust_end
        )
        return self._committer

    def flush(self, timeout: float) -> bool:
        """Wait for acknowledgements as long as they come; True when no more can be expected."""
        return self.sink.wait(timeout)

    def notes(self) -> list[str]:
        """What people should know at the end."""
        return self._committer.notes() if self._committer is not None else []


class AckSender:
    """Produce's end: what the ledger settles goes back, in order, and never holds the delivery up.

    `finished` says whether the input was read to its end.
    """

    def __init__(self, path: str, finished: Callable[[], bool]) -> None:
        self.without_coordinates = 0
        self.lost = False
        self._path = path
        self._finished = finished
        self._socket: socket.socket | None = None
        self._pending: dict[TopicPartition, list[int]] = {}
        self._out = b""

    def connect(self, timeout: float, stopped: Callable[[], bool]) -> None:
        """Find consume's end, which may still be starting; KpipeError when there is none within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                end.connect(self._path)
            except OSError as error:
                end.close()
                if time.monotonic() >= deadline or stopped():
                    what = f"cannot connect ({error.strerror}); begin the pipe with kpipe consume --commit-acked PATH"
                    raise KpipeError(what, where=self._path, stage=Stage.SETTLE) from None
                time.sleep(0.02)
            else:
                end.setblocking(False)
                self._socket = end
                return

    def note(self, flight: Flight) -> None:
        """Every record of the flight is settled; called by the ledger, in the order of reading."""
        origin = flight.origin
        if origin is None or origin.topics is None or origin.partitions is None or origin.offsets is None:
            self.without_coordinates += flight.read
            return
        places = zip(origin.topics, origin.partitions, origin.offsets, strict=True)
        for (topic, partition, offset), _ in zip(places, range(flight.read), strict=False):
            if topic is None or partition is None or offset is None:
                self.without_coordinates += 1
            else:
                self._pending.setdefault((topic, partition), []).append(offset)

    def tick(self, _ledger: Ledger) -> None:
        """Send what can be sent without waiting."""
        self._send()

    def finish(self, ledger: Ledger, timeout: float) -> None:
        """Send the rest, and that this is the end if it is one."""
        deadline = time.monotonic() + max(0.5, timeout)
        self._send()
        while self._out and not self.lost and time.monotonic() < deadline:
            time.sleep(0.01)
            self._send()
        if self._finished() and ledger.complete and not self._out:
            self._out = b'{"end":true}\n'
            gone = self.lost
            self._send()
            self.lost = gone  # consume may have heard enough and left
        if self._socket is not None:
            self._socket.close()

    def _send(self) -> None:
        if self._pending and not self._out:
            acks = [[topic, partition, offsets] for (topic, partition), offsets in self._pending.items()]
            self._out = json.dumps({"acks": acks}, separators=(",", ":")).encode() + b"\n"
            self._pending = {}
        while self._out and self._socket is not None and not self.lost:
            try:
                self._out = self._out[self._socket.send(self._out) :]
            except BlockingIOError:
                return
            except OSError:
                self.lost = True

    def notes(self) -> list[str]:
        """What people should know about acknowledgements that could not be given."""
        notes = []
        if self.without_coordinates:
            what = f"{self.without_coordinates:,} records came without topic, partition and offset"
            notes.append(f"settle: {what} and could not be acknowledged; pass whole envelopes through the filter")
        if self.lost:
            notes.append("settle: consume went away before it heard of all deliveries; it reads some records again")
        return notes

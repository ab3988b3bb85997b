"""Produce's end: what the ledger settles goes back to consume, in the order of reading.

It never holds the delivery up: what cannot be sent without waiting is sent with the next.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from kpipe.delivery.backchannel.protocol import END, write_acks
from kpipe.errors import KpipeError, Stage
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.flight import Flight, TopicPartition
    from kpipe.ledger import Ledger


class AckSender:
    """A committer whose commits are acknowledgements. `finished` says whether the input was read to its end."""

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
        deadline = time.monotonic() + timeout
        self._send()
        while self._out and not self.lost and time.monotonic() < deadline:
            time.sleep(0.01)
            self._send()
        if self._finished() and ledger.complete and not self._out:
            self._out = END
            gone = self.lost
            self._send()
            self.lost = gone  # consume may have heard enough and left
        if self._socket is not None:
            self._socket.close()

    def _send(self) -> None:
        if self._pending and not self._out:
            self._out, self._pending = write_acks(self._pending), {}
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
            what = f"{counted(self.without_coordinates, 'record')} came without topic, partition and offset"
            notes.append(f"--ack: {what} and could not be acknowledged; pass whole envelopes through the filter")
        if self.lost:
            notes.append("--ack: consume went away before it heard of all deliveries; it reads some records again")
        return notes

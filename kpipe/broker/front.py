"""Gives the mock cluster a fixed port: owns the port and carries bytes to and from the broker behind it.

It never looks into the bytes and never shares a port: if anything else answers there, it refuses.

The mock cluster only listens on ports that the system picks (kcat #458). Public functions allow no other way than a
relay; the one thread here serves all connections, reads no faster than the other side takes, and costs a copy.
"""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from selectors import EVENT_READ, EVENT_WRITE

from kpipe.broker.errors import BrokerError
from kpipe.kafka.metadata import ask_cluster_id

BLOCK = 256 * 1024
CONNECT_SECONDS = 2.0


def own_port(port: int) -> socket.socket:
    """Listen on 127.0.0.1:`port` alone, or BrokerError.

    SO_REUSEADDR lets a new broker follow an old one whose connections are still in TIME_WAIT. On Linux it does not
    let two listeners share a port; on BSD and macOS it does when the other one listens on 0.0.0.0. And `localhost`
    may mean ::1 to a client, where another listener would not be in the way of the bind. So both are asked first.
    """
    where = f"127.0.0.1:{port}"
    for host in ("127.0.0.1", "::1"):
        if is_answered(host, port):
            raise BrokerError(
                f"{who_answers(host, port)}; stop it, or choose another --port (0 = any free one)", where=where
            )
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        reason = error.strerror
        if error.errno == errno.EADDRINUSE:
            reason = "the port is in use by another program"
        raise BrokerError(f"{reason}; choose another --port (0 = any free one)", where=where) from None
    return listener


def is_answered(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def who_answers(host: str, port: int) -> str:
    """Find out, within a second, what has the port, in words for the refusal."""
    address = f"[{host}]" if ":" in host else host
    cluster_id = ask_cluster_id(f"{address}:{port}", timeout=1.0)
    if cluster_id is None:
        return "another program listens here (not Kafka, or too slow to tell)"
    if cluster_id.startswith("mockCluster"):
        return "another embedded broker serves here"
    return f"a Kafka cluster (id {cluster_id}) serves here"


def connect(target: tuple[str, int]) -> socket.socket:
    """Connect to the mock broker; OSError when it is down.

    Its queue holds 5 connections, and what overflows is tried again by the system after 1 s. Asking again ourselves
    is faster: 200 clients at once take 0.1 s instead of 11 s.
    """
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return socket.create_connection(target, timeout=0.02)
        except TimeoutError:
            if time.monotonic() >= deadline:
                raise


class RelayEnd:
    """One end of a relayed connection; `unsent` are bytes of the other end that its socket did not take yet."""

    __slots__ = ("events", "other", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.other = self
        self.unsent = memoryview(b"")
        self.events = 0


class Front:
    """Relays every connection to `listener` to a connection of its own to `target`, until `close`."""

    def __init__(self, listener: socket.socket, target: tuple[str, int]) -> None:
        self._listener = listener
        self._target = target
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(listener, EVENT_READ, self._accept)
        self._selector.register(self._woken, EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="kpipe-broker-front", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and drop all connections."""
        self._wake.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            for key, events in self._selector.select():
                if key.fileobj is self._woken:
                    self._close_all()
                    return
                if isinstance(key.data, RelayEnd):
                    self._carry(key.data, events)
                else:
                    self._accept()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            time.sleep(0.05)  # out of descriptors: the listener stays readable, do not spin on it
            return
        try:
            broker = connect(self._target)
        except OSError:
            client.close()  # the broker behind is down: so is this address
            return
        side, other = RelayEnd(client), RelayEnd(broker)
        side.other, other.other = other, side
        for end in (side, other):
            end.sock.setblocking(False)
            end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._watch(end)

    def _carry(self, side: RelayEnd, events: int) -> None:
        if side.sock.fileno() < 0:
            return  # its other end was closed earlier in this round
        try:
            if events & EVENT_WRITE:
                side.unsent = side.unsent[_send(side.sock, side.unsent) :]
            if events & EVENT_READ and not self._receive(side):
                self._drop(side)
                return
        except OSError:
            self._drop(side)
            return
        self._watch(side)
        self._watch(side.other)

    def _receive(self, side: RelayEnd) -> bool:
        """Hand what has arrived to the other end; False when nothing will arrive any more."""
        if side.other.unsent:
            return True
        try:
            block = memoryview(side.sock.recv(BLOCK))
        except BlockingIOError:
            return True
        side.other.unsent = block[_send(side.other.sock, block) :]
        return len(block) > 0

    def _watch(self, side: RelayEnd) -> None:
        """Ask for what can be done now: write what is unsent; read only when the other end has taken everything."""
        events = (0 if side.other.unsent else EVENT_READ) | (EVENT_WRITE if side.unsent else 0)
        if events == side.events:
            return
        if not side.events:
            self._selector.register(side.sock, events, side)
        elif not events:
            self._selector.unregister(side.sock)
        else:
            self._selector.modify(side.sock, events, side)
        side.events = events

    def _drop(self, side: RelayEnd) -> None:
        # Kafka clients and brokers close a connection whole; at an EOF nothing this end sent is still unsent.
        for end in (side, side.other):
            if end.events:
                self._selector.unregister(end.sock)
                end.events = 0
            end.sock.close()

    def _close_all(self) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, RelayEnd):
                self._drop(key.data)
        self._selector.close()
        self._listener.close()
        self._woken.close()


def _send(sock: socket.socket, block: memoryview) -> int:
    """Send what the socket takes now; how many bytes that was."""
    try:
        return sock.send(block) if block else 0
    except BlockingIOError:
        return 0

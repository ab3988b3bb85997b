"""Consume's socket: made (0600), listened to for the one far end of the pipe, and removed.

It decides nothing about records: what it hears goes to the gate.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

from kpipe.delivery.backchannel.protocol import LONGEST, read_message
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from kpipe.delivery.backchannel.gate import Gate

LONGEST_PATH = 107  # bytes; sockaddr_un holds no more (unix(7))


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
        self.over = self.over or len(self._buffer) > LONGEST  # a message of ours would have ended
        return True

    def _take(self, line: bytes) -> None:
        if self.over:
            return
        try:
            acks, end = read_message(line)
        except ValueError:
            self.over = True  # not kpipe's far end: nothing more of it is believed
            return
        for place, offsets in acks:
            self._gate.acked(place, offsets)
        self.clean = self.clean or end

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

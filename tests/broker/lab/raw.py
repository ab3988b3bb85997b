"""Writes record batches that no client would: bytes of the protocol, from this page to the broker.

Produce version 3 and record batches of magic 2, as https://kafka.apache.org/protocol and KIP-98 have them.
"""

from __future__ import annotations

import socket
import time
from struct import pack, unpack
from typing import TYPE_CHECKING

from tests.broker.lab import LabError

if TYPE_CHECKING:
    from collections.abc import Sequence

PRODUCE, VERSION = 0, 3
NOT_READY = (3, 5, 6)  # the topic was just made: unknown, without a leader, led by another
RawHeaders = tuple[tuple[bytes, bytes], ...]


def write_batch(
    bootstrap: str, topic: str, records: Sequence[tuple[bytes, int] | tuple[bytes, int, RawHeaders]]
) -> None:
    """One batch of (value, time in ms, headers) into partition 0; LabError with the broker's code when it refuses.

    `bootstrap` must be the leader: clusters of the lab have one broker.
    """
    batch = _batch(records)
    body = b"".join([
        pack(">hhih", PRODUCE, VERSION, 1, 3), b"raw",
        pack(">hhi", -1, -1, 10_000), pack(">i", 1), pack(">h", len(topic)), topic.encode(),
        pack(">i", 1), pack(">i", 0), pack(">i", len(batch)), batch,
    ])  # fmt: skip
    deadline = time.monotonic() + 10
    while (code := _exchange(bootstrap, body, 18 + len(topic))) in NOT_READY and time.monotonic() < deadline:
        time.sleep(0.1)
    if code:
        raise LabError(f"raw: the broker answered with error {code}")


def _exchange(bootstrap: str, body: bytes, at: int) -> int:
    """Send a request; the error code that stands at `at` in the answer."""
    host, _, port = bootstrap.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(pack(">i", len(body)) + body)
        (size,) = unpack(">i", _read(connection, 4))
        answer = _read(connection, size)
    return int(unpack(">h", answer[at : at + 2])[0])


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise LabError("raw: the broker hung up")
        data += more
    return data


def _batch(records: Sequence[tuple[bytes, int] | tuple[bytes, int, RawHeaders]]) -> bytes:
    base = records[0][1]
    body = b"".join(
        _record(place, value, ms - base, headers[0] if headers else ())
        for place, (value, ms, *headers) in enumerate(records)
    )
    times = [ms for _, ms, *_ in records]
    checked = pack(">hiqqqhii", 0, len(records) - 1, base, max(times), -1, -1, -1, len(records)) + body
    return pack(">qiibI", 0, len(checked) + 9, -1, 2, _crc32c(checked)) + checked


def _record(place: int, value: bytes, delta: int, headers: RawHeaders) -> bytes:
    named = b"".join(_varint(len(name)) + name + _varint(len(content)) + content for name, content in headers)
    body = b"\0" + _varint(delta) + _varint(place) + _varint(-1) + _varint(len(value)) + value
    body += _varint(len(headers)) + named
    return _varint(len(body)) + body


def _varint(number: int) -> bytes:
    """Zigzag, seven bits a byte."""
    left = (number << 1) ^ (number >> 63)
    left &= (1 << 64) - 1
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF

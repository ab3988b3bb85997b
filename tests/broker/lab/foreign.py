"""A batch that another producer writes in the name of one: with its id and a higher epoch, which fences it.

The wire format is that of Kafka's protocol guide: a Produce request of version 7, a record batch of magic 2.
"""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.broker.lab import LabError

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster

HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, two times, producer id, its epoch, base
sequence, count of records."""
CRC_FROM = 21
"""The CRC covers what stands behind it."""


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 if crc & 1 else crc >> 1
        table.append(crc)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Castagnoli's, as in record batches."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def producers(cluster: Cluster, topic: str, partition: int = 0) -> list[tuple[int, int]]:
    """(producer id, epoch) of each batch in the partition's log, from the broker's own files."""
    found: list[tuple[int, int]] = []
    for segment in sorted((Path(cluster.broker.home) / "data").glob(f"**/{topic}-{partition}/*.log")):
        data, place = segment.read_bytes(), 0
        while place + HEADER.size <= len(data):
            fields = HEADER.unpack_from(data, place)
            if fields[3] != 2:  # preallocated
                break
            found.append((fields[9], fields[10]))
            place += 12 + fields[1]
    return found


def fence(cluster: Cluster, topic: str, partition: int = 0, value: bytes = b"foreign") -> None:
    """Write one record in the name of the last producer of a partition, with a higher epoch."""
    own = [(pid, epoch) for pid, epoch in producers(cluster, topic, partition) if pid >= 0]
    if not own:
        raise LabError(f"fence: {topic}[{partition}]: no producer with an id has written there")
    pid, epoch = own[-1]
    error = _produce(cluster.bootstrap, topic, partition, _batch(value, pid, epoch + 1))
    if error:
        raise LabError(f"fence: {topic}[{partition}]: the broker answered {error}")


def _batch(value: bytes, pid: int, epoch: int) -> bytes:
    body = b"\0" + _varint(0) + _varint(0) + _varint(-1) + _varint(len(value)) + value + _varint(0)
    records = _varint(len(body)) + body
    now = int(time.time() * 1000)
    behind = struct.pack(">hiqqqhii", 0, 0, now, now, pid, epoch, 0, 1) + records
    head = struct.pack(">ibI", -1, 2, crc32c(behind))
    return struct.pack(">qi", 0, len(head) + len(behind)) + head + behind


def _varint(number: int) -> bytes:
    word, out = (number << 1) ^ (number >> 63), bytearray()
    while word & ~0x7F:
        out.append(word & 0x7F | 0x80)
        word >>= 7
    return bytes([*out, word])


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _produce(address: str, topic: str, partition: int, batch: bytes) -> int:
    """The error code of the answer."""
    request = struct.pack(">hhi", 0, 7, 1) + _text("lab") + struct.pack(">hhi", -1, -1, 10_000)
    request += struct.pack(">i", 1) + _text(topic) + struct.pack(">iii", 1, partition, len(batch)) + batch
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        size = struct.unpack(">i", _read(connection, 4))[0]
        answer = _read(connection, size)
    place = 4 + 4 + 2 + len(topic) + 4 + 4  # correlation id, topics, its name, partitions, partition
    return int(struct.unpack_from(">h", answer, place)[0])


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise LabError("the broker closed the connection")
        data += more
    return data

"""Which partition a key belongs to, as the two families of clients compute it. Pure.

Java and everything that follows it hash with murmur2 (org.apache.kafka.common.utils.Utils); librdkafka's default,
and so kcat's, Karafka's and many others', is CRC32.
"""

from __future__ import annotations

import zlib

_SEED, _MULTIPLIER, _MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The 32-bit murmur2 of Kafka's Java client, as an unsigned number."""
    state = _SEED ^ len(key)
    whole = len(key) & ~3
    for place in range(0, whole, 4):
        word = int.from_bytes(key[place : place + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        state = state * _MULTIPLIER & _MASK ^ word
    if rest := key[whole:]:
        state = (state ^ int.from_bytes(rest, "little")) * _MULTIPLIER & _MASK
    state = (state ^ state >> 13) * _MULTIPLIER & _MASK
    return state ^ state >> 15


def java_partition(key: bytes, partitions: int) -> int:
    """Where Java clients put a key (BuiltInPartitioner: the sign is cut off, then modulo)."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def librdkafka_partition(key: bytes, partitions: int) -> int:
    """Where librdkafka puts a key by default (`consistent_random`)."""
    return zlib.crc32(key) % partitions


def partitions_for(key: bytes, partitions: int) -> list[int]:
    """The partitions a key may be in, the likelier first; a null or empty key has no home and is not asked for."""
    return list(dict.fromkeys((java_partition(key, partitions), librdkafka_partition(key, partitions))))

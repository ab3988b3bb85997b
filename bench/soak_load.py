"""What the soak writes, and how its copies are judged: every value says where it stood, so no list of them is needed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Producer

PARTITIONS = 6
BURST = 150_000
"""Records that are there before kpipe starts, so that all its buffers are full once, early."""
CATCH_UP = 180.0
"""Seconds that the backlog may take after the last fault."""


def value(partition: int, offset: int) -> bytes:
    """What stands at an offset of the source: any copy can be checked without the source."""
    return b"%d-%010d-%s" % (partition, offset, b"x" * (offset % 200))


class Load(threading.Thread):
    """Writes records at a rate, past the proxy, and puts up with a broker that is away."""

    def __init__(self, bootstrap: str, topic: str, rate: int) -> None:
        super().__init__(daemon=True)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": 0,
                "log_level": 0,
                "reconnect.backoff.max.ms": 200,
            }
        )
        self._topic, self._rate = topic, rate
        self._next = [0] * PARTITIONS
        self.over, self.resting = threading.Event(), threading.Event()
        self.failed = 0

    @property
    def written(self) -> int:
        """Records that were handed to the producer."""
        return sum(self._next)

    def run(self) -> None:
        owed, before = float(BURST), time.monotonic()
        while not self.over.is_set():
            now = time.monotonic()
            owed += 0 if self.resting.is_set() else (now - before) * self._rate
            before, due = now, int(owed) - self.written
            for _ in range(min(due, 1000)):
                if not self._write():
                    break
            self._producer.poll(0)
            time.sleep(0.01)
        left = time.monotonic() + CATCH_UP
        while len(self._producer) and time.monotonic() < left:
            self._producer.flush(1)

    def _write(self) -> bool:
        partition = self.written % PARTITIONS
        offset = self._next[partition]
        key = b"key-%d" % (offset % 50 * PARTITIONS + partition) if offset % 5 else None
        try:
            self._producer.produce(
                self._topic, value(partition, offset), key, partition=partition, on_delivery=self._report
            )
        except BufferError:
            return False
        self._next[partition] += 1
        return True

    def _report(self, error: object, _message: object) -> None:
        self.failed += error is not None


@dataclass
class Copies:
    """Judges a target record by record, in two bytes for each record of the source."""

    ends: dict[int, int]
    lost: int = 0
    duplicates: int = 0
    disorder: int = 0
    altered: int = 0
    _seen: dict[int, bytearray] = field(default_factory=dict)
    _highest: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._seen = {partition: bytearray(end) for partition, end in self.ends.items()}

    def add(self, message: Any) -> None:
        """One record of the target; those of a target partition come in order."""
        headers = dict(message.headers() or ())
        partition, offset = int(headers.get("source_partition") or -1), int(headers.get("source_offset") or -1)
        if not 0 <= offset < self.ends.get(partition, 0) or message.value() != value(partition, offset):
            self.altered += 1
            return
        seen = self._seen[partition]
        if seen[offset]:
            self.duplicates += 1
            return
        seen[offset] = 1
        line = (partition, message.partition())
        self.disorder += offset < self._highest.get(line, -1)
        self._highest[line] = max(offset, self._highest.get(line, -1))

    def conclude(self) -> dict[str, int]:
        """The differences, in verify's words."""
        missing = sum(seen.count(0) for seen in self._seen.values())
        found = {"missing": missing, "duplicated": self.duplicates, "reordered": self.disorder}
        return {**found, "altered": self.altered}

"""Keeps rows of both sides apart by ranges of source offsets, on disk once they outgrow their share of memory.

It never holds more than `budget` bytes of rows, and leaves no file behind.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

SOURCE, TARGET = "source", "target"
CHUNK = 1 << 20  # bytes read back at once, rounded down to whole rows


class Ranges:
    """Source offsets `starts[p]` to `ends[p]` of every partition, cut into `count` ranges of equal length, in order."""

    def __init__(self, starts: Mapping[int, int], ends: Mapping[int, int], count: int) -> None:
        self._starts, self._ends = starts, ends
        self._before: dict[int, int] = {}
        self.total = 0
        for partition in sorted(starts):
            self._before[partition] = self.total
            self.total += max(0, ends.get(partition, 0) - starts[partition])
        self.count = max(1, min(count, self.total))

    def find(self, partition: int, offset: int) -> int | None:
        """The range of a record, None for one that is not compared."""
        start = self._starts.get(partition)
        if start is None or not start <= offset < self._ends[partition]:
            return None
        return (self._before[partition] + offset - start) * self.count // self.total


class Buckets:
    """Rows by side and range; use it in a `with`."""

    def __init__(self, budget: int, folder: str | None = None) -> None:
        self._budget = budget
        self._folder = folder
        self._held = 0
        self._rows: dict[tuple[str, int], bytearray] = {}
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._directory is not None:
            self._directory.cleanup()

    def add(self, side: str, bucket: int, row: bytes) -> None:
        """Keep one row."""
        self._rows.setdefault((side, bucket), bytearray()).extend(row)
        self._held += len(row)
        if self._held > self._budget:
            self._spill()

    def rows(self, side: str, bucket: int, size: int) -> Iterator[bytes]:
        """The rows of one side and range, each `size` bytes, in the order they came."""
        if self._directory is not None and (path := self._path(side, bucket)).exists():
            with path.open("rb") as file:
                while chunk := file.read(CHUNK - CHUNK % size):
                    yield from _cut(chunk, size)
        yield from _cut(bytes(self._rows.get((side, bucket), b"")), size)

    def drop(self, bucket: int) -> None:
        """Forget a range that has been compared: its file makes room on the disk."""
        for side in (SOURCE, TARGET):
            self._rows.pop((side, bucket), None)
            if self._directory is not None:
                self._path(side, bucket).unlink(missing_ok=True)

    def _path(self, side: str, bucket: int) -> Path:
        return Path(self._directory.name if self._directory is not None else "", f"{side}-{bucket}")

    def _spill(self) -> None:
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(
                prefix="kpipe-verify-", dir=self._folder, ignore_cleanup_errors=True
            )
        try:
            for (side, bucket), rows in self._rows.items():
                with self._path(side, bucket).open("ab") as file:
                    file.write(rows)
        except OSError as error:
            what = f"cannot keep rows: {error.strerror}; free space, set TMPDIR to another disk or raise --memory"
            raise KpipeError(what, where=self._directory.name, stage=Stage.READ) from None
        self._rows.clear()
        self._held = 0


def _cut(rows: bytes, size: int) -> Iterator[bytes]:
    return (rows[place : place + size] for place in range(0, len(rows), size))

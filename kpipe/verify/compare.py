"""Two topics become a verdict: which records are missing, duplicated, reordered, altered or extra in the copy.

It reads nothing itself, and holds one range of source offsets at a time.

    missing      in the source, not in the copy          duplicated   further copies of a record
    altered      another key, value, header or time      reordered    behind a later record of its source partition,
    extra        traced to an offset the source lacks                 in the same target partition
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import repeat
from struct import Struct
from typing import TYPE_CHECKING

from kpipe.record import NO_TIMESTAMP
from kpipe.verify.buckets import SOURCE, TARGET, Buckets, Ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kpipe.record import Batch
    from kpipe.verify.digest import Digester, Tracing

KINDS = ("missing", "duplicated", "reordered", "altered", "extra")

ROW_BYTES = 400  # of memory, for one source record while its range is compared: its key, digest and table entries
_source = Struct("<IQ16s?")  # partition, offset, digest; whether the time is 0
_target = Struct("<IQ16sIQ?")  # the same of the source record; partition and offset of the copy; came late
_key = Struct("<IQ")
_copy = Struct("<IQ?")
_DIGEST_END = _key.size + 16


@dataclass(slots=True, frozen=True)
class Example:
    """One difference: where in the source, and where in the target unless it is missing there."""

    kind: str
    partition: int
    offset: int
    target: tuple[int, int] | None = None


@dataclass(slots=True)
class Verdict:
    """Counts of records on both sides and of differences, with the first `shown` examples of each kind.

    `foreign` are target records that were not made from the source; `outside` were made from offsets that were not
    asked for, or that the source does not keep any more. `epoch`: so many of the altered have the time 0 in the source.
    """

    shown: int = 10
    source: int = 0
    target: int = 0
    missing: int = 0
    duplicated: int = 0
    reordered: int = 0
    altered: int = 0
    extra: int = 0
    foreign: int = 0
    outside: int = 0
    epoch: int = 0
    examples: list[Example] = field(default_factory=list)
    _found: dict[str, int] = field(default_factory=dict)

    def note(self, kind: str, key: bytes, copy: tuple[int, int] | None = None) -> None:
        """Count a difference, and keep it as an example while there are few."""
        setattr(self, kind, getattr(self, kind) + 1)
        if self._found.get(kind, 0) < self.shown:
            self._found[kind] = self._found.get(kind, 0) + 1
            partition, offset = _key.unpack(key)
            self.examples.append(Example(kind, partition, offset, copy))

    def differences(self, *, allow_missing: bool = False, allow_extra: bool = False) -> dict[str, int]:
        """The kinds of difference that were found and are not allowed, with their counts."""
        allowed = {"missing"} if allow_missing else set()
        allowed |= {"extra"} if allow_extra else set()
        return {kind: getattr(self, kind) for kind in KINDS if getattr(self, kind) and kind not in allowed}


class Comparison:
    """Told of all records of both sides, in any interleaving, it gives the verdict. `memory` is in bytes.

    `starts` and `ends` are the source offsets to compare, by partition; `digest_copies` is for the other side, if that
    is another one.
    """

    def __init__(
        self,
        starts: Mapping[int, int],
        ends: Mapping[int, int],
        digest: Digester,
        trace: Tracing,
        memory: int,
        shown: int,
        *,
        digest_copies: Digester | None = None,
    ) -> None:
        span = sum(max(0, ends[partition] - start) for partition, start in starts.items())
        self.ranges = Ranges(starts, ends, -(-span * ROW_BYTES // (memory // 2)))
        self.buckets = Buckets(memory // 4)
        self.verdict = Verdict(shown)
        self._digest, self._trace = digest, trace
        self._digest_copies = digest_copies or digest
        self._latest: dict[tuple[int, int], int] = {}

    def add_source(self, batch: Batch) -> None:
        """Take note of source records."""
        self.verdict.source += len(batch)
        times = batch.timestamps or repeat(NO_TIMESTAMP, len(batch))
        columns = zip(batch.partitions or (), batch.offsets or (), self._digest(batch), times, strict=True)
        for partition, offset, digest, (kind, ms) in columns:
            bucket = self.ranges.find(int(partition or 0), int(offset or 0))
            if bucket is not None:
                self.buckets.add(SOURCE, bucket, _source.pack(partition, offset, digest, bool(kind) and not ms))

    def add_target(self, batch: Batch) -> None:
        """Take note of target records, in the order of each target partition."""
        self.verdict.target += len(batch)
        headers = batch.headers or [None] * len(batch)
        places = zip(batch.partitions or (), batch.offsets or (), strict=True)
        for copy, carried, digest in zip(places, headers, self._digest_copies(batch), strict=True):
            origin = self._trace(carried)
            if origin is None:
                self.verdict.foreign += 1
                continue
            bucket = self.ranges.find(*origin)
            if bucket is None:
                self.verdict.outside += 1
                continue
            line = (origin[0], int(copy[0] or 0))
            latest = self._latest.get(line, -1)
            late = origin[1] < latest
            if not late:
                self._latest[line] = origin[1]
            self.buckets.add(TARGET, bucket, _target.pack(*origin, digest, *copy, late))

    def conclude(self) -> Verdict:
        """Compare range by range."""
        for bucket in range(self.ranges.count):
            source = self.buckets.rows(SOURCE, bucket, _source.size)
            compare(source, self.buckets.rows(TARGET, bucket, _target.size), self.verdict)
            self.buckets.drop(bucket)
        return self.verdict


def compare(source: Iterable[bytes], target: Iterable[bytes], verdict: Verdict) -> None:
    """Compare one range: the source's rows are held, the target's pass by, however many copies there are."""
    expected = {row[: _key.size]: row[_key.size :] for row in source}
    met: set[bytes] = set()
    altered: set[bytes] = set()
    for row in target:
        key, digest = row[: _key.size], row[_key.size : _DIGEST_END]
        partition, offset, late = _copy.unpack(row[_DIGEST_END:])
        copy = (partition, offset)
        original = expected.get(key)
        if original is None:
            verdict.note("extra", key, copy)
            continue
        if key in met:
            verdict.note("duplicated", key, copy)
        else:
            met.add(key)
            if late:
                verdict.note("reordered", key, copy)
        if digest != original[:-1] and key not in altered:
            altered.add(key)
            verdict.epoch += original[-1]
            verdict.note("altered", key, copy)
    if len(met) < len(expected):
        for key in expected:
            if key not in met:
                verdict.note("missing", key)

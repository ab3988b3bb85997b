"""What records are like, counted in bounded memory: sizes, keys, headers, JSON paths, times. Pure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kpipe.record import Batch

PATHS, DEPTH = 400, 8
"""How many JSON paths are told apart, and how deep they go."""
HEADERS = 400
"""How many names of headers are told apart."""
TOP = 5
"""Keys that are shown with their share."""
TRACKED = 4096
"""Keys that are counted at once, to find those (Metwally et al., Space-Saving)."""
BARS = " ▁▂▃▄▅▆▇█"


class Sketch:
    """How many different things there were, within about 0.8 % (HyperLogLog, Flajolet et al. 2007; 16 kB)."""

    BITS = 14

    def __init__(self) -> None:
        self._registers = bytearray(1 << self.BITS)

    def add(self, thing: bytes) -> None:
        """One more; the same thing again changes nothing."""
        hashed = int.from_bytes(blake2b(thing, digest_size=8).digest())
        place, rest = hashed >> (64 - self.BITS), hashed & ((1 << (64 - self.BITS)) - 1)
        rank = 64 - self.BITS - rest.bit_length() + 1
        self._registers[place] = max(self._registers[place], rank)

    def count(self) -> int:
        """The estimate; few things are counted by the registers that are still empty, which is nearly exact."""
        size = len(self._registers)
        empty = self._registers.count(0)
        estimate = 0.7213 / (1 + 1.079 / size) * size * size / sum(2.0**-rank for rank in self._registers)
        if estimate <= 2.5 * size and empty:
            estimate = size * math.log(size / empty)
        return round(estimate)


class Heavy:
    """The things that come most often; their counts are at most too high by `error`."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()
        self.error = 0

    def add(self, thing: bytes) -> None:
        """Count one; when the table is full it takes the place of the rarest half."""
        if thing in self._counts or len(self._counts) < TRACKED:
            self._counts[thing] += 1
            return
        kept = self._counts.most_common(TRACKED // 2)
        self.error += kept[-1][1]
        self._counts = Counter(dict(kept))
        self._counts[thing] += 1

    def top(self) -> list[tuple[bytes, int]]:
        """The most frequent ones."""
        return self._counts.most_common(TOP)


@dataclass(slots=True)
class Sizes:
    """Sizes in bytes: exact bounds and mean, quantiles from counts by power of 2^(1/4) (off by 9 % at most)."""

    count: int = 0
    total: int = 0
    least: int = 0
    most: int = 0
    _classes: Counter[int] = field(default_factory=Counter)

    def add(self, size: int) -> None:
        """One more."""
        self.least = size if not self.count else min(self.least, size)
        self.most = max(self.most, size)
        self.count += 1
        self.total += size
        self._classes[round(4 * math.log2(size)) if size else -1] += 1

    @property
    def mean(self) -> float:
        """Bytes each."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> int:
        """The size that so many are not larger than."""
        wanted, seen = share * self.count, 0
        for place, count in sorted(self._classes.items()):
            seen += count
            if seen >= wanted:
                return 0 if place < 0 else min(self.most, max(self.least, round(2 ** (place / 4))))
        return self.most


class Times:
    """Timestamps in at most BUCKETS buckets, whose width doubles when there are more; first and last are exact."""

    BUCKETS = 8192

    def __init__(self) -> None:
        self._width = 1
        self._counts: Counter[int] = Counter()
        self.first = self.last = 0

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, ms: int) -> None:
        """One more."""
        self.first = ms if not self._counts else min(self.first, ms)
        self.last = max(self.last, ms) if self._counts else ms
        self._counts[ms // self._width] += 1
        while len(self._counts) > self.BUCKETS:
            self._width *= 2
            halved: Counter[int] = Counter()
            for place, count in self._counts.items():
                halved[place // 2] += count
            self._counts = halved

    def bars(self, columns: int) -> str:
        """Records over time, a column each; "" where no record has a time."""
        if not self._counts:
            return ""
        span = max(1, self.last - self.first + 1)
        heights: Counter[int] = Counter()
        for place, count in self._counts.items():
            ms = min(self.last, max(self.first, place * self._width))
            heights[(ms - self.first) * columns // span] += count
        most = max(heights.values())
        return "".join(BARS[-(-heights[column] * (len(BARS) - 1) // most)] for column in range(columns))


@dataclass(slots=True)
class Statistics:
    """What was seen of some records."""

    records: int = 0
    values: Sizes = field(default_factory=Sizes)
    keys: Sizes = field(default_factory=Sizes)
    tombstones: int = 0
    empty_values: int = 0
    null_keys: int = 0
    json: int = 0
    """Values that are JSON objects, as they are or decoded."""
    schemas: Counter[str] = field(default_factory=Counter)
    """How many values each schema decoded: `avro id 7`."""
    header_bytes: int = 0
    headers: Counter[str] = field(default_factory=Counter)
    """In how many records a name is."""
    paths: dict[str, Counter[str]] = field(default_factory=dict)
    """In how many JSON objects a path has which type."""
    paths_left_out: bool = False
    times: Times = field(default_factory=Times)
    partitions: Counter[tuple[str, int]] = field(default_factory=Counter)
    distinct: Sketch = field(default_factory=Sketch)
    heavy: Heavy = field(default_factory=Heavy)

    def add(self, batch: Batch) -> None:
        """Take note of a batch."""
        self.records += len(batch)
        for place, value in enumerate(batch.values):
            shown = batch.shown_values[place] if batch.shown_values is not None else None
            self._value(value, value if shown is None else shown.original)
            if shown is not None and shown.schema is not None:
                self._schema(shown.schema)
            key = batch.keys[place] if batch.keys is not None else None
            shown = batch.shown_keys[place] if batch.shown_keys is not None else None
            self._key(key, key if shown is None else shown.original)
            found = batch.header(place)
            self.header_bytes += sum(len(name) + len(content or b"") for name, content in found)
            for name in {name for name, _ in found}:
                if name in self.headers or len(self.headers) < HEADERS:
                    self.headers[name] += 1
        for kind, ms in batch.timestamps or ():
            if kind:
                self.times.add(ms)
        self.partitions.update(zip(batch.topics or (), batch.partitions or (), strict=True))  # type: ignore[arg-type]

    @property
    def size(self) -> int:
        """Keys, values and headers, as they are when nothing is compressed."""
        return self.values.total + self.keys.total + self.header_bytes

    def _schema(self, schema: dict[str, Any]) -> None:
        ref = next((f" {name} {schema[name]}" for name in ("id", "guid") if name in schema), "")
        name = f"{schema.get('format', '')}{ref}"
        if name in self.schemas or len(self.schemas) < HEADERS:
            self.schemas[name] += 1

    def _key(self, key: bytes | None, raw: bytes | None) -> None:
        """`raw` is what was read, where `key` shows it decoded."""
        if key is None:
            self.null_keys += 1
            return
        self.keys.add(len(raw or b""))
        self.distinct.add(key)
        self.heavy.add(key)

    def _value(self, value: bytes | None, raw: bytes | None) -> None:
        """`raw` is what was read, where `value` shows it decoded."""
        if value is None:
            self.tombstones += 1
            return
        self.values.add(len(raw or b""))
        self.empty_values += not raw
        if value[:1] != b"{":
            return
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError:
            return
        self.json += 1
        for path, kind in set(_shape(parsed, "", 0)):
            if path in self.paths or len(self.paths) < PATHS:
                self.paths.setdefault(path, Counter())[kind] += 1
            else:
                self.paths_left_out = True


def _shape(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Every path of a JSON value with its type; `[]` stands for each element of an array."""
    if path:
        yield path, _kind(value)
    if depth >= DEPTH:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _shape(inner, f"{path}.{name}", depth + 1)
    elif isinstance(value, list):
        for inner in value[:100]:
            yield from _shape(inner, f"{path}[]", depth + 1)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]

"""What travels: a batch of records as columns, and where each of them came from.

A column is a list with one entry per record. Columns instead of record objects because every step then costs
only for the fields it touches: extracting a column from 500 messages is one C-level `map` (10-30 ns per record),
building a slotted record object costs 170-250 ns before anything was done with it. Nothing here knows Kafka's client.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kpipe.errors import BadRecord

Headers: TypeAlias = list[tuple[str, bytes | None]]
"""Headers in order, duplicates kept; a value of None is not b""."""

Timestamp: TypeAlias = tuple[int, int]
"""(type, ms since epoch) as the client has it: see the TIMESTAMP_ constants."""

TIMESTAMP_NONE, TIMESTAMP_CREATE, TIMESTAMP_APPEND = 0, 1, 2
NO_TIMESTAMP: Timestamp = (TIMESTAMP_NONE, -1)
TIMESTAMP_TYPES = ("none", "create", "append")

COLUMNS = (
    "keys",
    "headers",
    "timestamps",
    "topics",
    "partitions",
    "offsets",
    "lines",
    "targets",
    "source_timestamps",
    "shown_keys",
    "shown_values",
    "partition_keys",
)
"""Every column of a batch but `values` and `index`."""


def split_target(target: str) -> tuple[str | None, str]:
    """`CLUSTER:TOPIC` or `TOPIC` as (cluster, topic); no topic's name holds a colon."""
    cluster, colon, topic = target.partition(":")
    return (cluster, topic) if colon else (None, target)


@dataclass(slots=True, frozen=True)
class Bad:
    """A record taken out of its batch: `index` is its place in the batch as read."""

    index: int
    error: BadRecord


class Shown:
    """What stands behind a key or value that is shown as JSON: `original` is as it was read.

    `text` is the JSON (None: it could not be decoded, `error` says why), `schema` what an envelope says of it; `back`
    makes JSON text bytes of the same schema and framing (None: nothing can).
    """

    __slots__ = ("back", "error", "original", "schema", "text")

    def __init__(
        self,
        original: bytes | None,
        text: bytes | None = None,
        schema: dict[str, Any] | None = None,
        back: Callable[[bytes], bytes] | None = None,
        error: str = "",
    ) -> None:
        self.original, self.text, self.schema, self.back, self.error = original, text, schema, back, error


@dataclass(slots=True, frozen=True)
class Record:
    """One record, for functions and programs: `dataclasses.replace` makes another one of it.

    `value` and `key` None are null, which is not b"". `headers` are (name, value) in order, duplicates kept.
    `timestamp` is in ms since 1970, None where the record has none. `topic`, `partition` and `offset` are where it was
    read ("" and None for a record that was not read from a topic); changing them moves nothing.
    """

    value: bytes | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    timestamp: int | None = None


def records_of(batch: Batch) -> Iterator[Record]:
    """The records of a batch as objects, which costs a microsecond each: only for whom asks for them."""
    count = len(batch)
    nothing: list[Any] = [None] * count
    columns = (
        batch.values,
        batch.keys or nothing,
        batch.headers or nothing,
        batch.topics or nothing,
        batch.partitions or nothing,
        batch.offsets or nothing,
        batch.timestamps or nothing,
    )
    for value, key, headers, topic, partition, offset, time in zip(*columns, strict=True):
        timestamp = time[1] if time is not None and time[0] != TIMESTAMP_NONE else None
        yield Record(value, key, tuple(headers or ()), topic or "", partition, offset, timestamp)


class Batch:
    """Records read together, as columns of equal length; stages change the columns in place.

    An optional column is None when no record of the batch has that field:
    `keys` None = every key is null, `headers` None = no headers, `timestamps` None = the time of sending.
    `topics`, `partitions` and `offsets` are where a record was read from, here or (from an envelope) elsewhere.
    `file` and `lines` are set when the records came from a file or stdin; else the records came from `cluster`.
    `targets` are chosen by a route, as `TOPIC` or `CLUSTER:TOPIC` (None: the target of the command line).
    `source_timestamps` are the times at the source, for the trace (None: no stage has changed `timestamps`).
    `shown_keys` and `shown_values` say what stands behind keys and values that are shown as JSON (None: none are).
    `partition_keys` choose partitions in place of keys that were translated (None: each key chooses its own).
    `index` is each record's place in the batch as read (None: nothing was removed yet), by which the ledger knows it.
    """

    __slots__ = (
        "bad",
        "cluster",
        "file",
        "headers",
        "index",
        "keys",
        "lines",
        "offsets",
        "partition_keys",
        "partitions",
        "read",
        "shown_keys",
        "shown_values",
        "source_timestamps",
        "targets",
        "timestamps",
        "topics",
        "values",
    )

    def __init__(
        self,
        values: list[bytes | None],
        *,
        keys: list[bytes | None] | None = None,
        headers: list[Headers | None] | None = None,
        timestamps: list[Timestamp] | None = None,
        topics: list[str | None] | None = None,
        partitions: list[int | None] | None = None,
        offsets: list[int | None] | None = None,
        file: str | None = None,
        lines: Sequence[int] | None = None,
        cluster: str = "",
    ) -> None:
        self.values = values
        self.keys = keys
        self.headers = headers
        self.timestamps = timestamps
        self.topics = topics
        self.partitions = partitions
        self.offsets = offsets
        self.file = file
        self.lines = lines
        self.cluster = cluster
        self.targets: list[str | None] | None = None
        self.source_timestamps: list[Timestamp] | None = None
        self.shown_keys: list[Shown | None] | None = None
        self.shown_values: list[Shown | None] | None = None
        self.partition_keys: list[bytes | None] | None = None
        self.index: list[int] | None = None
        self.bad: list[Bad] = []
        self.read = len(values)

    def __len__(self) -> int:
        return len(self.values)

    def keep(self, mask: Sequence[object]) -> None:
        """Keep the records whose entry in `mask` is true; the others are filtered (or bad, see `reject`)."""
        index = range(len(self.values)) if self.index is None else self.index
        self.index = list(compress(index, mask))
        self.values = list(compress(self.values, mask))
        for column in COLUMNS:
            entries = getattr(self, column)
            if entries is not None:
                setattr(self, column, list(compress(entries, mask)))

    def reject(self, errors: dict[int, BadRecord]) -> None:
        """Take bad records out: `errors` maps a record's place in the columns as they are now to what is wrong."""
        if not errors:
            return
        for place, error in errors.items():
            if not error.where:
                error.where = self.where(place)
            self.bad.append(Bad(place if self.index is None else self.index[place], error))
        self.keep([place not in errors for place in range(len(self.values))])

    def unite_bad(self) -> None:
        """A record with one bad child is bad as a whole: its other children leave, and it is bad once."""
        firsts: dict[int, Bad] = {}
        for bad in self.bad:
            firsts.setdefault(bad.index, bad)
        self.bad = list(firsts.values())
        if self.index is not None and not firsts.keys().isdisjoint(self.index):
            self.keep([entry not in firsts for entry in self.index])

    def snapshot(self) -> Batch:
        """The same columns under another name, for the ledger: stages replace columns, they never change the lists."""
        copy = Batch.__new__(Batch)
        for column in Batch.__slots__:
            setattr(copy, column, getattr(self, column))
        return copy

    def cut_out(self, start: int, end: int) -> Batch:
        """The records from place `start` to `end`, as a batch of its own that knows nothing of bad ones."""
        part = self.snapshot()
        part.bad = []
        if (start, end) != (0, len(self.values)):
            index = range(len(self.values)) if self.index is None else self.index
            part.index = list(index[start:end])
            part.values = self.values[start:end]
            for column in COLUMNS:
                entries = getattr(self, column)
                if entries is not None:
                    setattr(part, column, list(entries[start:end]))
        return part

    def truncate(self, read: int) -> None:
        """Forget the records from place `read` of the batch as read: the run ends before them."""
        index = range(len(self.values)) if self.index is None else self.index
        self.keep([entry < read for entry in index])
        self.bad = [bad for bad in self.bad if bad.index < read]
        self.read = read

    def last_offsets(self, read: int | None = None) -> dict[tuple[str, int], int]:
        """The offset of each partition's last record, of the first `read`; for what a topic source has read."""
        topics, partitions, offsets = self.topics, self.partitions, self.offsets
        if not topics or partitions is None or offsets is None:
            return {}
        topic = topics[0]
        if topics.count(topic) == len(topics):  # a tuple for each record costs twice as much
            last = dict(zip(partitions[:read], offsets, strict=False))
            return {(topic, number): offset for number, offset in last.items()}  # type: ignore[misc]
        return dict(zip(zip(topics[:read], partitions, strict=False), offsets, strict=False))  # type: ignore[arg-type]

    def where_read(self, index: int) -> str:
        """The position of the record that stood at `index` in the batch as read."""
        if self.index is None:
            return self.where(index)
        if index in self.index:
            return self.where(self.index.index(index))
        return next((bad.error.where for bad in self.bad if bad.index == index), self.file or "")

    def where(self, place: int) -> str:
        """The position of a record for people: `stdin:17`, or `prod:orders[3]@42`."""
        if self.lines is not None:
            return f"{self.file}:{self.lines[place]}"
        if self.topics is None or self.partitions is None or self.offsets is None:
            return self.file or ""
        prefix = f"{self.cluster}:" if self.cluster else ""
        return f"{prefix}{self.topics[place]}[{self.partitions[place]}]@{self.offsets[place]}"

    def header(self, place: int) -> Headers:
        """The headers of one record, empty when it has none."""
        return (self.headers[place] if self.headers is not None else None) or []

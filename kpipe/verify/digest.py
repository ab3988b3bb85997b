"""What a record is, in 16 bytes: key, value, timestamp and headers without the trace; and where a copy came from.

It never looks at where a record stands: a copy has another partition and offset.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import repeat
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING

from kpipe.formats.header_names import bytes_of
from kpipe.formats.lineage import SHAPES, TraceNames, is_certain

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.formats.lineage import Shape
    from kpipe.record import Batch, Headers

SIZE = 16
_length = Struct("<q").pack
_NULL = _length(-1)
_name = itemgetter(0)


def _field(field: bytes | None) -> bytes:
    return _NULL if field is None else _length(len(field)) + field


class Digester:
    """Digests of whole batches. `prefix` is that of the trace headers' names.

    `settle`, where given, puts in the place of schema ids what is the same in every registry, before the digest.
    """

    def __init__(
        self, prefix: str = "", *, timestamps: bool = True, settle: Callable[[Batch], None] | None = None
    ) -> None:
        self._settle = settle
        self._names = TraceNames(prefix)
        self._known: dict[tuple[str, ...], tuple[Shape, list[tuple[bytes, int]]]] = {}
        self._timestamps = timestamps

    def __call__(self, batch: Batch) -> list[bytes]:
        """One digest per record, in order."""
        if self._settle is not None:
            batch = batch.snapshot()
            self._settle(batch)
        times = [ms for _, ms in batch.timestamps] if self._timestamps and batch.timestamps else repeat(-1)
        columns = zip(batch.values, batch.keys or repeat(None), batch.headers or repeat(None), times, strict=False)
        return [self._digest(*record) for record in columns]

    def _digest(self, value: bytes | None, key: bytes | None, headers: Headers | None, ms: int) -> bytes:
        parts = [_field(value), _field(key), _length(ms)]
        if headers:
            self._add_headers(parts, headers)
        return blake2b(b"".join(parts), digest_size=SIZE).digest()

    def _add_headers(self, parts: list[bytes], headers: Headers) -> None:
        """Those that are no trace; their names are the same in most records, and made into bytes once."""
        names = tuple(map(_name, headers))
        shape, fields = self._known.get(names) or self._learn(names, headers)
        if is_certain(headers, shape):
            for field, place in fields:
                parts += (field, _field(headers[place][1]))
            return
        for name, content in self._names.without_trace(headers):
            parts += (_field(bytes_of(name)), _field(content))

    def _learn(self, names: tuple[str, ...], headers: Headers) -> tuple[Shape, list[tuple[bytes, int]]]:
        if len(self._known) >= SHAPES:
            self._known.clear()
        shape = self._names.shape_of(headers)
        found = self._known[names] = shape, [(_field(bytes_of(name)), place) for name, place in shape.rest]
        return found


class Tracing:
    """Reads the trace of a copy: which record of `topic` (on the cluster with this id) it was made from."""

    def __init__(self, topic: str, cluster_id: str, prefix: str = "") -> None:
        names = TraceNames(prefix).source
        self._topic_name, self._partition_name, self._offset_name, self._cluster_name = (
            names[field] for field in ("topic", "partition", "offset", "cluster")
        )
        self._topic = topic.encode()
        self._cluster = cluster_id.encode()

    def __call__(self, headers: Headers | None) -> tuple[int, int] | None:
        """(partition, offset), or None for a record that was made from something else."""
        if not headers:
            return None
        known = dict(headers)
        if known.get(self._topic_name) != self._topic:
            return None
        cluster = known.get(self._cluster_name)
        if cluster is not None and self._cluster and cluster != self._cluster:
            return None
        partition, offset = known.get(self._partition_name), known.get(self._offset_name)
        if partition is None or offset is None or not (partition.isdigit() and offset.isdigit()):
            return None
        return int(partition), int(offset)

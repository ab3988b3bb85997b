"""Envelopes exactly as kpipe writes them, a whole block at a time: what nearly all blocks hold, at a third of the cost.

It judges nothing. A block that is the same when it is written again holds no twin, no unknown field, no number or text
written otherwise, no blank and no empty line. Of any other block it says nothing: the caller looks at each line.

Measured per record of 300 bytes, a key and two headers (CPython 3.11, msgspec 0.22, orjson 3.13): 0.6 us for reading
the fields, 0.3 for writing them again, 0.5 for the columns; line by line it is 5-6 us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from kpipe.formats.fields import MAX_LONG, MAX_PARTITION
from kpipe.formats.rows import unless_empty
from kpipe.record import TIMESTAMP_TYPES, Batch

if TYPE_CHECKING:
    from kpipe.record import Headers

_TYPES = {name: number for number, name in enumerate(TIMESTAMP_TYPES)}


class _Envelope(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The fields in the order in which they are written."""

    topic: str
    partition: Annotated[int, msgspec.Meta(ge=0, le=MAX_PARTITION)]
    offset: Annotated[int, msgspec.Meta(ge=0, le=MAX_LONG)]
    timestamp: Annotated[int, msgspec.Meta(ge=-MAX_LONG - 1, le=MAX_LONG)]
    timestamp_type: str
    key: str | None
    value: str | None
    headers: list[tuple[str, str | None]]


_load = msgspec.json.Decoder(_Envelope).decode_lines
_dump = msgspec.json.Encoder().encode_lines


# Hot path: `make bench` (the pipe).
def read(block: bytes) -> Batch | None:
    """The records of whole lines; None when the block is anything but what EnvelopeEncoder writes."""
    try:
        found = _load(block)
        if _dump(found) != block:
            return None
        timestamps = [(_TYPES[each.timestamp_type], each.timestamp) for each in found]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        return None
    headers: list[Headers | None] = [
        [(name, None if value is None else value.encode()) for name, value in each.headers] or None for each in found
    ]
    return Batch(
        [None if each.value is None else each.value.encode() for each in found],
        keys=unless_empty([None if each.key is None else each.key.encode() for each in found]),
        headers=unless_empty(headers),
        timestamps=timestamps,
        topics=[each.topic for each in found],
        partitions=[each.partition for each in found],
        offsets=[each.offset for each in found],
    )

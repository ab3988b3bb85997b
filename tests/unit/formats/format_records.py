"""Records to try formats with, and what a decoder makes of bytes in blocks of any size."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from kpipe.formats.header_names import name_of
from kpipe.formats.rows import Row, batch_of
from kpipe.record import NO_TIMESTAMP, Batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpipe.formats import Decoder

# Bytes that hurt: quotes, line ends, separators, NUL, what is not UTF-8, what looks like a number or a word.
_SPECIAL = [
    b"",
    b"\x00",
    b"\n",
    b"\r\n",
    b'"',
    b"\\",
    b"\xff\xfe",
    b"\xc3",
    b"null",
    b"NULL",
    b"-1",
    b'":',
    b"{}",
    b'{"a": 1.10}',
]
some_bytes = st.one_of(st.sampled_from(_SPECIAL), st.binary(max_size=24), st.text(max_size=12).map(str.encode))
nullable = st.none() | some_bytes
names = (
    st.sampled_from(["h", "h", "é☃", "", 'a"b', "value", name_of(b"caf\xe9"), name_of(b"\xed\xa0\x80")])
    | st.text(max_size=6)
    | st.binary(max_size=6).map(name_of)
)
headers = st.lists(st.tuples(names, nullable), max_size=4)
timestamps = st.just(NO_TIMESTAMP) | st.tuples(st.sampled_from([1, 2]), st.integers(-(2**63), 2**63 - 1))
topics = st.none() | st.sampled_from(["orders", "a.b-c_D", "100%"])
partitions = st.none() | st.integers(0, 2**31 - 1)
offsets = st.none() | st.integers(0, 2**63 - 1)
rows = st.builds(Row, nullable, nullable, headers, timestamps, topics, partitions, offsets)
consumed = st.builds(
    Row,
    nullable,
    nullable,
    headers,
    st.tuples(st.sampled_from([1, 2]), st.integers(0, 2**42)),
    st.sampled_from(["orders", "refunds"]),
    st.integers(0, 99),
    st.integers(0, 2**63 - 1),
)
cuts = st.lists(st.integers(0, 400), max_size=8)


def batch(*records: Row) -> Batch:
    """Return the records as a batch that came from nowhere in particular."""
    return batch_of(records, file="", lines=range(len(records)))


def blocks(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut data at the places given, in any order and out of range as they may be."""
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(borders)]


def decode(decoder: Decoder, data: bytes, places: Iterable[int] = ()) -> tuple[list[Row], list[str]]:
    """Feed the blocks to the end; the records, and what was said about the bad ones."""
    found: list[Row] = []
    complaints: list[str] = []
    for part in [*map(decoder.feed, blocks(data, places)), decoder.finish()]:
        found += rows_of(part)
        complaints += [str(bad.error) for bad in part.bad]
    return found, complaints


def rows_of(part: Batch) -> list[Row]:
    """Return the records of a batch; no headers and an empty list of them are the same."""
    size = len(part)

    def column(entries: list[Any] | None) -> list[Any]:
        return [None] * size if entries is None else entries

    assert {len(column(entries)) for entries in (part.keys, part.headers, part.topics, part.partitions)} == {size}
    return [
        Row(value, key, listed or [], stamp or NO_TIMESTAMP, topic, partition, offset)
        for value, key, listed, stamp, topic, partition, offset in zip(
            part.values,
            column(part.keys),
            column(part.headers),
            column(part.timestamps),
            column(part.topics),
            column(part.partitions),
            column(part.offsets),
            strict=True,
        )
    ]

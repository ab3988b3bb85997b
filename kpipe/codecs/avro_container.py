"""An Avro object container file, whole in one record: its schema, then blocks of values between sync markers."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from kpipe.codecs import avro_read, avro_schema
from kpipe.codecs.errors import DataError
from kpipe.units import counted

if TYPE_CHECKING:
    from kpipe.codecs.schema import ValueStyle

_MAGIC = b"Obj\x01"
_META = avro_schema.parse('{"type":"map","values":"bytes"}')
_LARGEST = 64 * 1024 * 1024
"""Bytes that all blocks of a file may become together."""


def values(data: bytes, view: ValueStyle) -> list[Any]:
    """Every value of the file, in order; DataError where it breaks. Blocks may be plain or deflated."""
    from base64 import b64decode

    try:
        meta, place = avro_read.reader(_META)(data, len(_MAGIC))
        named = {name: b64decode(value["base64"]) for name, value in meta.items()}
        codec = named.get("avro.codec", b"null").decode(errors="replace")
        if codec not in ("null", "deflate"):
            raise DataError(f"an Avro file compressed with {codec}, which kpipe cannot unpack")
        root = avro_schema.parse(named.get("avro.schema", b""))
        read = avro_read.reader(root, tagged=view.tagged, big_ints_as_text=view.big_ints_as_text)
        sync, place = data[place : place + 16], place + 16
        if len(sync) < 16:
            raise DataError("an Avro file that ends within its head")
        found: list[Any] = []
        room = _LARGEST
        while place < len(data):
            count, size, place = _block_head(data, place)
            block = data[place : place + size]
            if size < 0 or data[place + size : place + size + 16] != sync:
                raise DataError(f"an Avro file that breaks at byte {place}")
            content = _unpacked(block, room) if codec == "deflate" else block
            room -= len(content)
            _read_block(read, content, count, found)
            place += size + 16
    except avro_read.AvroError as error:
        raise DataError(f"an Avro file: {error}") from None
    return found


def _block_head(data: bytes, place: int) -> tuple[int, int, int]:
    long = avro_read.reader(avro_schema.Node("long"))
    count, place = long(data, place)
    size, place = long(data, place)
    return count, size, place


def _read_block(read: Any, block: bytes, count: int, found: list[Any]) -> None:
    if not 0 <= count <= max(len(block), avro_read.MOST_EMPTY_ITEMS - len(found)):
        raise DataError(f"an Avro file that announces {counted(count, 'value')} in {counted(len(block), 'byte')}")
    place = 0
    for _ in range(count):
        value, place = read(block, place)
        found.append(value)
    if place != len(block):
        raise DataError("an Avro file whose block does not end with its last value")


def _unpacked(block: bytes, room: int) -> bytes:
    stream = zlib.decompressobj(-15)
    try:
        found = stream.decompress(block, max(1, room))
    except zlib.error as error:
        raise DataError(f"an Avro file whose block cannot be unpacked ({error})") from None
    if stream.unconsumed_tail:
        raise DataError("an Avro file that would become more than 64 MiB")
    return found

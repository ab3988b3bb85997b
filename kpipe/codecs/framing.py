"""Where the schema of a key or value is named: in its first bytes, or in headers of the record.

It reads a few bytes and never the data behind them. Sources: Confluent's wire format (magic byte 0; the GUID form in
headers since Schema Registry 8), Apicurio's serdes 2 and 3, AWS Glue's header version 3, Azure's content type, and the
Avro specification (object container files, single-object encoding).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from kpipe.units import counted

if TYPE_CHECKING:
    from kpipe.record import Headers

ID, GUID, GLOBAL_ID, CONTENT_ID = "id", "guid", "global id", "content id"
GLUE, AZURE, FINGERPRINT, EMBEDDED = "Glue version", "Azure id", "fingerprint", "embedded"

OBJECT_CONTAINER = b"Obj\x01"
SINGLE_OBJECT = b"\xc3\x01"
_LONGEST_INDEX = 100
"""Protobuf refuses messages nested deeper than this, so a longer path to a message type is no path."""


class Frame(NamedTuple):
    """How the schema is named (`kind` and `ref`), and where the data starts.

    `beside` is what stood behind the id in a header: a Protobuf message index (None: it stands before the data).
    """

    framing: str
    kind: str
    ref: int | str | bytes
    start: int
    beside: bytes | None = None
    compressed: bool = False

    def __str__(self) -> str:
        ref = self.ref.hex() if isinstance(self.ref, bytes) else self.ref
        return f"{self.framing}, {self.kind} {ref}" if ref != "" else self.framing


class FramingError(ValueError):
    """It starts like a frame and is none; the message says where it breaks."""


def frame_of(payload: bytes, headers: Headers | None, *, is_key: bool) -> Frame | None:
    """The frame of a key or value, None where there is none; headers speak first.

    A start like Confluent's proves nothing (an integer key, MessagePack's 0): the registry has the last word.
    """
    if headers and (found := _from_headers(headers, "key" if is_key else "value")) is not None:
        return found
    return _from_payload(payload)


def names_in_headers(side: str) -> frozenset[str]:
    """The names of headers that may say which schema a key or value (`side`) has."""
    named = {f"__{side}_schema_id", f"apicurio.{side}.globalId", f"apicurio.{side}.contentId"}
    return frozenset(named | ({"content-type"} if side == "value" else set()))


def without_names(headers: Headers, side: str) -> Headers:
    """The headers but for those that say which schema a key or value had, once it has another one."""
    names = names_in_headers(side)
    return [
        (name, value)
        for name, value in headers
        if not (
            name.startswith((f"apicurio.{side}.", f"__{side}_schema_id"))
            or (name in names and (value or b"").lower().startswith(b"avro/binary+"))
        )
    ]


def _from_headers(headers: Headers, side: str) -> Frame | None:
    # The last header of a name counts, as in the Java client.
    named = {name: value for name, value in headers if value is not None}
    if (value := named.get(f"__{side}_schema_id")) is not None:
        if value[:1] == b"\x01" and len(value) >= 17:
            return Frame("Confluent header", GUID, str(UUID(bytes=value[1:17])), 0, value[17:])
        if value[:1] == b"\x00" and len(value) >= 5:
            return Frame("Confluent header", ID, int.from_bytes(value[1:5], "big"), 0, value[5:])
        raise FramingError(f"the header __{side}_schema_id holds neither an id nor a GUID ({value[:20].hex()})")
    for name, kind in (("globalId", GLOBAL_ID), ("contentId", CONTENT_ID)):
        value = named.get(f"apicurio.{side}.{name}")
        if value is not None and len(value) == 8:
            return Frame("Apicurio header", kind, int.from_bytes(value, "big"), 0)
    if side == "value" and (value := named.get("content-type")) is not None:
        start, _, schema = value.partition(b"+")
        if start.lower() == b"avro/binary" and _is_hex(schema):
            return Frame("Azure", AZURE, schema.decode(), 0)
    return None


def _from_payload(payload: bytes) -> Frame | None:
    first = payload[:1]
    if first == b"\x00" and len(payload) >= 5:
        if payload[:4] == b"\x00\x00\x00\x00" and _is_hex(payload[4:36]):
            return Frame("Azure, old form", AZURE, payload[4:36].decode(), 36)
        if payload[1:5] == b"\x00\x00\x00\x00" and len(payload) >= 9:
            return Frame("Apicurio", GLOBAL_ID, int.from_bytes(payload[1:9], "big"), 9)
        number = int.from_bytes(payload[1:5], "big")
        return Frame("Confluent", ID, number, 5) if number else None  # ids count from 1; a small Java long is no frame
    if first == b"\x03" and len(payload) >= 18 and payload[1] in (0, 5):
        return Frame("Glue", GLUE, str(UUID(bytes=payload[2:18])), 18, compressed=payload[1] == 5)
    if payload.startswith(OBJECT_CONTAINER):
        return Frame("Avro file", EMBEDDED, "", 0)
    if payload.startswith(SINGLE_OBJECT) and len(payload) >= 10:
        return Frame("Avro single object", FINGERPRINT, payload[2:10], 10)
    return None


def _is_hex(text: bytes) -> bool:
    return len(text) == 32 and all(byte in b"0123456789abcdefABCDEF" for byte in text)


def read_index(data: bytes, start: int) -> tuple[tuple[int, ...], int]:
    """Confluent's message index for Protobuf at `start`, and where it ends.

    Zigzag varints: the length, then the path; [0], the first message of the file, is written as the one byte 0.
    """
    count, place = _zigzag(data, start)
    if count == 0:
        return (0,), place
    if not 0 < count <= _LONGEST_INDEX:
        raise FramingError(f"a message index of {counted(count, 'entry', 'entries')} at byte {start}")
    path = []
    for _ in range(count):
        entry, place = _zigzag(data, place)
        if entry < 0:
            raise FramingError(f"a negative entry in the message index at byte {place}")
        path.append(entry)
    return tuple(path), place


def write_index(path: tuple[int, ...]) -> bytes:
    """The message index of a Protobuf type, as `read_index` reads it."""
    if path == (0,):
        return b"\x00"
    return b"".join(_write_zigzag(number) for number in (len(path), *path))


def _zigzag(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while place < len(data) and shift < 35:
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), place
        shift += 7
    raise FramingError(f"the message index ends or overflows at byte {place}")


def _write_zigzag(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)

"""What the bytes of a Protobuf message say without any schema: field numbers, wire types and values.

It needs no library, and guesses nothing but which bytes are text or a message of their own.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any


def raw_fields(data: bytes, depth: int = 0) -> list[dict[str, Any]] | None:
    """What the bytes alone say: field numbers, wire types and values; None where they are no Protobuf message."""
    fields: list[dict[str, Any]] = []
    place = 0
    try:
        while place < len(data):
            tag, place = _varint(data, place)
            number, wire = tag >> 3, tag & 7
            if number == 0:
                return None
            shown, place = _raw_value(data, place, wire, depth)
            fields.append({"field": number, **shown})
    except (IndexError, ValueError):
        return None
    return fields


def _raw_value(data: bytes, place: int, wire: int, depth: int) -> tuple[dict[str, Any], int]:
    match wire:
        case 0:
            value, place = _varint(data, place)
            return {"varint": value}, place
        case 1 | 5:
            size = 8 if wire == 1 else 4
            if place + size > len(data):
                raise ValueError
            return {f"fixed{size * 8}": int.from_bytes(data[place : place + size], "little")}, place + size
        case 2:
            size, place = _varint(data, place)
            if place + size > len(data):
                raise ValueError
            return _raw_bytes(data[place : place + size], depth), place + size
    raise ValueError


def _raw_bytes(inner: bytes, depth: int) -> dict[str, Any]:
    try:
        text = inner.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and text.isprintable():
        return {"text": text}
    nested = raw_fields(inner, depth + 1) if depth < 20 and inner else None
    return {"message": nested} if nested is not None else {"base64": b64encode(inner).decode()}


def _varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7
    raise ValueError

"""MessagePack and CBOR -> JSON text: formats that need no schema, and have more kinds of values than JSON.

What JSON has no word for is written as Avro's is: bytes as {"base64": ...}, numbers beyond it as text. It never lets a
few bytes become many: CBOR may refer to a value again and again.
"""

from __future__ import annotations

import math
from base64 import b64encode
from typing import Any

import orjson

from kpipe.errors import UsageError
from kpipe.units import counted

LARGEST = 64 * 1024 * 1024
"""Bytes of text that a value may become."""
MOST_REPEATED = 100_000
"""Values that may be there because others refer to them; all others have bytes of their own."""
DEEPEST = 250
_EXACT = 1 << 63


def read_msgpack(payload: bytes) -> bytes:
    """The JSON; an exception says that it is none."""
    import msgspec

    return orjson.dumps(_Plain(len(payload)).of(msgspec.msgpack.decode(payload, strict=True), 0))


def read_cbor(payload: bytes) -> bytes:
    """The JSON; an exception says that it is none. UsageError where the library is not installed."""
    try:
        import cbor2
    except ImportError:
        raise UsageError("--decode cbor needs a library: pip install 'kpipe-cli[schemas]'") from None
    from io import BytesIO

    stream = BytesIO(payload)
    found = cbor2.load(stream)
    if left := len(payload) - stream.tell():
        raise ValueError(f"{counted(left, 'byte is', 'bytes are')} left over")
    return orjson.dumps(_Plain(len(payload)).of(found, 0))


class _Plain:
    """Makes a value of it that JSON can hold; ValueError where that would be too large or too deep."""

    def __init__(self, size: int) -> None:
        self._room, self._values = LARGEST, size + MOST_REPEATED

    def of(self, value: Any, depth: int) -> Any:
        self._values -= 1
        if self._values < 0:
            raise ValueError("it refers to the same values again and again")
        if depth > DEEPEST:
            raise ValueError(f"it nests deeper than {DEEPEST}")
        match value:
            case None | bool():
                return value
            case int():
                return value if -_EXACT <= value < 2 * _EXACT else str(value)
            case str():
                self._take(len(value))
                return value
            case float():
                return _float(value)
            case dict():
                return self._members(value, depth)
            case list() | tuple() | set() | frozenset():
                return [self.of(each, depth + 1) for each in value]
            case bytes() | bytearray() | memoryview():
                self._take(len(value) * 4 // 3)
                return {"base64": b64encode(value).decode()}
        return self._other(value, depth)

    def _members(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, each in value.items():
            text = name if type(name) is str else orjson.dumps(self.of(name, depth + 1)).decode()
            self._take(len(text))
            if text in found:
                raise ValueError(f"two of its members would be called {text[:40]!r}")
            found[text] = self.of(each, depth + 1)
        return found

    def _other(self, value: Any, depth: int) -> Any:
        if hasattr(value, "code") and hasattr(value, "data"):  # MessagePack's extensions
            return {"ext": value.code, **self.of(bytes(value.data), depth)}
        if hasattr(value, "tag") and hasattr(value, "value"):  # CBOR's tags
            return {"tag": value.tag, "value": self.of(value.value, depth + 1)}
        if hasattr(value, "isoformat"):
            return value.isoformat()
        if hasattr(value, "items"):  # a frozen dict as a key
            return self._members(dict(value), depth)
        text = str(value)
        self._take(len(text))
        return text

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise ValueError("it would become more than 64 MiB")


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")

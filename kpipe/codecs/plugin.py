"""Keys and values -> JSON by a plugin of `kpipe.decoders`, and back where it can.

Its exceptions are about the record: it is shown as it is, or is bad, as with every other decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kpipe.codecs.decoder import Decoded, Undecodable
from kpipe.codecs.errors import NoFit
from kpipe.errors import UsageError
from kpipe.plugins import load, said, split

if TYPE_CHECKING:
    from kpipe.record import Headers

PREFIX = "plugin:"


class PluginDecoder:
    """Decodes as `plugin:NAME` or `plugin:NAME=TEXT` says; UsageError where there is none, or it fails to load."""

    def __init__(self, decoding: str) -> None:
        self._name, argument = split(decoding.removeprefix(PREFIX), "=")
        plugin = load("decoders", self._name, argument, where=f"--decode {decoding}")
        self._decode = getattr(plugin, "decode", None)
        self._encode = getattr(plugin, "encode", None)
        if not callable(self._decode):
            raise UsageError(f"the plugin {self._name} made a {type(plugin).__name__} that has no method decode")

    naming: frozenset[str] = frozenset()
    """No header names a schema of a plugin's."""

    def quick(self, _payload: bytes) -> None:
        """Nothing is known before it is decoded."""

    def decode(self, payload: bytes | None, _headers: Headers | None = None) -> Decoded | None:
        """The JSON of a key or value, None for a null; Undecodable where the plugin raises, or gives no JSON."""
        if payload is None:
            return None
        try:
            text = orjson.dumps(self._decode(payload))  # type: ignore[misc]
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is about this record
            raise Undecodable(f"it is not {self._name} ({said(error)[:200]})") from None
        return Decoded(text, {"format": f"{PREFIX}{self._name}"}, back=self._write if self._encode else None)

    def _write(self, text: bytes) -> bytes:
        value: Any = orjson.loads(text)
        try:
            written: Any = self._encode(value)  # type: ignore[misc]
        except BaseException as error:  # noqa: BLE001 - as above
            raise NoFit(f"{self._name}: {said(error)[:200]}") from None
        if not isinstance(written, bytes):
            raise NoFit(f"{self._name} gave a {type(written).__name__}, not bytes")
        return written

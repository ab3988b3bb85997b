"""Keys or values -> JSON, each with the schema it names; what cannot be decoded stays as it is, with the reason.

A null stays null and asks nobody. `auto` decodes what says that it is encoded, and leaves everything else alone.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from kpipe.codecs import framing, schema
from kpipe.codecs.avro_schema import SchemaError
from kpipe.codecs.plain import read_cbor, read_msgpack
from kpipe.codecs.registry import NotFound
from kpipe.codecs.schema import DataError
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.codecs.framing import Frame
    from kpipe.codecs.library import Library
    from kpipe.codecs.registry import SchemaText
    from kpipe.codecs.schema import Codec, View
    from kpipe.record import Headers

FORMATS = {"AVRO": "avro", "PROTOBUF": "protobuf", "JSON": "json"}
CONFLUENT = "Confluent"
LARGEST_UNPACKED = 64 * 1024 * 1024
"""Bytes that a compressed value may become: some kilobytes can announce gigabytes."""


class Decoded(NamedTuple):
    """A key or value as JSON text.

    `schema` is what an envelope says of it (format, id, …); `note` is what the JSON does not show. `back` makes JSON
    text a key or value of the same schema and framing (None: it cannot be written): NoFit where it does not fit.
    """

    text: bytes
    schema: dict[str, Any]
    note: str = ""
    back: Callable[[bytes], bytes] | None = None


class Undecodable(ValueError):
    """It says that it is encoded, or was asked to be decoded, and cannot be: the message says why."""


class Decoder:
    """Decodes the keys or the values of a run.

    `given` is the schema of `--schema`, for data without a frame; `library` has the registry's schemas. Either may be
    missing: `auto` then leaves alone what would need it. `say` is told once of an id that the registry does not have.
    """

    def __init__(
        self,
        decoding: str,
        view: View,
        *,
        is_key: bool = False,
        library: Library | None = None,
        given: Codec | None = None,
        fingerprint: bytes = b"",
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._say, self._told_unknown = say, False
        self._decoding, self._view, self._is_key = decoding, view, is_key
        self._library, self._given, self._fingerprint = library, given, fingerprint

    def decode(self, payload: bytes | None, headers: Headers | None = None) -> Decoded | None:
        """The JSON of a key or value, None where it is to be taken as it is; Undecodable otherwise."""
        if payload is None or self._decoding == "none":
            return None
        if self._decoding in _PLAIN:
            return self._plain(payload)
        try:
            frame = framing.frame_of(payload, headers, is_key=self._is_key)
            if frame is None:
                return self._unframed(payload)
            return self._framed(payload, frame)
        except (DataError, SchemaError, framing.FramingError) as error:
            raise Undecodable(str(error)) from None

    def _plain(self, payload: bytes) -> Decoded:
        try:
            return Decoded(_PLAIN[self._decoding](payload), {"format": self._decoding})
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001  # each library has its own errors, and all say the same
            raise Undecodable(f"it is not {_NAMES[self._decoding]} ({str(error)[:200]})") from None

    def _unframed(self, payload: bytes) -> Decoded | None:
        if self._given is not None:
            return _read(self._given, payload, _BARE, {"format": self._given.format})
        if self._decoding == "auto":
            return None
        if self._decoding == "json":
            return _read(schema.Json("true", {}), payload, _BARE, {"format": "json"})
        if self._decoding == "protobuf":
            from kpipe.codecs.proto import raw_fields

            found = raw_fields(payload)
            if found is None:
                raise DataError("it is no Protobuf message")
            return Decoded(orjson.dumps(found), {"format": "protobuf"}, "no schema is known: field numbers only")
        raise DataError("it names no schema; give one with --schema")

    def _framed(self, payload: bytes, frame: Frame) -> Decoded | None:
        match frame.kind:
            case framing.EMBEDDED:
                return _container(payload, self._view)
            case framing.FINGERPRINT if self._given is None or frame.ref != self._fingerprint:
                raise DataError(f"it names a schema by fingerprint ({frame}); give that schema with --schema")
            case framing.ID | framing.GUID | framing.GLOBAL_ID | framing.CONTENT_ID if self._given is None:
                return self._registered(payload, frame)
        if self._given is None:
            raise DataError(f"it names a schema of another kind of registry ({frame}); give that schema with --schema")
        if self._given.format == "protobuf" and frame.kind in (framing.ID, framing.GUID) and frame.beside is None:
            # The type is given, too: what the index says of it is passed over.
            frame = frame._replace(start=framing.read_index(payload, frame.start)[1])
        about: dict[str, Any] = {"format": self._given.format, "framing": frame.framing}
        if frame.start:
            about["prefix"] = payload[: frame.start].hex()
        if frame.compressed:
            about["compressed"] = True
        return _read(self._given, payload, frame, about)

    def _registered(self, payload: bytes, frame: Frame) -> Decoded | None:
        in_header = frame.start == 0
        if self._library is None:
            if self._decoding == "auto" and not in_header:
                return None  # a first byte of 0 alone proves nothing
            raise DataError(f"it names a schema ({frame}) and no registry is set; set schema.registry.url")
        ref = frame.ref
        assert not isinstance(ref, bytes)  # noqa: S101  # those are fingerprints
        try:
            known = self._library.get(ref)
        except NotFound as error:
            if self._decoding == "auto" and not in_header:
                if not self._told_unknown:
                    self._told_unknown = True
                    side = "key" if self._is_key else "value"
                    what = f"starts as one that names a schema ({frame}), and {error.where} has none such"
                    self._say(f"decode: a {side} {what}; it and its like are taken as they are")
                return None
            raise DataError(f"{frame}: {error.what}") from None
        try:
            return _read(known.codec, payload, frame, self._about(known.text, frame))
        except DataError:
            if known.fresh:
                raise
        known = self._library.again(ref)
        return _read(known.codec, payload, frame, self._about(known.text, frame))

    def _about(self, text: SchemaText, frame: Frame) -> dict[str, Any]:
        about: dict[str, Any] = {"format": FORMATS.get(text.kind, text.kind.lower())}
        if frame.framing != CONFLUENT:
            about["framing"] = frame.framing
        for name in ("id", "guid", "subject", "version"):
            if getattr(text, name):
                about[name] = getattr(text, name)
        if self._library is not None:
            about["registry"] = self._library.registry.where
        if text.has_rules:
            about["rules"] = True  # fields may be encrypted
        return about


_BARE = framing.Frame("none", "", "", 0)


def _read(codec: Codec, payload: bytes, frame: Frame, about: dict[str, Any]) -> Decoded:
    data, start = (_unpacked(payload[frame.start :]), 0) if frame.compressed else (payload, frame.start)
    found = codec.read(data, start, frame.beside)
    if found.message:
        about["message"] = found.message
    try:
        text = orjson.dumps(found.value)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"it cannot be shown as JSON ({error})") from None
    prefix = payload[: frame.start]

    def back(text: bytes) -> bytes:
        written = found.write(text)
        return prefix + (zlib.compress(written) if frame.compressed else written)

    return Decoded(text, about, found.note, back)


def _unpacked(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, LARGEST_UNPACKED)
    except zlib.error as error:
        raise DataError(f"its compressed data are broken ({error})") from None
    if stream.unconsumed_tail:
        raise DataError("it would become more than 64 MiB")
    if not stream.eof:
        raise DataError("its compressed data end too early")
    return found


def _container(payload: bytes, view: View) -> Decoded:
    """An Avro object container file in a record: one value, or an array of them. Codecs: null and deflate."""
    from kpipe.codecs.avro_container import values

    found = values(payload, view)
    return Decoded(orjson.dumps(found[0] if len(found) == 1 else found), {"format": "avro", "container": len(found)})


_PLAIN = {"msgpack": read_msgpack, "cbor": read_cbor}
_NAMES = {"msgpack": "MessagePack", "cbor": "CBOR"}

"""Keys or values -> JSON, each with the schema it names; what cannot be decoded stays as it is, with the reason.

A null stays null and asks nobody. `auto` decodes what says that it is encoded, and leaves everything else alone.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from kpipe.codecs import CODECS, framing
from kpipe.codecs.avro_read import AvroError
from kpipe.codecs.errors import DataError, NoFit, SchemaError
from kpipe.codecs.registry import NotFound
from kpipe.errors import UsageError
from kpipe.record import Shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.codecs.framing import Frame
    from kpipe.codecs.library import Known, Library
    from kpipe.codecs.schema import Codec, ValueStyle
    from kpipe.record import Headers

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


class Hot(NamedTuple):
    """How data behind a prefix of Confluent's are read that was seen before, and what is the same for all of them."""

    read: Callable[[bytes, int], tuple[Any, int]]
    schema: dict[str, Any]
    back: Callable[[bytes], bytes] | None


class Undecodable(ValueError):
    """It says that it is encoded, or was asked to be decoded, and cannot be: the message says why."""


class SchemaDecoder:
    """Decodes the keys or the values of a run.

    `library` has the registry's schemas; `given` is the schema of `--schema`, for data that name none, or none that the
    registry has. Either may be missing: `auto` then leaves alone what would need it. `say` is told once of an id that
    the registry does not have.
    """

    def __init__(
        self,
        decoding: str,
        view: ValueStyle,
        *,
        is_key: bool = False,
        library: Library | None = None,
        given: Codec | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._say, self._told_unknown = say, False
        self._seen = {"reader_schema": view.reader_name} if view.reader is not None else {}
        self._decoding, self._view, self._is_key = decoding, view, is_key
        self._library, self._given = library, given
        self._hot: dict[bytes, Hot] = {}
        row = CODECS.get(decoding)
        self._read_plain = row.decoder() if row is not None and not row.kind else None
        self._nameless: Codec | None = row.part(row.nameless)() if row is not None and row.nameless else None
        self._back = plain_writer(decoding) if row is not None and row.encode else None
        self.naming = framing.names_in_headers("key" if is_key else "value")
        """Names of headers that may say which schema it is."""

    def quick(self, payload: bytes) -> Shown | None:
        """Avro of a schema that was seen before, when no header names another one; None: `decode` has to look."""
        hot = self._hot.get(payload[:5])
        if hot is None:
            return None
        try:
            value, end = hot.read(payload, 5)
            if end != len(payload):
                return None
            return Shown(payload, orjson.dumps(value), hot.schema, hot.back)
        except (AvroError, TypeError, ValueError, RecursionError):
            return None  # to be told

    def decode(self, payload: bytes | None, headers: Headers | None = None) -> Decoded | None:
        """The JSON of a key or value, None where it is to be taken as it is; Undecodable otherwise."""
        if payload is None or self._decoding == "none":
            return None
        if self._read_plain is not None:
            return self._plain(payload, self._read_plain)
        try:
            frame = framing.frame_of(payload, headers, is_key=self._is_key)
            if frame is None:
                return self._unframed(payload)
            return self._framed(payload, frame)
        except (DataError, SchemaError, framing.FramingError) as error:
            raise Undecodable(str(error)) from None

    def _plain(self, payload: bytes, read: Callable[[bytes], bytes]) -> Decoded:
        try:
            return Decoded(read(payload), {"format": self._decoding}, back=self._back)
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001  # each library has its own errors, and all say the same
            raise Undecodable(f"it is not {CODECS[self._decoding].title} ({str(error)[:200]})") from None

    def _unframed(self, payload: bytes) -> Decoded | None:
        if self._given is not None:
            return _read(self._given, payload, _BARE, self._about_given(self._given))
        if self._decoding == "auto":
            return None
        if self._nameless is not None:
            return _read(self._nameless, payload, _BARE, {"format": self._decoding})
        raise DataError("it names no schema" if self._is_key else "it names no schema; give one with --schema")

    def _framed(self, payload: bytes, frame: Frame) -> Decoded | None:
        match frame.kind:
            case framing.EMBEDDED:
                return _container(payload, self._view)
            case framing.FINGERPRINT if self._given is None or frame.ref != self._given.fingerprint:
                raise DataError(f"it names a schema by fingerprint ({frame}); give that schema with --schema")
            case framing.ID | framing.GUID | framing.GLOBAL_ID | framing.CONTENT_ID if self._library or not self._given:
                return self._registered(payload, frame)
        if self._given is None:
            raise DataError(f"it names a schema of another kind of registry ({frame}); give that schema with --schema")
        return self._by_given(self._given, payload, frame)

    def _by_given(self, given: Codec, payload: bytes, frame: Frame) -> Decoded:
        """By the schema of `--schema`; a start like Confluent's may as well be the data's own."""
        try:
            return self._framed_by_given(given, payload, frame)
        except (DataError, framing.FramingError):
            if frame.framing not in _PROVE_NOTHING:
                raise
            try:
                return _read(given, payload, _BARE, self._about_given(given))
            except DataError:
                pass
            raise

    def _framed_by_given(self, given: Codec, payload: bytes, frame: Frame) -> Decoded:
        if given.has_index and frame.kind in (framing.ID, framing.GUID) and frame.beside is None:
            # The type is given, too: what the index says of it is passed over.
            frame = frame._replace(start=framing.read_index(payload, frame.start)[1])
        about = {**self._about_given(given), "framing": frame.framing}
        if frame.start:
            about["prefix"] = payload[: frame.start].hex()
        if frame.compressed:
            about["compressed"] = True
        return _read(given, payload, frame, about)

    def _about_given(self, given: Codec) -> dict[str, Any]:
        return {"format": given.format, **self._seen, **given.about}

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
            if self._given is not None:
                return self._by_given(self._given, payload, frame)
            if self._decoding == "auto" and not in_header:
                if not self._told_unknown:
                    self._told_unknown = True
                    side = "key" if self._is_key else "value"
                    what = f"starts as one that names a schema ({frame}), and {error.where} has none such"
                    self._say(f"decode: a {side} {what}; it and its like are taken as they are")
                return None
            raise DataError(f"{frame}: {error.what}") from None
        try:
            found = _read(known.codec, payload, frame, self._about(known, frame))
        except DataError:
            if known.fresh:
                raise
            known = self._library.again(ref)
            found = _read(known.codec, payload, frame, self._about(known, frame))
        quick = known.codec.read_value
        if quick is not None and frame.start == 5 and not found.note and not _like_azure(payload):
            self._hot[payload[:5]] = Hot(quick, found.schema, found.back)
        return found

    def _about(self, known: Known, frame: Frame) -> dict[str, Any]:
        text = known.text
        about: dict[str, Any] = {"format": known.codec.format, **self._seen, **known.codec.about}
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


def _like_azure(payload: bytes) -> bool:
    """Whether it starts as Azure's old form does (four zeros, then hex digits), so that each has to be looked at."""
    return payload[:4] == bytes(4) and payload[4:5] in b"0123456789abcdefABCDEF"


_BARE = framing.Frame("none", "", "", 0)
_PROVE_NOTHING = ("Confluent", "Apicurio", "Azure, old form")
"""Framings whose start any data may have."""


def _read(codec: Codec, payload: bytes, frame: Frame, about: dict[str, Any]) -> Decoded:
    data, start = (_unpacked(payload[frame.start :]), 0) if frame.compressed else (payload, frame.start)
    found = codec.read(data, start, frame.beside)
    if found.message:
        about["message"] = found.message
        if found.note:
            about["not_shown"] = found.note
    try:
        text = orjson.dumps(found.value)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"it cannot be shown as JSON ({error})") from None
    write = found.write
    if write is None or "reader_schema" in about:  # what is shown has the form of another schema than the data
        return Decoded(text, about, found.note)
    prefix = payload[: frame.start]

    def back(text: bytes) -> bytes:
        written = write(text)
        return prefix + (zlib.compress(written) if frame.compressed else written)

    note = found.note or ("its schema has rules: fields may be encrypted" if "rules" in about else "")
    return Decoded(text, about, note, back)


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


def _container(payload: bytes, view: ValueStyle) -> Decoded:
    """An Avro object container file in a record: one value, or an array of them. Codecs: null and deflate."""
    from kpipe.codecs.avro_container import values

    found = values(payload, view)
    return Decoded(orjson.dumps(found[0] if len(found) == 1 else found), {"format": "avro", "container": len(found)})


def plain_writer(word: str) -> Callable[[bytes], bytes]:
    """What writes JSON text by a codec without a schema; NoFit where that cannot be, as by one with a schema."""
    write = CODECS[word].encoder()

    def written(text: bytes) -> bytes:
        try:
            return write(text)
        except (UsageError, orjson.JSONDecodeError):
            raise
        except Exception as error:  # noqa: BLE001  # each library has its own errors, and all say the same
            raise NoFit(f"{CODECS[word].title}: {str(error)[:200]}") from None

    return written

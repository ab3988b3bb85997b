"""JSON -> keys or values in the form of their schema, with the prefix or header that names it.

It writes what it is told to write and registers nothing; a null stays null. Framing: Confluent's (magic byte 0 and an
id, or a GUID in a header), or the one that a record was read with.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import orjson

from kpipe.codecs import BY_SCHEMA, WRITTEN
from kpipe.codecs.decoder import CONFLUENT, plain_writer
from kpipe.codecs.errors import NoFit, SchemaError
from kpipe.codecs.registry import NotFound
from kpipe.errors import BadRecord, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kpipe.codecs.library import Library
    from kpipe.codecs.schema import Codec

IN_HEADERS = ("Confluent header", "Apicurio header")


class Fixed(NamedTuple):
    """One schema for all: `prefix` stands before the data, `header` names the schema beside them."""

    write: Callable[[bytes], bytes]
    prefix: bytes = b""
    header: tuple[str, bytes] | None = None
    format: str = ""


def framed(codec: Codec, framing: str, *, is_key: bool, number: int, guid: str, message: str = "") -> Fixed:
    """How data of a schema are written: `framing` is confluent (by `number`), header (by `guid`), or none."""
    if framing == "confluent":
        return Fixed(codec.writer(message), b"\0" + number.to_bytes(4, "big"), format=codec.format)
    write = codec.writer(message, indexed=False)
    if framing == "none":
        return Fixed(write, format=codec.format)
    side = "key" if is_key else "value"
    header = (f"__{side}_schema_id", b"\x01" + UUID(guid).bytes + codec.index(message))
    return Fixed(write, header=header, format=codec.format)


def plain(word: str) -> Fixed:
    """How data of a codec without a schema are written: with nothing before or beside them."""
    return Fixed(plain_writer(word), format=word)


class SchemaEncoder:
    """Encodes the keys or the values of a run: all by `fixed`, or without it each by what it was read with.

    `library` has the registry's schemas, `given` is the schema of records that name none.
    """

    def __init__(self, fixed: Fixed | None, library: Library | None = None, given: Codec | None = None) -> None:
        self._fixed, self._library, self._given = fixed, library, given
        self._made: dict[tuple[Any, ...], Fixed] = {}

    @property
    def header(self) -> tuple[str, bytes] | None:
        """The header that every record gets."""
        return None if self._fixed is None else self._fixed.header

    @property
    def is_fixed(self) -> bool:
        """Whether all are written by one schema, whatever they were read with."""
        return self._fixed is not None

    def writes(self, schema: Mapping[str, Any] | None) -> bool:
        """Whether what was read with `schema` has the format that is written."""
        return self._fixed is not None and schema is not None and schema.get("format") == self._fixed.format

    def encode(self, text: bytes | None, schema: Mapping[str, Any] | None) -> bytes | None:
        """The bytes of JSON text; `schema` is what its envelope says of it. BadRecord where that cannot be."""
        fixed = self._fixed
        if text is None or (fixed is None and schema is None):
            return text
        if fixed is None:
            assert schema is not None  # noqa: S101  # see above
            fixed = self._same(schema)
        try:
            return fixed.prefix + fixed.write(text)
        except orjson.JSONDecodeError:
            raise BadRecord("is not JSON, and its schema wants JSON", stage=Stage.ENCODE) from None
        except (NoFit, SchemaError) as error:
            raise BadRecord(f"does not fit its schema: {error}", stage=Stage.ENCODE) from None

    def _same(self, schema: Mapping[str, Any]) -> Fixed:
        try:
            named = tuple(schema.get(name) for name in _NAMES)
            found = self._made.get(named)
        except (TypeError, AttributeError):
            raise BadRecord("has a schema that consume did not write", stage=Stage.ENCODE) from None
        if found is None:
            try:
                found = self._made[named] = self._make(schema)
            except (SchemaError, NotFound, ValueError) as error:
                what = error.what if isinstance(error, NotFound) else str(error)
                raise BadRecord(f"cannot be written as it was read: {what}", stage=Stage.ENCODE) from None
        return found

    def _make(self, schema: Mapping[str, Any]) -> Fixed:
        form, framing, number, guid, message, prefix, packed, registry, reader, lost, form_of_avro = map(
            schema.get, _NAMES
        )
        if form in WRITTEN and form not in BY_SCHEMA:
            return plain(form)
        tagged = form_of_avro == "tagged"
        if reader:
            what = f"it was shown through the schema {reader}, and its own may want another form"
            raise SchemaError(f"{what}; name a schema with --encode and --schema")
        if lost:
            raise SchemaError(f"{lost}, which would be lost; name a schema with --encode and --schema")
        framing = framing or CONFLUENT
        if type(number) is not int and not guid:
            if self._given is None or form != self._given.format:
                raise SchemaError(
                    f"it was read as {form} by no schema of a registry; give its schema with --schema FILE"
                )
            write = self._given.writer(str(message or ""), indexed=False, as_read=True, tagged=tagged)
            start = bytes.fromhex(str(prefix or ""))
            return Fixed((lambda text: zlib.compress(write(text))) if packed else write, start)
        codec = self._registered(number if type(number) is int else str(guid), registry)
        if codec.format != form:
            raise SchemaError(f"it was read as {form}, and the registry has {codec.format} under that id")
        indexed = framing != "Confluent header"
        write = codec.writer(str(message or ""), indexed=indexed, as_read=True, tagged=tagged)
        if framing in IN_HEADERS:  # which travel with the record
            return Fixed(write)
        if framing not in (CONFLUENT, "Apicurio"):
            raise SchemaError(f"the framing {framing} cannot be written")
        if type(number) is not int:
            raise SchemaError("its framing names an id, and it has none")
        return Fixed(write, b"\0" + number.to_bytes(4 if framing == CONFLUENT else 8, "big"))

    def _registered(self, ref: int | str, registry: Any) -> Codec:
        if self._library is None:
            raise SchemaError("the target cluster has no registry; set schema.registry.url")
        here = self._library.registry
        if registry and registry not in here.addresses:
            what = f"its id is one of {registry}, and the target's registry is {here.where}"
            raise SchemaError(f"{what}; name the schema there with --encode and --schema")
        return self._library.get(ref).codec


_NAMES = (
    "format",
    "framing",
    "id",
    "guid",
    "message",
    "prefix",
    "compressed",
    "registry",
    "reader_schema",
    "not_shown",
    "avro_json",
)

"""Avro, Protobuf, JSON Schema, MessagePack and CBOR <-> JSON: what a value says, and its bytes again.

It never touches Kafka; a schema comes from a file or from whoever the caller asks (`kpipe.codecs.registry`).
Nothing here is imported before a record needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class CodecRow(NamedTuple):
    """A way to write values: its name for people, and the module where it is.

    Without a schema, the module has the functions `decode` (bytes -> JSON text) and `encode` (JSON text -> bytes;
    empty: it is only read). Both raise an exception, of any kind, for what they cannot take; UsageError where a
    library is missing.

    With one, `kind` is what a registry calls it, `suffixes` and `binary` are the ends of its files' names, and the
    module makes a `kpipe.codecs.schema.Codec`: `from_registry(schema, others, view, descriptor)`,
    `from_file(path, text, view)`, and for `binary` files `from_binary(content, view)`. Where two share a suffix, the
    first has `is_own(text)`. `nameless` names the function that gives the codec of data that name no schema.
    `has_descriptors`: a registry may have compiled it.
    """

    title: str
    module: str
    decode: str = ""
    encode: str = ""
    kind: str = ""
    suffixes: tuple[str, ...] = ()
    binary: tuple[str, ...] = ()
    nameless: str = ""
    has_descriptors: bool = False

    def part(self, name: str) -> Any:
        """What the module has by that name; imports it."""
        return getattr(import_module(f"kpipe.codecs.{self.module}"), name)

    def decoder(self) -> Callable[[bytes], bytes]:
        """The function that reads; imports its module."""
        found: Callable[[bytes], bytes] = self.part(self.decode)
        return found

    def encoder(self) -> Callable[[bytes], bytes]:
        """The function that writes; imports its module."""
        found: Callable[[bytes], bytes] = self.part(self.encode)
        return found


# fmt: off
CODECS = {
    "avro": CodecRow("Avro", "avro", kind="AVRO", suffixes=(".avsc", ".json")),
    "protobuf": CodecRow(
        "Protobuf", "protobuf", kind="PROTOBUF", suffixes=(".proto",), binary=(".desc", ".pb", ".binpb", ".protoset"),
        nameless="FieldNumbers", has_descriptors=True,
    ),
    "json": CodecRow("JSON Schema", "json_schema", kind="JSON", suffixes=(".json",), nameless="nameless"),
    "msgpack": CodecRow("MessagePack", "plain", decode="read_msgpack"),
    "cbor": CodecRow("CBOR", "plain", decode="read_cbor"),
}
# fmt: on
"""By the word of `--decode` and `--encode`; a row and its module are all that a codec needs."""

FORMATS = {row.kind: word for word, row in CODECS.items() if row.kind}
"""The words of what registries call kinds."""
BY_SCHEMA = tuple(word for word, row in CODECS.items() if row.kind)
WRITTEN = tuple(word for word, row in CODECS.items() if row.kind or row.encode)
"""What `--encode` can write."""

"""Avro, Protobuf, JSON Schema, MessagePack and CBOR <-> JSON: what a value says, and its bytes again.

It never touches Kafka; a schema comes from a file or from whoever the caller asks (`kpipe.codecs.registry`).
Nothing here is imported before a record needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class CodecRow(NamedTuple):
    """A way to write values: its name for people, and where it is.

    `kind` is what a registry calls schemas of it (empty: it needs no schema). Without a schema, `module` has the
    functions `decode` (bytes -> JSON text) and `encode` (JSON text -> bytes; empty: it is only read). Both raise an
    exception, of any kind, for what they cannot take; UsageError where a library is missing.
    """

    title: str
    module: str
    decode: str = ""
    encode: str = ""
    kind: str = ""

    def decoder(self) -> Callable[[bytes], bytes]:
        """The function that reads; imports its module."""
        found: Callable[[bytes], bytes] = getattr(import_module(f"kpipe.codecs.{self.module}"), self.decode)
        return found

    def encoder(self) -> Callable[[bytes], bytes]:
        """The function that writes; imports its module."""
        found: Callable[[bytes], bytes] = getattr(import_module(f"kpipe.codecs.{self.module}"), self.encode)
        return found


CODECS = {
    "avro": CodecRow("Avro", "schema", kind="AVRO"),
    "protobuf": CodecRow("Protobuf", "schema", kind="PROTOBUF"),
    "json": CodecRow("JSON Schema", "schema", kind="JSON"),
    "msgpack": CodecRow("MessagePack", "plain", decode="read_msgpack"),
    "cbor": CodecRow("CBOR", "plain", decode="read_cbor"),
}
"""By the word of `--decode` and `--encode`; a row is all that one without a schema needs."""

BY_SCHEMA = tuple(word for word, row in CODECS.items() if row.kind)
WRITTEN = tuple(word for word, row in CODECS.items() if row.kind or row.encode)
"""What `--encode` can write."""

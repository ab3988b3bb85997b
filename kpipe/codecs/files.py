"""A schema from a file, whose name says the format: Avro, Protobuf as text or as protoc's descriptors, JSON Schema."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kpipe.codecs import CODECS
from kpipe.codecs.errors import SchemaError
from kpipe.codecs.registry import SchemaText
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from kpipe.codecs import CodecRow
    from kpipe.codecs.schema import Codec, ValueStyle

SUFFIXES = tuple(dict.fromkeys(end for row in CODECS.values() for end in (*row.suffixes, *row.binary)))
"""What the name of a schema file ends with."""
LARGEST = 16 * 1024 * 1024


def load_file(path: str, view: ValueStyle, option: str = "--schema") -> Codec:
    """The codec of a schema file; UsageError where it is none."""
    content = _content(path, option)
    try:
        codec: Codec
        binary = _of_binary(path)
        if binary is not None:
            codec = binary.part("from_binary")(content, view)
        else:
            text = _text(content)
            codec = _of_text(path, text).part("from_file")(path, text, view)
    except SchemaError as error:
        raise UsageError(f"{option} {path}: {error}") from None
    return codec


def schema_text(path: str, option: str = "--schema") -> SchemaText | None:
    """The file as a registry takes it; None for a descriptor set, which has no text. UsageError where it is none."""
    content = _content(path, option)
    if _of_binary(path) is not None:
        return None
    try:
        text = _text(content)
    except SchemaError as error:
        raise UsageError(f"{option} {path}: {error}") from None
    return SchemaText(_of_text(path, text).kind, text)


def _of_binary(path: str) -> CodecRow | None:
    return next((row for row in CODECS.values() if path.endswith(row.binary)), None)


def _of_text(path: str, text: str) -> CodecRow:
    """By the end of the name; Avro where it says nothing."""
    rows = [row for row in CODECS.values() if path.endswith(row.suffixes)] or [CODECS["avro"]]
    return next((row for row in rows[:-1] if row.part("is_own")(text)), rows[-1])


def _content(path: str, option: str) -> bytes:
    try:
        with open(os.path.expanduser(path), "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}; check the path") from None
    if len(content) > LARGEST:
        raise UsageError(f"{option} {path}: larger than 16 MiB; this is no schema")
    return content


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SchemaError("it is not UTF-8 text") from None

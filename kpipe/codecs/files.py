"""A schema from a file: Avro's .avsc, a .proto with what it imports beside it, protoc's descriptor set, JSON Schema."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import orjson

from kpipe.codecs import avro_schema, schema
from kpipe.codecs.errors import SchemaError
from kpipe.codecs.registry import SchemaText
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from kpipe.codecs.proto import Messages
    from kpipe.codecs.schema import Codec, ValueStyle

DESCRIPTORS = (".desc", ".pb", ".binpb", ".protoset")
LARGEST = 16 * 1024 * 1024


def load_file(path: str, view: ValueStyle, option: str = "--schema") -> tuple[Codec, bytes]:
    """The codec of a schema file, and the fingerprint by which Avro's single objects name it (empty for others)."""
    content = _content(path, option)
    try:
        return _load(path, content, view)
    except SchemaError as error:
        raise UsageError(f"{option} {path}: {error}") from None


def schema_text(path: str, option: str = "--schema") -> SchemaText | None:
    """The file as a registry takes it; None for a descriptor set, which has no text. UsageError where it is none."""
    content = _content(path, option)
    if path.endswith(DESCRIPTORS):
        return None
    try:
        text = _text(content)
    except SchemaError as error:
        raise UsageError(f"{option} {path}: {error}") from None
    if path.endswith(".proto"):
        return SchemaText("PROTOBUF", text)
    return SchemaText("JSON" if path.endswith(".json") and not _is_avro(text) else "AVRO", text)


def _content(path: str, option: str) -> bytes:
    try:
        with open(os.path.expanduser(path), "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}; check the path") from None
    if len(content) > LARGEST:
        raise UsageError(f"{option} {path}: larger than 16 MiB; this is no schema")
    return content


def _load(path: str, content: bytes, view: ValueStyle) -> tuple[Codec, bytes]:
    if path.endswith(".proto"):
        from kpipe.codecs import proto, proto_source

        files = proto_source.compile_file(os.path.expanduser(path))
        return schema.Proto(_one(proto.Messages(files), view), view, indexed=False), b""
    if path.endswith(DESCRIPTORS):
        from kpipe.codecs import proto

        return schema.Proto(_one(proto.from_descriptor(content), view), view, indexed=False), b""
    text = _text(content)
    if path.endswith(".json") and not _is_avro(text):
        return schema.Json(text, {}, view), b""
    return schema.avro(text, (), view), avro_schema.fingerprint(text)


def _one(messages: Messages, view: ValueStyle) -> Messages:
    """Without --message a schema must have one type only: the first of several would be a guess."""
    if not view.message and len(messages.names) != 1:
        raise SchemaError(f"it has several messages; name one with --message: {', '.join(messages.names[:20])}")
    return messages


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SchemaError("it is not UTF-8 text") from None


def _is_avro(text: str) -> bool:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    kinds = ("record", "enum", "fixed", "map", "error")
    return isinstance(found, list) or (isinstance(found, dict) and found.get("type") in kinds)

"""Protobuf: messages of the types of one schema <-> JSON.

The library is used in `proto`, and .proto texts are compiled in `proto_source`. Without a schema the bytes alone are
shown, by field numbers (`proto_raw`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import orjson

from kpipe.codecs import framing
from kpipe.codecs.errors import DataError, NoFit, SchemaError
from kpipe.codecs.schema import Codec, Read, refuse_reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kpipe.codecs.proto import Messages, MessageType
    from kpipe.codecs.registry import SchemaText
    from kpipe.codecs.schema import ValueStyle, Write


class Proto(Codec):
    """A schema in Protobuf: which of its messages stands before the data, or is named by `view.message`."""

    format = "protobuf"
    has_index = True

    def __init__(self, messages: Messages, view: ValueStyle, *, indexed: bool) -> None:
        refuse_reader(view, self.format)
        self.types = messages.names
        self._messages, self._defaults, self._indexed = messages, view.defaults, indexed
        self._reader = view.reader if isinstance(view.reader, Proto) else None
        self._named = messages.named(view.message) if view.message else None
        self._by_index: dict[tuple[int, ...], MessageType] = {}

    def read(self, data: bytes, start: int, beside: bytes | None = None) -> Read:
        """A message, and the fields that its type does not know."""
        from kpipe.codecs.proto import ProtoError

        prefix = b""
        try:
            index: tuple[int, ...] = (0,)
            if self._indexed:
                if beside is None:
                    index, end = framing.read_index(data, start)
                    prefix, start = data[start:end], end
                elif beside:
                    index, _ = framing.read_index(beside, 0)
            message = self._message(index)
            seen = message if self._reader is None else self._reader.like(message.name)
            value, unknown = seen.read(data[start:], defaults=self._defaults)
        except (ProtoError, framing.FramingError) as error:
            raise DataError(str(error)) from None
        if not unknown:
            return Read(value, lambda text: prefix + message.write(orjson.loads(text)), message=message.name)
        note = f"the schema does not know the field{'s' * (len(unknown) > 1)} {', '.join(unknown)}"
        return Read(value, _refuse_loss(note), note, message.name)

    def writer(
        self, message: str = "", *, indexed: bool = True, as_read: bool = False, tagged: bool | None = None
    ) -> Write:
        """The type of that name, else that of `--message`, else the first one."""
        chosen, prefix = self._chosen(message), self.index(message) if indexed else b""
        return lambda text: prefix + chosen.write(orjson.loads(text))

    def like(self, name: str) -> MessageType:
        """The type of `--message`, else the one of this full name; SchemaError where there is none."""
        return self._named or self._messages.named(name)

    def index(self, message: str = "") -> bytes:
        """The place of the type in its file."""
        return framing.write_index(self._messages.index_of(self._chosen(message)))

    def _chosen(self, message: str) -> MessageType:
        return self._messages.named(message) if message else (self._named or self._message((0,)))

    def _message(self, index: tuple[int, ...]) -> MessageType:
        if self._named is not None and not self._indexed:
            return self._named
        found = self._by_index.get(index)
        if found is None:
            found = self._by_index[index] = self._messages.at(index)
        return found


def _refuse_loss(note: str) -> Write:
    """Written again, it would lack what JSON does not show."""

    def write(_text: bytes) -> bytes:
        raise NoFit(f"{note}, which would be lost")

    return write


class FieldNumbers(Codec):
    """A message of an unknown type; it is only read."""

    format = "protobuf"

    def read(self, data: bytes, start: int, beside: bytes | None = None) -> Read:
        """What the bytes alone say."""
        from kpipe.codecs.proto_raw import raw_fields

        found = raw_fields(data[start:])
        if found is None:
            raise DataError("it is no Protobuf message")
        return Read(found, None, "no schema is known: field numbers only")

    def writer(
        self, message: str = "", *, indexed: bool = True, as_read: bool = False, tagged: bool | None = None
    ) -> Write:
        """There is none."""
        raise SchemaError("without a schema nothing is written")


def from_registry(schema: SchemaText, others: Mapping[str, str], view: ValueStyle, descriptor: bytes | None) -> Proto:
    """A registry's schema; `descriptor` is the registry's own descriptor of it, where it has one."""
    return Proto(_messages(schema.text, others, descriptor), view, indexed=True)


def _messages(text: str, others: Mapping[str, str], descriptor: bytes | None) -> Messages:
    from kpipe.codecs import proto

    if descriptor is not None and not others:
        return proto.from_descriptor(descriptor)
    from kpipe.codecs.proto_source import compile_text

    return proto.Messages(compile_text("kpipe/schema.proto", text, others))


def from_file(path: str, _text: str, view: ValueStyle) -> Proto:
    """A .proto file, with what it imports beside it."""
    from kpipe.codecs import proto, proto_source

    files = proto_source.compile_file(os.path.expanduser(path))
    return Proto(_one(proto.Messages(files), view), view, indexed=False)


def from_binary(content: bytes, view: ValueStyle) -> Proto:
    """A descriptor set, as protoc writes it."""
    from kpipe.codecs import proto

    return Proto(_one(proto.from_descriptor(content), view), view, indexed=False)


def _one(messages: Messages, view: ValueStyle) -> Messages:
    """Without --message a schema must have one type only: the first of several would be a guess."""
    if not view.message and len(messages.names) != 1:
        raise SchemaError(f"it has several messages; name one with --message: {', '.join(messages.names[:20])}")
    return messages

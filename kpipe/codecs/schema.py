"""One schema, ready to read and write: Avro, Protobuf or JSON Schema behind one face.

It is given texts; it asks nobody for them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import orjson

from kpipe.codecs import avro_read, avro_schema, avro_write, framing
from kpipe.codecs.errors import DataError, NoFit, SchemaError
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.codecs.proto import Messages, MessageType
    from kpipe.codecs.registry import SchemaText


Write: TypeAlias = "Callable[[bytes], bytes]"
"""Makes the data of a schema of JSON text."""


class Read(NamedTuple):
    """What was read: `value` is what orjson writes, `note` what that does not show (empty: nothing).

    `write` makes JSON text bytes of the same type: NoFit where it does not fit. `message` is its name.
    """

    value: Any
    write: Write
    note: str = ""
    message: str = ""


class Codec(Protocol):
    """Reads and writes the data of one schema; framing is not its business, but Protobuf's message index is."""

    format: str

    def read(self, data: bytes, start: int, beside: bytes | None = None) -> Read:
        """The value at `start`, which takes all the bytes; DataError otherwise.

        `beside` is a Protobuf message index from a header.
        """

    def writer(
        self, message: str = "", *, indexed: bool = True, as_read: bool = False, tagged: bool | None = None
    ) -> Write:
        """Makes bytes of JSON text; NoFit where it does not fit, orjson's error where it is no JSON.

        A Protobuf schema has several types, `message` names one (empty: the first), and `indexed` puts its message
        index before the data. `as_read`: the JSON is what was read; `tagged`: it is Avro's own (None: as the view is).
        SchemaError where there is no such type.
        """

    def index(self, message: str = "") -> bytes:
        """Confluent's message index of that type, as it stands before data or in a header; empty but for Protobuf."""


class ValueStyle:
    """How values are shown: see the options `--avro-json`, `--big-ints`, `--defaults` and `--connect-types`.

    `reader` is the schema of `--reader-schema`, called `reader_name`, through which all others are seen.
    """

    def __init__(
        self,
        *,
        tagged: bool = False,
        big_ints_as_text: bool = False,
        defaults: bool = False,
        message: str = "",
        connect_types: bool = False,
        reader: Codec | None = None,
        reader_name: str = "",
    ) -> None:
        self.tagged, self.big_ints_as_text, self.defaults, self.message = tagged, big_ints_as_text, defaults, message
        self.connect_types, self.reader, self.reader_name = connect_types, reader, reader_name


def _refuse_reader(view: ValueStyle, own: str) -> None:
    if view.reader is not None and view.reader.format != own:
        raise SchemaError(f"it is {own}, and the reader's schema is {view.reader.format}")


class Avro:
    """A schema in Avro."""

    format = "avro"

    def __init__(self, root: avro_schema.Node, view: ValueStyle) -> None:
        _refuse_reader(view, self.format)
        if view.connect_types:
            avro_schema.with_connect_types(root)
        shown = {"tagged": view.tagged, "big_ints_as_text": view.big_ints_as_text}
        self.root = root
        if isinstance(view.reader, Avro):
            from kpipe.codecs import avro_resolve

            self.read_value = avro_resolve.reader(root, view.reader.root, **shown)
        else:
            self.read_value = avro_read.reader(root, **shown)
        self._tagged = view.tagged
        self._writers: dict[tuple[bool, bool], Any] = {}
        self._back = self.writer(as_read=True)

    def read(self, data: bytes, start: int, beside: bytes | None = None) -> Read:
        """What is left over behind the value shows that it was written with another schema."""
        try:
            value, end = self.read_value(data, start)
        except avro_read.AvroError as error:
            raise DataError(str(error)) from None
        if end != len(data):
            raise DataError(f"{len(data) - end} of {len(data)} bytes are left over; it was written with another schema")
        return Read(value, self._back)

    def writer(
        self, message: str = "", *, indexed: bool = True, as_read: bool = False, tagged: bool | None = None
    ) -> Write:
        """Avro has one type a schema, and no index."""
        return partial(self._write_text, (self._tagged if tagged is None else tagged, as_read))

    def index(self, message: str = "") -> bytes:
        """None."""
        return b""

    def _write_text(self, how: tuple[bool, bool], text: bytes) -> bytes:
        write = self._writers.get(how)
        if write is None:
            write = self._writers[how] = avro_write.writer(self.root, tagged=how[0], as_read=how[1])
        try:
            return bytes(write(orjson.loads(text)))
        except RecursionError:
            raise NoFit("it nests too deeply") from None


class Json:
    """A schema in JSON Schema: the data are JSON already, and are checked only when they are written."""

    format = "json"

    def __init__(self, text: str, others: Mapping[str, str], view: ValueStyle | None = None) -> None:
        if view is not None:
            _refuse_reader(view, self.format)
        self._text, self._others = text, others
        self._reader = view.reader if view is not None else None
        self._validator: Any = None

    def read(self, data: bytes, start: int, beside: bytes | None = None) -> Read:
        """The JSON text as it stands."""
        try:
            orjson.loads(data[start:])
            if self._reader is not None:
                self._reader.writer()(data[start:])
        except orjson.JSONDecodeError as error:
            raise DataError(f"it is not JSON ({error})") from None
        except NoFit as error:
            raise DataError(str(error)) from None
        return Read(orjson.Fragment(data[start:]), self._write_text)

    def writer(
        self, message: str = "", *, indexed: bool = True, as_read: bool = False, tagged: bool | None = None
    ) -> Write:
        """The text itself, if it is valid: numbers keep their digits."""
        return self._write_text

    def index(self, message: str = "") -> bytes:
        """None."""
        return b""

    def _write_text(self, text: bytes) -> bytes:
        found = next(iter(self._valid().iter_errors(orjson.loads(text))), None)
        if found is not None:
            error = NoFit(found.message[:300])
            for step in reversed(list(found.instance_path)):
                error = error.inside(f"[{step}]" if isinstance(step, int) else f".{step}")
            raise error
        return text

    def _valid(self) -> Any:
        if self._validator is None:
            try:
                import jsonschema_rs
            except ImportError:
                what = "writing by a JSON Schema needs a library: pip install 'kpipe-cli[schemas]'"
                raise UsageError(what) from None

            def fetch(uri: str) -> Any:
                name = next((each for each in self._others if uri == each or uri.endswith("/" + each)), None)
                if name is None:
                    raise SchemaError(f"$ref to {uri}, which is not among its references")
                return orjson.loads(self._others[name])

            try:
                schema = orjson.loads(self._text)
                self._validator = jsonschema_rs.validator_for(schema, retriever=fetch)
            except (ValueError, TypeError) as error:
                raise SchemaError(str(error).partition("\n")[0][:300]) from None
        return self._validator


class Proto:
    """A schema in Protobuf: which of its messages stands before the data, or is named by `view.message`."""

    format = "protobuf"

    def __init__(self, messages: Messages, view: ValueStyle, *, indexed: bool) -> None:
        _refuse_reader(view, self.format)
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

    @property
    def types(self) -> list[str]:
        """The names of its message types."""
        return self._messages.names

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


def avro(text: str, others: Sequence[str], view: ValueStyle) -> Avro:
    """An Avro schema; `others` are the schemas it uses, those that they use first."""
    named: dict[str, avro_schema.Node] = {}
    for other in others:
        avro_schema.parse(other, named)
    return Avro(avro_schema.parse(text, named), view)


def load(schema: SchemaText, others: Mapping[str, str], view: ValueStyle, descriptor: bytes | None = None) -> Codec:
    """The codec of a registry's schema; `others` are texts of its references by name, in the order of their use.

    `descriptor` is the registry's own descriptor of a Protobuf schema, where it has one. SchemaError otherwise.
    """
    if schema.kind == "AVRO":
        return avro(schema.text, list(others.values()), view)
    if schema.kind == "JSON":
        return Json(schema.text, others, view)
    if schema.kind == "PROTOBUF":
        return Proto(_messages(schema.text, others, descriptor), view, indexed=True)
    raise SchemaError(f"a schema of the kind {schema.kind}, which kpipe cannot read")


def _messages(text: str, others: Mapping[str, str], descriptor: bytes | None) -> Messages:
    from kpipe.codecs import proto

    if descriptor is not None and not others:
        return proto.from_descriptor(descriptor)
    from kpipe.codecs.proto_source import compile_text

    return proto.Messages(compile_text("kpipe/schema.proto", text, others))

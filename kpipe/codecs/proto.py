"""Protobuf <-> JSON by descriptors that come at run time: no generated class, no compiler where the registry has them.

The work is done by Google's own library (upb); what it keeps beside the JSON, unknown fields, is told, never shown as
nothing. Names are those of the .proto file; 64-bit integers are strings and bytes base64, as its JSON mapping has it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any, NamedTuple

from kpipe.codecs.errors import NoFit, SchemaError
from kpipe.errors import UsageError

try:
    import google.protobuf  # noqa: F401  # this file is imported at the first schema that needs it
except ImportError:
    raise UsageError("Protobuf needs a library: pip install 'kpipe-cli[schemas]'") from None

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.descriptor_pb2 import FileDescriptorProto


class ProtoError(ValueError):
    """The bytes do not fit the message type."""


# Files that every schema may import and no registry stores; Python modules have their descriptors.
_GOOGLES = ("google/protobuf/", "google/type/", "google/api/", "google/rpc/")
_CONFLUENTS = ("confluent/meta.proto", "confluent/type/decimal.proto", "confluent/types/decimal.proto")


class MessageType(NamedTuple):
    """A message type, ready to read and write."""

    name: str
    make: Any
    pool: Any

    def read(self, data: bytes, *, defaults: bool = False) -> tuple[dict[str, Any], list[str]]:
        """What the bytes say, and the fields that the type does not know, as `9` or `line.9`; ProtoError otherwise."""
        from google.protobuf import json_format
        from google.protobuf.message import DecodeError

        message = self.make()
        try:
            message.ParseFromString(data)
        except DecodeError as error:
            raise ProtoError(f"it is no {self.name} ({str(error).rstrip('.') or 'broken bytes'})") from None
        unknown: list[str] = []
        size = len(message.SerializePartialToString())  # a required field may be missing
        message.DiscardUnknownFields()
        if (
            len(message.SerializePartialToString()) != size
        ):  # walking through every message for them costs more than reading it
            unknown = sorted(set(_unknown_in(self.make.FromString(data), "")))
        strangers: list[tuple[list[Any], dict[str, str]]] = []
        for _ in range(2):
            try:
                found: dict[str, Any] = json_format.MessageToDict(
                    message,
                    preserving_proto_field_name=True,
                    always_print_fields_with_no_presence=defaults,
                    descriptor_pool=self.pool,
                )
                break
            except (json_format.Error, TypeError, ValueError, RecursionError) as error:
                if strangers or not (strangers := _take_strangers(message, self.pool, [])):
                    raise ProtoError(f"{self.name} cannot be shown as JSON ({str(error)[:200]})") from None
        for path, shown in strangers:
            _put_at(found, path, shown)
        return found, unknown

    def write(self, value: Any) -> bytes:
        """The bytes of parsed JSON; NoFit where it does not fit."""
        from google.protobuf import json_format
        from google.protobuf.message import EncodeError

        try:
            message = json_format.ParseDict(value, self.make(), descriptor_pool=self.pool)
            return bytes(message.SerializeToString(deterministic=True))
        except (json_format.ParseError, EncodeError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise NoFit(f"it is no {self.name} ({' '.join(str(error).split())[:300]})") from None


def _unknown_in(message: Any, path: str) -> Iterator[str]:
    """The fields in a message and in those inside it that their types do not know."""
    from google.protobuf import unknown_fields

    for each in unknown_fields.UnknownFieldSet(message):
        yield f"{path}{each.field_number}"
    for name, inner, _step in _inside(message):
        yield from _unknown_in(inner, f"{path}{name}.")


def _inside(message: Any) -> Iterator[tuple[str, Any, list[Any]]]:
    """The messages in a message: the name of the field, the message, and the way to it in JSON."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        name = f"[{field.full_name}]" if field.is_extension else field.name
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key, inner in value.items():
                    yield name, inner, [name, str(key).lower() if isinstance(key, bool) else str(key)]
        elif hasattr(value, "append") or hasattr(value, "add"):
            for number, inner in enumerate(value):
                yield name, inner, [name, number]
        else:
            yield name, value, [name]


def _take_strangers(message: Any, pool: Any, path: list[Any]) -> list[tuple[list[Any], dict[str, str]]]:
    """Empty each Any whose type nobody knows; gives where in the JSON it stands, and what is shown of it."""
    found: list[tuple[list[Any], dict[str, str]]] = []
    for _, inner, step in _inside(message):
        if inner.DESCRIPTOR.full_name != "google.protobuf.Any":
            found += _take_strangers(inner, pool, path + step)
            continue
        try:
            pool.FindMessageTypeByName(inner.type_url.rpartition("/")[2])
        except KeyError:
            shown = {"@type": inner.type_url, "value": b64encode(inner.value).decode()}
            found.append((path + step, shown))
            inner.ClearField("type_url")
            inner.ClearField("value")
    return found


def _put_at(found: Any, path: list[Any], shown: dict[str, str]) -> None:
    for step in path[:-1]:
        found = found[step]
    found[path[-1]] = shown


class Messages:
    """The message types of one schema: its file and what that imports."""

    def __init__(self, files: Sequence[FileDescriptorProto]) -> None:
        """`files` are in any order; the last one is the schema's own."""
        from google.protobuf import descriptor_pool

        self._pool = descriptor_pool.DescriptorPool()
        waiting = {each.name: each for each in files}
        self._file = self._add(files[-1].name, waiting, set())

    def _add(self, name: str, waiting: Mapping[str, FileDescriptorProto], inside: set[str]) -> Any:
        from google.protobuf.descriptor_pb2 import FileDescriptorProto

        try:
            return self._pool.FindFileByName(name)
        except KeyError:
            pass
        if name in inside:
            raise SchemaError(f"{name} imports itself")
        file = waiting.get(name)
        if file is None:
            file = FileDescriptorProto.FromString(built_in(name))
        for each in file.dependency:
            self._add(each, waiting, inside | {name})
        try:
            self._pool.Add(file)
            return self._pool.FindFileByName(name)
        except (TypeError, KeyError, ValueError) as error:
            raise SchemaError(f"{name}: {str(error).partition(chr(10))[0][:300]}") from None

    def at(self, index: Sequence[int]) -> MessageType:
        """The message type at a message index: [1, 0] is the first type inside the file's second one."""
        inside = list(self._file.message_types_by_name.values())
        found: Descriptor | None = None
        for number in index:
            if not 0 <= number < len(inside):
                raise ProtoError(f"the schema has no message at index {list(index)}")
            found = inside[number]
            inside = list(found.nested_types)
        if found is None:
            raise ProtoError("an empty message index")
        return self._ready(found)

    def named(self, name: str) -> MessageType:
        """The message type of a full name, or of a short one that is the only such."""
        try:
            return self._ready(self._pool.FindMessageTypeByName(name.removeprefix(".")))
        except KeyError:
            pass
        known = {each.full_name: each for each in _all_types(self._file.message_types_by_name.values())}
        fitting = [each for full, each in known.items() if full.rpartition(".")[2] == name]
        if len(fitting) == 1:
            return self._ready(fitting[0])
        what = "is not the only" if fitting else "is no"
        raise SchemaError(f"{name!r} {what} message of the schema; it has {', '.join(sorted(known)) or 'none'}")

    def index_of(self, message: MessageType) -> tuple[int, ...]:
        """The message index of a type of the schema's own file."""
        path: list[int] = []
        found = message.make.DESCRIPTOR
        while found is not None:
            beside = found.containing_type.nested_types if found.containing_type else None
            names = [each.name for each in beside] if beside else list(self._file.message_types_by_name)
            path.insert(0, names.index(found.name))
            found = found.containing_type
        return tuple(path)

    @property
    def names(self) -> list[str]:
        """Full names of the types, those of the file's top level first."""
        return [each.full_name for each in _all_types(self._file.message_types_by_name.values())]

    def _ready(self, descriptor: Descriptor) -> MessageType:
        from google.protobuf import message_factory

        return MessageType(descriptor.full_name, message_factory.GetMessageClass(descriptor), self._pool)


def _all_types(types: Any) -> list[Any]:
    found = list(types)
    for each in found:
        found += each.nested_types
    return found


def built_in(name: str) -> bytes:
    """The serialised descriptor of a file that every schema may import; SchemaError where there is none."""
    module = name.removesuffix(".proto") + "_pb2"
    try:
        if name.startswith(_GOOGLES):
            return bytes(import_module(module.replace("/", ".")).DESCRIPTOR.serialized_pb)
        if name in _CONFLUENTS:
            return _confluents(module)
    except (ImportError, OSError):
        pass
    raise SchemaError(f"it imports {name}, which is neither among its references nor built in")


def _confluents(module: str) -> bytes:
    """The client's wheel has them, in a package whose own import wants libraries that nobody needs for this."""
    client = find_spec("confluent_kafka")
    for folder in (client.submodule_search_locations if client else None) or ():
        spec = spec_from_file_location("kpipe_built_in", f"{folder}/schema_registry/{module}.py")
        if spec is not None and spec.loader is not None:
            loaded = module_from_spec(spec)
            spec.loader.exec_module(loaded)
            return bytes(loaded.DESCRIPTOR.serialized_pb)
    raise ImportError(module)


def from_descriptor(text: bytes, references: Sequence[FileDescriptorProto] = ()) -> Messages:
    """The types of a serialised FileDescriptorProto or FileDescriptorSet, in base64 or as it is."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
    from google.protobuf.message import DecodeError

    for raw in (text, _unbase64(text)):
        if raw is None:
            continue
        try:
            files = list(FileDescriptorSet.FromString(raw).file)
            if files and all(each.name for each in files):
                return Messages([*references, *files])
        except DecodeError:
            pass
        try:
            file = FileDescriptorProto.FromString(raw)
            if file.name or file.message_type:
                file.name = file.name or "schema.proto"
                return Messages([*references, file])
        except DecodeError:
            continue
    raise SchemaError("no serialised Protobuf descriptor")


def _unbase64(text: bytes) -> bytes | None:
    try:
        return b64decode(text.strip(), validate=True)
    except ValueError:
        return None

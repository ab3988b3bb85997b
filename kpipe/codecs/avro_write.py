"""JSON -> Avro's binary form, by a schema's tree: plain and tagged unions are both taken, ambiguity is an error.

What does not fit is a NoFit with its path; nothing is coerced with a loss. What `avro_read` gave becomes the same bytes
again (as Java writes them: one block for an array's or map's items).
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections import Counter
from typing import TYPE_CHECKING, Any

from kpipe.codecs.avro_text import form, forms_of, from_json, say
from kpipe.codecs.errors import NoFit

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.codecs.avro_schema import Node, RecordField


def writer(root: Node, *, tagged: bool = False, as_read: bool = False) -> Callable[[Any], bytes]:
    """A function from parsed JSON to bytes; NoFit where it does not fit. The words are those of `from_json`."""
    write = _Compiler(tagged=tagged, as_read=as_read).of(root)

    def write_value(value: Any) -> bytes:
        out = bytearray()
        write(value, out)
        return bytes(out)

    return write_value


def default_of(field: RecordField) -> bytes:
    """The bytes of a field's default; NoFit where it has none, or one that does not fit."""
    return _Compiler().default(field)


class _Compiler:
    def __init__(self, *, tagged: bool = False, as_read: bool = False) -> None:
        self._tagged, self._as_read = tagged, as_read
        self._made: dict[int, list[Any]] = {}

    def of(self, node: Node) -> Any:
        """The function of a type, from a value and what is written so far; see `avro_read` for the list."""
        if id(node) in self._made:
            box = self._made[id(node)]
            return box[0] or (lambda value, out: box[0](value, out))  # noqa: PLW0108  # it is not there yet
        box = self._made[id(node)] = [None]
        box[0] = self._make(node)
        return box[0]

    def _make(self, node: Node) -> Any:
        match node.kind:
            case "record":
                return self._record(node)
            case "array":
                return _array(self.of(node.inner))
            case "map":
                return _map(self.of(node.inner))
            case "union":
                return self._union(node)
        check, pack = from_json(node, tagged=self._tagged, as_read=self._as_read), _PACK[node.kind](node)

        def write(value: Any, out: bytearray) -> None:
            pack(check(value), out)

        return write

    def _record(self, node: Node) -> Any:
        fields = [(each.name, self.of(each.node), each) for each in node.fields]
        names = {each.name for each in node.fields}

        def write(value: Any, out: bytearray) -> None:
            if type(value) is not dict:
                raise NoFit(f"{say(value)}, where the record {node.name} belongs")
            if not value.keys() <= names:
                unknown = min(value.keys() - names)
                raise NoFit(f"the record {node.name} has no such field").inside(f".{unknown}")
            name = ""
            try:
                for name, inner, each in fields:
                    if name in value:
                        inner(value[name], out)
                    else:
                        out += self.default(each)
            except NoFit as error:
                raise error.inside(f".{name}") from None

        return write

    def default(self, field: RecordField) -> bytes:
        """The bytes of a field that is not there; a union's default belongs to the first branch that takes it."""
        if not field.has_default:
            raise NoFit("it is missing and has no default")
        if field.node.kind != "union":
            out = bytearray()
            self.of(field.node)(_as_given(field.node, field.default), out)
            return bytes(out)
        for number, branch in enumerate(field.node.branches):
            out = bytearray()
            write_long(number, out)
            try:
                self.of(branch)(_as_given(branch, field.default), out)
            except NoFit:
                continue
            return bytes(out)
        raise NoFit("its default fits none of its types")

    def _union(self, node: Node) -> Any:
        branches = [(number, branch.tag, self.of(branch)) for number, branch in enumerate(node.branches)]
        short = Counter(tag.rpartition(".")[2] for _, tag, _ in branches)
        tagged = {tag.rpartition(".")[2]: (number, inner) for number, tag, inner in branches}
        tagged |= {tag: (number, inner) for number, tag, inner in branches}
        unclear = {name for name, count in short.items() if count > 1} - {tag for _, tag, _ in branches}
        tags = ", ".join(tag for _, tag, _ in branches)
        claims = [forms_of(branch) for branch in node.branches]

        def write(value: Any, out: bytearray) -> None:
            if type(value) is dict and len(value) == 1 and (tag := next(iter(value))) in tagged:
                if tag in unclear:
                    raise NoFit(f"{tag} is the name of several of {tags}; write the whole name")
                number, inner = tagged[tag]
                write_long(number, out)
                try:
                    inner(value[tag], out)
                except NoFit as error:
                    raise error.inside(f".{tag}") from None
                return
            shape = form(value)
            claiming = [each for each, forms in zip(branches, claims, strict=True) if shape in forms]
            out += _fitting(value, claiming, tags) if claiming else _fitting(value, branches, tags)

        return write


def _fitting(value: Any, branches: list[tuple[int, str, Any]], tags: str) -> bytearray:
    """The value as the one branch that takes it."""
    found: list[tuple[str, bytearray]] = []
    deepest = NoFit(f"{say(value)}, where one of {tags} belongs")
    for number, tag, inner in branches:
        out = bytearray()
        write_long(number, out)
        try:
            inner(value, out)
        except NoFit as error:
            deepest = error if len(error.path) > len(deepest.path) else deepest
        else:
            found.append((tag, out))
    if not found:
        raise deepest
    if len(found) > 1:
        names = [tag for tag, _ in found]
        raise NoFit(f'it fits {" and ".join(names)}; say which, as {{"{names[0]}": …}}')
    return found[0][1]


def _as_given(node: Node, default: Any) -> Any:
    """A default as the schema writes it: bytes are a string of code points there, whatever their logical type."""
    if node.kind in ("bytes", "fixed") and isinstance(default, str):
        return {"base64": b64encode(default.encode("latin-1")).decode()}
    return default


def _array(inner: Any) -> Any:
    def write(value: Any, out: bytearray) -> None:
        if type(value) is not list:
            raise NoFit(f"{say(value)}, where an array belongs")
        if value:
            write_long(len(value), out)
            for number, each in enumerate(value):
                try:
                    inner(each, out)
                except NoFit as error:
                    raise error.inside(f"[{number}]") from None
        out.append(0)

    return write


def _map(inner: Any) -> Any:
    def write(value: Any, out: bytearray) -> None:
        if type(value) is not dict:
            raise NoFit(f"{say(value)}, where a map belongs")
        if value:
            write_long(len(value), out)
            for name, each in value.items():
                _write_bytes(name.encode(), out)
                try:
                    inner(each, out)
                except NoFit as error:
                    raise error.inside(f".{name}") from None
        out.append(0)

    return write


def write_long(number: int, out: bytearray) -> None:
    """A zigzag varint."""
    number = (number << 1) ^ (number >> 63)
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _write_bytes(value: bytes, out: bytearray) -> None:
    write_long(len(value), out)
    out += value


def _write_raw(value: bytes, out: bytearray) -> None:
    out += value


def _pack_float(form: str) -> Any:
    pack = struct.Struct(form).pack

    def write(value: float, out: bytearray) -> None:
        out += pack(value)

    return write


def _pack_enum(node: Node) -> Any:
    numbers = {symbol: number for number, symbol in enumerate(node.symbols)}
    return lambda value, out: write_long(numbers[value], out)


_PACK: dict[str, Any] = {
    "null": lambda _node: lambda _value, _out: None,
    "boolean": lambda _node: lambda value, out: out.append(value),
    "int": lambda _node: write_long,
    "long": lambda _node: write_long,
    "float": lambda _node: _pack_float("<f"),
    "double": lambda _node: _pack_float("<d"),
    "string": lambda _node: lambda value, out: _write_bytes(value.encode(), out),
    "bytes": lambda _node: _write_bytes,
    "enum": _pack_enum,
    "fixed": lambda _node: _write_raw,
}

"""Avro's binary form -> JSON, by a schema's tree: compiled once into functions that read and write it in one go.

Bounded whatever the bytes say: in depth, in items of no size, in memory. A union's branch is never guessed, and nothing
is rounded. It is compiled here because fastavro drops the branch of a union, rounds decimals, raises on legal times and
overflows its stack on a recursive type (each measured), and is no faster once that is worked around: a record of nine
fields took 33 us to become JSON with it, and takes 21 us here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from kpipe.codecs.avro_text import forms_of, to_json
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.codecs.avro_schema import Node

DEEPEST = 250
"""Levels of data; JSON nested deeper is refused by kpipe, too."""
MOST_EMPTY_ITEMS = 65_536
"""Items of no size in one value: four bytes can announce billions, and arrays in an array each so many again."""


class AvroError(ValueError):
    """The bytes do not fit the schema."""


def reader(
    root: Node, *, tagged: bool = False, big_ints_as_text: bool = False
) -> Callable[[bytes, int], tuple[Any, int]]:
    """A function from bytes and a start to what orjson writes, and where the value ends; AvroError otherwise.

    `tagged` is Avro's own JSON encoding. Without it a union's value is tagged, as in {"long": 5}, only where its branch
    could not be told from its form; logical types are text.
    """
    compiler = Compiler(tagged, big_ints_as_text)
    return guarded(compiler.of(root), compiler.empty)


def guarded(read: Any, empty: Empty) -> Callable[[bytes, int], tuple[Any, int]]:
    """The function that people call: whatever the bytes make Python say becomes an AvroError."""

    def read_value(data: bytes, start: int) -> tuple[Any, int]:
        empty.count = 0
        try:
            value, end = read(data, start, 0)
        except RecursionError:
            raise AvroError("it nests too deeply") from None
        except (IndexError, struct.error):
            raise AvroError(f"the data ends too early ({counted(len(data), 'byte')})") from None
        except UnicodeDecodeError:
            raise AvroError("a string is not UTF-8") from None
        return value, end

    return read_value


class Empty:
    """Items of no size that one value has had so far."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Compiler:
    """Makes the function of each type once."""

    def __init__(self, tagged: bool, big_ints_as_text: bool) -> None:
        self.empty = Empty()
        self.tagged, self.big_ints_as_text = tagged, big_ints_as_text
        self._made: dict[int, list[Any]] = {}

    def of(self, node: Node) -> Any:
        """The function of a type; a type that nests in itself finds its own through a list of one element."""
        if id(node) in self._made:
            box = self._made[id(node)]
            return box[0] or (lambda data, place, depth: box[0](data, place, depth))  # noqa: PLW0108  # it is not there yet
        box = self._made[id(node)] = [None]
        box[0] = self._make(node)
        return box[0]

    def _make(self, node: Node) -> Any:
        match node.kind:
            case "record":
                return self._record(node)
            case "array":
                return read_array(self.of(node.inner), self.empty)
            case "map":
                return read_map(self.of(node.inner), self.empty)
            case "union":
                return self._union(node)
        leaf = leaf_of(node)
        convert = to_json(node, tagged=self.tagged, big_ints_as_text=self.big_ints_as_text)
        return leaf if convert is None else converted(leaf, convert)

    def _record(self, node: Node) -> Any:
        """One function for all fields of a record, written for it: a call a field would take three times as long.

        Names stand in it as literals; everything that is not a short number, text or null is left to the field's own
        function.
        """
        scope: dict[str, Any] = {"long": read_long, "error": AvroError, "unpack": struct.unpack_from}
        lines = [
            "def read(data, place, depth):",
            f" if depth > {DEEPEST}: raise error(f'it nests deeper than {DEEPEST}, at byte {{place}}')",
            " size = len(data)",
        ]
        for number, each in enumerate(node.fields):
            lines += self._field(each.node, f"v{number}", f"f{number}", scope)
        members = ", ".join(f"{each.name!r}: v{number}" for number, each in enumerate(node.fields))
        source = "\n".join([*lines, f" return {{{members}}}, place"])
        exec(compile(source, f"<Avro record {node.name!r}>", "exec"), scope)  # noqa: S102  # of our own lines only
        return scope["read"]

    def _field(self, node: Node, value: str, own: str, scope: dict[str, Any]) -> list[str]:
        """The lines that read a field into the variable `value`; `own` names its function in `scope`."""
        if node.kind in _INLINE:
            return [line.replace("V", value) for line in self._inline(node, own, scope)]
        scope[own] = self.of(node)
        call = f" else: {value}, place = {own}(data, place, depth + 1)"
        if node.kind == "enum":
            scope[f"{own}s"] = node.symbols
            few = 2 * min(64, len(node.symbols))
            first = f" if byte < {few} and not byte & 1: {value} = {own}s[byte >> 1]; place += 1"
            return [" byte = data[place]", first, call]
        if (
            node.kind == "union"
            and len(node.branches) == 2
            and "null" in (kinds := [each.kind for each in node.branches])
        ):
            null = kinds.index("null")
            lines = [" byte = data[place]", f" if byte == {2 * null}: {value} = None; place += 1"]
            other = node.branches[1 - null]
            if other.kind in _NEVER_TAGGED and self.branch(node, 1 - null).alone:
                inner = self._inline(other, f"{own}o", scope)
                lines += [f" elif byte == {2 - 2 * null}:", "  place += 1"]
                lines += [f" {line}".replace("V", value) for line in inner]
            return [*lines, call]
        return [call.replace(" else:", "")]

    def _inline(self, node: Node, own: str, scope: dict[str, Any]) -> list[str]:
        """The lines of a type that needs no call; V stands for the variable, `own` for what makes JSON of it."""
        convert = to_json(node, tagged=self.tagged, big_ints_as_text=self.big_ints_as_text)
        if convert is None:
            return [*_INLINE[node.kind]]
        scope[own] = convert
        return [*_INLINE[node.kind], f" V = {own}(V)"]

    def _forms(self, node: Node) -> set[str]:
        return forms_of(node) | ({"string"} if self.big_ints_as_text and node.kind == "long" else set())

    def branch(self, node: Node, number: int) -> UnionBranch:
        """How values of a union's branch are shown."""
        tags = [branch.tag for branch in node.branches]
        forms = [self._forms(branch) for branch in node.branches]
        others = (other for at, other in enumerate(forms) if at != number)
        alone = not self.tagged and all(forms[number].isdisjoint(other) for other in others)
        return UnionBranch(tags[number], alone, frozenset(tags) | {tag.rpartition(".")[2] for tag in tags})

    def _union(self, node: Node) -> Any:
        return read_union([(self.of(branch), self.branch(node, place)) for place, branch in enumerate(node.branches)])


def read_union(branches: Sequence[tuple[Any, UnionBranch | None]]) -> Any:
    """The function of a union; a branch's value has its tag where it could be taken for one of another branch."""
    rows = [(inner, *(branch or _UNTAGGED)) for inner, branch in branches]

    def read(data: bytes, place: int, depth: int) -> tuple[Any, int]:
        number, place = read_long(data, place)
        if not 0 <= number < len(rows):
            raise AvroError(f"a union of {len(rows)} has no branch {number}, at byte {place}")
        inner, tag, alone, tags = rows[number]
        value, place = inner(data, place, depth)
        if value is None or (alone and not (type(value) is dict and len(value) == 1 and next(iter(value)) in tags)):
            return value, place
        return {tag: value}, place

    return read


_BYTES = (
    " byte = data[place]",
    " if byte < 128 and not byte & 1: count = byte >> 1; place += 1",
    " else: count, place = long(data, place)",
    " end = place + count",
    " if count < 0 or end > size: raise error(f'{count} bytes announced at byte {place} of {size}')",
)
_NUMBER = (
    " byte = data[place]; place += 1",
    " if byte < 128: V = (byte >> 1) ^ -(byte & 1)",
    " else: V, place = long(data, place - 1)",
)
_NEVER_TAGGED = ("int", "long", "string", "double", "float")
"""Kinds whose values no reader could take for a tag."""
_INLINE = {
    "int": _NUMBER,
    "long": _NUMBER,
    "string": (*_BYTES, " V = data[place:end].decode(); place = end"),
    "bytes": (*_BYTES, " V = data[place:end]; place = end"),
    "double": (" V = unpack('<d', data, place)[0]; place += 8",),
    "float": (" V = unpack('<f', data, place)[0]; place += 4",),
}
"""The lines of a record's function for a field of a kind; V is the field's variable. Numbers below 64 and texts shorter
than 64 bytes have one byte of length, and most are."""


class UnionBranch(NamedTuple):
    """A union's branch: `alone` in its form in JSON; `tags` are all that a reader might take for one."""

    tag: str
    alone: bool
    tags: frozenset[str]


_UNTAGGED = UnionBranch("", True, frozenset())


def tagging(inner: Any, branch: UnionBranch) -> Any:
    """One branch of a union, where the data have no union."""
    tag, alone, tags = branch

    def read(data: bytes, place: int, depth: int) -> tuple[Any, int]:
        value, place = inner(data, place, depth)
        if value is None or (alone and not (type(value) is dict and len(value) == 1 and next(iter(value)) in tags)):
            return value, place
        return {tag: value}, place

    return read


def leaf_of(node: Node) -> Any:
    """The function of a type that holds no other one; its value is not yet JSON."""
    return _enum(node) if node.kind == "enum" else _fixed(node.size) if node.kind == "fixed" else _LEAVES[node.kind]


def converted(leaf: Any, convert: Any) -> Any:
    """A leaf's value in another form."""

    def read(data: bytes, place: int, depth: int) -> tuple[Any, int]:
        value, place = leaf(data, place, depth)
        return convert(value), place

    return read


def read_long(data: bytes, place: int, _depth: int = 0) -> tuple[int, int]:
    """A zigzag varint of up to ten bytes."""
    byte = data[place]
    place += 1
    if byte < 0x80:  # most are
        return (byte >> 1) ^ -(byte & 1), place
    number, shift = byte & 0x7F, 7
    while True:
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), place
        shift += 7
        if shift > 63:
            raise AvroError(f"a number too long at byte {place}")


def _slice(data: bytes, place: int, size: int) -> tuple[bytes, int]:
    if size < 0 or place + size > len(data):
        raise AvroError(f"{counted(size, 'byte')} announced at byte {place} of {len(data)}")
    return data[place : place + size], place + size


def _boolean(data: bytes, place: int, _depth: int) -> tuple[Any, int]:
    if data[place] > 1:
        raise AvroError(f"a boolean of {data[place]} at byte {place}")
    return data[place] == 1, place + 1


def _bytes(data: bytes, place: int, _depth: int) -> tuple[Any, int]:
    size, place = read_long(data, place)
    return _slice(data, place, size)


def _string(data: bytes, place: int, _depth: int) -> tuple[Any, int]:
    size, place = read_long(data, place)
    found, place = _slice(data, place, size)
    return found.decode(), place


_LEAVES: dict[str, Any] = {
    "null": lambda _data, place, _depth: (None, place),
    "boolean": _boolean,
    "int": read_long,
    "long": read_long,
    "float": lambda data, place, _depth: (struct.unpack_from("<f", data, place)[0], place + 4),
    "double": lambda data, place, _depth: (struct.unpack_from("<d", data, place)[0], place + 8),
    "bytes": _bytes,
    "string": _string,
}


def _enum(node: Node) -> Any:
    symbols = node.symbols

    def read(data: bytes, place: int, _depth: int) -> tuple[Any, int]:
        number, end = read_long(data, place)
        if not 0 <= number < len(symbols):
            raise AvroError(f"{node.name} has no symbol {number}, at byte {place}")
        return symbols[number], end

    return read


def _fixed(size: int) -> Any:
    return lambda data, place, _depth: _slice(data, place, size)


def _blocks(data: bytes, place: int, item: Any, empty: Empty) -> int:
    """Items of an array or map come in blocks; a negative count is followed by the block's size in bytes."""
    while True:
        count, place = read_long(data, place)
        if count == 0:
            return place
        if count < 0:
            count = -count
            _size, place = read_long(data, place)
        for _ in range(count):
            before = place
            place = item(place)
            if place == before:
                empty.count += 1
                if empty.count > MOST_EMPTY_ITEMS:
                    raise AvroError(f"more than {MOST_EMPTY_ITEMS} items of no size, at byte {place}")


def read_array(inner: Any, empty: Empty) -> Any:
    """The function of an array."""

    def read(data: bytes, place: int, depth: int) -> tuple[Any, int]:
        if depth > DEEPEST:
            raise AvroError(f"it nests deeper than {DEEPEST}, at byte {place}")
        items: list[Any] = []

        def item(at: int) -> int:
            value, end = inner(data, at, depth + 1)
            items.append(value)
            return int(end)

        return items, _blocks(data, place, item, empty)

    return read


def read_map(inner: Any, empty: Empty) -> Any:
    """The function of a map."""

    def read(data: bytes, place: int, depth: int) -> tuple[Any, int]:
        if depth > DEEPEST:
            raise AvroError(f"it nests deeper than {DEEPEST}, at byte {place}")
        entries: dict[str, Any] = {}

        def item(at: int) -> int:
            name, end = _string(data, at, depth)
            if name in entries:
                raise AvroError(f"a map holds {name[:40]!r} twice, at byte {at}")
            entries[name], end = inner(data, end, depth + 1)
            return int(end)

        return entries, _blocks(data, place, item, empty)

    return read

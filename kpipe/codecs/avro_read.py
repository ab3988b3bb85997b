"""Avro's binary form -> JSON, by a schema's tree: compiled once into functions that read and write it in one go.

Bounded whatever the bytes say: in depth, in items of no size, in memory. A union's branch is never guessed, and nothing
is rounded. It is compiled here because fastavro drops the branch of a union, rounds decimals, raises on legal times and
overflows its stack on a recursive type (each measured), and is no faster once that is worked around: a record of nine
fields took 33 us to become JSON with it, and takes 21 us here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from kpipe.codecs.avro_text import forms_of, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

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
    compiler = _Compiler(tagged, big_ints_as_text)
    read = compiler.of(root)

    def read_value(data: bytes, start: int) -> tuple[Any, int]:
        compiler.empty.count = 0
        try:
            value, end = read(data, start, 0)
        except RecursionError:
            raise AvroError("it nests too deeply") from None
        except (IndexError, struct.error):
            raise AvroError(f"the data ends too early ({len(data)} bytes)") from None
        except UnicodeDecodeError:
            raise AvroError("a string is not UTF-8") from None
        return value, end

    return read_value


class _Empty:
    """Items of no size that one value has had so far."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class _Compiler:
    def __init__(self, tagged: bool, big_ints_as_text: bool) -> None:
        self.empty = _Empty()
        self._tagged, self._big = tagged, big_ints_as_text
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
                return _record([(each.name, self.of(each.node)) for each in node.fields])
            case "array":
                return _array(self.of(node.inner), self.empty)
            case "map":
                return _map(self.of(node.inner), self.empty)
            case "union":
                return self._union(node)
        leaf = _enum(node) if node.kind == "enum" else _fixed(node.size) if node.kind == "fixed" else _LEAVES[node.kind]
        convert = to_json(node, tagged=self._tagged, big_ints_as_text=self._big)
        return leaf if convert is None else _converted(leaf, convert)

    def _forms(self, node: Node) -> set[str]:
        return forms_of(node) | ({"string"} if self._big and node.kind == "long" else set())

    def _union(self, node: Node) -> Any:
        tags = [branch.tag for branch in node.branches]
        known = set(tags) | {tag.rpartition(".")[2] for tag in tags}
        forms = [self._forms(branch) for branch in node.branches]
        branches = [
            (
                self.of(branch),
                tags[place],
                not self._tagged
                and all(forms[place].isdisjoint(other) for at, other in enumerate(forms) if at != place),
            )
            for place, branch in enumerate(node.branches)
        ]

        def read(data: bytes, place: int, depth: int) -> tuple[Any, int]:
            number, place = _long(data, place)
            if not 0 <= number < len(branches):
                raise AvroError(f"a union of {len(branches)} has no branch {number}, at byte {place}")
            inner, tag, alone = branches[number]
            value, place = inner(data, place, depth)
            if value is None or (
                alone and not (type(value) is dict and len(value) == 1 and next(iter(value)) in known)
            ):
                return value, place
            return {tag: value}, place

        return read


def _converted(leaf: Any, convert: Any) -> Any:
    def read(data: bytes, place: int, depth: int) -> tuple[Any, int]:
        value, place = leaf(data, place, depth)
        return convert(value), place

    return read


def _long(data: bytes, place: int, _depth: int = 0) -> tuple[int, int]:
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
        raise AvroError(f"{size} bytes announced at byte {place} of {len(data)}")
    return data[place : place + size], place + size


def _boolean(data: bytes, place: int, _depth: int) -> tuple[Any, int]:
    if data[place] > 1:
        raise AvroError(f"a boolean of {data[place]} at byte {place}")
    return data[place] == 1, place + 1


def _bytes(data: bytes, place: int, _depth: int) -> tuple[Any, int]:
    size, place = _long(data, place)
    return _slice(data, place, size)


def _string(data: bytes, place: int, _depth: int) -> tuple[Any, int]:
    size, place = _long(data, place)
    found, place = _slice(data, place, size)
    return found.decode(), place


_LEAVES: dict[str, Any] = {
    "null": lambda _data, place, _depth: (None, place),
    "boolean": _boolean,
    "int": _long,
    "long": _long,
    "float": lambda data, place, _depth: (struct.unpack_from("<f", data, place)[0], place + 4),
    "double": lambda data, place, _depth: (struct.unpack_from("<d", data, place)[0], place + 8),
    "bytes": _bytes,
    "string": _string,
}


def _enum(node: Node) -> Any:
    symbols = node.symbols

    def read(data: bytes, place: int, _depth: int) -> tuple[Any, int]:
        number, end = _long(data, place)
        if not 0 <= number < len(symbols):
            raise AvroError(f"{node.name} has no symbol {number}, at byte {place}")
        return symbols[number], end

    return read


def _fixed(size: int) -> Any:
    return lambda data, place, _depth: _slice(data, place, size)


def _record(fields: list[tuple[str, Any]]) -> Any:
    def read(data: bytes, place: int, depth: int) -> tuple[Any, int]:
        if depth > DEEPEST:
            raise AvroError(f"it nests deeper than {DEEPEST}, at byte {place}")
        record = {}
        for name, inner in fields:
            record[name], place = inner(data, place, depth + 1)
        return record, place

    return read


def _blocks(data: bytes, place: int, item: Any, empty: _Empty) -> int:
    """Items of an array or map come in blocks; a negative count is followed by the block's size in bytes."""
    while True:
        count, place = _long(data, place)
        if count == 0:
            return place
        if count < 0:
            count = -count
            _size, place = _long(data, place)
        for _ in range(count):
            before = place
            place = item(place)
            if place == before:
                empty.count += 1
                if empty.count > MOST_EMPTY_ITEMS:
                    raise AvroError(f"more than {MOST_EMPTY_ITEMS} items of no size, at byte {place}")


def _array(inner: Any, empty: _Empty) -> Any:
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


def _map(inner: Any, empty: _Empty) -> Any:
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

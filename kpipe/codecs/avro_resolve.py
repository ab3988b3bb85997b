"""Avro's binary form, written with one schema, as a reader with another one sees it (specification, Schema Resolution).

Fields are found by name or by the reader's aliases, what the reader lacks is passed over, what the writer lacks has the
reader's default; numbers, strings and bytes are promoted. Nothing is made up: what cannot be resolved is an error that
says where.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from kpipe.codecs import avro_read, avro_write
from kpipe.codecs.avro_read import AvroError
from kpipe.codecs.avro_text import to_json
from kpipe.codecs.errors import NoFit, SchemaError
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.codecs.avro_read import UnionBranch
    from kpipe.codecs.avro_schema import Node, RecordField


class Mismatch(SchemaError):
    """No value that was written with the one schema can be read with the other."""


def reader(
    writer: Node, wanted: Node, *, tagged: bool = False, big_ints_as_text: bool = False
) -> Callable[[bytes, int], tuple[Any, int]]:
    """As `avro_read.reader`, of data that `writer` wrote, in the form of `wanted`; Mismatch where that never fits."""
    compiler = _Resolver(tagged, big_ints_as_text)
    return avro_read.guarded(compiler.pair(writer, wanted, ""), compiler.empty)


class _Resolver(avro_read.Compiler):
    """Functions for pairs of types; `path` is where they stand, for messages."""

    def __init__(self, tagged: bool, big_ints_as_text: bool) -> None:
        super().__init__(tagged, big_ints_as_text)
        self._pairs: dict[tuple[int, int], list[Any]] = {}

    def pair(self, writer: Node, wanted: Node, path: str) -> Any:
        """The function of a pair; one that nests in itself finds its own through a list of one element."""
        key = (id(writer), id(wanted))
        if key in self._pairs:
            box = self._pairs[key]
            return box[0] or (lambda data, place, depth: box[0](data, place, depth))  # noqa: PLW0108  # it is not there yet
        box = self._pairs[key] = [None]
        try:
            box[0] = self._resolve(writer, wanted, path)
        except Mismatch:
            del self._pairs[key]  # the next one tells it again
            raise
        return box[0]

    def _resolve(self, writer: Node, wanted: Node, path: str) -> Any:
        if writer.kind == "union":
            return self._written_union(writer, wanted, path)
        if wanted.kind == "union":
            return self._wanted_union(writer, wanted, path)
        if writer.kind == wanted.kind:
            match writer.kind:
                case "record":
                    return self._fields(writer, wanted, path)
                case "array":
                    return avro_read.read_array(self.pair(writer.inner, wanted.inner, f"{path}[]"), self.empty)
                case "map":
                    return avro_read.read_map(self.pair(writer.inner, wanted.inner, f"{path}.*"), self.empty)
                case "enum":
                    return _enum(writer, wanted, path)
        return self._leaf(writer, wanted, path)

    def _written_union(self, writer: Node, wanted: Node, path: str) -> Any:
        """Each branch by itself: one that does not fit is an error only where it was written."""
        branches: list[tuple[Any, UnionBranch | None]] = []
        refusals: list[Mismatch] = []
        for each in writer.branches:
            try:
                if wanted.kind == "union":
                    branches.append(self._chosen(each, wanted, path))
                else:
                    branches.append((self.pair(each, wanted, path), None))
            except Mismatch as error:
                refusals.append(error)
                branches.append((_refuse(str(error)), None))
        if len(refusals) == len(branches):
            raise refusals[-1]
        return avro_read.read_union(branches)

    def _wanted_union(self, writer: Node, wanted: Node, path: str) -> Any:
        return avro_read.tagging(*self._chosen(writer, wanted, path))

    def _chosen(self, writer: Node, wanted: Node, path: str) -> tuple[Any, UnionBranch]:
        """The branch of the same type and name, else the first one that takes it."""
        refusal = Mismatch(f"{path or '.'}: {writer.tag} is none of {', '.join(each.tag for each in wanted.branches)}")
        for fits in (_same_name, _same_kind, _any):
            for number, branch in enumerate(wanted.branches):
                if not fits(writer, branch):
                    continue
                try:
                    return self.pair(writer, branch, path), self.branch(wanted, number)
                except Mismatch as error:
                    refusal = error
        raise refusal

    def _fields(self, writer: Node, wanted: Node, path: str) -> Any:
        steps: list[tuple[str | None, Any]] = []
        found: set[str] = set()
        for each in writer.fields:
            target = _field_of(each.name, wanted)
            if target is None or target.name in found:
                steps.append((None, self.of(each.node)))
            else:
                found.add(target.name)
                steps.append((target.name, self.pair(each.node, target.node, f"{path}.{target.name}")))
        missing = {each.name: self._default(each, path) for each in wanted.fields if each.name not in found}
        order = [each.name for each in wanted.fields]

        def read(data: bytes, place: int, depth: int) -> tuple[Any, int]:
            if depth > avro_read.DEEPEST:
                raise AvroError(f"it nests deeper than {avro_read.DEEPEST}, at byte {place}")
            record = dict(missing)
            for name, inner in steps:
                value, place = inner(data, place, depth + 1)
                if name is not None:
                    record[name] = value
            return {name: record[name] for name in order}, place

        return read

    def _default(self, field: RecordField, path: str) -> Any:
        """A default in the form of what is read: written, and read again."""
        try:
            written = avro_write.default_of(field)
        except NoFit as error:
            raise Mismatch(f"{path}.{field.name}: the records do not have it, and {error.what}") from None
        return self.of(field.node)(written, 0, 0)[0]

    def _leaf(self, writer: Node, wanted: Node, path: str) -> Any:
        promote = _PROMOTIONS.get((writer.kind, wanted.kind))
        if writer.kind != wanted.kind and promote is None:
            raise Mismatch(f"{path or '.'}: {writer.tag} cannot be read as {wanted.tag}")
        if writer.kind == "fixed" and writer.size != wanted.size:
            raise Mismatch(f"{path or '.'}: {counted(writer.size, 'byte')} cannot be read as {wanted.size}")
        if writer.logical == wanted.logical == "decimal" and writer.scale != wanted.scale:
            raise Mismatch(f"{path or '.'}: {writer.scale} digits behind the point cannot be read as {wanted.scale}")
        leaf = avro_read.leaf_of(writer)
        convert = to_json(wanted, tagged=self.tagged, big_ints_as_text=self.big_ints_as_text)
        if promote is not None:
            leaf = avro_read.converted(leaf, promote)
        return leaf if convert is None else avro_read.converted(leaf, convert)


def _refuse(why: str) -> Any:
    def read(_data: bytes, _place: int, _depth: int) -> tuple[Any, int]:
        raise AvroError(why)

    return read


def _field_of(name: str, record: Node) -> RecordField | None:
    """The reader's field for one of the writer's: by its name, else by an alias."""
    for each in record.fields:
        if each.name == name:
            return each
    return next((each for each in record.fields if name in each.aliases), None)


def _same_name(writer: Node, wanted: Node) -> bool:
    return writer.kind == wanted.kind and writer.name in (wanted.name, *wanted.aliases)


def _same_kind(writer: Node, wanted: Node) -> bool:
    return writer.kind == wanted.kind


def _any(_writer: Node, _wanted: Node) -> bool:
    return True


def _enum(writer: Node, wanted: Node, path: str) -> Any:
    """A symbol that the reader lacks is its default, where it has one."""
    known, default = set(wanted.symbols), wanted.default
    symbols = [each if each in known else default for each in writer.symbols]
    if not any(symbols):
        raise Mismatch(f"{path or '.'}: no symbol of {writer.name} is one of {wanted.name}")
    inner = avro_read.leaf_of(writer)

    def read(data: bytes, place: int, depth: int) -> tuple[Any, int]:
        symbol, place = inner(data, place, depth)
        if symbol not in known:
            if not default:
                raise AvroError(f"{path or '.'}: {symbol!r} is no symbol of {wanted.name}")
            symbol = default
        return symbol, place

    return read


def _to_float(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


_PROMOTIONS: dict[tuple[str, str], Any] = {
    ("int", "long"): lambda value: value,
    ("int", "float"): _to_float,
    ("int", "double"): float,
    ("long", "float"): _to_float,
    ("long", "double"): float,
    ("float", "double"): lambda value: value,
    ("string", "bytes"): str.encode,
    ("bytes", "string"): bytes.decode,
}

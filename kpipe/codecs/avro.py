"""Avro: data of one schema <-> JSON.

The schema's tree is read in `avro_schema`, data in `avro_read`, `avro_resolve` and `avro_write`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from kpipe.codecs import avro_read, avro_schema, avro_write
from kpipe.codecs.errors import DataError, NoFit
from kpipe.codecs.schema import Codec, Read, refuse_reader
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.codecs.registry import SchemaText
    from kpipe.codecs.schema import ValueStyle, Write


class Avro(Codec):
    """A schema in Avro."""

    format = "avro"
    read_value: Callable[[bytes, int], tuple[Any, int]]

    def __init__(self, root: avro_schema.Node, view: ValueStyle) -> None:
        refuse_reader(view, self.format)
        if view.connect_types:
            avro_schema.with_connect_types(root)
        shown = {"tagged": view.tagged, "big_ints_as_text": view.big_ints_as_text}
        self.root = root
        if isinstance(view.reader, Avro):
            from kpipe.codecs import avro_resolve

            self.read_value = avro_resolve.reader(root, view.reader.root, **shown)
        else:
            self.read_value = avro_read.reader(root, **shown)
        self.about = {"avro_json": "tagged"} if view.tagged else {}
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
            left = f"{len(data) - end:,} of {counted(len(data), 'byte')} left over"
            raise DataError(f"{left}; it was written with another schema")
        return Read(value, self._back)

    def writer(
        self, message: str = "", *, indexed: bool = True, as_read: bool = False, tagged: bool | None = None
    ) -> Write:
        """Avro has one type a schema, and no index."""
        return partial(self._write_text, (self._tagged if tagged is None else tagged, as_read))

    def _write_text(self, how: tuple[bool, bool], text: bytes) -> bytes:
        write = self._writers.get(how)
        if write is None:
            write = self._writers[how] = avro_write.writer(self.root, tagged=how[0], as_read=how[1])
        try:
            return bytes(write(orjson.loads(text)))
        except RecursionError:
            raise NoFit("it nests too deeply") from None


def of_text(text: str, others: Sequence[str], view: ValueStyle) -> Avro:
    """An Avro schema; `others` are the schemas it uses, those that they use first."""
    named: dict[str, avro_schema.Node] = {}
    for other in others:
        avro_schema.parse(other, named)
    return Avro(avro_schema.parse(text, named), view)


def from_registry(schema: SchemaText, others: Mapping[str, str], view: ValueStyle, _descriptor: bytes | None) -> Avro:
    """A registry's schema."""
    return of_text(schema.text, list(others.values()), view)


def from_file(_path: str, text: str, view: ValueStyle) -> Avro:
    """An .avsc file; single objects name it by its fingerprint."""
    codec = of_text(text, (), view)
    codec.fingerprint = avro_schema.fingerprint(text)
    return codec


def is_own(text: str) -> bool:
    """Whether a .json file is a schema of Avro's: JSON Schema has other words for types."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    kinds = ("record", "enum", "fixed", "map", "error")
    return isinstance(found, list) or (isinstance(found, dict) and found.get("type") in kinds)

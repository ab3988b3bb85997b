"""Values parsed as JSON: once for all transforms that only read them, and written with their number text kept.

Never changes a value; orjson does the work, and a second parse where Python's numbers would change the text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

import orjson

from kpipe.formats.json_depth import SHORTEST, TOO_DEEP, is_too_deep
from kpipe.transform.path import getter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.record import Batch
    from kpipe.transform.path import Path


class Number:
    """A number as it is written: 1.10, 1e400 and integers of any length survive."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class NotJson:
    """Stands where a document would: `reason` says why the value is none."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


def parse(value: bytes) -> object:
    """A value as Python objects, floats as doubles; ValueError with line and column if it is not JSON, or too deep."""
    try:
        document: object = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        if "infinity" not in error.msg:
            raise
        document = _parse_huge(value)
    if is_too_deep(value):
        raise ValueError(TOO_DEEP)
    return document


def _parse_huge(value: bytes) -> object:
    """A value with a number beyond all doubles: JSON has no largest number."""
    document = parse_exact(value)
    try:
        dump(document)
    except TypeError:  # the standard parser lets it pass
        raise ValueError("a lone surrogate is no character") from None
    return document


def parse_exact(value: bytes) -> object:
    """A value with every number a Number (4 times slower than `parse`); ValueError if it nests too deep."""
    try:
        return _EXACT.decode(value.decode())
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def parse_faithful(value: bytes) -> object:
    """A document that `dump` writes with the number text of `value`: by proof the fast one, else the exact one."""
    document = parse(value)
    return document if dump(document) == value else parse_exact(value)


def dump(document: object) -> bytes:
    """Compact JSON."""
    return orjson.dumps(document, default=_write_number)


def field_text(found: object, value: bytes, path: Path) -> bytes | None:
    """A field as bytes: a string raw, null as None, anything else compact JSON with the number text of `value`.

    `found` is what `path` led to in `parse(value)`.
    """
    match found:
        case str():
            return found.encode()
        case None:
            return None
        case bool():
            return b"true" if found else b"false"
        case int() if found:  # not 0, which may be written -0
            return b"%d" % found
    return dump(getter(path)(parse_faithful(value)))


def why_not_json(value: bytes | None) -> str:
    """What keeps `value` from being JSON, with its position."""
    if value is None:
        return "the value is null"
    try:
        value.decode()
        parse(value)
    except UnicodeDecodeError as error:
        return f"the value is not UTF-8 text (byte {error.start + 1} of {len(value)})"
    except ValueError as error:
        if is_too_deep(value):
            return f"the value {TOO_DEEP}"
        return f"the value is not JSON ({str(error).partition(' (char')[0]})"
    raise ValueError("the value is JSON")


class Documents:
    """The parsed values of the batch at hand, shared by the transforms that only read them.

    A transform that changes values puts a new list into the batch, and with it the documents are parsed anew.
    """

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._values: list[bytes | None] = []
        self._index: Sequence[int] = ()
        self._documents: list[object] = []

    def column(self, batch: Batch) -> list[object]:
        """One document per record, a NotJson where the value is null or not JSON."""
        index = range(len(batch.values)) if batch.index is None else batch.index
        if batch is not self._batch:
            self._documents = _parse_all(batch.values)
        elif batch.values is not self._values:
            self._documents = self._follow(batch.values, index)
        self._batch, self._values, self._index = batch, batch.values, index
        return self._documents

    def _follow(self, values: list[bytes | None], index: Sequence[int]) -> list[object]:
        """Documents of values some of which are still the same objects: records left, or a few were changed."""
        known = dict(zip(self._index, zip(self._values, self._documents, strict=True), strict=True))
        nothing = (b"", None)
        found = [known.get(place, nothing) for place in index]
        return [
            document if value is old else _parse_one(value)
            for value, (old, document) in zip(values, found, strict=True)
        ]


class Field:
    """One field of the value, as a column of bytes."""

    def __init__(self, path: Path, written: str, documents: Documents) -> None:
        self._path = path
        self._written = written
        self._documents = documents
        self._get = getter(path)

    def column(self, batch: Batch) -> list[bytes | None]:
        """The field of every record as `field_text` has it; None where it is absent, null or out of reach."""
        return [
            self._text(document, value)
            for document, value in zip(self._documents.column(batch), batch.values, strict=True)
        ]

    def why_missing(self, batch: Batch, place: int) -> str:
        """The reason for a None in the column."""
        document, value = self._documents.column(batch)[place], batch.values[place]
        if isinstance(document, NotJson) or value is None:
            return why_not_json(value)
        try:
            field_text(self._get(document), value, self._path)
        except ValueError as error:
            return f"the value has no {self._written} ({error})"
        return f"the value has no {self._written}, or it is null"

    def _text(self, document: object, value: bytes | None) -> bytes | None:
        if value is None or isinstance(document, NotJson):
            return None
        try:
            found = self._get(document)
            return found.encode() if type(found) is str else field_text(found, value, self._path)
        except ValueError:
            return None


def _parse_all(values: list[bytes | None]) -> list[object]:
    try:
        documents = list(map(orjson.loads, values))  # type: ignore[arg-type]  # a null value raises
    except orjson.JSONDecodeError:
        return [_parse_one(value) for value in values]
    if max(map(len, values), default=0) > SHORTEST:  # type: ignore[arg-type]
        for place, value in enumerate(values):
            if is_too_deep(value or b""):
                documents[place] = NotJson(f"the value {TOO_DEEP}")
    return documents


def _parse_one(value: bytes | None) -> object:
    if value is None:
        return NotJson("the value is null")
    try:
        return parse(value)
    except ValueError:
        return NotJson(why_not_json(value))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _write_number(value: object) -> orjson.Fragment:
    if isinstance(value, Number):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} is not JSON")


_EXACT = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=_refuse_constant)

"""Templates such as `{topic}-{json[.user.id]}`: text with fields of the record, compiled once, rendered per batch.

Never decodes: keys, values and headers are inserted as the bytes they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from kpipe.record import TIMESTAMP_NONE
from kpipe.transform import path
from kpipe.transform.columns import header_column, key_column
from kpipe.transform.document import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.record import Batch
    from kpipe.transform.document import Documents
    from kpipe.transform.step import Step

_FIELD = re.compile(r"\{(?P<name>\w+)(?P<bracket>\[)?")


@dataclass(frozen=True, slots=True)
class _Part:
    """A field: its column (None where it is missing) and the reason for a None."""

    column: Callable[[Batch], Sequence[bytes | None]]
    why_missing: Callable[[Batch, int], str]


class Template:
    """A compiled template; `render` gives one bytes object per record."""

    def __init__(self, step: Step, text: str, documents: Documents) -> None:
        self._parts: list[_Part] = []
        self._format = self._compile(step, text, documents)

    def render(self, batch: Batch) -> tuple[list[bytes | None], dict[int, str]]:
        """The column of results, and for the places where a field is missing the reason (the result is None there)."""
        if not self._parts:
            return [self._format % ()] * len(batch), {}
        columns = [part.column(batch) for part in self._parts]
        try:
            return list(map(self._format.__mod__, zip(*columns, strict=True))), {}
        except TypeError:  # a None: bytes formatting takes nothing but bytes
            return self._render_carefully(batch, columns)

    def _render_carefully(
        self, batch: Batch, columns: list[Sequence[bytes | None]]
    ) -> tuple[list[bytes | None], dict[int, str]]:
        rows = list(zip(*columns, strict=True))
        missing = {
            place: self._parts[row.index(None)].why_missing(batch, place)
            for place, row in enumerate(rows)
            if None in row
        }
        return [None if place in missing else self._format % row for place, row in enumerate(rows)], missing

    def _compile(self, step: Step, text: str, documents: Documents) -> bytes:
        """Fill the parts and return the bytes format with a %b for each of them."""
        pieces: list[str] = []
        at = 0
        while at < len(text):
            if text.startswith(("{{", "}}"), at):
                pieces.append(text[at])
                at += 2
            elif text[at] == "}":
                raise step.usage("a lone } in the template; write }} for a brace")
            elif text[at] == "{":
                part, at = _parse_field(step, text, at, documents)
                self._parts.append(part)
                pieces.append("%b")
            else:
                pieces.append("%%" if text[at] == "%" else text[at])
                at += 1
        return "".join(pieces).encode(errors="surrogateescape")


def _parse_field(step: Step, text: str, at: int, documents: Documents) -> tuple[_Part, int]:
    """The field that starts at `at`, and where the text goes on behind it."""
    match = _FIELD.match(text, at)
    if match is None:
        raise step.usage(f"a {{ without a field; fields are {_FORMS}, and {{{{ is a brace")
    name = match["name"]
    if match["bracket"] is None:
        if not text.startswith("}", match.end()):
            raise step.usage(_unclosed(name, text[match.end() :]))
        if name not in _PLAIN:
            raise step.usage(_unknown(name))
        return _PLAIN[name], match.end() + 1
    if name == "header":
        return _parse_header(step, text, match.end())
    if name == "json":
        return _parse_json(step, text, match.end(), documents)
    raise step.usage(f"{{{name}[…]}} takes no brackets; fields are {_FORMS}")


def _parse_header(step: Step, text: str, start: int) -> tuple[_Part, int]:
    end = text.find("]}", start)
    name = text[start:end]
    if end < 0 or not name:
        raise step.usage("{header[ is not closed or has no name; write {header[NAME]}")
    part = _Part(header_column(name), lambda _batch, _place: f"it has no header {name}, or that is null")
    return part, end + 2


def _parse_json(step: Step, text: str, start: int, documents: Documents) -> tuple[_Part, int]:
    """A path may hold `]}` in a quoted name, so the first end at which it parses is the end."""
    fault = "{json[ is not closed; write {json[.a.b]}"
    end = text.find("]}", start)
    while end >= 0:
        try:
            compiled = path.parse(text[start:end])
        except ValueError as error:
            fault = str(error)
            end = text.find("]}", end + 1)
        else:
            field = Field(compiled, text[start:end], documents)
            return _Part(field.column, field.why_missing), end + 2
    raise step.usage(fault)


def _unclosed(name: str, rest: str) -> str:
    """What is wrong with a field behind whose name something else comes; `{json.id}` is what people try first."""
    inner, closed, _ = rest.partition("}")
    if not closed or not inner.startswith("."):
        return f"{{{name} is not closed; write {_FIELDS.get(name, f'{{{name}}}')}, or {{{{ for a brace"
    field = f"{{json[{inner}]}}"
    meant = {"header": f"{{header[{inner[1:]}]}}", "json": field, "value": field}.get(name)
    return f"unknown field {{{name}{inner}}}; {f'did you mean {meant}?' if meant else f'fields are {_FORMS}'}"


def _unknown(name: str) -> str:
    near = get_close_matches(name, _FIELDS, n=1)
    if near:
        return f"unknown field {{{name}}}; did you mean {_FIELDS[near[0]]}?"
    return f"unknown field {{{name}}}; write {{json[{name}]}} for a field of the value; others are {_FORMS}"


def _topic_column(batch: Batch) -> Sequence[bytes | None]:
    if batch.topics is None:
        return [None] * len(batch)
    return [None if topic is None else topic.encode() for topic in batch.topics]


def _number_column(numbers: list[int | None] | None, batch: Batch) -> Sequence[bytes | None]:
    if numbers is None:
        return [None] * len(batch)
    return [None if number is None else b"%d" % number for number in numbers]


def _timestamp_column(batch: Batch) -> Sequence[bytes | None]:
    if batch.timestamps is None:
        return [None] * len(batch)
    return [None if kind == TIMESTAMP_NONE else b"%d" % ms for kind, ms in batch.timestamps]


def _plain(column: Callable[[Batch], Sequence[bytes | None]], why: str) -> _Part:
    return _Part(column, lambda _batch, _place: why)


_PLAIN: dict[str, _Part] = {
    "key": _plain(key_column, "its key is null"),
    "value": _plain(lambda batch: batch.values, "its value is null"),
    "topic": _plain(_topic_column, "it has no source topic"),
    "partition": _plain(lambda batch: _number_column(batch.partitions, batch), "it has no source partition"),
    "offset": _plain(lambda batch: _number_column(batch.offsets, batch), "it has no source offset"),
    "timestamp": _plain(_timestamp_column, "it has no timestamp"),
}
_FIELDS = {plain: f"{{{plain}}}" for plain in _PLAIN} | {"header": "{header[NAME]}", "json": "{json[path]}"}
_FORMS = " ".join(_FIELDS.values())

"""Keys and values in an envelope that were decoded by a schema: they stand there as JSON, with what the schema is.

It knows no schema.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from kpipe.errors import BadRecord
from kpipe.formats.fields import kind, member_text
from kpipe.record import Shown

if TYPE_CHECKING:
    from collections.abc import Sequence

Fields: TypeAlias = dict[str, Any]

SCHEMAS = {"key": "key_schema", "value": "value_schema"}
REASONS = ("decode_error", "key_decode_error")
"""Why a key or value was not decoded: it stands there as it is, so nothing depends on the reason."""


def refuse_decoded(name: str) -> BadRecord:
    """What is said of `name`, a schema that nobody writes by."""
    what = f"the {name.partition('_')[0]} was decoded by a schema ({name})"
    return BadRecord(f"{what}; give --encode same to write it so again, or --lenient to send the JSON")


def schemas_of(side: str, envelopes: Sequence[Any], errors: dict[int, BadRecord]) -> list[Shown | None] | None:
    """What each envelope says of the schema of its key or value; None where none does."""
    name = SCHEMAS[side]
    shown: list[Shown | None] = [None] * len(envelopes)
    for place, envelope in enumerate(envelopes):
        schema = envelope.get(name)
        if schema is None:
            continue
        if f"{side}_base64" in envelope or side not in envelope:
            what = f"{name} belongs to a {side} that is JSON; drop it, or {side}_base64"
            errors.setdefault(place, BadRecord(what))
        elif not isinstance(schema, dict):
            what = f"{name} is {kind(schema)}; it is an object, as consume --decode writes it"
            errors.setdefault(place, BadRecord(what))
        else:
            shown[place] = Shown(None, schema=schema)
    return shown if any(shown) else None


def without(side: str, envelopes: list[Any], shown: Sequence[Shown | None] | None) -> list[Any]:
    """The envelopes with null in place of what is JSON by a schema, which has rules of its own."""
    if shown is None:
        return envelopes
    return [envelope if told is None else {side: None} for envelope, told in zip(envelopes, shown, strict=True)]


def with_json(
    side: str, lines: Sequence[bytes], column: list[bytes | None], shown: Sequence[Shown | None] | None
) -> list[bytes | None]:
    """The column with JSON text in its places: a string in quotes, null as `null`, numbers with all their digits."""
    if shown is None:
        return column
    return [
        entry if told is None else member_text(line, side)
        for entry, line, told in zip(column, lines, shown, strict=True)
    ]


def json_bytes(value: bytes | None) -> str | dict[str, str] | None:
    """Text, or {"base64": ...} for what is not UTF-8."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value or b"").decode()}


def _put(fields: Fields, name: str, entry: bytes | None) -> None:
    encoded = json_bytes(entry)
    if isinstance(encoded, dict):
        fields[f"{name}_base64"] = encoded["base64"]
    else:
        fields[name] = encoded


def put_shown(fields: Fields, name: str, entry: bytes | None, column: list[Shown | None] | None, place: int) -> None:
    """A key or value that a schema shows as JSON is embedded, with what the schema is or why there is none."""
    shown = None if column is None else column[place]
    if shown is None or shown.text is None or entry is None:
        _put(fields, name, entry)
        if shown is not None and shown.error:
            fields["decode_error" if name == "value" else f"{name}_decode_error"] = shown.error
        return
    try:
        orjson.loads(entry)
        # A line end in valid JSON is a blank between tokens.
        fields[name] = orjson.Fragment(entry.replace(b"\n", b" ").replace(b"\r", b" "))
    except orjson.JSONDecodeError:  # a transform made text of it
        _put(fields, name, entry)
        return
    fields[f"{name}_schema"] = shown.schema

"""The JSON-lines envelope: one record per line, with everything that Kafka keeps of it; decode(encode(r)) == r.

Nothing is interpreted: text is a JSON string, bytes that are not UTF-8 go to a `*_base64` field, null is not empty.

    {"topic":"orders","partition":0,"offset":42,"timestamp":1763884800000,"timestamp_type":"create",
     "key":"user-1","value":"...","headers":[["h","v"],["h",null],["h",{"base64":"AAE="}]]}
"""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from kpipe.errors import BadRecord
from kpipe.formats.decoded import (
    REASONS,
    SCHEMAS,
    Fields,
    refuse_decoded,
    schemas_of,
    with_json,
    without,
)
from kpipe.formats.fields import (
    MAX_LONG,
    MAX_PARTITION,
    Members,
    base64_bytes,
    kind,
    load_exactly,
    member_text,
    pairs,
    show,
    text,
    unknown_field,
    whole,
    word,
)
from kpipe.formats.json_depth import TOO_DEEP, is_too_deep
from kpipe.formats.pieces import PieceDecoder
from kpipe.formats.rows import unless_empty
from kpipe.formats.splitting import MAX_RECORD_BYTES, Splitter, oversized
from kpipe.record import NO_TIMESTAMP, TIMESTAMP_CREATE, TIMESTAMP_TYPES, Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.formats.canonical import CanonicalReader
    from kpipe.record import Headers, Timestamp

Errors: TypeAlias = dict[int, BadRecord]

FIELDS = (
    "topic", "partition", "offset", "timestamp", "timestamp_type",
    "key", "key_base64", "value", "value_base64", "headers",
)  # fmt: skip
WORTH_A_LOOK = 16384
"""Bytes from which a block is looked at as a whole: what does that is loaded for it (8 ms)."""
MOST_MISSES = 6
"""Where the lines are somebody else's, only one block of 2, 4, .. 64 is looked at."""
_KNOWN = frozenset((*FIELDS, *REASONS))
_BOM = b"\xef\xbb\xbf"
_PLACEHOLDER: Fields = {"value": None}
_TEXT = {str, type(None)}
_NAME, _CONTENT = itemgetter(0), itemgetter(1)
_TIMESTAMP_TYPES: dict[str | None, int] = {
    None: TIMESTAMP_CREATE,
    **{name: n for n, name in enumerate(TIMESTAMP_TYPES)},
}


class EnvelopeDecoder(PieceDecoder[bytes]):
    """Envelopes, one per line.

    Every field but `value` (or `value_base64`) may be missing or null. A field that the format does not have, and a
    field that is there twice, make a record bad (`lenient` ignores unknown ones). `value` as an object, array, number
    or boolean is taken as its JSON text, exactly as it stands in the line but without blanks between tokens: 1.10
    stays 1.10, and big numbers keep their digits. A key must be a string or null, because another spelling of the
    same number would be another key, on another partition. Lines with nothing in them carry no record.

    A twin is found by counting member names; only one that is written both as `"a":` and as `"a" :` goes unseen.
    """

    def __init__(
        self,
        file: str,
        *,
        lenient: bool = False,
        encoded: Sequence[str] = (),
        max_record_bytes: int = MAX_RECORD_BYTES,
        worth_a_look: int = WORTH_A_LOOK,
        most_misses: int = MOST_MISSES,
    ) -> None:
        """`encoded` are the sides, `key` and `value`, that a later stage writes by their schema."""
        self._worth_a_look, self._most_misses = worth_a_look, most_misses
        self._splitter = Splitter(b"\n", max_record_bytes)
        super().__init__(file, self._splitter)
        self._lenient = lenient
        self._encoded = encoded
        self._misses = self._untried = 0
        self._canonical: CanonicalReader | None = None

    # Hot path: `make bench` (the pipe).
    def feed(self, block: bytes) -> Batch:
        """Return the records that `block` completes."""
        if len(block) < self._worth_a_look or self._encoded or self._untried:
            self._untried = max(0, self._untried - 1)
            return super().feed(block)
        lines = self._splitter.take(block)
        if lines is None:
            return super().feed(block)
        if not lines:
            return self._batch([])
        batch = self._whole_lines().read(lines)
        if batch is None:
            self._misses = min(self._misses + 1, self._most_misses)
            self._untried = 2**self._misses
            return self._batch(lines.split(b"\n")[:-1])
        self._misses = 0
        batch.file, batch.lines = self._file, self._number(len(batch))
        return batch

    def _whole_lines(self) -> CanonicalReader:
        if self._canonical is None:
            from kpipe.formats.canonical import CanonicalReader

            self._canonical = CanonicalReader()
        return self._canonical

    def _batch(self, lines: list[bytes]) -> Batch:
        if not self._read and lines:
            lines[0] = lines[0].removeprefix(_BOM)
        numbers: Sequence[int] = self._number(len(lines))
        errors: Errors = {}
        try:
            envelopes = list(map(orjson.loads, lines))
        except orjson.JSONDecodeError:
            lines, numbers, envelopes, errors = self._load_singly(lines, numbers)
        batch = self._columns(lines, envelopes, errors)
        refuse_twins(lines, envelopes, batch.values, errors, decoded=bool(batch.shown_values or batch.shown_keys))
        batch.file, batch.lines = self._file, numbers
        for place, error in errors.items():
            error.raw = lines[place]
        batch.reject(dict(sorted(errors.items())))
        return batch

    def _load_singly(
        self, lines: list[bytes], positions: Sequence[int]
    ) -> tuple[list[bytes], list[int], list[Any], Errors]:
        """Return the lines that are not blank, their numbers, what they hold, and what is wrong with them."""
        kept: list[bytes] = []
        numbers: list[int] = []
        envelopes: list[Any] = []
        errors: Errors = {}
        too_long = set(self._splitter.oversized)
        for place, line in enumerate(lines):
            if place not in too_long and not line.strip():
                continue
            try:
                envelope = load(line) if place not in too_long else oversized(self._splitter.limit)
            except BadRecord as error:
                envelope = error
            if isinstance(envelope, BadRecord):
                errors[len(kept)] = envelope
                envelope = _PLACEHOLDER
            kept.append(line)
            numbers.append(positions[place])
            envelopes.append(envelope)
        return kept, numbers, envelopes, errors

    def _columns(self, lines: list[bytes], envelopes: list[Any], errors: Errors) -> Batch:
        kinds = set(map(type, envelopes))
        if kinds != {dict}:
            for place, envelope in enumerate(envelopes):
                if not isinstance(envelope, dict):
                    what = f"the line is {kind(envelope)}, not an object; write one envelope per line"
                    errors[place] = BadRecord(what)
                    envelopes[place] = _PLACEHOLDER
        names: set[str] = set().union(*envelopes)
        if not (self._lenient or names <= _KNOWN):
            self._refuse_unknown(envelopes, errors)
        if not names.isdisjoint(SCHEMAS.values()):
            return self._decoded_columns(lines, envelopes, names, errors)
        read = _Reader(envelopes, names, errors, trusted=kinds == {dict})
        return self._batch_of(read, read.values(lines), read.keys())

    def _refuse_unknown(self, envelopes: list[Any], errors: Errors) -> None:
        known = _KNOWN.union(SCHEMAS[side] for side in self._encoded)
        for place, envelope in enumerate(envelopes):
            for name in sorted(envelope.keys() - known):
                undecoded = refuse_decoded(name) if name in SCHEMAS.values() else None
                errors.setdefault(place, undecoded or unknown_field(name, FIELDS))

    def _decoded_columns(self, lines: list[bytes], envelopes: list[Any], names: set[str], errors: Errors) -> Batch:
        """Some keys or values stand there as JSON, with their schema."""

        def reader(rest: list[Fields]) -> _Reader:
            return _Reader(rest, names, errors, trusted=False)

        told = {side: schemas_of(side, envelopes, errors) for side in self._encoded}
        plain_values, plain_keys = (without(side, envelopes, told.get(side)) for side in ("value", "key"))
        values = with_json("value", lines, reader(plain_values).values(lines), told.get("value"))
        keys = with_json("key", lines, reader(plain_keys).keys(), told.get("key"))
        batch = self._batch_of(reader(envelopes), values, keys)
        batch.shown_values = told.get("value")
        batch.shown_keys = None if batch.keys is None else told.get("key")
        return batch

    @staticmethod
    def _batch_of(read: _Reader, values: list[bytes | None], keys: list[bytes | None]) -> Batch:
        return Batch(
            values,
            keys=unless_empty(keys),
            headers=read.headers(),
            timestamps=read.timestamps(),
            topics=unless_empty(read.words("topic")),
            partitions=unless_empty(read.numbers("partition", MAX_PARTITION)),
            offsets=unless_empty(read.numbers("offset", MAX_LONG)),
        )


class _Reader:
    """Reads one field of all envelopes at a time, noting the first error of each.

    A column that is as it should be is found so with a few calls in C; else every entry is checked by itself.
    `trusted`: the parser was the fast one, which lets no lone surrogate through.
    """

    def __init__(self, envelopes: list[Fields], names: set[str], errors: Errors, *, trusted: bool) -> None:
        self._envelopes = envelopes
        self._names = names
        self._errors = errors
        self._trusted = trusted

    def values(self, lines: list[bytes]) -> list[bytes | None]:
        if self._trusted and "value_base64" not in self._names:
            try:
                entries = [envelope["value"] for envelope in self._envelopes]
                if set(map(type, entries)) <= _TEXT:
                    return [None if entry is None else entry.encode() for entry in entries]
            except KeyError:
                pass
        return self._each(lambda place, envelope: _value(envelope, lines[place]))

    def keys(self) -> list[bytes | None]:
        if self._trusted and "key_base64" not in self._names:
            entries = self._entries("key")
            if set(map(type, entries)) <= _TEXT:
                return [None if entry is None else entry.encode() for entry in entries]
        return self._each(lambda _, envelope: _text_or_base64("key", envelope))

    def words(self, name: str) -> list[str | None]:
        entries = self._entries(name)
        if self._trusted and set(map(type, entries)) <= _TEXT:
            return entries
        return self._each(lambda place, _: word(name, entries[place]))

    def numbers(self, name: str, high: int, low: int = 0) -> list[int | None]:
        entries = self._entries(name)
        if set(map(type, entries)) == {int} and low <= min(entries) and max(entries) <= high:
            return entries
        return self._each(lambda place, _: whole(name, entries[place], high, low=low))

    def timestamps(self) -> list[Timestamp] | None:
        times = self.numbers("timestamp", MAX_LONG, -MAX_LONG - 1)
        entries = self._entries("timestamp_type")
        try:
            kinds = [_TIMESTAMP_TYPES[entry] for entry in entries]
        except (KeyError, TypeError):
            kinds = self._each(lambda place, _: _timestamp_type(entries[place]))
        if times.count(None) == len(times):
            return None
        if None in times:
            return [NO_TIMESTAMP if time is None else (kind, time) for kind, time in zip(kinds, times, strict=True)]
        return list(zip(kinds, times, strict=True))  # type: ignore[arg-type]

    def headers(self) -> list[Headers | None] | None:
        entries = self._entries("headers")
        if not any(entries) and set(map(type, entries)) <= {list, type(None)}:
            return None
        if self._trusted and _are_plain_pairs(entries):
            return [
                [(name, None if value is None else value.encode()) for name, value in entry] if entry else None
                for entry in entries
            ]
        return self._each(lambda place, _: None if entries[place] is None else pairs(entries[place]) or None)

    def _entries(self, name: str) -> list[Any]:
        if name not in self._names:
            return [None] * len(self._envelopes)
        try:
            return [envelope[name] for envelope in self._envelopes]
        except KeyError:
            return [envelope.get(name) for envelope in self._envelopes]

    def _each(self, read: Callable[[int, Fields], Any]) -> list[Any]:
        """`read` of every envelope; where that fails, None."""
        column: list[Any] = []
        for place, envelope in enumerate(self._envelopes):
            try:
                column.append(read(place, envelope))
            except BadRecord as error:
                self._errors.setdefault(place, error)
                column.append(None)
        return column


def refuse_twins(
    lines: list[bytes], envelopes: list[Any], values: list[bytes | None], errors: Errors, *, decoded: bool = False
) -> None:
    """Find the lines in which a field stands twice: the parser kept the last one without a word.

    Counting member names settles it for a whole block. Members of an embedded value are data, twins or not.
    """
    inner = [
        0 if type(envelope.get("value")) in _TEXT else member_names(value or b"")
        for envelope, value in zip(envelopes, values, strict=True)
    ]
    for name in ("key", *SCHEMAS.values()) if decoded else ():
        for place, envelope in enumerate(envelopes):
            if type(envelope.get(name)) in (dict, Members, list):
                inner[place] += member_names(member_text(lines[place], name))
    block = b"\n".join(lines)
    # Without JSON in any string one search is enough; both together cost 0.4-0.8 us per record of 300 bytes.
    expected = sum(map(len, envelopes)) + sum(inner)
    if block.count(b'":') == expected or member_names(block) == expected:
        return
    for place, (line, envelope, nested) in enumerate(zip(lines, envelopes, inner, strict=True)):
        if place in errors or member_names(line) == len(envelope) + nested:
            continue
        try:
            twin = load_exactly(line.decode()).twin
        except ValueError:
            errors[place] = BadRecord(f"the line {TOO_DEEP}; put the value into a JSON string")
            continue
        if twin:
            errors[place] = BadRecord(f"field {show(twin)} is there twice; keep one of the two")


def load(line: bytes) -> Any:
    """Return what the JSON text of one line holds; BadRecord if it is not JSON."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            return load_exactly(line.decode())
        except UnicodeDecodeError:
            raise BadRecord("the line is not UTF-8; put such bytes into value_base64 or key_base64") from None
        except ValueError:
            if is_too_deep(line):
                raise BadRecord(f"the line {TOO_DEEP}; put the value into a JSON string") from None
            raise BadRecord(f"not JSON: {error.msg} at column {error.colno}; write one envelope per line") from None


def member_names(line: bytes) -> int:
    """How many members JSON text has, when there is no blank before the colons: a quote in a string is escaped."""
    return line.count(b'":') - line.count(b'\\":')


def _value(envelope: Fields, line: bytes) -> bytes | None:
    entry = envelope.get("value")
    if "value_base64" in envelope or "value" not in envelope:
        return _text_or_base64("value", envelope, required=True)
    if type(entry) in _TEXT:
        return text("value", entry)
    found = _embedded_text(envelope, entry, line)
    if is_too_deep(found):
        raise BadRecord(f"value {TOO_DEEP}; put it into a JSON string")
    return found


def _embedded_text(envelope: Fields, entry: object, line: bytes) -> bytes:
    """The JSON text of a value that is not a string.

    Usually the text that the parser's counterpart would write stands in the line; anywhere else in it, a member called
    "value" could only be a part of this one. Where it does not, numbers or escapes were written otherwise.
    """
    if isinstance(envelope, Members) or not envelope.keys() <= _KNOWN:
        return member_text(line, "value")
    try:
        written = orjson.dumps(entry)
    except orjson.JSONEncodeError:  # too deep
        return member_text(line, "value")
    if b'"value":' + written + b"," in line or b'"value":' + written + b"}" in line:
        return written
    return member_text(line, "value")


def _text_or_base64(name: str, envelope: Fields, *, required: bool = False) -> bytes | None:
    encoded = f"{name}_base64"
    if encoded not in envelope:
        if required and name not in envelope:
            raise BadRecord(f'the envelope has no {name}; a tombstone is written "{name}":null')
        return text(name, envelope.get(name))
    if name in envelope:
        raise BadRecord(f"{name} and {encoded} are both there; keep one of the two")
    return base64_bytes(encoded, envelope[encoded])


def _are_plain_pairs(entries: list[Any]) -> bool:
    """Whether all headers of a block are pairs of a name and a text or null; asked once a block, by calls in C."""
    if not set(map(type, entries)) <= {list, type(None)}:
        return False
    members = list(chain.from_iterable(filter(None, entries)))
    if set(map(type, members)) != {list} or set(map(len, members)) != {2}:
        return False
    return {str} == set(map(type, map(_NAME, members))) and set(map(type, map(_CONTENT, members))) <= _TEXT


def _timestamp_type(entry: Any) -> int:
    if entry is not None and (type(entry) is not str or entry not in TIMESTAMP_TYPES):
        raise BadRecord(f"timestamp_type is {show(entry)}; it is one of {', '.join(TIMESTAMP_TYPES)}")
    return _TIMESTAMP_TYPES[entry]

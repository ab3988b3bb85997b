"""Reads the JSON that kcat -J, kcl, rpk and kaf (json-each-row) write, so that their dumps move in.

What such a tool did not write is never made up: a record whose bytes were lost in the dump is a bad record.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from kpipe.errors import BadRecord
from kpipe.formats.fields import (
    MAX_LONG,
    MAX_PARTITION,
    base64_bytes,
    kind,
    show,
    text,
    unknown_field,
    whole,
    word,
)
from kpipe.formats.framing import ValueFramer
from kpipe.formats.header_names import name_of
from kpipe.formats.pieces import PieceDecoder
from kpipe.formats.rows import Row, batch_of
from kpipe.formats.splitting import MAX_RECORD_BYTES, oversized
from kpipe.record import NO_TIMESTAMP, TIMESTAMP_APPEND, TIMESTAMP_CREATE

if TYPE_CHECKING:
    from kpipe.record import Batch, Headers, Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# An escape that is one: an even number of backslashes stands before it.
_LOST_BYTES = re.compile(rb"(?<!\\)(?:\\\\)*\\ufffd")
_SURROGATE = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]")


class ForeignDecoder(PieceDecoder["tuple[int, bytes | None]"]):
    """JSON objects of another tool, one per line, pretty-printed or behind each other.

    A subclass says which fields the tool has and how a record is made from them. `lenient` ignores unknown fields,
    and takes a record in which the tool replaced bytes by U+FFFD as it is.
    """

    tool: ClassVar[str]
    fields: ClassVar[frozenset[str]]
    replaces_bytes: ClassVar[bool] = False

    def __init__(self, file: str, *, lenient: bool = False, max_record_bytes: int = MAX_RECORD_BYTES) -> None:
        self._framer = ValueFramer(self._is_whole, max_record_bytes)
        super().__init__(file, self._framer)
        self._lenient = lenient
        self._loaded: dict[bytes, Any] = {}

    def _batch(self, texts: list[tuple[int, bytes | None]]) -> Batch:
        rows: list[Row | BadRecord] = []
        for _, line in texts:
            try:
                rows.append(self._row(line))
            except BadRecord as error:
                error.raw = line and line.removesuffix(b"\n")
                rows.append(error)
        self._loaded.clear()
        return batch_of(rows, file=self._file, lines=[number for number, _ in texts])

    def _row(self, line: bytes | None) -> Row:
        if line is None:
            raise oversized(self._framer.limit)
        found = self._loaded[line] if line in self._loaded else self.load(line)
        if not isinstance(found, dict):
            raise BadRecord(
                f"found {kind(found)} ({show(found)}), not an object; {self.tool} writes an object per record"
            )
        if not self._lenient:
            for name in sorted(found.keys() - self.fields):
                raise unknown_field(name, self.fields)
            if self.replaces_bytes and b"\\ufffd" in line and _LOST_BYTES.search(line):
                raise BadRecord(
                    f"{self.tool} replaced bytes that are not UTF-8 by U+FFFD, they are lost; "
                    "dump with kpipe consume --json, or take what is left with --lenient"
                )
        return self.row(found)

    def _is_whole(self, line: bytes) -> bool:
        """Tell whether a line is a value; what it holds is kept until its row is made."""
        try:
            self._loaded[line] = self.load(line)
        except BadRecord:
            return False
        return True

    def load(self, line: bytes) -> Any:
        """Return the JSON value in `line`."""
        try:
            return orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadRecord(
                f"not JSON: {error.msg} at column {error.colno}; expected what {self.tool} writes"
            ) from None

    def row(self, found: dict[str, Any]) -> Row:
        """Return the record in one object."""
        raise NotImplementedError

    def value(self, found: dict[str, Any], name: str) -> bytes | None:
        """Return the value, which must be there and be text or null: a schema-decoded one is not the record's bytes."""
        if name not in found:
            raise BadRecord(f"the object has no {name}; is this what {self.tool} writes?")
        return self.plain(name, found[name])

    def plain(self, name: str, entry: object) -> bytes | None:
        """Text or null as bytes."""
        if entry is not None and type(entry) is not str:
            raise BadRecord(
                f"{name} is {kind(entry)}, decoded by {self.tool}: its bytes are lost; dump without decoding"
            )
        return text(name, entry)

    def coordinates(self, found: dict[str, Any]) -> dict[str, Any]:
        """Topic, partition and offset, where they are."""
        return {
            "topic": word("topic", found.get("topic")),
            "partition": whole("partition", found.get("partition"), MAX_PARTITION),
            "offset": whole("offset", found.get("offset"), MAX_LONG),
        }


class KcatDecoder(ForeignDecoder):
    r"""`kcat -J`: headers are a flat list name, value, name, value; null is null.

    kcat writes bytes that are not UTF-8 as they are, which is not JSON (kcat#111). They are recovered exactly: yajl
    escapes only `"`, `\` and bytes below 0x20, so every other byte in a string is the record's.
    """

    tool = "kcat"
    fields = frozenset((
        "topic", "partition", "offset", "tstype", "ts", "broker", "headers", "key", "payload",
        "key_error", "payload_error", "key_schema_id", "value_schema_id",
    ))  # fmt: skip

    def load(self, line: bytes) -> Any:
        """Return the JSON value in `line`, in whose strings any bytes may stand."""
        try:
            line.decode()
        except UnicodeDecodeError:
            return self._load_raw_bytes(line)
        return super().load(line)

    def _load_raw_bytes(self, line: bytes) -> Any:
        if b"\\u" in line and _SURROGATE.search(line):
            raise BadRecord("not UTF-8, and with surrogate escapes that kcat does not write; expected what kcat writes")
        try:
            return json.loads(line.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            raise BadRecord("not JSON, even with bytes that are not UTF-8 allowed; expected what kcat writes") from None

    def plain(self, name: str, entry: object) -> bytes | None:
        """Return text or null as bytes, those that are not UTF-8 as they were."""
        if type(entry) is str:
            return entry.encode("utf-8", "surrogateescape")
        return super().plain(name, entry)

    def row(self, found: dict[str, Any]) -> Row:
        """Return the record in one object."""
        for name in ("key_error", "payload_error"):
            if name in found:
                raise BadRecord(f"kcat could not decode it ({show(found[name])}), its bytes are lost; dump without -s")
        return Row(
            self.value(found, "payload"),
            self.plain("key", found.get("key")),
            self._headers(found.get("headers")),
            self._timestamp(found),
            **self.coordinates(found),
        )

    def _headers(self, entry: Any) -> Headers | None:
        if entry is None:
            return None
        if type(entry) is not list or len(entry) % 2:
            raise BadRecord(f"headers is {show(entry)}; kcat writes a list of name, value, name, value")
        return [
            (self._header_name(name), self.plain(f"header {show(name)}", value))
            for name, value in zip(entry[::2], entry[1::2], strict=True)
        ]

    def _header_name(self, entry: object) -> str:
        if type(entry) is not str:
            raise BadRecord(f"a header's name is {kind(entry)} ({show(entry)}); kcat writes a string")
        return name_of(self.plain("header name", entry) or b"")

    def _timestamp(self, found: dict[str, Any]) -> Timestamp:
        time = whole("ts", found.get("ts"), MAX_LONG, low=-1)
        stamp = found.get("tstype", "create")
        if stamp not in ("create", "logappend", "unknown"):
            raise BadRecord(f"tstype is {show(stamp)}; kcat writes create, logappend or unknown")
        if time is None or stamp == "unknown":
            return NO_TIMESTAMP
        return (TIMESTAMP_CREATE if stamp == "create" else TIMESTAMP_APPEND, time)


class _FranzDecoder(ForeignDecoder):
    """What kcl and rpk share: headers as objects with key and value, timestamps in ms."""

    def headers(self, entry: Any) -> Headers | None:
        """Headers as a list of {"key": ..., "value": ...}."""
        if entry is None:
            return None
        if type(entry) is not list or not all(type(header) is dict for header in entry):
            raise BadRecord(f'headers is {show(entry)}; {self.tool} writes a list of {{"key": ..., "value": ...}}')
        return [(self._header_name(header), self.header_value(header)) for header in entry]

    def _header_name(self, header: dict[str, Any]) -> str:
        name = word("header key", header.get("key"))
        if name is None:
            raise BadRecord(f"a header has no key ({show(header)}); expected what {self.tool} writes")
        return name

    def header_value(self, header: dict[str, Any]) -> bytes | None:
        """Return the value of one header."""
        return self.value(header, "value")

    def timestamp(self, found: dict[str, Any]) -> Timestamp:
        """Milliseconds; the type is not in the dump, so it is taken as the create time."""
        time = whole("timestamp", found.get("timestamp"), MAX_LONG, low=-1)
        return NO_TIMESTAMP if time is None or time < 0 else (TIMESTAMP_CREATE, time)


class KclDecoder(_FranzDecoder):
    """`kcl consume -f json`: null is null, bytes that are not UTF-8 are in key_base64, value_base64; exact.

    With --decode a value that is not text is refused (its bytes are gone); text that was decoded looks like any text.
    """

    tool = "kcl"
    fields = frozenset((
        "topic", "partition", "offset", "timestamp", "leader_epoch", "delivery_count",
        "key", "key_base64", "value", "value_base64", "headers",
    ))  # fmt: skip

    def row(self, found: dict[str, Any]) -> Row:
        """Return the record in one object."""
        return Row(
            self.either(found, "value"),
            self.either(found, "key") if {"key", "key_base64"} & found.keys() else None,
            self.headers(found.get("headers")),
            self.timestamp(found),
            **self.coordinates(found),
        )

    def either(self, found: dict[str, Any], name: str) -> bytes | None:
        """`name` or `name_base64`, exactly one of which must be there."""
        encoded = f"{name}_base64"
        if encoded not in found:
            return self.value(found, name)
        if name in found:
            raise BadRecord(f"{name} and {encoded} are both there; kcl writes one of the two")
        return base64_bytes(encoded, found[encoded])

    def header_value(self, header: dict[str, Any]) -> bytes | None:
        """Return the value of one header, text or base64."""
        return self.either(header, "value")


class RpkDecoder(_FranzDecoder):
    """`rpk topic consume`: pretty-printed or one per line.

    rpk leaves a null value out, and a null or empty key: both are taken as null (a version that left out empty values
    as well cannot be told apart). A null header value is in the dump as an empty one.
    """

    tool = "rpk"
    fields = frozenset(("topic", "key", "value", "value_size", "headers", "timestamp", "partition", "offset"))
    replaces_bytes = True

    def row(self, found: dict[str, Any]) -> Row:
        """Return the record in one object."""
        if "value_size" in found:
            raise BadRecord("the values are not in this dump; dump without --meta-only")
        if not {"topic", "offset"} & found.keys():
            raise BadRecord("the object has neither topic nor offset; is this what rpk writes?")
        return Row(
            self.plain("value", found.get("value")),
            self.plain("key", found.get("key")),
            self.headers(found.get("headers")),
            self.timestamp(found),
            **self.coordinates(found),
        )


class KafDecoder(_FranzDecoder):
    """`kaf consume --output json-each-row`: null and empty look alike.

    An empty key is taken as null (else all records without a key would go to one partition), an empty payload as an
    empty value (else it would delete). The timestamp is RFC 3339; Go's zero time means that there is none.
    """

    tool = "kaf"
    fields = frozenset(("topic", "partition", "offset", "timestamp", "headers", "key", "payload"))
    replaces_bytes = True

    def row(self, found: dict[str, Any]) -> Row:
        """Return the record in one object."""
        return Row(
            self.value(found, "payload"),
            self.plain("key", found.get("key")) or None,
            self.headers(found.get("headers")),
            self.timestamp(found),
            **self.coordinates(found),
        )

    def timestamp(self, found: dict[str, Any]) -> Timestamp:
        """Return the milliseconds of an RFC 3339 time, cut to the millisecond below."""
        entry = word("timestamp", found.get("timestamp"))
        if entry is None:
            return NO_TIMESTAMP
        try:
            time = datetime.fromisoformat(entry)
            since = time - _EPOCH
        except (ValueError, TypeError):
            raise BadRecord(f"timestamp is {show(entry)}; kaf writes RFC 3339 with an offset or Z") from None
        return (TIMESTAMP_CREATE, since // timedelta(milliseconds=1)) if since >= timedelta(0) else NO_TIMESTAMP

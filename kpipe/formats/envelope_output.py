"""Writes records as envelopes, one per line: what they are stands in `kpipe.formats.envelope`, which reads them."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import orjson

from kpipe.formats.decoded import Fields, json_bytes, put_shown
from kpipe.formats.header_names import bytes_of
from kpipe.formats.json_depth import is_too_deep
from kpipe.record import NO_TIMESTAMP, TIMESTAMP_TYPES, Batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpipe.record import Headers


WORTH_LOADING = 10_000
"""Records from which on `kpipe.formats.canonical` writes them, which saves 0.5 us each and takes 8 ms to load."""


class _Templates(dict[str, bytes]):
    """The envelope with everything filled in that does not change within a topic, made when the topic is first seen."""

    def __init__(self, timestamp_type: int) -> None:
        super().__init__()
        self._rest = (
            b',"partition":%%d,"offset":%%d,"timestamp":%%d,"timestamp_type":"%b","key":%%b,"value":%%b,"headers":%%b}\n'
            % TIMESTAMP_TYPES[timestamp_type].encode()
        )

    def __missing__(self, topic: str | None) -> bytes:
        if topic is None:
            raise TypeError("a field that is missing is not written")
        template = b'{"topic":' + orjson.dumps(topic).replace(b"%", b"%%") + self._rest
        self[topic] = template
        return template


class EnvelopeEncoder:
    """Envelopes, one per line; a record from nowhere (no topic, no timestamp) has no such fields.

    `json_value` embeds a value that is a JSON object, array, number or boolean as JSON on one line: not byte-exact,
    because reading it back gives the text without blanks. A JSON string or null stays text: embedded, it would be
    read back as its content, or as a tombstone.

    Measured per record of 300 bytes with key and topic, without headers (500 per batch, CPython 3.11, orjson 3.13):
    template per topic, orjson for the texts, as here at first                    0.90-0.95 us
    dict and orjson.dumps per record, 500 results alive at once                   2.9-3.3 us (its buffers are large)
    list of dicts, one dumps, then split by what can only stand between records   1.05-1.1 us
    all texts in one indented dumps, split at line ends, then the template        0.9-1.0 us
    f-strings, encoded at the end                                                 1.0 us, 2.5 us if not ASCII
    With two headers: the template 1.5-1.7 us, msgspec and its structs, as here later, 1.0-1.1 us.
    """

    def __init__(self, *, json_value: bool = False, worth_loading: int = WORTH_LOADING) -> None:
        self._json_value = json_value
        self._until_loading = worth_loading
        # Without an entry for 0 (no timestamp): such a record is written field by field.
        self._templates = {kind: _Templates(kind) for kind in (1, 2)}

    def __call__(self, batch: Batch) -> bytes:
        """Return the batch as one block."""
        if (
            batch.shown_values is None
            and batch.shown_keys is None
            and None not in (batch.topics, batch.partitions, batch.offsets, batch.timestamps)
        ):
            try:
                return self._at_once(batch)
            except (KeyError, TypeError, UnicodeError):
                pass  # bytes that are not UTF-8, or a field that is missing: written field by field
        return b"".join([self._by_field(batch, place) for place in range(len(batch))])

    # Hot path: `make bench` (envelopes, the pipe).
    def _at_once(self, batch: Batch) -> bytes:
        if self._until_loading > 0 or not len(batch):
            self._until_loading -= len(batch)
            return self._by_template(batch)
        from kpipe.formats import canonical

        return canonical.write(batch, _embedded if self._json_value else None)

    def _by_template(self, batch: Batch) -> bytes:
        dumps, templates = orjson.dumps, self._templates
        rows: Iterable[tuple[Any, ...]] = zip(
            batch.topics or (),
            batch.partitions or (),
            batch.offsets or (),
            batch.timestamps or (),
            repeat(None) if batch.keys is None else batch.keys,
            map(_embedded, batch.values) if self._json_value else batch.values,
            repeat(b"[]") if batch.headers is None else map(_header_text, batch.headers),
            strict=False,
        )
        if self._json_value:
            return b"".join([
                templates[kind][topic] % (
                    partition, offset, time, b"null" if key is None else dumps(key.decode()), value, headers,
                )
                for topic, partition, offset, (kind, time), key, value, headers in rows
            ])  # fmt: skip
        return b"".join([
            templates[kind][topic] % (
                partition, offset, time, b"null" if key is None else dumps(key.decode()),
                b"null" if value is None else dumps(value.decode()), headers,
            )
            for topic, partition, offset, (kind, time), key, value, headers in rows
        ])  # fmt: skip

    def _by_field(self, batch: Batch, place: int) -> bytes:
        fields: Fields = {}
        coordinates = zip(
            ("topic", "partition", "offset"), (batch.topics, batch.partitions, batch.offsets), strict=True
        )
        for name, column in coordinates:
            if column is not None and column[place] is not None:
                fields[name] = column[place]
        stamp = NO_TIMESTAMP if batch.timestamps is None else batch.timestamps[place]
        if stamp != NO_TIMESTAMP:
            fields["timestamp"], fields["timestamp_type"] = stamp[1], TIMESTAMP_TYPES[stamp[0]]
        put_shown(fields, "key", None if batch.keys is None else batch.keys[place], batch.shown_keys, place)
        value = batch.values[place]
        put_shown(fields, "value", value, batch.shown_values, place)
        if self._json_value and value is not None and type(fields.get("value")) is str:
            fields["value"] = orjson.Fragment(_embedded(value))
        fields["headers"] = orjson.Fragment(_header_text(batch.header(place)))
        return orjson.dumps(fields) + b"\n"


def _header_text(headers: Headers | None) -> bytes:
    if not headers:
        return b"[]"
    try:
        return orjson.dumps([(name, None if value is None else value.decode()) for name, value in headers])
    except (UnicodeDecodeError, TypeError):  # TypeError: a name that is not UTF-8
        return orjson.dumps([(json_bytes(bytes_of(name)), json_bytes(value)) for name, value in headers])


def _embedded(value: bytes | None) -> bytes:
    """JSON text for a value; UnicodeDecodeError if it is not UTF-8."""
    if value is None:
        return b"null"
    try:
        if isinstance(orjson.loads(value), dict | list | int | float) and not is_too_deep(value):
            # A line end in valid JSON is a blank between tokens.
            return value.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in value or b"\r" in value else value
    except orjson.JSONDecodeError:
        pass
    return orjson.dumps(value.decode())

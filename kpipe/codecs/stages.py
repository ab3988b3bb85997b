"""Stages: behind the source keys and values become JSON, before the target they become what they were.

The bytes that were read travel beside the JSON, so a record that no transform has changed leaves as it came, byte for
byte; one that was changed is written with the schema that it was read with. A record never stops being itself because a
schema could not be had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import orjson

from kpipe.codecs.avro_schema import SchemaError
from kpipe.codecs.avro_text import NoFit
from kpipe.codecs.decoder import Undecodable
from kpipe.errors import BadRecord, Stage
from kpipe.record import Shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.codecs.decoder import Decoded
    from kpipe.codecs.encoder import Encoder
    from kpipe.record import Batch, Headers

MOST_TOLD = 1000
"""Different reasons that are told once each; behind them only the count goes on."""


class Decoder(Protocol):
    """By schemas (`kpipe.codecs.decoder`) or by a plugin (`kpipe.codecs.plugin`)."""

    def decode(self, payload: bytes | None, headers: Headers | None = None, /) -> Decoded | None:
        """The JSON of a key or value, None where it is to be taken as it is; Undecodable otherwise."""
        ...


class Decode:
    """Shows values, and keys where asked, as JSON.

    What cannot be decoded stays as it is: `refuses` makes such a record bad, else it is told once for each reason and
    counted in `undecoded`.
    """

    def __init__(
        self,
        values: Decoder | None,
        keys: Decoder | None,
        *,
        refuses: bool,
        say: Callable[[str], None],
    ) -> None:
        self._values, self._keys = values, keys
        self._refuses, self._say = refuses, say
        self._told: set[str] = set()
        self.undecoded = 0
        """Keys and values that were left as they are although they should have been decoded."""

    def __call__(self, batch: Batch) -> None:
        """Put JSON in the place of what can be decoded."""
        bad: dict[int, BadRecord] = {}
        if self._keys is not None and batch.keys is not None:
            batch.keys, batch.shown_keys = self._column("key", self._keys, batch, batch.keys, bad)
        if self._values is not None:
            batch.values, batch.shown_values = self._column("value", self._values, batch, batch.values, bad)
        batch.reject(bad)

    def notes(self) -> list[str]:
        """What is told at the end."""
        if not self.undecoded:
            return []
        return [f"decode: {self.undecoded:,} keys or values could not be decoded and are shown as they are"]

    def _column(
        self, side: str, decoder: Decoder, batch: Batch, column: list[bytes | None], bad: dict[int, BadRecord]
    ) -> tuple[list[bytes | None], list[Shown | None] | None]:
        texts: list[bytes | None] = []
        shown: list[Shown | None] = []
        headers = batch.headers
        for place, payload in enumerate(column):
            text, entry = self._one(side, decoder, batch, place, payload, headers[place] if headers else None)
            if entry is not None and entry.error and self._refuses:
                bad[place] = BadRecord(f"the {side} cannot be decoded: {entry.error}", stage=Stage.DECODE)
            texts.append(text)
            shown.append(entry)
        return texts, shown if any(shown) else None

    def _one(
        self, side: str, decoder: Decoder, batch: Batch, place: int, payload: bytes | None, headers: Headers | None
    ) -> tuple[bytes | None, Shown | None]:
        try:
            found = decoder.decode(payload, headers)
        except Undecodable as error:
            if not self._refuses:
                self.undecoded += 1
                self._tell(batch, place, side, str(error), "is shown as it is")
            return payload, Shown(payload, error=str(error))
        if found is None:
            return payload, None
        if found.note:
            self._tell(batch, place, side, found.note, "does not show all")
        return found.text, Shown(payload, found.text, found.schema, found.back)

    def _tell(self, batch: Batch, place: int, side: str, reason: str, what: str) -> None:
        if reason not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(reason)
            self._say(f"decode: {batch.where(place)}: the {side} {what}: {reason}")


def encode_back(batch: Batch) -> None:
    """The stage before the trace: unchanged keys and values are the bytes that were read, changed ones are written."""
    bad: dict[int, BadRecord] = {}
    if batch.shown_keys is not None and batch.keys is not None:
        batch.keys = _written("key", batch.keys, batch.shown_keys, bad)
    if batch.shown_values is not None:
        batch.values = _written("value", batch.values, batch.shown_values, bad)
    batch.shown_keys = batch.shown_values = None
    batch.reject(bad)


def _written(
    side: str, column: list[bytes | None], shown: list[Shown | None], bad: dict[int, BadRecord]
) -> list[bytes | None]:
    written: list[bytes | None] = []
    for place, (value, entry) in enumerate(zip(column, shown, strict=True)):
        if entry is None or value is None or entry.text is None:
            written.append(value)
        elif value == entry.text:
            written.append(entry.original)
        else:
            try:
                written.append(write_back(value, entry))
            except BadRecord as error:
                error.what = f"the changed {side} {error.what}"
                bad[place] = error
                written.append(value)
    return written


def write_back(value: bytes, entry: Shown) -> bytes:
    """JSON text as bytes of the schema that `entry` was read with; BadRecord where it does not fit."""
    if entry.back is None:
        raise BadRecord("cannot be written in the form it was read in", stage=Stage.ENCODE)
    try:
        return entry.back(value)
    except orjson.JSONDecodeError:
        raise BadRecord("is not JSON, and its schema wants JSON", stage=Stage.ENCODE) from None
    except (NoFit, SchemaError) as error:
        raise BadRecord(f"does not fit its schema: {error}", stage=Stage.ENCODE) from None


class Encode:
    """The stage of produce: keys and values that are JSON become bytes of their schema; what does not fit is bad."""

    def __init__(self, values: Encoder | None, keys: Encoder | None) -> None:
        self._values, self._keys = values, keys

    def __call__(self, batch: Batch) -> None:
        """Put bytes in the place of JSON, and the headers that name schemas beside them."""
        bad: dict[int, BadRecord] = {}
        if self._keys is not None and batch.keys is not None:
            batch.keys = _encoded("key", self._keys, batch.keys, batch.shown_keys, bad)
            _name_in_headers(batch, self._keys.header, batch.keys)
        if self._values is not None:
            batch.values = _encoded("value", self._values, batch.values, batch.shown_values, bad)
            _name_in_headers(batch, self._values.header, batch.values)
        batch.shown_keys = batch.shown_values = None
        batch.reject(bad)


def _encoded(
    side: str, encoder: Encoder, column: list[bytes | None], shown: list[Shown | None] | None, bad: dict[int, BadRecord]
) -> list[bytes | None]:
    written: list[bytes | None] = []
    for place, text in enumerate(column):
        entry = None if shown is None else shown[place]
        try:
            written.append(encoder.encode(text, None if entry is None else entry.schema))
        except BadRecord as error:
            error.what = f"the {side} {error.what}"
            bad.setdefault(place, error)
            written.append(text)
    return written


def _name_in_headers(batch: Batch, header: tuple[str, bytes] | None, column: list[bytes | None]) -> None:
    """The header in place of one of its name that a record brought along; a null has no schema."""
    if header is None:
        return
    name = header[0]
    batch.headers = [
        own if payload is None else [*(each for each in own or () if each[0] != name), header]
        for own, payload in zip(batch.headers or [None] * len(batch), column, strict=True)
    ]

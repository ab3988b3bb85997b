"""Stages: behind the source keys and values become JSON, before the target they become what they were.

The bytes that were read travel beside the JSON, so a record that no transform has changed leaves as it came, byte for
byte; one that was changed is written with the schema that it was read with. A record never stops being itself because a
schema could not be had.
"""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol

import orjson

from kpipe.codecs.decoder import Undecodable
from kpipe.codecs.errors import NoFit, SchemaError
from kpipe.codecs.framing import without_names
from kpipe.errors import BadRecord, Stage
from kpipe.record import Shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.codecs.decoder import Decoded
    from kpipe.codecs.encoder import SchemaEncoder
    from kpipe.record import Batch, Headers

_NAME = itemgetter(0)
MOST_TOLD = 1000
"""Different reasons that are told once each; behind them only the count goes on."""


class ValueDecoder(Protocol):
    """By schemas (`kpipe.codecs.decoder`) or by a plugin (`kpipe.codecs.plugin`).

    `naming` are the names of headers that may say which schema it is.
    """

    naming: frozenset[str]

    def quick(self, payload: bytes, /) -> Shown | None:
        """What needs no second look, because its like was decoded before; None: `decode` has to look."""
        ...

    def decode(self, payload: bytes | None, headers: Headers | None = None, /) -> Decoded | None:
        """The JSON of a key or value, None where it is to be taken as it is; Undecodable otherwise."""
        ...


class Decode:
    """Shows values, and keys where asked, as JSON.

    What cannot be decoded stays as it is: `refuses` makes such a record bad, else it is told once for each reason and
    counted in `undecoded`; `left` says what then becomes of it.
    """

    def __init__(
        self,
        values: ValueDecoder | None,
        keys: ValueDecoder | None,
        *,
        refuses: bool,
        say: Callable[[str], None],
        left: str = "shown",
    ) -> None:
        self._values, self._keys = values, keys
        self._refuses, self._say, self._left = refuses, say, left
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
        return [f"decode: {self.undecoded:,} keys or values could not be decoded and are {self._left} as they are"]

    def _column(
        self, side: str, decoder: ValueDecoder, batch: Batch, column: list[bytes | None], bad: dict[int, BadRecord]
    ) -> tuple[list[bytes | None], list[Shown | None] | None]:
        texts: list[bytes | None] = []
        shown: list[Shown | None] = []
        headers = batch.headers
        # One look at all names of the batch: asking each record for its own costs a microsecond.
        if headers and decoder.naming.isdisjoint(map(_NAME, chain.from_iterable(filter(None, headers)))):
            headers = None
        for place, payload in enumerate(column):
            if headers is None and payload is not None and (entry := decoder.quick(payload)) is not None:
                texts.append(entry.text)
                shown.append(entry)
                continue
            text, entry = self._one(side, decoder, batch, place, payload, headers[place] if headers else None)
            if entry is not None and entry.error and self._refuses:
                bad[place] = BadRecord(f"the {side} cannot be decoded: {entry.error}", stage=Stage.DECODE)
            texts.append(text)
            shown.append(entry)
        return texts, shown if any(shown) else None

    def _one(
        self, side: str, decoder: ValueDecoder, batch: Batch, place: int, payload: bytes | None, headers: Headers | None
    ) -> tuple[bytes | None, Shown | None]:
        try:
            found = decoder.decode(payload, headers)
        except Undecodable as error:
            if not self._refuses:
                self.undecoded += 1
                self._tell(batch, place, side, str(error), f"is {self._left} as it is")
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


ENCODED = Shown(None)
"""In the place of what a record was read as: it names a schema of the target by now."""


class Reencode:
    """The stage before the trace: unchanged keys and values are the bytes that were read, changed ones are written.

    Each by the schema it was read with, or by an encoder: that writes also what no schema had, and what has another
    format than its own. `marks`: what an encoder wrote is told the stage that translates ids.
    """

    def __init__(
        self, values: SchemaEncoder | None = None, keys: SchemaEncoder | None = None, *, marks: bool = False
    ) -> None:
        self._values, self._keys, self._marks = values, keys, marks

    def __call__(self, batch: Batch) -> None:
        """Put bytes in the place of JSON."""
        bad: dict[int, BadRecord] = {}
        if batch.keys is not None and (batch.shown_keys is not None or self._keys is not None):
            batch.keys, batch.shown_keys = self._column("key", self._keys, batch, batch.keys, batch.shown_keys, bad)
        if batch.shown_values is not None or self._values is not None:
            batch.values, batch.shown_values = self._column(
                "value", self._values, batch, batch.values, batch.shown_values, bad
            )
        batch.reject(bad)

    def _column(
        self,
        side: str,
        encoder: SchemaEncoder | None,
        batch: Batch,
        column: list[bytes | None],
        shown: list[Shown | None] | None,
        bad: dict[int, BadRecord],
    ) -> tuple[list[bytes | None], list[Shown | None] | None]:
        written: list[bytes | None] = []
        encoded: set[int] = set()
        for place, value in enumerate(column):
            entry = None if shown is None else shown[place]
            if encoder is None and entry is not None and value is entry.text and value is not None:  # as most are
                written.append(entry.original)
                continue
            decoded = entry is not None and entry.text is not None
            try:
                if value is None or not (decoded or encoder):
                    written.append(value)
                elif entry is not None and value == entry.text and (encoder is None or encoder.writes(entry.schema)):
                    written.append(entry.original)
                elif encoder is not None:
                    written.append(encoder.encode(value, None))
                    encoded.add(place)
                else:
                    assert entry is not None  # noqa: S101  # it was decoded
                    written.append(write_back(value, entry))
            except BadRecord as error:
                changed = "changed " if decoded and entry is not None and value != entry.text else ""
                error.what = f"the {changed}{side} {error.what}"
                bad.setdefault(place, error)
                written.append(value)
        if encoder is not None and encoded:
            _name_in_headers(batch, side, encoder.header, encoded)
        marked = self._marks and encoded
        return written, [ENCODED if place in encoded else None for place in range(len(column))] if marked else None


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

    def __init__(self, values: SchemaEncoder | None, keys: SchemaEncoder | None) -> None:
        self._values, self._keys = values, keys

    def __call__(self, batch: Batch) -> None:
        """Put bytes in the place of JSON, and the headers that name schemas beside them."""
        bad: dict[int, BadRecord] = {}
        if self._keys is not None and batch.keys is not None:
            batch.keys = _encoded("key", self._keys, batch, batch.keys, batch.shown_keys, bad)
        if self._values is not None:
            batch.values = _encoded("value", self._values, batch, batch.values, batch.shown_values, bad)
        batch.shown_keys = batch.shown_values = None
        batch.reject(bad)


def _encoded(
    side: str,
    encoder: SchemaEncoder,
    batch: Batch,
    column: list[bytes | None],
    shown: list[Shown | None] | None,
    bad: dict[int, BadRecord],
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
    if encoder.is_fixed:
        _name_in_headers(
            batch, side, encoder.header, {place for place, payload in enumerate(written) if payload is not None}
        )
    return written


def _name_in_headers(batch: Batch, side: str, header: tuple[str, bytes] | None, places: set[int]) -> None:
    """The header that names the schema, or none, in place of what a record brought along of its former schema."""
    if header is None and batch.headers is None:
        return
    headers: list[Headers | None] = []
    for place, own in enumerate(batch.headers or [None] * len(batch)):
        kept = own
        if place in places:
            kept = without_names(own, side) if own else own
            kept = kept if header is None else [*(kept or ()), header]
        headers.append(kept)
    batch.headers = headers

"""Keys and values as JSON in one form, by which a topic and its copy compare whatever their schemas' names and ids are.

What cannot be decoded stays as it is; so do numbers: none is rounded.
"""

from __future__ import annotations

import json
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kpipe.codecs.fingerprints import without_mark
from kpipe.codecs.framing import without_names

if TYPE_CHECKING:
    from kpipe.codecs.stages import Decode
    from kpipe.record import Batch, Headers, Shown


class ComparedView:
    """Puts the decoded view in the place of keys and values, and leaves out what names their schemas.

    `mark` is the header by which a record says that its ids were translated.
    """

    def __init__(self, decode: Decode, mark: str) -> None:
        self.decode, self._mark = decode, mark

    def __call__(self, batch: Batch) -> None:
        """The columns of the batch as they compare; lists that are there are not changed."""
        self.decode(batch)
        headers = batch.headers and without_mark(batch.headers, self._mark)
        for side, shown in (("key", batch.shown_keys), ("value", batch.shown_values)):
            if shown is None:
                continue
            headers = headers and _without_names(headers, shown, side)
            column = [
                entry if told is None or told.text is None or entry is None else canonical(entry)
                for entry, told in zip((batch.keys or []) if side == "key" else batch.values, shown, strict=True)
            ]
            if side == "key":
                batch.keys = column
            else:
                batch.values = column
        batch.headers, batch.shown_keys, batch.shown_values = headers, None, None


def _without_names(headers: list[Headers | None], shown: list[Shown | None], side: str) -> list[Headers | None]:
    return [
        without_names(own, side) if own and told is not None and told.text is not None else own
        for own, told in zip(headers, shown, strict=True)
    ]


def canonical(text: bytes) -> bytes:
    """JSON text with its members in order and its numbers by their value: 1.50 and 15e-1 are the same, exactly."""
    try:
        parsed = json.loads(text, parse_int=_number, parse_float=_number)
    except (ValueError, RecursionError):
        return text
    return json.dumps(parsed, sort_keys=True, separators=(",", ":")).encode()


@lru_cache(4096)
def _number(text: str) -> Any:
    try:
        value = Decimal(text).normalize(Context(prec=len(text) + 1))
    except (InvalidOperation, ArithmeticError):
        return {"\0": text}
    return {"\0": "0" if not value else str(value)}

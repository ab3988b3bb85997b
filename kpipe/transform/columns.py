"""Where a transform looks: the value, the key or one header of every record, as a column of bytes.

Never changes a batch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.record import Batch, Headers

_PLACE = re.compile(r"key:|header\[(?P<name>[^\]]+)\]:")


def key_column(batch: Batch) -> Sequence[bytes | None]:
    """The keys; a batch without the column has null keys."""
    return [None] * len(batch) if batch.keys is None else batch.keys


def header_column(name: str) -> Callable[[Batch], Sequence[bytes | None]]:
    """The last header called `name` of every record, None when there is none or it is null."""

    def column(batch: Batch) -> Sequence[bytes | None]:
        if batch.headers is None:
            return [None] * len(batch)
        return [dict(headers).get(name) if headers else None for headers in batch.headers]

    return column


def headers_of(batch: Batch) -> Sequence[Headers | None]:
    """The headers of every record; a batch without the column has none."""
    return [None] * len(batch) if batch.headers is None else batch.headers


def split_place(text: str) -> tuple[str, str | None, str]:
    """Cut a prefix off: `("value", None, text)`, `("key", None, rest)` or `("header", NAME, rest)`."""
    match = _PLACE.match(text)
    if match is None:
        return "value", None, text
    return ("key" if match["name"] is None else "header"), match["name"], text[match.end() :]

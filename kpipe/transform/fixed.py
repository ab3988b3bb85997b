"""What produce and forward set in every record, the same for all: `-k`, `-H`, `--timestamp`.

It looks at no value.
"""

from __future__ import annotations

import os
import time
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

from kpipe.errors import BadRecord, UsageError
from kpipe.formats.header_names import name_in_argument
from kpipe.record import TIMESTAMP_CREATE
from kpipe.units import parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.record import Batch, Headers
    from kpipe.transform.step import TransformStage


def fixed_fields(key: str | None, headers: Sequence[str]) -> list[TransformStage]:
    """`-k` and `-H`: the same key for every record that has none, the same headers behind its own."""
    stages: list[TransformStage] = []
    if key is not None:
        stages.append(_key_setter(os.fsencode(key)))
    if headers:
        stages.append(_header_adder([parse_header(text) for text in headers]))
    return stages


def parse_header(text: str) -> tuple[str, bytes | None]:
    """`NAME=VALUE`; `NAME=` has an empty value, `NAME` alone a null one (as in kcat)."""
    name, sign, value = text.partition("=")
    if not name:
        raise UsageError(f"--header {text!r}: the name is empty; write NAME=VALUE")
    return name_in_argument(name), os.fsencode(value) if sign else None


def _key_setter(key: bytes) -> TransformStage:
    def set_key(batch: Batch) -> None:
        if batch.keys is None:
            batch.keys = [key] * len(batch)
        else:
            batch.keys = [key if own is None else own for own in batch.keys]

    return set_key


def _header_adder(headers: Headers) -> TransformStage:
    def add_headers(batch: Batch) -> None:
        if batch.headers is None:
            batch.headers = [headers] * len(batch)
        else:
            batch.headers = [headers if own is None else own + headers for own in batch.headers]

    return add_headers


def fixed_timestamp(text: str, *, keeps: bool) -> list[TransformStage]:
    """`--timestamp keep|now|TIME`; keep is what happens without a stage."""
    if text == "keep":
        return []
    if text == "now":
        return [_drop_timestamps]
    if not keeps:
        raise UsageError(f"--timestamp {text!r}: it takes keep or now")
    ms = parse_time(text.removeprefix("@"), int(time.time() * 1000), name="--timestamp")
    if ms <= 0:
        raise UsageError(f"--timestamp {text!r}: Kafka's client takes 0 for now; write a later time, or now")
    stamp = (TIMESTAMP_CREATE, ms)

    def set_timestamps(batch: Batch) -> None:
        batch.timestamps = [stamp] * len(batch)

    return [set_timestamps]


def refuse_cut_names(batch: Batch) -> None:
    """Take out records with a NUL byte in a header's name: the client would silently cut the name there."""
    if batch.headers is None:
        return
    # One search in all names: asking each record for its own costs three times as much.
    if "\0" not in "".join(map(itemgetter(0), chain.from_iterable(filter(None, batch.headers)))):
        return
    what = "a header's name holds a NUL byte, which the client cannot send; rename the header"
    batch.reject(
        {
            place: BadRecord(what)
            for place, headers in enumerate(batch.headers)
            if headers and any("\0" in name for name, _ in headers)
        }
    )


def _drop_timestamps(batch: Batch) -> None:
    batch.timestamps = None

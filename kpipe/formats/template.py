r"""A format string with kcat's verbs, compiled once into columns; the way out: records -> bytes.

Nothing is decided per record, and no byte ends anything: NUL is a byte like any other.

    %s value  %k key  %S %K their lengths (-1 = null)  %R value length as a big-endian int32  %h headers: name=value,...
    %t topic  %p partition  %o offset  %T timestamp (ms)  %% a percent sign;  %v %V are %s %S
    escapes in the text between: \n \t \r \0 \\ \xNN
"""

from __future__ import annotations

from itertools import chain, repeat
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from kpipe.errors import UsageError
from kpipe.formats.escapes import parse_escapes, shown
from kpipe.formats.header_names import bytes_of
from kpipe.record import NO_TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kpipe.record import Batch, Headers

VERBS = "skSKRtpoThvV"
SIZES = {"S": "s", "R": "s", "K": "k"}
"""Whose length a verb is."""
_ALIASES = {"v": "s", "V": "S"}
_INT32 = Struct(">i").pack
_NULL_LENGTH = _INT32(-1)


class Verb(NamedTuple):
    """A verb (its letter, aliases resolved) and its place in the format, from 1."""

    letter: str
    place: int


def parse_format(spec: str, *, where: str = "") -> list[Verb | bytes]:
    """Verbs and the bytes between them; UsageError names what is wrong and its place."""
    parts: list[Verb | bytes] = []
    literal = b""
    place = 0
    while (at := spec.find("%", place)) >= 0:
        literal += parse_escapes(spec[place:at], where=where)
        letter = spec[at + 1 : at + 2]
        if letter == "%":
            literal += b"%"
        elif letter and letter in VERBS:
            parts += [literal] * bool(literal)
            parts.append(Verb(_ALIASES.get(letter, letter), at + 1))
            literal = b""
        else:
            what = f"unknown verb %{shown(letter)[1:-1]}" if letter else "a lone %"
            verbs = " ".join(f"%{verb}" for verb in VERBS)
            raise UsageError(
                f"{what} at character {at + 1} of {shown(spec)}; use {verbs}, or %% for a percent", where=where
            )
        place = at + 2
    literal += parse_escapes(spec[place:], where=where)
    parts += [literal] * bool(literal)
    if not parts:
        raise UsageError("the format is empty; give verbs, as in '%k %s\\n'", where=where)
    return parts


class FormatEncoder:
    """Records written by a format string. `null_marker` stands for a null key or value, else nothing does.

    Behind its length a null key or value is written as nothing, for -1 says it all, and a reader takes no more bytes.
    A null header value is written NULL, as kcat does; a coordinate that a record does not have is written as nothing.
    `show` makes what a record holds safe for a terminal; lengths stay those of the record.
    """

    def __init__(
        self,
        spec: str,
        *,
        null_marker: bytes | None = None,
        where: str = "--format",
        show: Callable[[bytes], bytes] | None = None,
    ) -> None:
        marked, sized = _columns(null_marker or b""), _columns(b"")
        parts = parse_format(spec, where=where)
        places = {SIZES[verb.letter]: verb.place for verb in parts if isinstance(verb, Verb) and verb.letter in SIZES}

        def column(verb: Verb) -> Callable[[Batch], Iterable[bytes]]:
            is_sized = places.get(verb.letter, verb.place) < verb.place
            plain = (sized if is_sized else marked)[verb.letter]
            return plain if show is None else lambda batch: map(show, plain(batch))

        self._parts = [part if isinstance(part, bytes) else column(part) for part in parts]

    def __call__(self, batch: Batch) -> bytes:
        """Return the batch as one block."""
        count = len(batch)
        pieces = [repeat(part, count) if isinstance(part, bytes) else part(batch) for part in self._parts]
        return b"".join(chain.from_iterable(zip(*pieces, strict=True)))


def _columns(marker: bytes) -> Mapping[str, Callable[[Batch], Iterable[bytes]]]:
    def filled(column: list[bytes | None] | None, batch: Batch) -> Iterable[bytes]:
        if column is None:
            return repeat(marker, len(batch))
        return [marker if entry is None else entry for entry in column]

    return {
        "s": lambda batch: filled(batch.values, batch),
        "k": lambda batch: filled(batch.keys, batch),
        "S": lambda batch: _lengths(batch.values, batch),
        "K": lambda batch: _lengths(batch.keys, batch),
        "R": lambda batch: [_NULL_LENGTH if value is None else _INT32(len(value)) for value in batch.values],
        "t": lambda batch: _texts(batch.topics, batch),
        "p": lambda batch: _numbers(batch.partitions, batch),
        "o": lambda batch: _numbers(batch.offsets, batch),
        "T": lambda batch: [b"%d" % time for _, time in batch.timestamps or repeat(NO_TIMESTAMP, len(batch))],
        "h": lambda batch: repeat(b"", len(batch)) if batch.headers is None else map(_header_text, batch.headers),
    }


def _lengths(column: list[bytes | None] | None, batch: Batch) -> Iterable[bytes]:
    if column is None:
        return repeat(b"-1", len(batch))
    return [b"-1" if entry is None else b"%d" % len(entry) for entry in column]


def _texts(column: list[str | None] | None, batch: Batch) -> Iterable[bytes]:
    if column is None:
        return repeat(b"", len(batch))
    encoded = {entry: (entry or "").encode() for entry in set(column)}
    return map(encoded.__getitem__, column)


def _numbers(column: list[int | None] | None, batch: Batch) -> Iterable[bytes]:
    if column is None:
        return repeat(b"", len(batch))
    return [b"" if entry is None else b"%d" % entry for entry in column]


def _header_text(headers: Headers | None) -> bytes:
    return b",".join(
        [b"%b=%b" % (bytes_of(name), b"NULL" if value is None else value) for name, value in headers or ()]
    )

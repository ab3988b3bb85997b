r"""The way in for a format string: what `kpipe consume --format` wrote, read back with the same verbs.

It never guesses where a field ends: each has a length before it or a literal behind it, or the format is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kpipe.errors import BadRecord, UsageError
from kpipe.formats.fields import MAX_LONG, MAX_PARTITION, whole
from kpipe.formats.pieces import PieceDecoder
from kpipe.formats.rows import Row, batch_of
from kpipe.formats.splitting import MAX_RECORD_BYTES, Splitter, oversized
from kpipe.formats.template import SIZES, Verb, parse_format
from kpipe.record import NO_TIMESTAMP, TIMESTAMP_CREATE
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Generator

    from kpipe.record import Batch, Timestamp

_NAMES = {"s": "value", "k": "key", "t": "topic", "p": "partition", "o": "offset", "T": "timestamp"}


class TemplatePart(NamedTuple):
    """One part of a record: the field of `verb` up to `literal`, or of a known length; without verb only a literal.

    `sized`: the field's length was read before. `verb` R is a binary length, S and K are decimal ones.
    """

    verb: str
    literal: bytes
    sized: bool = False


class FormatDecoder(PieceDecoder["Row | BadRecord"]):
    r"""Records by a format string.

    A field ends at the first occurrence of the literal behind it, or after the length before it (`%S %s\n`; -1 is
    null). `null_marker`: an unsized key or value equal to it is null. Numbers may be empty (unknown); a timestamp of
    -1 is none. Headers (%h) are refused: a comma in a value and a comma between headers look the same.

    Without lengths, the literal at the end cuts the input into records first, so a bad record stays alone. With
    them a bad record hides where the next one begins: it is reported, and further calls raise.
    """

    def __init__(
        self,
        file: str,
        spec: str,
        *,
        null_marker: bytes | None = None,
        max_record_bytes: int = MAX_RECORD_BYTES,
        where: str = "--format",
    ) -> None:
        steps = compile_steps(spec, where)
        end = steps[-1].literal
        is_sequential = any(step.sized for step in steps) or any(end in step.literal for step in steps[:-1])
        super().__init__(file, (_Sequential if is_sequential else _Delimited)(steps, null_marker, max_record_bytes))

    def _batch(self, rows: list[Row | BadRecord]) -> Batch:
        return batch_of(rows, file=self._file, lines=self._number(len(rows)))


def compile_steps(spec: str, where: str) -> list[TemplatePart]:
    """Return the steps to read one record; UsageError if the format cannot be read back."""
    parts = parse_format(spec, where=where)
    verbs = [part for part in parts if isinstance(part, Verb)]
    _check_verbs(verbs, where)
    sized = {SIZES[verb.letter] for verb in verbs if verb.letter in SIZES}
    steps: list[TemplatePart] = []
    for part, behind in zip(parts, [*parts[1:], b""], strict=True):
        if isinstance(part, bytes):
            if not steps or not _takes_literal(steps[-1]):
                steps.append(TemplatePart("", part))
            continue
        step = TemplatePart(part.letter, behind if isinstance(behind, bytes) else b"", part.letter in sized)
        if _takes_literal(step) and not step.literal:
            raise UsageError(
                f"nothing tells where %{part.letter} at character {part.place} ends; put a literal behind it "
                "(\\n at the end), or give its length before it (%S %s\\n)",
                where=where,
            )
        if part.letter in "SKpoT" and step.literal[:1] in b"-0123456789":
            raise UsageError(f"the literal behind %{part.letter} begins like a number; choose another one", where=where)
        steps.append(step)
    return steps


def _takes_literal(step: TemplatePart) -> bool:
    """Whether the field of a step ends at the literal behind it."""
    return bool(step.verb) and not step.sized and step.verb != "R"


def _check_verbs(verbs: list[Verb], where: str) -> None:
    seen: set[str] = set()
    for letter, place in verbs:
        at = f"%{letter} at character {place}"
        if letter == "h":
            raise UsageError(
                f"{at} cannot be read back (a comma in a value looks like one between headers); use --input json",
                where=where,
            )
        if letter in seen:
            raise UsageError(f"{at} is there twice; name every field once", where=where)
        if letter in SIZES and SIZES[letter] in seen:
            raise UsageError(f"{at} comes after %{SIZES[letter]}; put the length before it", where=where)
        seen.add(letter)
    if {"S", "R"} <= seen:
        raise UsageError("%S and %R both give the length of the value; keep one of the two", where=where)
    if "s" not in seen:
        raise UsageError("the format has no value; put %s where it stands", where=where)
    if "K" in seen and "k" not in seen:
        raise UsageError("%K is there without a key; put %k where it stands", where=where)


def _row(fields: dict[str, bytes | None]) -> Row:
    """Return the record made of the fields read, by verb."""
    topic = fields.get("t")
    try:
        name = topic.decode() if topic else None
    except UnicodeDecodeError:
        raise BadRecord("topic is not UTF-8; does the input fit the format?") from None
    return Row(
        fields["s"],
        fields.get("k"),
        None,
        _timestamp(_number("T", fields.get("T"), MAX_LONG, -MAX_LONG - 1)),
        name,
        _number("p", fields.get("p"), MAX_PARTITION),
        _number("o", fields.get("o"), MAX_LONG),
    )


def _timestamp(time: int | None) -> Timestamp:
    return NO_TIMESTAMP if time is None or time == -1 else (TIMESTAMP_CREATE, time)


def _number(verb: str, field: bytes | None, high: int, low: int = 0) -> int | None:
    if not field:
        return None
    if not field.removeprefix(b"-").isdigit() or len(field) > 20:
        raise BadRecord(
            f"{_NAMES.get(verb, 'length')} is {_shown(field)}, not a number; does the input fit the format?"
        )
    return whole(_NAMES.get(verb, "length"), int(field), high, low=low)


def _shown(field: bytes) -> str:
    return repr(field if len(field) <= 40 else field[:37] + b"...")[1:]


class _Delimited:
    """Records cut by the literal at their end, then into fields by the literals inside."""

    def __init__(self, steps: list[TemplatePart], null_marker: bytes | None, limit: int) -> None:
        *self._inner, self._last = steps
        self._null_marker = null_marker
        self._splitter = Splitter(self._last.literal, limit)

    @property
    def pending(self) -> int:
        return self._splitter.pending

    def feed(self, block: bytes) -> list[Row | BadRecord]:
        return self._rows(self._splitter.feed(block))

    def finish(self) -> list[Row | BadRecord]:
        return self._rows(self._splitter.finish())

    def _rows(self, pieces: list[bytes]) -> list[Row | BadRecord]:
        rows: list[Row | BadRecord] = []
        for place, piece in enumerate(pieces):
            try:
                if place in self._splitter.oversized:
                    raise oversized(self._splitter.limit)
                rows.append(self._record(piece))
            except BadRecord as error:
                error.raw = piece
                rows.append(error)
        return rows

    def _record(self, piece: bytes) -> Row:
        fields: dict[str, bytes | None] = {}
        for verb, literal, _ in self._inner:
            field, found, piece = piece.partition(literal)
            if not found or (field and not verb):
                raise BadRecord(_missing(verb, literal))
            fields[verb] = self._field(verb, field)
        fields[self._last.verb] = self._field(self._last.verb, piece)
        return _row(fields)

    def _field(self, verb: str, field: bytes) -> bytes | None:
        return None if field == self._null_marker and verb in "sk" else field


def _missing(verb: str, literal: bytes) -> str:
    if verb:
        return f"there is no {_shown(literal)} behind the {_NAMES.get(verb, 'length')}; does the input fit the format?"
    return f"{_shown(literal)} is not where the format has it; does the input fit the format?"


class _EndError(Exception):
    """The input ended."""


class _Sequential:
    """Records read field after field. The reading is a generator that waits wherever the bytes end."""

    def __init__(self, steps: list[TemplatePart], null_marker: bytes | None, limit: int) -> None:
        self._steps = steps
        self._null_marker = null_marker
        self._limit = limit
        self._data = bytearray()
        self._place = 0
        self._start = 0
        self._ended = False
        self._rows: list[Row | BadRecord] = []
        self._lost = False
        self._reading = self._records()

    @property
    def pending(self) -> int:
        return len(self._data) - self._start

    def feed(self, block: bytes) -> list[Row | BadRecord]:
        if self._lost:
            raise BadRecord("no record after a bad one can be found in a format with lengths; correct the input")
        # What was read goes, once per block; a record keeps all its bytes until it is whole (see pending).
        del self._data[: self._start]
        self._place -= self._start
        self._start = 0
        self._data += block
        return self._resume()

    def finish(self) -> list[Row | BadRecord]:
        if self._lost:
            raise BadRecord("no record after a bad one can be found in a format with lengths; correct the input")
        self._ended = True
        return self._resume()

    def _resume(self) -> list[Row | BadRecord]:
        self._rows = []
        try:
            next(self._reading, None)
            if self.pending > self._limit:
                raise oversized(self._limit)
        except BadRecord as error:
            self._rows.append(error)
            self._lost = not self._ended
            self._data.clear()
            self._place = self._start = 0
        return self._rows

    def _records(self) -> Generator[None, None, None]:
        while True:
            while self._place == len(self._data):
                if self._ended:
                    return
                yield
            try:
                row = yield from self._record()
            except _EndError:
                held = len(self._data) - self._start
                raise BadRecord(
                    f"the input ends inside a record, {counted(held, 'byte')} after its beginning; is it cut off?"
                ) from None
            self._rows.append(row)
            self._start = self._place

    def _record(self) -> Generator[None, None, Row]:
        fields: dict[str, bytes | None] = {}
        lengths: dict[str, int | None] = {}
        for step in self._steps:
            if step.verb == "R":
                lengths["s"] = int.from_bytes((yield from self._take(4)), "big", signed=True)
            elif step.verb in SIZES:
                field = yield from self._until(step)
                lengths[SIZES[step.verb]] = _number(step.verb, field or b"?", self._limit, -1)
            elif step.sized:
                fields[step.verb] = yield from self._sized(lengths[step.verb])
            elif step.verb:
                field = yield from self._until(step)
                fields[step.verb] = None if field == self._null_marker and step.verb in "sk" else field
            else:
                yield from self._expect(step)
        return _row(fields)

    def _sized(self, length: int | None) -> Generator[None, None, bytes | None]:
        if length == -1:
            return None
        if length is None or not 0 <= length <= self._limit:
            raise BadRecord(f"length is {length}; does the input fit the format?")
        return (yield from self._take(length))

    def _take(self, length: int) -> Generator[None, None, bytes]:
        while len(self._data) - self._place < length:
            if self._ended:
                raise _EndError
            yield
        end = self._place + length
        field = bytes(self._data[self._place : end])
        self._place = end
        return field

    def _until(self, step: TemplatePart) -> Generator[None, None, bytes]:
        searched = 0  # from the place on, which moves when read bytes go
        while (at := self._data.find(step.literal, self._place + searched)) < 0:
            if self._ended:
                if step is not self._steps[-1]:
                    raise _EndError
                at = len(self._data)
                break
            searched = max(len(self._data) - self._place - len(step.literal) + 1, 0)
            yield
        field = bytes(self._data[self._place : at])
        self._place = min(at + len(step.literal), len(self._data))
        return field

    def _expect(self, step: TemplatePart) -> Generator[None, None, None]:
        end = self._place + len(step.literal)
        while len(self._data) < end:
            if self._ended:
                if step is self._steps[-1] and self._place == len(self._data):
                    return
                raise _EndError
            if not step.literal.startswith(self._data[self._place :]):
                break
            yield
            end = self._place + len(step.literal)
        if self._data[self._place : end] != step.literal:
            raise BadRecord(_missing("", step.literal))
        self._place = end

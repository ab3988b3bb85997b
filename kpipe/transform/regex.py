"""Filters and changes by regular expressions on bytes: of the value, or of the key or a header with a prefix.

Never decodes: a pattern is matched against the bytes, its own text is UTF-8.
"""

from __future__ import annotations

import re
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kpipe.errors import Stage, UndeliveredError
from kpipe.transform.columns import headers_of, key_column, split_place
from kpipe.transform.patterns import LIMIT, TOO_SLOW, TookTooLong, run_within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.errors import BadRecord
    from kpipe.record import Batch, Headers
    from kpipe.transform.context import Context
    from kpipe.transform.step import Step, TransformStage

Entry = TypeVar("Entry")
Answer = TypeVar("Answer")

_FLAGS = {"g": 0, "i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}
_REPLACEMENT = re.compile(
    r"(?P<match>&)|\\(?P<control>[nt])|\\(?P<group>\d)|\\g<(?P<named>\w+)>|\\(?P<escaped>\W)"
    r"|(?P<literal>[^&\\]+)|(?P<unknown>\\\w?)",
    re.DOTALL,
)


def grep(step: Step, context: Context) -> TransformStage:
    """`--grep REGEX`: keep the records where it matches."""
    matches = match_column(step, context)

    def stage(batch: Batch) -> None:
        mask = matches(batch)
        if not all(mask):
            batch.keep(mask)

    return stage


def grep_not(step: Step, context: Context) -> TransformStage:
    """`--grep-not REGEX`: keep the records where it does not match, so those with null as well."""
    matches = match_column(step, context)

    def stage(batch: Batch) -> None:
        mask = matches(batch)
        if any(mask):
            batch.keep([not matched for matched in mask])

    return stage


def tombstone_if(step: Step, context: Context) -> TransformStage:
    """`--tombstone-if REGEX`: the value becomes null where it matches."""
    matches = match_column(step, context)

    def stage(batch: Batch) -> None:
        mask = matches(batch)
        batch.values = [None if matched else value for value, matched in zip(batch.values, mask, strict=True)]

    return stage


def regex_replace(step: Step, context: Context) -> TransformStage:
    """`--regex-replace s/RE/REPL/FLAGS`: as in sed the first match, with the flag g all of them; null stays null."""
    place, name, text = split_place(step.text)
    sub, replacement, count = _parse_substitution(step, text)
    limited = TimeLimited(step, context)

    def replace(entries: Sequence[bytes | None]) -> list[bytes | None]:
        return [None if entry is None else sub(replacement, entry, count) for entry in entries]

    def replace_in_headers(column: Sequence[Headers | None]) -> list[Headers | None]:
        return [
            headers
            and [
                (key, value if key != name or value is None else sub(replacement, value, count))
                for key, value in headers
            ]
            for headers in column
        ]

    def value_stage(batch: Batch) -> None:
        batch.values = limited(batch, batch.values, replace)

    def key_stage(batch: Batch) -> None:
        if batch.keys is not None:
            batch.keys = limited(batch, batch.keys, replace)

    def header_stage(batch: Batch) -> None:
        if batch.headers is not None:
            batch.headers = limited(batch, batch.headers, replace_in_headers)

    return {"value": value_stage, "key": key_stage, "header": header_stage}[place]


def match_column(step: Step, context: Context) -> Callable[[Batch], list[bool]]:
    """Compile `[key:|header[NAME]:]REGEX` to a column of answers; null never matches, one of several headers does.

    The batch loses records on which the match took too long: they are bad.
    """
    place, name, text = split_place(step.text)
    search = compile_bytes(step, text).search
    limited = TimeLimited(step, context)

    def in_headers(column: Sequence[Headers | None]) -> list[bool]:
        return [
            any(key == name and value is not None and search(value) is not None for key, value in headers)
            if headers
            else False
            for headers in column
        ]

    def in_entries(column: Sequence[bytes | None]) -> list[bool]:
        return [entry is not None and search(entry) is not None for entry in column]

    if place == "header":
        return lambda batch: limited(batch, headers_of(batch), in_headers)
    if place == "key":
        return lambda batch: limited(batch, key_column(batch), in_entries)
    return lambda batch: limited(batch, batch.values, in_entries)


class TimeLimited:
    """Matches a whole column; a record that takes longer than a match may is bad, and its neighbours are not."""

    def __init__(self, step: Step, context: Context) -> None:
        self._step = step
        self._patience = context.patience

    def __call__(
        self, batch: Batch, column: Sequence[Entry], match: Callable[[Sequence[Entry]], list[Answer]]
    ) -> list[Answer]:
        """The answers of `match`, one for each record that the batch still has then."""
        try:
            return run_within(LIMIT, lambda: match(column), self._patience.is_over)
        except TookTooLong:
            return self._one_by_one(batch, column, match)

    def _one_by_one(
        self, batch: Batch, column: Sequence[Entry], match: Callable[[Sequence[Entry]], list[Answer]]
    ) -> list[Answer]:
        """Each record has the whole limit to itself; in between the run is asked whether to go on."""
        answers: list[Answer] = []
        bad: dict[int, BadRecord] = {}
        due = time.monotonic() + LIMIT
        for place, entry in enumerate(column):
            if bad and self._patience.first_bad_ends:
                bad[place] = self._step.bad("not tried: the one before took too long")
                continue
            if time.monotonic() >= due:
                due = time.monotonic() + LIMIT
                self._end_unless(goes_on=self._patience.go_on())
            try:
                answers += run_within(LIMIT, partial(match, (entry,)), self._patience.is_over)
            except TookTooLong:
                self._end_unless(goes_on=not self._patience.is_over())
                bad[place] = self._step.bad(TOO_SLOW)
        batch.reject(bad)
        return answers

    def _end_unless(self, *, goes_on: bool) -> None:
        if not goes_on:
            what = f"{self._step.title}: the run ended while it was matched"
            raise UndeliveredError(what, stage=Stage.TRANSFORM)


def compile_bytes(step: Step, text: str, flags: int = 0) -> re.Pattern[bytes]:
    """A pattern over bytes from text: a character beyond ASCII stands for its UTF-8 bytes, as one unit."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # `[[` may change its meaning; it would be told raw
            re.compile(text, flags)  # its error positions are in characters, as typed
            return re.compile(_encode_pattern(text), flags)
    except re.error as error:
        raise step.usage(f"not a regular expression ({error}); escape special characters with \\") from None
    except ValueError as error:
        raise step.usage(str(error)) from None


def compile_replacement(step: Step, text: str, pattern: re.Pattern[bytes]) -> bytes:
    r"""The replacement of sed as one of Python's: & and \0 the match, \1 to \9 and \g<NAME> groups, \n and \t."""
    pieces: list[bytes] = []
    for token in _REPLACEMENT.finditer(text):
        kind = str(token.lastgroup)
        found = token[kind]
        if kind == "control":
            pieces.append({"n": b"\n", "t": b"\t"}[found])
        elif kind in {"match", "group", "named"}:
            group = "0" if kind == "match" else found
            if int(group) > pattern.groups if group.isdecimal() else group not in pattern.groupindex:
                raise step.usage(f"there is no group {group} in the expression; it has {pattern.groups}")
            pieces.append(b"\\g<%b>" % group.encode())
        elif kind == "unknown":
            raise step.usage(f"{found} means nothing in a replacement; write & or \\1 for groups, \\\\ for a backslash")
        else:
            pieces.append(found.encode(errors="surrogateescape").replace(b"\\", b"\\\\"))
    return b"".join(pieces)


def _parse_substitution(step: Step, text: str) -> tuple[Callable[..., bytes], bytes, int]:
    """Cut `s/RE/REPL/FLAGS` (any sign for the /) into what `Pattern.sub` takes: itself, the replacement, the count."""
    form = "write s/REGEX/REPLACEMENT/ or s/REGEX/REPLACEMENT/g, with any sign for the /"
    if len(text) < 2 or text[0] != "s" or text[1].isalnum() or text[1].isspace() or text[1] == "\\":
        raise step.usage(f"not a substitution; {form}")
    sign = re.escape(text[1])
    match = re.fullmatch(rf"s{sign}((?:[^\\{sign}]|\\.)*){sign}((?:[^\\{sign}]|\\.)*){sign}(\w*)", text, re.DOTALL)
    if match is None:
        raise step.usage(f"there are not three {text[1]} in it; {form}")
    regex, replacement, flags = match.groups()
    unknown = set(flags) - set(_FLAGS)
    if unknown:
        raise step.usage(
            f"unknown flag {min(unknown)}; flags are g (all matches), i (ignore case), m and s (as in Python)"
        )
    pattern = compile_bytes(step, regex, sum(_FLAGS[flag] for flag in set(flags)))
    return pattern.sub, compile_replacement(step, replacement, pattern), 0 if "g" in flags else 1


def _encode_pattern(text: str) -> bytes:
    """Group the bytes of each character beyond ASCII, so that `é+` repeats the é; in `[...]` that cannot be done."""
    pieces: list[bytes] = []
    opened: int | None = None  # where the [ of a class is
    at = 0
    while at < len(text):
        char, following = text[at], text[at + 1 : at + 2]
        if char == "\\" and following.isascii():
            pieces.append((char + following).encode())
            at += 2
            continue
        if not char.isascii():
            if opened is not None:
                raise ValueError(f"{char} in [...] is more than one byte; write (?:a|{char}) instead of [a{char}]")
            pieces.append(b"(?:%b)" % re.escape(char.encode(errors="surrogateescape")))
        elif char != "\\":  # a backslash before a character beyond ASCII does nothing
            pieces.append(char.encode())
            if opened is None:
                opened = at if char == "[" else None
            elif char == "]" and text[opened + 1 : at] not in {"", "^"}:  # directly behind [ or [^ it is a member
                opened = None
        at += 1
    return b"".join(pieces)

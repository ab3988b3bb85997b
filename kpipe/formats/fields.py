"""Checks the fields of a JSON object and turns them into what a record holds.

Every check raises BadRecord with the field's name, what stands there and what should; none of them guesses.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from json import dumps, loads
from typing import TYPE_CHECKING, Any

from kpipe.errors import BadRecord
from kpipe.formats.header_names import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpipe.record import Headers

MAX_PARTITION = 2**31 - 1
MAX_LONG = 2**63 - 1


class BigNumber(str):
    """The text of a number that no Python number holds exactly, or that is out of range."""

    __slots__ = ()


class Members(dict[str, Any]):
    """A JSON object; `twin` is a name that occurs twice in it."""

    twin: str | None = None


def show(entry: object) -> str:
    """Return what stands in a field, as JSON, short."""
    try:
        text = str(entry) if isinstance(entry, BigNumber) else dumps(entry, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply to show"
    text = text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair could not be printed
    return text if len(text) <= 40 else f"{text[:37]}..."


def kind(entry: object) -> str:
    """Return the name of an entry's JSON type, with its article."""
    if isinstance(entry, BigNumber):
        return "a number"
    names = {dict: "an object", Members: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(entry), "null" if entry is None else "a number")


def text(name: str, entry: object) -> bytes | None:
    """Return a string as UTF-8, or null."""
    if entry is None:
        return None
    if type(entry) is not str:
        raise BadRecord(f"{name} is {kind(entry)} ({show(entry)}); write it as a JSON string or null")
    try:
        return entry.encode()
    except UnicodeEncodeError:
        raise BadRecord(f"{name} holds half a surrogate pair, which no bytes stand for; use {name}_base64") from None


def base64_bytes(name: str, entry: object) -> bytes:
    """Return the bytes that a base64 string (RFC 4648 section 4, padded, nothing else in it) stands for."""
    if type(entry) is not str:
        raise BadRecord(f"{name} is {kind(entry)} ({show(entry)}); write it as a base64 string")
    try:
        return a2b_base64(entry.encode("ascii"), strict_mode=True) if entry else b""
    except (Base64Error, UnicodeEncodeError):
        raise BadRecord(f"{name} is not base64 ({show(entry)}); write padded standard base64") from None


def word(name: str, entry: object) -> str | None:
    """Return a string that stays text, or null."""
    if entry is None:
        return None
    if type(entry) is not str:
        raise BadRecord(f"{name} is {kind(entry)} ({show(entry)}); write it as a JSON string")
    try:
        entry.encode()
    except UnicodeEncodeError:
        raise BadRecord(f"{name} holds half a surrogate pair, which no bytes stand for; correct it") from None
    return entry


def whole(name: str, entry: object, high: int, *, low: int = 0) -> int | None:
    """Return a whole number from `low` to `high`, or null."""
    if entry is None:
        return None
    if type(entry) is not int:
        advice = (
            "without quotes" if isinstance(entry, str) and not isinstance(entry, BigNumber) else "without a fraction"
        )
        raise BadRecord(f"{name} is {kind(entry)} ({show(entry)}); write a whole number {advice}")
    if not low <= entry <= high:
        raise BadRecord(f"{name} is {entry}; it must lie between {low} and {high}")
    return entry


def pairs(entry: object) -> Headers:
    """Headers as the envelope has them: a list of [name, string | null | {"base64": ...}].

    A name that is not UTF-8 is {"base64": ...}, too.
    """
    if type(entry) is not list:
        raise BadRecord(f'headers is {kind(entry)} ({show(entry)}); write a list of ["name", "value"] pairs')
    headers: Headers = []
    for number, pair in enumerate(entry, 1):
        if type(pair) is not list or len(pair) != 2 or not (type(pair[0]) is str or isinstance(pair[0], dict)):
            raise BadRecord(f'header {number} is {show(pair)}; write it as ["name", "value"]')
        name, value = pair
        label = f"header {number} ({show(name)})"
        if isinstance(name, dict):
            name = name_of(_wrapped_bytes(f"the name of header {number}", name))
        else:
            word(label, name)
        headers.append((name, _wrapped_bytes(label, value) if isinstance(value, dict) else text(label, value)))
    return headers


def _wrapped_bytes(label: str, entry: dict[str, Any]) -> bytes:
    """The bytes in {"base64": ...}."""
    if list(entry) != ["base64"] or (isinstance(entry, Members) and entry.twin):
        raise BadRecord(f'{label} is {show(entry)}; an object there has one field, "base64"')
    return base64_bytes(label, entry["base64"])


def unknown_field(name: str, known: Iterable[str]) -> BadRecord:
    """Return the verdict on a field that the format does not have, with the nearest one that it has."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return BadRecord(f"unknown field {show(name)}; {hint}--lenient ignores unknown fields")


def load_exactly(line: str) -> Any:
    """Return the JSON in `line` where the fast parser refuses or hides something; ValueError if it is not JSON.

    Unlike it, this keeps the text of numbers that are too large (as BigNumber), lets lone surrogates through to the
    check of the field they stand in, and notes the names that occur twice in an object.
    """
    try:
        return loads(
            line, parse_int=_integer, parse_float=BigNumber, parse_constant=_no_constant, object_pairs_hook=_members
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _integer(digits: str) -> int | BigNumber:
    return int(digits) if len(digits) <= 20 else BigNumber(digits)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _members(found: list[tuple[str, Any]]) -> Members:
    members = Members(found)
    if len(members) != len(found):
        names: set[str] = set()
        for name, _ in found:
            if name in names:
                members.twin = name
            names.add(name)
    return members


_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_MARKS = re.compile(_STRING + rb"|[{}\[\]:,]", re.DOTALL)
_SOLID = re.compile(_STRING + rb'|[^ \t\r\n"]+', re.DOTALL)


def member_text(line: bytes, name: str) -> bytes:
    """Return the text of the member `name` of the JSON object in `line`, without blanks between tokens.

    `line` is known to be valid JSON; of twins the last one counts.
    """
    depth = 0
    label = found = b""
    start = -1
    for match in _MARKS.finditer(line):
        mark = match[0]
        if mark in b"{[":
            depth += 1
        elif mark in b"}],":
            if depth == 1 and start >= 0:
                found = line[start : match.start()]
                start = -1
            depth -= mark != b","
        elif depth == 1 and mark != b":":
            label = mark
        elif depth == 1 and loads(label) == name:
            start = match.end()
    return b"".join(_SOLID.findall(found))

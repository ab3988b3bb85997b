"""Paths into a JSON document: `.a.b[0]`, `a.b`, `."odd name"`, `["odd"]`, `.[-1]`, and `[]` for each element.

Never reads a record; a path is compiled once and then applied to parsed documents.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Callable

EACH: Final = None
"""The step `[]`: every element of an array."""

Path: TypeAlias = tuple[str | int | None, ...]
"""Object names, array indexes (negative: from the end) and EACH, outermost first; empty is the whole document."""

_STRING = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(
    rf'\.?\[(?:(?P<index>-?\d+)|(?P<quoted>{_STRING})|)\]|\.?(?P<string>{_STRING})|\.?(?P<name>[^\s.\[\]"=]+)'
)
# What jq itself reads as a path: its names are narrower than ours (`.a-b` is a subtraction there).
_JQ_PATH = re.compile(
    rf"\s*\.(?:(?:[A-Za-z_]\w*|{_STRING}|\[(?:-?\d+|{_STRING})\])(?:\.(?:[A-Za-z_]\w*|{_STRING})|\.?\[(?:-?\d+|{_STRING})\])*)?\s*",
    re.ASCII,
)


class PathError(ValueError):
    """A document has something else where the path needs an object or an array."""


def parse(text: str, *, each: bool = False) -> Path:
    """Compile a path; a ValueError says what is wrong with it and what to write. `each` allows `[]`."""
    if text == ".":
        return ()
    if text.startswith("$"):
        raise ValueError(f"a path starts with a dot, not with $; write {_without_dollar(text)}")
    steps: list[str | int | None] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or (at > 0 and text[at] not in ".["):
            raise ValueError(f'"{text[at:]}" is not part of a path; write one like .a.b[0] or ."odd name"')
        steps.append(_step(token))
        at = token.end()
    if not steps:
        raise ValueError("the path is empty; write one like .a.b[0]")
    if EACH in steps and not each:
        raise ValueError("[] stands for many values and one is needed here; write an index like [0]")
    return tuple(steps)


def parse_jq(program: str) -> Path | None:
    """The path that a jq program is, or None when it is more than a plain path."""
    if _JQ_PATH.fullmatch(program) is None or "\\(" in program:
        return None
    return parse(program.strip())


def getter(path: Path) -> Callable[[object], object]:
    """A function from a document to what is there, as jq has it: None if absent, PathError if the way is barred."""

    def get_carefully(document: object) -> object:
        for step in path:
            document = _descend(document, step)
        return document

    def get(document: object) -> object:
        found = document
        try:
            for name in names:
                found = found[name]  # type: ignore[index]  # what cannot be indexed raises, and the careful way explains
        except (KeyError, TypeError):
            return get_carefully(document)
        return found

    # Names only: list["a"] and str["a"] raise TypeError, so plain indexing is safe; str[0] would not be.
    if all(isinstance(step, str) for step in path):
        names = cast("tuple[str, ...]", path)
        return get
    return get_carefully


def kind(value: object) -> str:
    """What jq calls the type of a parsed value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
    return "number"


def _descend(document: object, step: str | int | None) -> object:
    if document is None:
        return None
    if isinstance(step, str) and isinstance(document, dict):
        return document.get(step)
    if isinstance(step, int) and isinstance(document, list):
        return document[step] if -len(document) <= step < len(document) else None
    needed = "an object" if isinstance(step, str) else "an array"
    raise PathError(f"{json.dumps(step)} needs {needed} and finds {_with_article(document)}")


def _with_article(value: object) -> str:
    name = kind(value)
    return f"{'an' if name[0] in 'ao' else 'a'} {name}"


def _step(token: re.Match[str]) -> str | int | None:
    if token["index"] is not None:
        return int(token["index"])
    quoted = token["quoted"] or token["string"]
    if quoted is None:
        return token["name"] if token["name"] is not None else EACH
    try:
        return cast("str", json.loads(quoted))
    except ValueError:
        raise ValueError(f"{quoted} is not a JSON string; escape it as JSON does") from None


def _without_dollar(text: str) -> str:
    rest = text[1:]
    return rest if rest.startswith((".", "[")) else f".{rest}"

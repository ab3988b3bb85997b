"""Reads a chain of transforms from a TOML file: an array of tables, their keys the option names, in order.

    [[transform]]
    set-key = "{header[id]}"      # a string, a number, or a list of strings for the same option several times

    [[transform]]
    drop-key = true               # a switch

Never opens the file: its text comes in.
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches

from kpipe.errors import UsageError
from kpipe.transform.registry import BY_NAME
from kpipe.transform.step import Step


def load_file(text: str, file: str) -> list[Step]:
    """The steps of a `--transforms` file in order; a UsageError names the file and the entry."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"not TOML ({error}); {_example()}", where=file) from None
    unknown = [key for key in content if key != "transform"]
    if unknown:
        raise UsageError(f"unknown key {unknown[0]}; {_example()}", where=file)
    entries = content.get("transform", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"transform is not an array of tables; {_example()}", where=file)
    return [step for number, entry in enumerate(entries, 1) for step in _entry(entry, f"{file}: transform {number}")]


def _entry(entry: dict[str, object], where: str) -> list[Step]:
    if not entry:
        raise UsageError(f"it is empty; {_example()}", where=where)
    return [step for name, argument in entry.items() for step in steps_of(name, argument, where)]


def steps_of(name: str, argument: object, where: str = "") -> list[Step]:
    """A transform by its name, as a value of a language with types says it: True is a switch, a list is several."""
    transform = BY_NAME.get(name)
    if transform is None:
        near = get_close_matches(name, BY_NAME, n=1)
        raise UsageError(
            f"no transform is called {name}; "
            + (f"did you mean {near[0]}?" if near else "`kpipe transforms` lists them"),
            where=where,
        )
    if argument is True and (transform.metavar is None or transform.default is not None):
        return [Step(name, None, where)]
    if transform.metavar is None:
        raise UsageError(f"{name} is a switch; write {name} = true or leave it out", where=where)
    if isinstance(argument, list | tuple) and argument:
        return [Step(name, _text(name, one, where), where) for one in argument]
    return [Step(name, _text(name, argument, where), where)]


def _text(name: str, argument: object, where: str) -> str:
    if isinstance(argument, str):
        return argument
    if isinstance(argument, int | float) and not isinstance(argument, bool):
        return str(argument)
    raise UsageError(
        f'{name} takes {BY_NAME[name].metavar}; write {name} = "{BY_NAME[name].metavar}" as a string', where=where
    )


def _example() -> str:
    return 'write tables such as [[transform]] with a line set-key = "{header[id]}"'

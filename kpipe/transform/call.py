"""A Python function as a transform: a record in; none, one or many out; an exception is a bad record.

Only what the user named is loaded, never a file of the current directory by itself.
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, Any

from kpipe.plugins import load, note_foreign, said, split
from kpipe.record import COLUMNS, Record, records_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.step import Step, TransformStage

PLUGIN = "transform"
"""What the function in a --plugin FILE is called."""
_offered: dict[str, Callable[[Record], object]] = {}


def offer(function: Callable[[Record], object]) -> str:
    """A name under which a program's own function can be a step."""
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', repr(function))}"
    while _offered.setdefault(name, function) is not function:
        name += "'"
    return name


def call(step: Step, _context: Context) -> TransformStage:
    """`--call MODULE:FUNCTION`, or a plugin: `--call NAME` and `--call NAME=ARGUMENT`."""
    if step.text in _offered:
        return _stage(step, _offered[step.text])
    plain, argument = split(step.text, "=")
    if ":" not in plain:
        made = load("transforms", plain, argument, where=step.title)
        return _stage(step, _callable(step, made, f"the plugin {plain} made a {type(made).__name__}, not a function"))
    name, sign, attribute = step.text.partition(":")
    if not (name and sign and attribute):
        raise step.usage("write MODULE:FUNCTION, as in --call shop.orders:clean, or the name of a plugin")
    note_foreign(step.text)
    try:
        found: Any = importlib.import_module(name)
    except BaseException as error:
        raise step.usage(f"cannot import {name}: {said(error)}") from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return _stage(step, _callable(step, found, f"{name} has no function {attribute}"))


def plugin(step: Step, context: Context) -> TransformStage:
    """`--plugin FILE`: its function `transform`."""
    module = types.ModuleType("kpipe_plugin")
    module.__file__ = step.text
    note_foreign(step.text)
    try:
        exec(compile(context.read_file(step.text), step.text, "exec"), module.__dict__)  # noqa: S102 - what was asked for
    except OSError as error:
        raise step.usage(f"cannot be read: {error.strerror}") from None
    except BaseException as error:
        raise step.usage(f"does not load: {said(error)}") from error
    return _stage(step, _callable(step, getattr(module, PLUGIN, None), f"has no function {PLUGIN}(record)"))


def _callable(step: Step, found: Any, missing: str) -> Callable[[Record], object]:
    if not callable(found):
        raise step.usage(missing)
    return found  # type: ignore[no-any-return]


def _stage(step: Step, function: Callable[[Record], object]) -> TransformStage:
    def stage(batch: Batch) -> None:
        rows, bad = [], {}
        for place, record in enumerate(records_of(batch)):
            try:
                rows.append(_results(function(record)))
            except BaseException as error:  # noqa: BLE001 - whatever it raises is about this record
                rows.append([])
                bad[place] = step.bad(said(error))
        _replace(batch, rows, bad)

    return stage


def _results(answer: Any) -> list[Record]:
    """What a function may give: nothing, a record, or several; anything else is its mistake."""
    if answer is None:
        return []
    records = [answer] if isinstance(answer, Record) else list(answer)
    for record in records:
        if not isinstance(record, Record):
            raise TypeError(f"gave a {type(record).__name__}, not a Record")
        _check(record)
    return records


def _check(record: Record) -> None:
    fields = [
        ("value", record.value),
        ("key", record.key),
        *((f"header {name}", value) for name, value in record.headers),
    ]
    for what, value in fields:
        if value is not None and not isinstance(value, bytes):
            raise TypeError(f"gave a {what} of type {type(value).__name__}; it is bytes or None")


def _replace(batch: Batch, rows: list[list[Record]], bad: dict[int, Any]) -> None:
    """The records' new values, keys and headers; where they were read and when stays with each of them."""
    kept = [row for place, row in enumerate(rows) if place not in bad]
    batch.reject(bad)
    places = [place for place, row in enumerate(kept) for _ in row]
    index = range(len(batch)) if batch.index is None else batch.index
    batch.index = [index[place] for place in places]
    for name in COLUMNS:
        column = getattr(batch, name)
        if column is not None:
            setattr(batch, name, [column[place] for place in places])
    records = [record for row in kept for record in row]
    batch.values = [record.value for record in records]
    batch.keys = [record.key for record in records]
    headers = [list(record.headers) or None for record in records]
    batch.headers = headers if any(headers) else None
    batch.shown_values = batch.shown_keys = None

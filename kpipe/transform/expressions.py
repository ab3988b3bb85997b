"""The transforms written in jq; neighbours are fused into one program per record, plain paths do without jq.

Never changes the value of a tombstone: for expressions its value is null, and `--map` and `--split` leave it alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

from kpipe.formats.header_names import name_in_argument
from kpipe.formats.json_depth import TOO_DEEP, is_too_deep
from kpipe.transform import program
from kpipe.transform.columns import headers_of
from kpipe.transform.dedupe import dedupe_stage
from kpipe.transform.document import NotJson, dump, field_text
from kpipe.transform.headers import replace_header
from kpipe.transform.jq_input import looks_at_input
from kpipe.transform.path import getter, parse_jq
from kpipe.transform.program import Program, all_results, one_result
from kpipe.transform.route import Router
from kpipe.transform.split import split_stage
from kpipe.transform.step import split_assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.errors import BadRecord
    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.path import Path
    from kpipe.transform.results import Evaluate, Rows
    from kpipe.transform.step import Step, TransformStage

PutColumn: TypeAlias = "Callable[[Batch, Sequence[bytes | None]], dict[int, str]]"
"""Puts a column of results into the batch; answers with the places that cannot take theirs, and why."""

_JSON = "tojson"
_CUT = b"<skipped: too deep>"  # what jq writes below 10,000 levels
_RAW = 'if type == "string" or . == null then . else tojson end'
_TOPIC = (
    'if type == "string" or . == null then . else error("{number} it gives a \\(type), not the name of a topic") end'
)


@dataclass(frozen=True, slots=True)
class Expression:
    """One jq transform. `result` is jq text that turns the result into text or null; a filter has none.

    `path` is what the program is when it is a plain path. An `alone` expression has a stage of its own,
    and only `many` may give other than one result.
    """

    step: Step
    text: str
    path: Path | None
    result: str = _JSON
    write: PutColumn | None = None
    alone: Callable[[Evaluate], TransformStage] | None = None
    many: bool = False

    @classmethod
    def fuse(cls, parts: Sequence[Self], context: Context) -> list[TransformStage]:
        """One stage per run of neighbours that can share a program."""
        return [stage for run in _runs(parts) for stage in _stages(run, context)]


def filter_(step: Step, _context: Context) -> Expression:
    """`--filter JQ`: keep the records for which it gives anything but false and null."""
    return _expression(step, step.text)


def map_(step: Step, _context: Context) -> Expression:
    """`--map JQ`: the value becomes the result as compact JSON; null is the text null, never a tombstone."""
    return _expression(step, step.text, write=_write_values)


def map_raw(step: Step, _context: Context) -> Expression:
    """`--map-raw JQ`: as --map, but a string becomes the value as it is."""
    return _expression(step, step.text, _RAW, _write_values)


def map_key(step: Step, _context: Context) -> Expression:
    """`--map-key JQ`: a string raw, null a null key, anything else compact JSON."""
    return _expression(step, step.text, _RAW, _write_keys)


def map_header(step: Step, _context: Context) -> Expression:
    """`--map-header NAME=JQ`: as --set-header, with null for a null header."""
    name, text = split_assignment(step, "NAME=JQ", "tenant=.tenant.id")
    name = name_in_argument(name)

    def write(batch: Batch, column: Sequence[bytes | None]) -> dict[int, str]:
        headers = headers_of(batch)
        batch.headers = [replace_header(old, name, value) for old, value in zip(headers, column, strict=True)]
        return {}

    return _expression(step, text, _RAW, write)


def route(step: Step, context: Context) -> Expression:
    """`--route JQ`: the topic from the record; null leaves the target as it is."""
    return _expression(step, step.text, _TOPIC, Router(step, context).write)


def split(step: Step, _context: Context) -> Expression:
    """`--split JQ`: every result becomes a record with the key, headers and time of the one it came from."""
    program.check(step, step.text)
    return Expression(step, step.text, None, alone=split_stage, many=True)


def dedupe(step: Step, context: Context) -> Expression:
    """`--dedupe JQ`: keep the first record of each result; null is no identity."""
    make = dedupe_stage(context)
    program.check(step, step.text)
    return Expression(step, step.text, parse_jq(step.text), "if . == null then . else tojson end", alone=make)


def _expression(step: Step, text: str, result: str = _JSON, write: PutColumn | None = None) -> Expression:
    path = parse_jq(text)
    if path is None:
        program.check(step, text)
    return Expression(step, text, path, result, write)


def _runs(parts: Sequence[Expression]) -> list[list[Expression]]:
    """Cut where a program could not see what the one before it made."""
    runs: list[list[Expression]] = [[]]
    for part in parts:
        before = runs[-1]
        if before and (part.alone or before[-1].alone or _changes_input(before, part)):
            runs.append([])
        runs[-1].append(part)
    return [run for run in runs if run]


def _changes_input(before: Sequence[Expression], part: Expression) -> bool:
    """Whether a raw value is not JSON any more, or the key and headers are not those of `$meta`."""
    if before[-1].write is _write_values and before[-1].result == _RAW:
        return True
    return program.mentions_meta(part.text) and any(earlier.write not in {None, _write_values} for earlier in before)


def _stages(run: Sequence[Expression], context: Context) -> list[TransformStage]:
    """Plain paths at the ends of a run leave the program: a lookup costs a tenth of it."""
    programs = [place for place, part in enumerate(run) if part.path is None]
    first, last = (programs[0], programs[-1] + 1) if programs else (len(run), len(run))
    groups = [[part] for part in run[:first]] + _by_look(run[first:last]) + [[part] for part in run[last:]]
    return [_stage(group, context) for group in groups]


def _by_look(run: Sequence[Expression]) -> list[list[Expression]]:
    """Programs before the first that looks at the value stay apart: they work on values that are not JSON, too."""
    first = next((place for place, part in enumerate(run) if _looks(part)), len(run))
    return [list(group) for group in (run[:first], run[first:]) if group]


def _looks(part: Expression) -> bool:
    return part.path is not None or looks_at_input(part.text)


def _stage(group: Sequence[Expression], context: Context) -> TransformStage:
    evaluate = _by_path(group[0], context) if group[0].path is not None else _by_program(group, context)
    if group[0].alone is not None:
        return group[0].alone(evaluate)
    writers = _writers(group)

    def stage(batch: Batch) -> None:
        rows, bad = evaluate(batch)
        rows = [row for place, row in enumerate(rows) if place not in bad]
        batch.reject(bad)
        if None in rows:
            batch.keep([row is not None for row in rows])
        problems: dict[int, BadRecord] = {}
        for part, column in zip(writers, zip(*filter(_is_kept, rows), strict=True), strict=False):
            if part.result in (_JSON, _RAW):
                raw = part.result == _RAW  # which may be any text; only what jq has cut is none of ours
                deep = [
                    place
                    for place, one in enumerate(column)
                    if one is not None and is_too_deep(one) and (not raw or _CUT in one)
                ]
                problems.update({place: part.step.bad(f"its result {TOO_DEEP}") for place in deep})
            if part.write is not None:
                for place, why in part.write(batch, column).items():
                    problems.setdefault(place, part.step.bad(why))
        batch.reject(problems)

    return stage


def _writers(group: Sequence[Expression]) -> list[Expression]:
    """The parts that have a column in the rows: all that write, of several maps the last."""
    maps = [part for part in group if part.write is _write_values]
    return [part for part in group if part.write is not None and (part not in maps or part is maps[-1])]


def _by_program(group: Sequence[Expression], context: Context) -> Evaluate:
    steps = [part.step for part in group]
    meta, looks = any(program.mentions_meta(part.text) for part in group), any(map(_looks, group))
    if group[0].many:
        compiled = Program(steps, all_results(0, group[0].text), None, context, meta=meta, looks=looks)
        return lambda batch: _refuse_deep(group[0], *compiled.rows(batch, context.documents))
    compiled = Program(steps, _fused(group, null=False), _fused(group, null=True), context, meta=meta, looks=looks)
    return lambda batch: compiled.rows(batch, context.documents)


def _refuse_deep(part: Expression, rows: Rows, bad: dict[int, BadRecord]) -> tuple[Rows, dict[int, BadRecord]]:
    for place, row in enumerate(rows):
        if row is not None and any(one is not None and is_too_deep(one) for one in row):
            bad[place] = part.step.bad(f"one of its results {TOO_DEEP}")
    return rows, bad


def _fused(group: Sequence[Expression], *, null: bool) -> str:
    """One jq program for `group`; with `null` the one for tombstones, whose value no map touches."""
    writers = _writers(group)
    head, tail = "", ""
    results: list[str] = []
    for number, part in enumerate(group):
        one = one_result(number, part.text)
        result = part.result.replace("{number}", str(number))
        if part.write is _write_values:
            head += "" if null else f"{one} as $v | "
            results += ["null" if null else f"($v | {result})"] if part in writers else []
        elif part.write is None and part.alone is None:
            head += f"if {one} then "
            tail += " else null end"
        else:
            head += f"({one} | {result}) as $result{number} | "
            results.append(f"$result{number}")
    return f"({head}[{', '.join(results)}]{tail})"


def _by_path(part: Expression, context: Context) -> Evaluate:
    """The same answers as jq gives, from the shared documents."""
    path = part.path or ()
    get = getter(path)
    as_json = part.result != _RAW and "tojson" in part.result
    is_filter = part.write is None and part.alone is None
    is_route = part.result == _TOPIC

    def row(document: object, value: bytes | None) -> Sequence[bytes | None] | None:
        if isinstance(document, NotJson) and value is not None:
            raise ValueError(document.reason)
        found = None if value is None else get(document)
        if is_filter:
            return None if found is None or found is False else ()
        if is_route and not isinstance(found, str | None):
            raise ValueError("it gives no string, so not the name of a topic")
        if found is None or value is None:
            return (None,)
        return (dump(found) if as_json and isinstance(found, str) else field_text(found, value, path),)

    def evaluate(batch: Batch) -> tuple[Rows, dict[int, BadRecord]]:
        rows: Rows = []
        bad: dict[int, BadRecord] = {}
        for place, (document, value) in enumerate(zip(context.documents.column(batch), batch.values, strict=True)):
            try:
                rows.append(row(document, value))
            except ValueError as error:
                rows.append(None)
                bad[place] = part.step.bad(str(error))
        return rows, bad

    return evaluate


def _write_values(batch: Batch, column: Sequence[bytes | None]) -> dict[int, str]:
    """A result of null is JSON's null; only a record that had no value has none."""
    batch.values = [
        old if old is None else b"null" if new is None else new for old, new in zip(batch.values, column, strict=True)
    ]
    return {}


def _write_keys(batch: Batch, column: Sequence[bytes | None]) -> dict[int, str]:
    batch.keys = list(column)
    return {
        place: "it gives null for a tombstone, which deletes nothing without a key"
        for place, (key, value) in enumerate(zip(column, batch.values, strict=True))
        if key is None and value is None
    }


def _is_kept(row: object) -> bool:
    return row is not None

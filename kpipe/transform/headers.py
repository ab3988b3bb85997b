"""Sets, adds, drops and renames headers; the others keep their order and their duplicates.

Never changes a list of headers in place: records may share one.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING

from kpipe.formats.header_names import name_in_argument
from kpipe.transform.columns import headers_of
from kpipe.transform.step import reject, split_assignment
from kpipe.transform.template import Template

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.record import Batch, Headers
    from kpipe.transform.context import Context
    from kpipe.transform.step import Step, TransformStage

# What kpipe itself writes on a record's way (trace.py) and on dead letters.
_TRACE = re.compile(
    r"(source|origin)_(topic|partition|offset|consumer_group|cluster|timestamp|host|file|line)"
    r"|source_attempts|trace_hops|error_(code|message|stage)"
)


def set_header(step: Step, context: Context) -> TransformStage:
    """`--set-header NAME=TEMPLATE`: in place of the first header of that name, the other ones of that name leave."""
    return _write_header(step, context, replace_header)


def add_header(step: Step, context: Context) -> TransformStage:
    """`--add-header NAME=TEMPLATE`: behind the others, whatever their names."""
    return _write_header(step, context, _append_header)


def drop_header(step: Step, _context: Context) -> TransformStage:
    """`--drop-header NAME_OR_GLOB`: every header whose name matches; none is fine."""
    if not step.text:
        raise step.usage('no name; write NAME or a glob, for example --drop-header "x-*"')
    return _drop_matching(re.compile(translate(step.text)).match)


def strip_trace(_step: Step, _context: Context) -> TransformStage:
    """`--strip-trace`: the trace and error headers of earlier hops; what this hop adds comes later."""
    return _drop_matching(_TRACE.fullmatch)


def rename_header(step: Step, _context: Context) -> TransformStage:
    """`--rename-header A=B`: every header called A, in its place; none is fine."""
    old, new = map(name_in_argument, split_assignment(step, "OLD=NEW", "id=event-id"))
    if not new:
        raise step.usage('no name behind "="; write OLD=NEW, for example --rename-header id=event-id')

    def stage(batch: Batch) -> None:
        if batch.headers is not None:
            batch.headers = [
                headers and [(new if name == old else name, value) for name, value in headers]
                for headers in batch.headers
            ]

    return stage


def replace_header(headers: Headers | None, name: str, value: bytes | None) -> Headers:
    """Headers with exactly one called `name`: where the first was, or at the end."""
    others = [header for header in headers or () if header[0] != name]
    place = next((at for at, header in enumerate(headers or ()) if header[0] == name), len(others))
    others.insert(place, (name, value))
    return others


def _append_header(headers: Headers | None, name: str, value: bytes | None) -> Headers:
    return [*(headers or ()), (name, value)]


def _write_header(
    step: Step, context: Context, write: Callable[[Headers | None, str, bytes | None], Headers]
) -> TransformStage:
    name, text = split_assignment(step, "NAME=TEMPLATE", "origin={topic}")
    name = name_in_argument(name)
    template = Template(step, text, context.documents)

    def stage(batch: Batch) -> None:
        values, missing = template.render(batch)
        headers = headers_of(batch)
        batch.headers = [write(old, name, value) for old, value in zip(headers, values, strict=True)]
        reject(batch, step, missing)

    return stage


def _drop_matching(matches: Callable[[str], object]) -> TransformStage:
    def stage(batch: Batch) -> None:
        if batch.headers is not None:
            batch.headers = [
                headers and ([header for header in headers if not matches(header[0])] or None)
                for headers in batch.headers
            ]

    return stage

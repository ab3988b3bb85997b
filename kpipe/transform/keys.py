"""Sets, takes from the value, or drops the keys of a batch.

Never leaves an old key where a new one could not be made: such a record is bad.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.transform import path
from kpipe.transform.document import Field
from kpipe.transform.step import reject
from kpipe.transform.template import Template

if TYPE_CHECKING:
    from kpipe.record import Batch
    from kpipe.transform.context import Context
    from kpipe.transform.step import Step, TransformStage


def set_key(step: Step, context: Context) -> TransformStage:
    """`--set-key TEMPLATE`: an empty result is an empty key, not a null one."""
    template = Template(step, step.text, context.documents)

    def stage(batch: Batch) -> None:
        batch.keys, missing = template.render(batch)
        reject(batch, step, missing)

    return stage


def key_field(step: Step, context: Context) -> TransformStage:
    """`--key-field JSON_PATH`: a string raw, anything else as compact JSON; absent or null is bad."""
    try:
        field = Field(path.parse(step.text), step.text, context.documents)
    except ValueError as error:
        raise step.usage(str(error)) from None

    def stage(batch: Batch) -> None:
        batch.keys = field.column(batch)
        if None in batch.keys:
            missing = [place for place, key in enumerate(batch.keys) if key is None]
            reject(batch, step, {place: field.why_missing(batch, place) for place in missing})

    return stage


def drop_key(_step: Step, _context: Context) -> TransformStage:
    """`--drop-key`: every key is null."""

    def stage(batch: Batch) -> None:
        batch.keys = None

    return stage

"""How tests of transforms apply them: steps in, the changed batch out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.transform.chain import build

if TYPE_CHECKING:
    from kpipe.record import Batch
    from kpipe.transform.chain import Step


def run_steps(batch: Batch, *steps: Step, **outside) -> Batch:
    for stage in build(steps, **outside):
        stage(batch)
    return batch

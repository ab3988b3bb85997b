"""The stages between source and sink that options ask for, in order.

It builds them once, at the start; they run in `kpipe.pipeline`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kpipe.clusters.environment import given, hide
from kpipe.trace import Hop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.options import TraceOptions
    from kpipe.pipeline import PipelineStage
    from kpipe.sinks.target import Target
    from kpipe.transform.patterns import Patience
    from kpipe.transform.results import Evaluator
    from kpipe.transform.step import Step


def hop_to(
    ready: Target | None,
    trace: TraceOptions,
    *,
    cluster: str = "",
    group: str | None = None,
    host: str = "",
    times: bool = False,
) -> Hop:
    """The hop of this run, from a cluster's id to a target (None: each record has its own); `times` tells times."""
    return Hop(
        cluster,
        group,
        target_cluster="" if ready is None else ready.cluster_id,
        target_topic="" if ready is None else ready.topic,
        max_hops=trace.max_hops,
        prefix=trace.trace_prefix,
        host=host,
        full=trace.trace == "full",
        times=times,
    )


def build_stages(steps: Sequence[Step], patience: Patience) -> list[PipelineStage]:
    """The transforms, in the order given; nothing is imported when there are none."""
    if not steps:
        return []
    from kpipe.transform.chain import build

    hide(step.text.removeprefix("env:") for step in steps if step.name == "hash-salt")
    return build(steps, environ=given(), read_file=_read_file, patience=patience, run_apart=_run_apart)


def _read_file(path: str) -> bytes:
    return Path(path).read_bytes()


def _run_apart(source: str, patience: Patience) -> Evaluator:
    from kpipe.through.jq_process import JqProcess

    return JqProcess(source, patience)

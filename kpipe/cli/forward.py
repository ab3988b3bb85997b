"""`kpipe forward SOURCE… TARGET`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kpipe.cli.command import build_command
from kpipe.options import (
    PLACE,
    ConnectionOptions,
    ForwardOptions,
    Operand,
    ReencodeOptions,
    RunOptions,
    SchemaOptions,
    SelectionOptions,
    TargetOptions,
    TraceOptions,
)

if TYPE_CHECKING:
    from kpipe.transform.step import Step

HELP = (
    "Send the records of SOURCE… to TARGET: raw bytes, all headers in order, keys and timestamps kept, trace headers "
    "added. With --group nothing is lost: an offset is committed only when its record has been acknowledged. Follows "
    "the sources; -e stops at their end as it was at the start."
)
EXAMPLES = (
    ("copy a topic to another cluster, once", "kpipe forward -e prod:orders staging:orders"),
    ("keep copying; a restart goes on where it was", "kpipe forward -G mirror prod:orders staging:orders"),
    (
        "only errors, with their service as the key",
        "kpipe forward -G errors --grep ERROR --key-field .service logs errors",
    ),
    ("topics to another cluster under their names", "kpipe forward -G mirror --create 'prod:^orders' dr:"),
    ("the same partition numbers", "kpipe forward -e --to-partition same a:orders b:orders"),
)
ARGUMENTS = {
    "places": Operand(
        "SOURCE… TARGET", "Topics to read, then the topic to write; CLUSTER: keeps names.", many=True, completion=PLACE
    )
}


def forward(
    places: list[str],
    connection: ConnectionOptions,
    selection: SelectionOptions,
    options: ForwardOptions,
    sending: TargetOptions,
    trace: TraceOptions,
    schemas: SchemaOptions,
    writing: ReencodeOptions,
    run: RunOptions,
    steps: list[Step],
) -> int:
    """Plan and run, here or in several processes."""
    worker = None
    if options.workers and not sending.dry_run:  # a preview joins no group: each of them would show all
        from kpipe.cli import workers
        from kpipe.plan.rules import check_workers
        from kpipe.sinks.outputs import check_outputs

        check_workers(options.workers, selection)
        check_outputs(run.summary, sending.spill, run.metrics_file)
        worker, selection, run = workers.as_worker(selection, run)
        if worker is None:
            return workers.supervise(options.workers, sys.argv[1:], run, fail_if_empty=selection.fail_if_empty)
    from kpipe.cli.run import execute
    from kpipe.plan.forward import plan_forward

    def plan(stop: Any, say: Any) -> Any:
        asked = (places, connection, selection, options, sending, trace, schemas, writing, run, steps)
        planned = plan_forward(*asked, stop, say)
        if worker is not None:
            teller = worker.teller(planned.pipeline.ledger, planned.away, _more_of(planned, run))
            planned.pipeline.observers.append(teller)
        return planned

    own = run if worker is None else replace(run, metrics="", metrics_file="")  # the supervisor speaks for all
    return execute(plan, own, fail_if_empty=selection.fail_if_empty and worker is None, spill=sending.spill)


def _more_of(planned: Any, run: RunOptions) -> Any:
    """What a worker tells beside its balance, when the run is watched."""
    if not (run.metrics or run.metrics_file):
        return dict
    from kpipe.run.telemetry import telling

    return telling(planned)


app = build_command(
    forward,
    name="forward",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(
        ConnectionOptions,
        SelectionOptions,
        ForwardOptions,
        TargetOptions,
        TraceOptions,
        SchemaOptions,
        ReencodeOptions,
        RunOptions,
    ),
)

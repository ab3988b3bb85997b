"""`kpipe consume SOURCE…`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpipe.cli.command import build_command
from kpipe.options import (
    PLACE,
    ConnectionOptions,
    Operand,
    OutputOptions,
    RunOptions,
    SchemaOptions,
    SelectionOptions,
)

if TYPE_CHECKING:
    from kpipe.transform.step import Step

HELP = (
    "Print the records of SOURCE…, topics written [cluster:]topic or HOST:PORT/topic, ^regex for topic: the value and "
    "a line end, from "
    "the beginning on, waiting for more at the end. With --group, what was written to stdout is committed."
)
EXAMPLES = (
    ("what is in a topic, then stop", "kpipe consume -e orders"),
    ("the last ten records of each partition, with everything", "kpipe consume -o -10 -e -J orders"),
    ("the last quarter of an hour", "kpipe consume -o @-15m -e orders"),
    ("follow from now on", "kpipe consume -o end orders | grep --line-buffered ERROR"),
    ("what a group has not read yet", "kpipe consume -G nightly -e orders > orders.txt"),
)
ARGUMENTS = {"sources": Operand("SOURCE…", "Topics, or ^regex, of one cluster.", many=True, completion=PLACE)}


def consume(
    sources: list[str],
    connection: ConnectionOptions,
    selection: SelectionOptions,
    options: OutputOptions,
    schemas: SchemaOptions,
    run: RunOptions,
    steps: list[Step],
) -> int:
    """Plan and run."""
    from kpipe.cli.run import execute
    from kpipe.plan.consume import plan_consume

    def plan(stop: Any, say: Any) -> Any:
        return plan_consume(sources, connection, selection, options, schemas, run, steps, stop, say)

    return execute(plan, run, fail_if_empty=selection.fail_if_empty)


app = build_command(
    consume,
    name="consume",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, SelectionOptions, OutputOptions, SchemaOptions, RunOptions),
)

"""`kpipe produce TARGET [FILE…]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kpipe.cli.command import build_command
from kpipe.cli.options import Connection, Input, Record, Run, Target, Trace

if TYPE_CHECKING:
    from kpipe.transform.step import Step

HELP = (
    "Send stdin or files to TARGET, a topic written [cluster:]topic. A line is a record: its value, without the line "
    "end. An empty line is a record with an empty value; an unterminated last line is a record."
)
EXAMPLES = (
    ("one record", "echo hello | kpipe produce greetings"),
    ("key and value from each line", "kpipe produce -K : users < users.txt"),
    ("a lossless copy through a pipe", "kpipe consume -J -e a | kpipe produce --input json b"),
    ("find names with any byte in them", "find . -print0 | kpipe produce -0 files"),
)
ARGUMENTS = {
    "target": (Annotated[str, typer.Argument(metavar="TARGET", help="The topic to write to.")], ...),
    "files": (Annotated[list[str], typer.Argument(metavar="[FILE]…", help="Files to read; - is stdin.")], []),
}


def produce(
    target: str,
    files: list[str],
    connection: Connection,
    options: Input,
    record: Record,
    sending: Target,
    trace: Trace,
    run: Run,
    steps: list[Step],
) -> int:
    """Plan and run."""
    from kpipe.cli.run import execute
    from kpipe.plan.produce import plan_produce

    def plan(stop: Any, say: Any) -> Any:
        return plan_produce(target, files, connection, options, record, sending, trace, run, steps, stop, say)

    return execute(plan, run)


app = build_command(
    produce,
    name="produce",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(Connection, Input, Record, Target, Trace, Run),
)

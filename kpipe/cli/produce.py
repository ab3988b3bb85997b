"""`kpipe produce TARGET [FILE…]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpipe.cli.command import build_command
from kpipe.options import (
    FILE,
    PLACE,
    ConnectionOptions,
    EncodeOptions,
    InputOptions,
    Operand,
    RecordOptions,
    RunOptions,
    TargetOptions,
    TraceOptions,
)

if TYPE_CHECKING:
    from kpipe.transform.step import Step

HELP = (
    "Send stdin or files to TARGET, a topic written [cluster:]topic or HOST:PORT/topic. A line is a record: its value, "
    "without the line "
    "end. An empty line is a record with an empty value; an unterminated last line is a record."
)
EXAMPLES = (
    ("one record", "echo hello | kpipe produce greetings"),
    ("key and value from each line", "kpipe produce -K : users < users.txt"),
    ("a lossless copy through a pipe", "kpipe consume -J -e a | kpipe produce --input json b"),
    (
        "Avro by a schema of the registry",
        "echo '{\"id\":7}' | kpipe produce --encode avro --schema orders-value orders",
    ),
    ("find names with any byte in them", "find . -print0 | kpipe produce -0 files"),
)
ARGUMENTS = {
    "target": Operand("TARGET", "The topic to write to.", completion=PLACE),
    "files": Operand("[FILE]…", "Files to read; - is stdin.", many=True, required=False, completion=FILE),
}


def produce(
    target: str,
    files: list[str],
    connection: ConnectionOptions,
    options: InputOptions,
    record: RecordOptions,
    sending: TargetOptions,
    trace: TraceOptions,
    schemas: EncodeOptions,
    run: RunOptions,
    steps: list[Step],
) -> int:
    """Plan and run."""
    from kpipe.cli.run import execute
    from kpipe.plan.produce import plan_produce

    def plan(stop: Any, say: Any) -> Any:
        return plan_produce(target, files, connection, options, record, sending, trace, schemas, run, steps, stop, say)

    return execute(plan, run, spill=sending.spill)


app = build_command(
    produce,
    name="produce",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, InputOptions, RecordOptions, TargetOptions, TraceOptions, EncodeOptions, RunOptions),
)

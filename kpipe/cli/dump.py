"""`kpipe dump SOURCE DIR`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpipe.cli.command import build_command
from kpipe.errors import UsageError
from kpipe.ops.options import DumpOptions
from kpipe.options import FILE, PLACE, ConnectionOptions, Operand, RunOptions

if TYPE_CHECKING:
    from kpipe.plan import Planned
    from kpipe.shutdown import Stop

HELP = (
    "Keep SOURCE, one topic, as files in DIR: segments of envelopes, compressed, with everything that Kafka keeps of a "
    "record; manifest.json, written last, has their counts and SHA-256, the topic's settings, and where groups stood. "
    "It ends at the topic's end of now. The same command goes on behind the last whole segment, after a signal or a "
    "fault, and on another day. No group is joined, nothing is committed. kpipe load brings it back."
)
EXAMPLES = (
    ("a topic, as files", "kpipe dump prod:orders /backup/orders"),
    ("the number of each value's records, with other tools", "kpipe dump orders d && zcat d/*.gz | jq -r .value"),
)
ARGUMENTS = {
    "source": Operand("SOURCE", "The topic: [CLUSTER:]NAME.", completion=PLACE),
    "folder": Operand("DIR", "The folder; it is made when it is missing.", completion=FILE),
}


def dump(source: str, folder: str, connection: ConnectionOptions, options: DumpOptions, run: RunOptions) -> int:
    """Plan and run."""
    from kpipe.cli.run import execute
    from kpipe.ops.dump import plan_dump

    if run.on_error != "stop":
        raise UsageError(f"--on-error {run.on_error}: a dump leaves no record out")

    def plan(stop: Stop, say: Any) -> Planned:
        return plan_dump(source, folder, connection, options, stop, say)

    return execute(plan, run)


app = build_command(
    dump,
    name="dump",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, DumpOptions, RunOptions),
    transforms=False,
)

"""`kpipe load DIR TARGET`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.errors import DifferenceError, Exit, Interrupted, Stage, UsageError
from kpipe.ops.options import LoadOptions
from kpipe.options import FILE, PLACE, ConnectionOptions, Operand, RunOptions

if TYPE_CHECKING:
    from kpipe.ops.load import Load
    from kpipe.plan import Planned
    from kpipe.shutdown import Stop

HELP = (
    "Send a dump, the folder DIR that kpipe dump wrote, to TARGET: each record to the partition it had, with key, "
    "value, headers and time, and trace headers that say where it was. First every file is compared with its SHA-256, "
    "and the target is read: what an earlier load brought is left out, a topic with other records or another number "
    "of partitions is refused. Afterwards the target is compared with the dump, record by record; exit code 5 when "
    "they differ."
)
EXAMPLES = (
    ("what would be done", "kpipe load --dry-run --create /backup/orders dr:orders"),
    ("a new topic, as it was", "kpipe load --create /backup/orders dr:orders"),
)
ARGUMENTS = {
    "folder": Operand("DIR", "The folder of the dump.", completion=FILE),
    "target": Operand("TARGET", "The topic to write to: [CLUSTER:]NAME.", completion=PLACE),
}


def load(folder: str, target: str, connection: ConnectionOptions, options: LoadOptions, run: RunOptions) -> int:
    """Check, send, compare."""
    from kpipe.cli.run import execute
    from kpipe.ops.load import plan_load

    if run.on_error != "stop":
        raise UsageError(f"--on-error {run.on_error}: a load leaves no record out")
    if options.dry_run:
        return _preview(folder, target, connection, options, run)
    loads: list[tuple[Load, Stop]] = []

    def plan(stop: Stop, say: Any) -> Planned:
        loads.append((plan_load(target, Path(folder), (connection, options, run), stop, say), stop))
        planned = loads[0][0].planned
        assert planned is not None  # noqa: S101 - it is not a dry run
        return planned

    code = execute(plan, run)
    (found, stop), pipeline = loads[0], None if loads[0][0].planned is None else loads[0][0].planned.pipeline
    if options.no_compare or pipeline is None or pipeline.error is not None or not pipeline.ledger.complete:
        return code
    try:
        _compare(found, stop, run)
    except Interrupted:
        _die(stop)
    return code


def _preview(folder: str, target: str, connection: ConnectionOptions, options: LoadOptions, run: RunOptions) -> int:
    from kpipe.ops.load import plan_load
    from kpipe.shutdown import Stop

    stop = Stop(run.drain_timeout)
    stop.install()
    try:
        for line in plan_load(target, Path(folder), (connection, options, run), stop, tell).preview():
            tell(line)
    except Interrupted:
        _die(stop)
    return int(Exit.OK)


def _die(stop: Stop) -> None:
    from kpipe.shutdown import die_by

    die_by(stop.signal or signal.SIGINT)


def _compare(load: Load, stop: Stop, run: RunOptions) -> None:
    """Tell how the target compares with the dump; DifferenceError when they differ."""
    verdict = load.compare(lambda: stop.requested)
    thinned = load.present.thinned
    found = verdict.differences(allow_missing=thinned)
    if found.get("altered") == verdict.epoch:
        found.pop("altered", None)  # told when they were sent
    where = f"{load.folder} -> {load.where}"
    if found:
        raise DifferenceError(
            ", ".join(f"{count:,} {kind}" for kind, count in found.items()), where=where, stage=Stage.SETTLE
        )
    if not run.quiet:
        gone = f"; {verdict.missing:,} are gone since, by compaction or retention" if verdict.missing else ""
        tell(f"{where}: compared: {verdict.source - verdict.missing:,} records are the same{gone}")


app = build_command(
    load,
    name="load",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, LoadOptions, RunOptions),
    transforms=False,
)

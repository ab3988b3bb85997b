"""`kpipe load DIR TARGET`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.cli.change import conclude_change, confirmed, keep_way_back, refuse_silence
from kpipe.cli.command import build_command
from kpipe.cli.moves import progress, show_moves
from kpipe.errors import DifferenceError, Exit, Interrupted, Stage, UsageError
from kpipe.ops.options import ChangeOptions, LoadOptions
from kpipe.options import FILE, PLACE, ConnectionOptions, Operand, RunOptions
from kpipe.units import counted

if TYPE_CHECKING:
    from kpipe.ops.load import Load
    from kpipe.plan import Planned
    from kpipe.shutdown import Stop

HELP = (
    "Send a dump, the folder DIR that kpipe dump wrote, to TARGET: each record to the partition it had, with key, "
    "value, headers and time, and trace headers that say where it was. First every file is compared with its SHA-256, "
    "and the target is read: what an earlier load brought is left out, a topic with other records or another number "
    "of partitions is refused. Afterwards the target is compared with the dump, record by record; exit code 5 when "
    "they differ. With --groups consumer groups of the dump go on there at the records that they had to read next, "
    "never behind one that they have not read: first the plan is shown, and --execute does it."
)
EXAMPLES = (
    ("what would be done", "kpipe load --dry-run --create /backup/orders dr:orders"),
    ("a new topic, as it was", "kpipe load --create /backup/orders dr:orders"),
    ("and its consumer groups go on there", "kpipe load --groups --execute /backup/orders dr:orders"),
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
    change = ChangeOptions(execute=options.execute, yes=options.yes, json=options.json)
    if not (options.groups or options.group) and (asked := _only_for_groups(options)):
        raise UsageError(f"{asked} is about groups; add --groups")
    refuse_silence(change, "nothing was sent")
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
    if pipeline is None or pipeline.error is not None or not pipeline.ledger.complete:
        return code
    try:
        if not options.no_compare:
            _compare(found, stop, run)
        if found.groups:
            return _put_groups(found, options, change, stop) or code
    except Interrupted:
        _die(stop)
    return code


def _only_for_groups(options: LoadOptions) -> str:
    """The option that was given and says something about groups only."""
    asked = {"--execute": options.execute, "--yes": options.yes, "--undo": options.undo, "--json": options.json}
    return next((name for name, value in asked.items() if value), "")


def _put_groups(load: Load, options: LoadOptions, change: ChangeOptions, stop: Stop) -> int:
    """Plan, show, confirm, keep the way back, write, read back."""
    from kpipe.ops.load_groups import execute_groups, plan_groups
    from kpipe.ops.positions import default_undo

    with progress("read {:,} copies") as tick:

        def look(count: int) -> None:
            tick(count)
            if stop.requested:
                raise Interrupted("stopped")

        plans = plan_groups(load.connection, load.topic, load.contents, load.groups, look)
    show_moves(plans, change, named=True)
    moves = [move for reset in plans for move in reset.moves]
    passed, repeated = sum(move.skipped for move in moves), sum(move.repeated for move in moves)
    beside = f"; passed: {counted(passed, 'record')} not of the dump" if passed else ""
    tell(
        f"{load.where}: groups: nothing of the dump that they have not read is skipped; "
        f"at most {counted(repeated, 'record is', 'records are')} repeated{beside}"
    )
    name = load.groups[0] if len(load.groups) == 1 else load.topic
    if not confirmed(name, change, "no group was put elsewhere"):
        return 0
    undo = options.undo or default_undo(os.environ, f"load-{load.topic}", time.strftime("%Y%m%dT%H%M%S"))
    keep_way_back(load.connection, undo, [(reset.group, reset.moves) for reset in plans])
    problems = execute_groups(plans)
    return conclude_change(problems, f"{load.where}: {counted(len(plans), 'group')} moved, and read back")


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
        tell(
            f"{where}: compared: {counted(verdict.source - verdict.missing, 'record is', 'records are')} the same{gone}"
        )


app = build_command(
    load,
    name="load",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, LoadOptions, RunOptions),
    transforms=False,
)

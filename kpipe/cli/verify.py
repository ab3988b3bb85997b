"""`kpipe verify SOURCE TARGET`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.errors import DifferenceError, Exit, Interrupted, KpipeError, Stage, UnreachableError, UsageError
from kpipe.options import PLACE, ConnectionOptions, Operand, VerifyOptions, ViewOptions
from kpipe.units import counted

if TYPE_CHECKING:
    from kpipe.plan.verify import Verification
    from kpipe.shutdown import Stop
    from kpipe.verify.compare import Example, Verdict

HELP = (
    "Compare TARGET with the SOURCE it was copied from, record by record, by the trace headers: what is missing, "
    "duplicated, reordered (within a source partition), altered (key, value, headers, timestamp) or extra. Both are "
    "read to their end of now, without a group, in bounded memory. A cluster alone (dr:) in place of TARGET holds a "
    "mirror: each topic of SOURCE is compared with that of its name there. Exit 0 when they agree, 5 when they differ."
)
EXAMPLES = (
    ("after a migration", "kpipe verify old:orders new:orders"),
    ("a mirror: every topic with that of its name", "kpipe verify 'prod:^orders' dr:"),
    ("a filtered copy: what is there must be right", "kpipe verify --allow-missing orders errors"),
    ("a copy that another schema has written", "kpipe verify --decode auto a:orders b:orders"),
    (
        "what was written since this morning, for a program",
        "kpipe verify -o @2026-01-31T06:00 --json a:orders b:orders",
    ),
)
ARGUMENTS = {
    "source": Operand("SOURCE", "The topic that was copied; of a mirror a ^regex or GLOB.", completion=PLACE),
    "target": Operand("TARGET", "The copy; CLUSTER: for a mirror.", completion=PLACE),
}


def verify(
    source: str, target: str, connection: ConnectionOptions, options: VerifyOptions, schemas: ViewOptions
) -> int:
    """Compare and tell; DifferenceError when they differ."""
    from kpipe.shutdown import Stop

    stop = Stop()
    stop.install()
    if not target.endswith(":"):
        return _verify(source, target, connection, options, schemas, stop)
    worst: KpipeError | None = None
    code = 0
    for one, copy in _namesakes(source, target, connection):
        try:
            code = _verify(one, copy, connection, options, schemas, stop) or code
        except (UsageError, UnreachableError):
            raise
        except KpipeError as error:  # the others are compared, too; a topic that is not there weighs most
            tell(str(error), error.id)
            worst = error if worst is None or error.exit_code < worst.exit_code else worst
    return int(worst.exit_code) if worst is not None else code


def _namesakes(source: str, target: str, connection: ConnectionOptions) -> list[tuple[str, str]]:
    """What a mirror holds: each topic that is meant, and the address of that of its name on the other cluster."""
    from kpipe.cli.looking import matching
    from kpipe.ops.places import Clusters

    (entry,) = Clusters(connection, tell).asked([source])
    prefix = f"{entry.connection.name}:" if entry.connection.name and ":" in source else ""
    return [(f"{prefix}{topic}", f"{target}{topic}") for topic in matching(entry)]


def _verify(
    source: str, target: str, connection: ConnectionOptions, options: VerifyOptions, schemas: ViewOptions, stop: Stop
) -> int:
    import signal

    from kpipe.plan.verify import plan_verify
    from kpipe.shutdown import die_by

    try:
        verification = plan_verify(source, target, connection, options, schemas, stop, tell)
        verdict = _run(verification, stop, options)
        held = verification.held_back()
    except Interrupted:
        die_by(stop.signal or signal.SIGINT)
    verification.close()
    found = verdict.differences(allow_missing=options.allow_missing, allow_extra=options.allow_extra)
    if held:
        found["offsets held back by open transactions, which were not compared"] = held
    if options.json:
        sys.stdout.write(_as_json(verification, verdict, held, equal=not found))
    elif not options.quiet:
        sys.stdout.write(_as_text(verification, verdict, held))
    sys.stdout.flush()
    for note in verification.notes():
        tell(note)
    if found:
        what = ", ".join(f"{count:,} {kind}" for kind, count in found.items())
        raise DifferenceError(
            what, where=f"{verification.source.where} -> {verification.target.where}", stage=Stage.SETTLE
        )
    return int(Exit.UNDELIVERED) if verification.notes() else 0


def _run(verification: Verification, stop: Any, options: VerifyOptions) -> Verdict:
    from kpipe.cli.live import LiveLine, may_draw

    if options.quiet or not may_draw():
        return verification.run(stop, lambda: None)
    from kpipe.ledger import Ledger
    from kpipe.run.summary import Summary

    ledger = Ledger()
    live = LiveLine(
        Summary(ledger),
        sys.stderr,
        lambda: float(ledger.read),
        lambda: float(verification.total()) or None,
        verification.watch.away,
    )

    def show() -> None:
        ledger.read = verification.read
        live()

    try:
        return verification.run(stop, show)
    finally:
        live.close()


def _as_text(verification: Verification, verdict: Verdict, held: int) -> str:
    rows = [
        ("source", f"{counted(verdict.source, 'record')} in {verification.source.where}"),
        ("target", f"{counted(verdict.target, 'record')} in {verification.target.where}"),
        *((kind, f"{getattr(verdict, kind):,}") for kind in ("missing", "duplicated", "reordered", "altered", "extra")),
    ]
    if verdict.foreign:
        rows.append(("foreign", f"{verdict.foreign:,} (not made from the source)"))
    if verdict.outside:
        rows.append(("outside", f"{verdict.outside:,} (made from offsets that were not compared)"))
    if verdict.epoch:
        what = "have the time 0 in the source, which Kafka's client sends as the time of now; see --ignore-timestamp"
        rows.append(("", f"{verdict.epoch:,} of the altered {what}"))
    if held:
        rows.append(("held back", f"{counted(held, 'offset')}, by open transactions: not compared"))
    lines = [f"{name:<11} {text}" for name, text in rows]
    return "\n".join([*lines, *(_line(verification, example) for example in verdict.examples)]) + "\n"


def _line(verification: Verification, example: Example) -> str:
    line = f"{example.kind}: {verification.source.where}[{example.partition}]@{example.offset}"
    if example.target is None:
        return line
    partition, offset = example.target
    return f"{line} -> {verification.target.where}[{partition}]@{offset}"


def _as_json(verification: Verification, verdict: Verdict, held: int, *, equal: bool) -> str:
    import orjson

    counts = {kind: getattr(verdict, kind) for kind in ("missing", "duplicated", "reordered", "altered", "extra")}
    found = {
        "equal": equal,
        "source": {"topic": verification.source.where, "records": verdict.source},
        "target": {"topic": verification.target.where, "records": verdict.target},
        **counts,
        "foreign": verdict.foreign,
        "outside": verdict.outside,
        "altered_with_time_0": verdict.epoch,
        "held_back": held,
        "examples": [
            {
                "difference": example.kind,
                "partition": example.partition,
                "offset": example.offset,
                "target_partition": None if example.target is None else example.target[0],
                "target_offset": None if example.target is None else example.target[1],
            }
            for example in verdict.examples
        ],
    }
    return orjson.dumps(found).decode() + "\n"


app = build_command(
    verify,
    name="verify",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, VerifyOptions, ViewOptions),
    transforms=False,
)

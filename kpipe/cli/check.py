"""`kpipe check [CLUSTER…]`."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.errors import Exit, visible
from kpipe.options import CLUSTER, CheckOptions, ConnectionOptions, Operand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.checkup import CheckStep, Checkup

HELP = (
    "Connect to each CLUSTER of the configuration, the current one without a name, and say what is wrong in plain "
    "words and what to try: name, port, TLS, certificate, login, answer, advertised addresses, and rights on topics "
    "and groups. Nothing is changed and no group is joined. Exit code 0: all is fine; 2: the configuration is wrong; "
    "4: the cluster cannot be reached or does not let us in; 1: a topic is not there."
)
EXAMPLES = (
    ("the current cluster", "kpipe check"),
    ("may I read this topic as this group?", "kpipe check prod --topic orders --group nightly"),
    ("all of them, for a script", "kpipe check --json dev staging prod"),
)
ARGUMENTS = {
    "clusters": Operand("[CLUSTER]…", "Clusters of the configuration.", many=True, required=False, completion=CLUSTER)
}
INDENT = 10  # where the text of a step begins
PAUSE = 0.3
"""Seconds between looks with --wait."""
STYLES = {"ok": "green", "warning": "magenta", "failed": "bold red"}  # yellow is not read on a light background


def check(clusters: list[str], connection: ConnectionOptions, options: CheckOptions) -> int:
    """Check one after the other; the exit code is that of the worst."""
    from kpipe.clusters.address import check_group
    from kpipe.kafka.checkup import examine
    from kpipe.plan.places import read_profiles
    from kpipe.units import parse_duration

    for group in options.group:
        check_group(group, "--group")
    profiles = read_profiles(connection)
    for warning in profiles.warnings:
        tell(warning)
    names: list[str | None] = [*clusters] or [None]
    profiles.adopt(names)
    deadline = time.monotonic() + (parse_duration(options.wait, "--wait") if options.wait else 0)
    checkups = []
    for name in names:

        def look(timeout: float, name: str | None = name) -> Checkup:
            shown = name or profiles.current or ""
            return examine(lambda: profiles.resolve(name), shown, options.topic, options.group, timeout)

        checkup = _look_until(look, connection.timeout, deadline)
        if not any(step.name == "configuration" for step in checkup.steps):
            cluster = profiles.resolve(name)
            for warning in cluster.warnings:
                tell(warning)
            _look_at_registry(checkup, cluster)
        checkups.append(checkup)
        if not options.json:
            _print(checkup)
    if options.json:
        _print_json(checkups)
    return int(max(checkup.exit_code for checkup in checkups))


def _look_until(look: Callable[[float], Checkup], timeout: float, deadline: float) -> Checkup:
    """Look until all is well or the time is over; what no waiting will mend ends it at once."""
    while True:
        left = deadline - time.monotonic()
        checkup = look(min(timeout, max(1.0, left)) if left > 0 else timeout)
        if checkup.exit_code in (Exit.OK, Exit.USAGE) or time.monotonic() + PAUSE >= deadline:
            return checkup
        time.sleep(PAUSE)


def _look_at_registry(checkup: Checkup, cluster: Cluster) -> None:
    if cluster.registry or cluster.registry_references:
        from kpipe.ops.registry_check import look_at_registry

        look_at_registry(checkup, cluster)


def _print(checkup: Checkup) -> None:
    """A line a step, coloured on a terminal; nothing in it is read as markup."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())
    brokers = f" ({checkup.brokers})" if checkup.brokers and checkup.brokers != checkup.cluster else ""
    console.print(
        Text(
            visible(f"{checkup.cluster or 'the current cluster'}{brokers}"),
            style="" if os.environ.get("NO_COLOR") else "bold",
        )
    )
    for step in checkup.steps:
        line = _line(step)
        if not sys.stdout.isatty():  # a line a step, for grep
            console.print(line)
            continue
        first, *more = line.wrap(console, console.width - INDENT)
        console.print(first)
        for rest in more:
            console.print(Padding(rest, (0, 0, 0, INDENT)))


def _line(step: CheckStep) -> Any:
    from rich.text import Text

    took = f" ({step.milliseconds:g} ms)" if step.milliseconds is not None and step.name != "answer" else ""
    line = Text.assemble("  ", (f"{step.state.value:8}", STYLES[step.state.value]), f"{visible(step.name)}: ")
    line.append(visible(step.text) + took)
    if step.advice:
        line.append(f"; {visible(step.advice)}")
    return line


def _print_json(checkups: Sequence[Checkup]) -> None:
    import json

    answer = [
        {
            "cluster": checkup.cluster,
            "brokers": checkup.brokers,
            "ok": not checkup.exit_code,
            "exit_code": int(checkup.exit_code),
            "steps": [asdict(step) for step in checkup.steps],
        }
        for checkup in checkups
    ]
    sys.stdout.write(json.dumps({"clusters": answer}, indent=2) + "\n")


app = build_command(
    check,
    name="check",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, CheckOptions),
    transforms=False,
)

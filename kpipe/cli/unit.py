"""`kpipe unit KIND -- COMMAND…`."""

from __future__ import annotations

import os
import sys
from typing import Any

from typer.exceptions import TyperException
from typer.main import get_command

from kpipe import __version__
from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.errors import UsageError
from kpipe.options import Operand, UnitOptions, check_choice

KINDS = ("systemd", "timer", "cron", "k8s", "compose")
HELP = (
    "Print a ready unit of KIND (systemd, timer, cron, k8s, compose) that runs COMMAND, a kpipe command line: "
    "with time to drain, restart rules by exit code, hardening, memory limits and probes. Secrets are references only."
)
EXAMPLES = (
    ("keep forwarding, as a service", "kpipe unit systemd -- forward -G mirror prod:orders staging:orders"),
    ("every night at three", "kpipe unit timer --schedule 03:00 -- consume -G nightly -e -J orders"),
    ("four pods that scale by lag", "kpipe unit k8s --scale keda -- forward -b kafka:9092 -G mirror orders copy"),
)
ARGUMENTS = {"words": Operand("KIND -- COMMAND…", "The kind of unit, then the command line.", many=True)}


def unit(words: list[str], options: UnitOptions) -> int:
    """Check the command line, and print its unit."""
    kind = check_choice("kpipe unit", words[0], KINDS)
    if len(words) < 2:
        raise UsageError(f"kpipe unit {kind}: name the command line, as in: kpipe unit {kind} -- forward -G g a:t b:t")
    line = read_line(words[1:], options, absolute_paths=kind in ("systemd", "timer", "cron"))
    sys.stdout.write(_print(kind, line, options))
    if kind in ("systemd", "timer"):
        _warn_of_hidden_command()
    if line.repeats:
        tell(
            "forward without -G starts from the beginning each time the unit starts, and sends all again; add -G GROUP"
        )
    return 0


def _print(kind: str, line: Any, options: UnitOptions) -> str:
    from kpipe.clusters.environment import installed_command

    match kind:
        case "systemd":
            from kpipe.deploy.systemd import service

            return service(line, installed_command(), __version__)
        case "timer":
            from kpipe.deploy.systemd import timer

            return timer(line, installed_command(), __version__, options.schedule)
        case "cron":
            from kpipe.deploy.cron import crontab

            return crontab(line, installed_command(), __version__, options.schedule)
        case "compose":
            from kpipe.deploy.compose import compose

            return compose(line, __version__, image=options.image)
    from kpipe.deploy.kubernetes import manifests

    return manifests(
        line,
        __version__,
        image=options.image,
        replicas=options.replicas,
        schedule=options.schedule,
        scale=options.scale,
        most=options.max_replicas,
    )


def _warn_of_hidden_command() -> None:
    """The service, which sees no home, could not start a kpipe that lies in one."""
    from kpipe.clusters.environment import installed_command
    from kpipe.deploy.systemd import hidden

    if path := hidden(installed_command()):
        tell(f"{path}: the service sees no home and no /tmp; install kpipe for all users, or as one file")


PATHS = ("config_file", "config", "transforms", "schema", "spill", "summary", "ack", "commit_acked", "metrics_file")
WRITTEN = ("spill", "summary", "ack", "commit_acked", "metrics_file")


def read_line(words: list[str], options: UnitOptions, *, absolute_paths: bool) -> Any:
    """The command line as the command's own parser reads it; whatever it would refuse is refused here."""
    from kpipe.cli import app
    from kpipe.cli.commands import COMMANDS
    from kpipe.deploy import commandline

    words = words[1:] if words[0] == "kpipe" else words
    name = words[0] if words else ""
    if name not in commandline.RUNS:
        raise UsageError(f"kpipe unit: a unit runs {', '.join(commandline.RUNS)}, not {name!r}")
    assert name in COMMANDS  # noqa: S101
    command: Any = get_command(app).get_command(None, name)  # type: ignore[attr-defined]
    try:
        context = command.make_context(name, list(words[1:]))
    except TyperException as error:
        raise UsageError(f"kpipe unit: {name}: {error.format_message().rstrip('.')}") from None
    values = context.params
    commandline.refuse_secrets(values.get("properties") or ())
    places = [str(each) for each in values.get("places") or values.get("sources") or [values.get("target") or ""]]
    group = str(values.get("group") or "")
    bounded = bool(
        values.get("exit")
        or values.get("until")
        or values.get("count") is not None
        or (name == "produce" and values.get("files"))
    )
    if name == "produce" and not values.get("files"):
        raise UsageError("kpipe unit: produce would read the unit's stdin, which is empty; name files")
    arguments, written = list(words), []
    for option in PATHS:
        given = values.get(option)
        for path in [given] if isinstance(given, str) else given or ():
            if not path:
                continue
            if absolute_paths and path in arguments:
                arguments[arguments.index(path)] = commandline.absolute(path)
            if option in WRITTEN:
                written.append(commandline.absolute(path).rpartition("/")[0] or "/")
    sources = places[:-1] if name == "forward" and not values.get("to_origin") else places
    return commandline.CommandLine(
        tuple(arguments),
        commandline.unit_name(name, group, places, options.name),
        bounded,
        group,
        tuple(place.rpartition(":")[2] for place in sources) if name != "produce" else (),
        str(values.get("brokers") or ""),
        float(values.get("drain_timeout") or 9.0),
        _buffer(values.get("buffer")),
        int(values.get("workers") or 1),
        "end" not in (values.get("offset") or ()),
        writes=tuple(dict.fromkeys(written)),
        credentials=commandline.parse_credentials(options.credential),
        repeats=name == "forward" and not (bounded or group or values.get("resume_by_trace")),
        config="" if values.get("config") else _configuration([*places, *_further(values)]),
    )


def _further(values: Any) -> list[str]:
    """Other places that a line sends to."""
    return [*(values.get("also") or ()), str(values.get("on_error") or "").removeprefix("dlq:")]


def _configuration(places: list[str]) -> str:
    """The user's configuration, when there is one or a place names a cluster of one."""
    from kpipe.clusters.profiles import Flags, user_config_path
    from kpipe.clusters.project import current_folder
    from kpipe.deploy.commandline import names_cluster

    path, _ = user_config_path(Flags(), os.environ, current_folder())
    return str(path) if path and (path.is_file() or any(map(names_cluster, places))) else ""


def _buffer(value: Any) -> int:
    from kpipe.units import parse_size

    return int(parse_size(value)) if isinstance(value, str) else int(value or 32 << 20)


app = build_command(
    unit, name="unit", help=HELP, examples=EXAMPLES, arguments=ARGUMENTS, groups=(UnitOptions,), transforms=False
)

"""The commands as typer built them, for what is written about them: manual, reference, tests.

It runs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from typer.main import get_command

from kpipe.cli import app
from kpipe.options import PANELS

if TYPE_CHECKING:
    from collections.abc import Iterator


def load(name: str) -> tuple[Any, Any]:
    """A command, and the module that declares it."""
    return get_command(app).get_command(None, name), importlib.import_module(f"kpipe.cli.{name}")  # type: ignore[attr-defined]


def subcommands(command: Any) -> dict[str, Any]:
    """Those of a group of commands, by name; none for a command of its own."""
    if not hasattr(command, "list_commands"):
        return {}
    return {name: command.get_command(None, name) for name in command.list_commands(None)}


def context(command: Any) -> Any:
    """What typer wants to have when it is asked for a parameter's help."""
    return command.context_class(command, info_name=command.name, resilient_parsing=True)


def panels(command: Any) -> dict[str, list[Any]]:
    """The parameters by their panel in --help: arguments first, then the order of `kpipe.options`."""
    found: dict[str, list[Any]] = {}
    for parameter in command.get_params(context(command)):
        panel = getattr(parameter, "rich_help_panel", None) or "Other"
        found.setdefault("Arguments" if parameter.param_type_name == "argument" else panel, []).append(parameter)
    return {panel: found[panel] for panel in dict.fromkeys(("Arguments", *PANELS, *found)) if panel in found}


def described(command: Any, parameters: list[Any]) -> Iterator[tuple[Any, str]]:
    """Each parameter that --help shows, with what it says there: text, default, range."""
    for parameter in parameters:
        if not getattr(parameter, "hidden", False):
            record = parameter.get_help_record(context(command))
            yield parameter, record[1] if record else parameter.help or ""


def metavar(parameter: Any) -> str:
    """What stands for the value."""
    return str(parameter.metavar or parameter.type.name.upper())


def names_of(parameter: Any) -> list[str]:
    """All names of an option."""
    return [*parameter.opts, *parameter.secondary_opts]

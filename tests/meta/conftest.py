"""What the house checks itself with: the tree, and the commands as typer built them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from kpipe.cli.commands import COMMANDS
from kpipe.cli.manual import load

ROOT = Path(__file__).parents[2]


@cache
def all_commands() -> dict[str, Any]:
    """Every command by its full name: `config show` for one of a group."""
    found = {}
    for name in COMMANDS:
        command, _ = load(name)
        if hasattr(command, "list_commands"):
            found |= {f"{name} {sub}": command.get_command(None, sub) for sub in command.list_commands(None)}
        else:
            found[name] = command
    return found

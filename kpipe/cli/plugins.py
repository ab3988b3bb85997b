"""`kpipe plugins`: what other distributions offer to this kpipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.cli.command import build_command
from kpipe.cli.looking import json_line, look_of, write
from kpipe.ops.options import LookingOptions

if TYPE_CHECKING:
    from kpipe.plugins import Plugin

HELP = (
    "List the plugins that are installed beside kpipe: transforms (--call NAME), decoders (--decode plugin:NAME) and "
    "secrets (password_plugin in a profile). They are found by their entry points and not imported: a plugin is loaded "
    "only when it is named. Exit code 1: one of them cannot be used, and is marked."
)
EXAMPLES = (("which are there", "kpipe plugins"), ("for programs", "kpipe plugins --json"))


def plugins(looking: LookingOptions) -> int:
    """Print the table."""
    from kpipe.ops.table import Table
    from kpipe.plugins import TYPED, offered

    found = offered()
    if looking.json:
        write("".join(json_line(_fields(each)) for each in found))
    elif not found:
        from kpipe.cli import tell

        tell("no plugins are installed beside kpipe; docs/plugins.md shows how one is made")
    else:
        table = Table(("KIND", "NAME", "TYPED AS", "DISTRIBUTION", "VERSION", "PROBLEM?"))
        for each in found:
            typed = TYPED[each.kind].format(each.name)
            table.add(each.kind, each.name, typed, each.distribution, each.version, each.problem, styles={5: "bad"})
        write(table.text(look_of(looking)))
    return 1 if any(each.problem for each in found) else 0


def _fields(plugin: Plugin) -> dict[str, str | None]:
    """`version` is that of the JSON, in every command."""
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "distribution": plugin.distribution,
        "distribution_version": plugin.version,
        "reference": plugin.reference,
        "problem": plugin.problem or None,
    }


app = build_command(
    plugins, name="plugins", help=HELP, examples=EXAMPLES, arguments={}, groups=(LookingOptions,), transforms=False
)

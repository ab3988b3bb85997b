"""A command of several subcommands, such as `kpipe config show`: each is put together when it is called.

It knows typer and nothing of what the subcommands do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from typer.core import TyperGroup

from kpipe.cli.command import HELP_NAMES, build_command, write_examples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.options import Operand, Options


class Subcommand(NamedTuple):
    """One of them. `run` is a function, or `module:function` of a module in `kpipe.cli`, imported when it is called."""

    run: Callable[..., int] | str
    help: str
    arguments: dict[str, Operand]
    groups: tuple[type[Options], ...]
    without: tuple[str, ...] = ()
    """Options of the first group that it does not offer: it means something else by their name."""


class SubcommandGroup(TyperGroup):
    """The subcommands of one command."""

    subcommands: Mapping[str, Subcommand]
    examples: Sequence[tuple[str, str]]

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of use."""
        return list(self.subcommands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them."""
        asked = self.subcommands.get(cmd_name)
        if asked is None:
            return None
        app = build_command(
            _find(asked.run), name=cmd_name, help=asked.help, examples=(), arguments=asked.arguments,
            groups=asked.groups, transforms=False, without=asked.without,
        )  # fmt: skip
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, each line as it is typed."""
        write_examples(self.examples, formatter)


def _find(run: Callable[..., int] | str) -> Callable[..., int]:
    if not isinstance(run, str):
        return run
    module, _, function = run.partition(":")
    found: Callable[..., int] = getattr(importlib.import_module(f"kpipe.cli.{module}"), function)
    return found


def build_group(help: str, examples: Sequence[tuple[str, str]], subcommands: Mapping[str, Subcommand]) -> typer.Typer:
    """The app of a command that has subcommands."""
    app = typer.Typer(
        cls=type("SubcommandGroup", (SubcommandGroup,), {"subcommands": subcommands, "examples": examples}),
        help=help,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": list(HELP_NAMES)},
    )
    app.callback()(_nothing)
    return app


def _nothing() -> None:
    """What typer calls before a subcommand."""

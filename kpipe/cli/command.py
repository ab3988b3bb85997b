"""How a command is put together: groups of options become one command, help is grouped, transforms keep their order.

It knows typer and nothing of records.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from kpipe.cli.options import PANELS, TRANSFORMS_FILE, transform_options
from kpipe.transform.registry import TRANSFORMS
from kpipe.transform.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STEPS = "kpipe.steps"
FILE = "transforms"
_BY_PARAMETER = {row.name.replace("-", "_"): row for row in TRANSFORMS}


class Command(TyperCommand):
    """A command whose help is grouped by panel and whose transforms are kept in the order they were typed."""

    examples: Sequence[tuple[str, str]] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note the order of the transforms: the parser knows it, the parsed values do not."""
        if any(name in _BY_PARAMETER for name in (parameter.name or "" for parameter in self.params)):
            options, _, order = self.make_parser(ctx).parse_args(args=list(args))
            ctx.meta[STEPS] = _ordered_steps(options, [parameter.name or "" for parameter in order])
        return list(super().parse_args(ctx, args))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options by panel, in the panels' order."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None) or "Other"
                rows.setdefault("Arguments" if parameter.param_type_name == "argument" else panel, []).append(record)
        for panel in ("Arguments", *PANELS, "Other"):
            if panel in rows:
                with formatter.section(panel):
                    formatter.write_dl(rows[panel], col_max=28)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, each line as it is typed."""
        if self.examples:
            with formatter.section("Examples"):
                for text, line in self.examples:
                    formatter.write(f"  {line}\n      {text}\n")


def _ordered_steps(options: dict[str, Any], order: Sequence[str]) -> list[Step]:
    taken: dict[str, int] = {}
    steps: list[Step] = []
    for name in order:
        if name == FILE:
            steps += _steps_of_file(str(options[name][taken.get(name, 0)]))
            taken[name] = taken.get(name, 0) + 1
            continue
        row = _BY_PARAMETER.get(name)
        if row is None:
            continue
        if row.metavar is None:
            steps.append(Step(row.name))
            continue
        place = taken.get(name, 0)
        taken[name] = place + 1
        steps.append(Step(row.name, str(options[name][place])))
    return steps


def _steps_of_file(path: str) -> list[Step]:
    """The chain in a TOML file, in the place where the command line names the file."""
    from pathlib import Path

    from kpipe.errors import UsageError
    from kpipe.transform.file import load_file

    try:
        return load_file(Path(path).read_text(encoding="utf-8"), path)
    except OSError as error:
        raise UsageError(f"cannot open: {error.strerror}", where=path) from None
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8 text; write the transforms as TOML", where=path) from None


def build_command(
    run: Callable[..., int],
    *,
    name: str,
    help: str,
    examples: Sequence[tuple[str, str]],
    arguments: dict[str, Any],
    groups: Sequence[type[Any]],
    transforms: bool = True,
) -> typer.Typer:
    """A one-command app: `run` is called with the arguments, one object per group, and the ordered steps."""

    def call(ctx: typer.Context, **values: Any) -> int:
        built = [group(**{field.name: values[field.name] for field in fields(group)}) for group in groups]
        given = [values[argument] for argument in arguments]
        return run(*given, *built, *([ctx.meta.get(STEPS, [])] if transforms else []))

    parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
    default: Any
    for argument, (annotation, default) in arguments.items():
        parameters.append(
            inspect.Parameter(argument, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        )
    for group in groups:
        for field in fields(group):
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            parameters.append(
                inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, annotation=field.type, default=default)
            )
    if transforms:
        parameters.append(
            inspect.Parameter(FILE, inspect.Parameter.KEYWORD_ONLY, annotation=TRANSFORMS_FILE, default=[])
        )
        for option, annotation in transform_options().items():
            name_in_python = option.replace("-", "_")
            empty: Any = 0 if _BY_PARAMETER[name_in_python].metavar is None else []
            parameters.append(
                inspect.Parameter(name_in_python, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=empty)
            )
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    command_class = type("Command", (Command,), {"examples": tuple(examples)})
    settings = {"help_option_names": ["-h", "--help"]}
    app.command(name, cls=command_class, help=help, context_settings=settings)(call)
    return app

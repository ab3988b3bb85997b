"""How a command is put together: groups of options become one command, help is grouped, transforms keep their order.

It knows typer and nothing of records.
"""

from __future__ import annotations

import inspect
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand

from kpipe.errors import UsageError
from kpipe.options import PANELS, TRANSFORM, TRANSFORMS_FILE, declared, refuse_nothing, transform_options
from kpipe.transform.registry import CATEGORIES, TRANSFORMS
from kpipe.transform.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kpipe.options import Operand, Option, Options

STEPS = "kpipe.steps"
TOPIC = "kpipe.help"
HELP_NAMES = ("-h", "--help")
FEW = 22
"""A command with so many options shows all of them at once."""
FILE = "transforms"
_BY_PARAMETER = {row.name.replace("-", "_"): row for row in TRANSFORMS}


class _Row(NamedTuple):
    """One option in help."""

    label: str
    text: str
    common: bool


def _shortly(row: _Row) -> _Row:
    """The first sentence of its help, and its default."""
    text, _, extra = row.text.partition("  [")
    first = re.split(r"(?<=[.;]) ", text, maxsplit=1)[0].rstrip(".;")
    default = re.search(r"default: [^];]*", extra)
    return row._replace(text=f"{first}." + (f"  [{default[0]}]" if default else ""))


class Command(TyperCommand):
    """A command whose help is grouped by panel and whose transforms are kept in the order they were typed."""

    examples: Sequence[tuple[str, str]] = ()
    described: Mapping[str, Option | Operand] = MappingProxyType({})
    """Its options and operands as they are declared, by the names of their parameters."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show help, refuse values that say nothing, note the order of the transforms: only the parser knows these."""
        asked = next((place for place, word in enumerate(args) if word in HELP_NAMES), None)
        if asked is not None and "--" not in args[:asked]:
            self._show_help(ctx, args[asked + 1 :])
        args = _spell_out(args) if "create_as" in self.described else args
        options, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for name, described in self.described.items():
            refuse_nothing(described, _typed(options.get(name)))
        if any(name in _BY_PARAMETER for name in (parameter.name or "" for parameter in self.params)):
            ctx.meta[STEPS] = _ordered_steps(options, [parameter.name or "" for parameter in order])
        return list(super().parse_args(ctx, args))

    def _show_help(self, ctx: Any, words: list[str]) -> None:
        """`--help`, `--help all`, `--help PART`."""
        from kpipe.cli.pager import show

        parts = {"all", *(name.split()[0].rstrip(":").lower() for name in self._panels(ctx))}
        if words and words[0].lower() in parts:
            ctx.meta[TOPIC] = words[0].lower()
        show(self.get_help(ctx) + "\n")
        raise typer.Exit

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The part of the options that was asked for: those people use, all, or one panel."""
        panels = self._panels(ctx)
        topic = ctx.meta.get(TOPIC, "")
        if topic == "all" or sum(map(len, panels.values())) <= FEW:
            chosen = panels
        elif topic:
            chosen = {name: rows for name, rows in panels.items() if name.lower().startswith(topic)}
        else:
            rows = [row for name, all_rows in panels.items() if name != "Arguments" for row in all_rows if row.common]
            chosen = {"Arguments": panels.get("Arguments", []), "Options people use": [_shortly(row) for row in rows]}
        for name, rows in chosen.items():
            if rows:
                with formatter.section(name):
                    formatter.write_dl([(row.label, row.text) for row in rows], col_max=28)
        if chosen is not panels and not topic:
            parts = ", ".join(sorted({name.split()[0].rstrip(":").lower() for name in panels} - {"arguments"}))
            with formatter.section("More"):
                rows_of_more = [
                    ("--help all", f"All options, as in man kpipe-{ctx.info_name}."),
                    ("--help PART", f"{parts}."),
                ]
                formatter.write_dl(rows_of_more, col_max=28)

    def _panels(self, ctx: Any) -> dict[str, list[_Row]]:
        """The options by panel, in the panels' order, and the transforms by what they change."""
        rows: dict[str, list[_Row]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            panel = getattr(parameter, "rich_help_panel", None) or "Other"
            transform = _BY_PARAMETER.get(parameter.name or "")
            if parameter.param_type_name == "argument":
                panel = "Arguments"
            elif transform is not None and panel == TRANSFORM:
                panel = f"Transforms: {transform.category}"
            common = getattr(self.described.get(parameter.name or ""), "common", parameter.name == "help")
            rows.setdefault(panel, []).append(_Row(*record, common))
        categories = [f"Transforms: {category}" for category in CATEGORIES]
        order = ["Arguments", *PANELS[: PANELS.index(TRANSFORM) + 1], *categories, *PANELS, "Other"]
        return {panel: rows[panel] for panel in dict.fromkeys(order) if panel in rows}

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, each line as it is typed."""
        write_examples(self.examples, formatter)


def write_examples(examples: Sequence[tuple[str, str]], formatter: Any) -> None:
    """The end of a help page."""
    if examples:
        with formatter.section("Examples"):
            for text, line in examples:
                formatter.write(f"  {line}\n      {text}\n")


def _typed(value: object) -> list[str]:
    """What was typed for a parameter: nothing, a text, or several."""
    values = value if isinstance(value, list | tuple) else [value]
    return [each for each in values if isinstance(each, str)]


def _spell_out(args: list[str]) -> list[str]:
    """`--create=6,retention.ms=1000` as two options: the parser knows none whose value may be left out."""
    spelled: list[str] = []
    for place, arg in enumerate(args):
        if arg == "--":
            return [*spelled, *args[place:]]
        spec = arg.removeprefix("--create=")
        spelled += [arg] if spec == arg else ["--create", "--create-as", spec]
    return spelled


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

    from kpipe.transform.file import load_file

    try:
        steps = load_file(Path(path).read_text(encoding="utf-8"), path)
    except OSError as error:
        raise UsageError(f"cannot open: {error.strerror}", where=path) from None
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8 text; write the transforms as TOML", where=path) from None
    options = transform_options()
    for step in steps:
        refuse_nothing(options[step.name], _typed(step.argument), where=step.where)
    return steps


def build_command(
    run: Callable[..., int],
    *,
    name: str,
    help: str,
    examples: Sequence[tuple[str, str]],
    arguments: dict[str, Operand],
    groups: Sequence[type[Options]],
    transforms: bool = True,
    without: Sequence[str] = (),
) -> typer.Typer:
    """A one-command app: `run` is called with the arguments, one object per group, and the ordered steps.

    `without` are options of the first group that this command does not offer: it means something else by their name.
    """

    def call(ctx: typer.Context, **values: Any) -> int:
        built = [_build(group, values, without if group is groups[0] else ()) for group in groups]
        given = [values[argument] for argument in arguments]
        return run(*given, *built, *([ctx.meta.get(STEPS, [])] if transforms else []))

    parameters = [_parameter("ctx", typer.Context, inspect.Parameter.empty)]
    described: dict[str, Option | Operand] = {**arguments}
    for argument, operand in arguments.items():
        parameters.append(_parameter(argument, *_argument(operand)))
    for group in groups:
        for option, type_of_value, default, shown in declared(group):
            if group is groups[0] and option in without:
                continue
            described[option] = shown
            parameters.append(_parameter(option, *_option(shown, type_of_value, default)))
    if transforms:
        for option, shown in {FILE: TRANSFORMS_FILE, **transform_options()}.items():
            described[option.replace("-", "_")] = shown
            parameters.append(_parameter(option.replace("-", "_"), *_transform(shown)))
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    command_class = type("Command", (Command,), {"examples": tuple(examples), "described": described})
    settings = {"help_option_names": list(HELP_NAMES)}
    app.command(name, cls=command_class, help=help, context_settings=settings)(call)
    return app


def _build(group: type[Options], values: dict[str, Any], without: Sequence[str]) -> Options:
    """The object of a group; what may be repeated is a tuple, for nobody changes options."""
    given = {name: values[name] for name, _, _, _ in declared(group) if name not in without}
    return group(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """One parameter of the function that typer reads."""
    kind = inspect.Parameter.KEYWORD_ONLY if name != "ctx" else inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, annotation=annotation, default=default)


def _argument(operand: Operand) -> tuple[Any, Any]:
    """An operand as typer declares one, and its default."""
    info = typer.Argument(metavar=operand.metavar, help=operand.help)
    default: Any = [] if operand.many else ""
    return Annotated[list[str] if operand.many else str, info], ... if operand.required else default


def _option(shown: Option, type_of_value: Any, default: Any) -> tuple[Any, Any]:
    """An option as typer declares one, and its default."""
    info = typer.Option(
        *shown.names,
        help=shown.help,
        metavar=shown.metavar or None,
        rich_help_panel=shown.panel,
        show_default=shown.shown,
        envvar=shown.variable or None,
        min=shown.least,
        max=shown.most,
        parser=None if shown.reads is None else _parser(shown.reads),
    )
    if isinstance(default, tuple):
        return Annotated[list[str], info], list(default)
    return Annotated[type_of_value, info], default


def _parser(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    """What typer calls with what was typed, or with the default."""

    def parse(typed: Any) -> Any:
        if not isinstance(typed, str):
            return typed
        try:
            return read(typed)
        except UsageError as error:
            raise typer.BadParameter(f"{typed!r} is {error.what}") from None

    return parse


def _transform(shown: Option) -> tuple[Any, Any]:
    """A transform as an option: it may be repeated, and one without a value is counted."""
    if shown.metavar:
        return _option(shown, list[str], ())
    info = typer.Option(*shown.names, help=shown.help, rich_help_panel=shown.panel, show_default=False, count=True)
    return Annotated[int, info], 0

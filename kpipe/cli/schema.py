"""`kpipe schema list|show|check|diff|register`: what a registry has, and what would become of a new schema."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

from kpipe.cli.command import build_command
from kpipe.ops.options import LookingOptions, ReferenceOptions, SchemaCheckOptions, SchemaShowOptions
from kpipe.options import FILE, SUBJECT, ConnectionOptions, Operand

HELP = (
    "Look at the schemas of a cluster's registry (schema.registry.url), check a new one before a deploy, and add it. "
    "Only register changes anything."
)
EXAMPLES = (
    ("all subjects, with versions, ids and rules", "kpipe schema list"),
    ("one schema, with what it refers to", "kpipe schema show orders-value:3"),
    (
        "may it follow, and do the last 1000 records read through it?",
        "kpipe schema check orders-value order.avsc",
    ),
    ("what has changed", "kpipe schema diff orders-value:1 orders-value"),
    ("add it", "kpipe schema register orders-value order.avsc"),
)

SUBJECT_OPERAND = Operand("[CLUSTER:]SUBJECT", "The subject.", completion=SUBJECT)
FILE_OPERAND = Operand("FILE", "The new schema: .avsc, .proto or .json.", completion=FILE)
ONE = "[CLUSTER:]SUBJECT[:VERSION], id:N or a FILE."
SUBCOMMANDS: dict[str, tuple[str, str, dict[str, Operand], tuple[type[Any], ...]]] = {
    "list": (
        "list_subjects",
        "List subjects: versions, the latest id, the format, and what the registry asks of a new version.",
        {
            "names": Operand(
                "[CLUSTER:][GLOB]…", "Subjects; without one all.", many=True, required=False, completion=SUBJECT
            )
        },
        (ConnectionOptions, LookingOptions),
    ),
    "show": (
        "show",
        "Print one schema.",
        {"name": Operand("[CLUSTER:]SUBJECT[:VERSION]|id:N", "The schema.", completion=SUBJECT)},
        (ConnectionOptions, SchemaShowOptions, LookingOptions),
    ),
    "check": (
        "check",
        "Say whether FILE may follow the versions of SUBJECT, in the registry's words, and whether the last records of "
        "its topic can be read with it. Exit code 5: it may not, or they cannot.",
        {"subject": SUBJECT_OPERAND, "file": FILE_OPERAND},
        (ConnectionOptions, SchemaCheckOptions, ReferenceOptions, LookingOptions),
    ),
    "diff": (
        "diff",
        "Compare two schemas, line by line. Exit code 5: they differ.",
        {"one": Operand("ONE", ONE, completion=FILE), "other": Operand("OTHER", ONE, completion=FILE)},
        (ConnectionOptions,),
    ),
    "register": (
        "register",
        "Add FILE to SUBJECT, if the registry lets it, and print its id and version. A schema that is there stays.",
        {"subject": SUBJECT_OPERAND, "file": FILE_OPERAND},
        (ConnectionOptions, ReferenceOptions, LookingOptions),
    ),
}


class SchemaGroup(TyperGroup):
    """The verbs, each built when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of use."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them."""
        if cmd_name not in SUBCOMMANDS:
            return None
        function, text, arguments, groups = SUBCOMMANDS[cmd_name]
        run = getattr(importlib.import_module("kpipe.cli.schema_verbs"), function)
        app = build_command(
            run, name=cmd_name, help=text, examples=(), arguments=arguments, groups=groups, transforms=False
        )
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, each line as it is typed."""
        with formatter.section("Examples"):
            for text, line in EXAMPLES:
                formatter.write(f"  {line}\n      {text}\n")


app = typer.Typer(
    cls=SchemaGroup,
    help=HELP,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    pass

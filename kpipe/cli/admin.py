"""`kpipe admin VERB`: the only commands that change a cluster. Each shows what it would do, and does it on demand."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

from kpipe.cli.command import build_command
from kpipe.ops.options import AlterOptions, ChangeOptions, CreateOptions, DeleteRecordsOptions, ResetOptions
from kpipe.options import GROUP, PLACE, ConnectionOptions, Operand

HELP = (
    "Change a cluster. Each command first shows what it would do, and does it only with --execute: then the name is to "
    "be typed on a terminal, or --yes given elsewhere. Clusters that are read_only refuse all of it. What was done is "
    "read back, and where something can be undone, an undo file is written before."
)
EXAMPLES = (
    ("where would the group be, an hour ago?", "kpipe admin reset-offsets -G billing --to @-1h"),
    ("put it there", "kpipe admin reset-offsets -G billing --to @-1h --execute"),
    (
        "after a failover: the group at the same records on the other cluster",
        "kpipe admin reset-offsets -G dr:g --to trace:prod:g --topic t --new-topics",
    ),
    ("a topic like another, on another cluster", "kpipe admin create-topic dr:orders --like prod:orders --execute"),
    (
        "more partitions, and another retention",
        "kpipe admin alter-topic orders --partitions 12 --config retention.ms=8640000",
    ),
    ("what is older than a week", "kpipe admin delete-records orders --before @-7d"),
)


TOPIC = {"text": Operand("[CLUSTER:]TOPIC", "The topic.", completion=PLACE)}
SUBCOMMANDS: dict[str, tuple[str, str, str, dict[str, Operand], tuple[type[Any], ...]]] = {
    "reset-offsets": (
        "admin_groups",
        "reset_offsets",
        "Put a group without members elsewhere. The plan tells per partition what is skipped and what is repeated.",
        {},
        (ConnectionOptions, ResetOptions, ChangeOptions),
    ),
    "create-topic": (
        "admin_topics",
        "create_topic",
        "Make a topic: NAME or NAME:PARTITIONS.",
        {"text": Operand("[CLUSTER:]NAME[:PARTITIONS]", "The new topic.")},
        (ConnectionOptions, CreateOptions, ChangeOptions),
    ),
    "alter-topic": (
        "admin_topics",
        "alter_topic",
        "Change settings of a topic, or give it more partitions.",
        TOPIC,
        (ConnectionOptions, AlterOptions, ChangeOptions),
    ),
    "delete-records": (
        "admin_topics",
        "delete_records",
        "Delete the records before an offset or a time; says which groups have not read them.",
        TOPIC,
        (ConnectionOptions, DeleteRecordsOptions, ChangeOptions),
    ),
    "delete-topic": (
        "admin_topics",
        "delete_topic",
        "Delete a topic; says how much is in it and who reads it.",
        TOPIC,
        (ConnectionOptions, ChangeOptions),
    ),
    "delete-group": (
        "admin_groups",
        "delete_group",
        "Delete a group without members, and what it committed.",
        {"text": Operand("[CLUSTER:]GROUP", "The group.", completion=GROUP)},
        (ConnectionOptions, ChangeOptions),
    ),
}


class AdminGroup(TyperGroup):
    """The verbs, each built when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of use."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module, function, text, arguments, groups = SUBCOMMANDS[cmd_name]
        run = getattr(importlib.import_module(f"kpipe.cli.{module}"), function)
        # KPIPE_CONFIG names the configuration file here: --config is a topic's.
        app = build_command(
            run, name=cmd_name, help=text, examples=(), arguments=arguments, groups=groups, transforms=False,
            without=("config",),
        )  # fmt: skip
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, each line as it is typed."""
        with formatter.section("Examples"):
            for text, line in EXAMPLES:
                formatter.write(f"  {line}\n      {text}\n")


app = typer.Typer(
    cls=AdminGroup,
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

"""`kpipe admin VERB`: the only commands that change a cluster. Each shows what it would do, and does it on demand."""

from __future__ import annotations

from kpipe.cli.subcommands import Subcommand, build_group
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
        "kpipe admin reset-offsets -G dr:g --to trace:prod:g",
    ),
    ("a topic like another, on another cluster", "kpipe admin create-topic dr:orders --like prod:orders --execute"),
    (
        "more partitions, and another retention",
        "kpipe admin alter-topic orders --partitions 12 --config retention.ms=8640000",
    ),
    ("what is older than a week", "kpipe admin delete-records orders --before @-7d"),
)


TOPIC = {"text": Operand("[CLUSTER:]TOPIC", "The topic.", completion=PLACE)}
WITHOUT = ("config",)
"""KPIPE_CONFIG names the configuration file here: --config is a topic's."""
SUBCOMMANDS = {
    "reset-offsets": Subcommand(
        "admin_groups:reset_offsets",
        "Put a group without members elsewhere. The plan tells per partition what is skipped and what is repeated.",
        {},
        (ConnectionOptions, ResetOptions, ChangeOptions),
        WITHOUT,
    ),
    "create-topic": Subcommand(
        "admin_topics:create_topic",
        "Make a topic: NAME or NAME:PARTITIONS.",
        {"text": Operand("[CLUSTER:]NAME[:PARTITIONS]", "The new topic.")},
        (ConnectionOptions, CreateOptions, ChangeOptions),
        WITHOUT,
    ),
    "alter-topic": Subcommand(
        "admin_topics:alter_topic",
        "Change settings of a topic, or give it more partitions.",
        TOPIC,
        (ConnectionOptions, AlterOptions, ChangeOptions),
        WITHOUT,
    ),
    "delete-records": Subcommand(
        "admin_topics:delete_records",
        "Delete the records before an offset or a time; says which groups have not read them.",
        TOPIC,
        (ConnectionOptions, DeleteRecordsOptions, ChangeOptions),
        WITHOUT,
    ),
    "delete-topic": Subcommand(
        "admin_topics:delete_topic",
        "Delete a topic; says how much is in it and who reads it.",
        TOPIC,
        (ConnectionOptions, ChangeOptions),
        WITHOUT,
    ),
    "delete-group": Subcommand(
        "admin_groups:delete_group",
        "Delete a group without members, and what it committed.",
        {"text": Operand("[CLUSTER:]GROUP", "The group.", completion=GROUP)},
        (ConnectionOptions, ChangeOptions),
        WITHOUT,
    ),
}

app = build_group(HELP, EXAMPLES, SUBCOMMANDS)

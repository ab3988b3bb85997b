"""`kpipe schema list|show|check|diff|register`: what a registry has, and what would become of a new schema."""

from __future__ import annotations

from kpipe.cli.subcommands import Subcommand, build_group
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
SUBCOMMANDS = {
    "list": Subcommand(
        "schema_verbs:list_subjects",
        "List subjects: versions, the latest id, the format, and what the registry asks of a new version.",
        {
            "names": Operand(
                "[CLUSTER:][GLOB]…", "Subjects; without one all.", many=True, required=False, completion=SUBJECT
            )
        },
        (ConnectionOptions, LookingOptions),
    ),
    "show": Subcommand(
        "schema_verbs:show",
        "Print one schema.",
        {"name": Operand("[CLUSTER:]SUBJECT[:VERSION]|id:N", "The schema.", completion=SUBJECT)},
        (ConnectionOptions, SchemaShowOptions, LookingOptions),
    ),
    "check": Subcommand(
        "schema_verbs:check",
        "Say whether FILE may follow the versions of SUBJECT, in the registry's words, and whether the last records of "
        "its topic can be read with it. Exit code 5: it may not, or they cannot.",
        {"subject": SUBJECT_OPERAND, "file": FILE_OPERAND},
        (ConnectionOptions, SchemaCheckOptions, ReferenceOptions, LookingOptions),
    ),
    "diff": Subcommand(
        "schema_verbs:diff",
        "Compare two schemas, line by line. Exit code 5: they differ.",
        {"one": Operand("ONE", ONE, completion=FILE), "other": Operand("OTHER", ONE, completion=FILE)},
        (ConnectionOptions,),
    ),
    "register": Subcommand(
        "schema_verbs:register",
        "Add FILE to SUBJECT, if the registry lets it, and print its id and version. A schema that is there stays.",
        {"subject": SUBJECT_OPERAND, "file": FILE_OPERAND},
        (ConnectionOptions, ReferenceOptions, LookingOptions),
    ),
}

app = build_group(HELP, EXAMPLES, SUBCOMMANDS)

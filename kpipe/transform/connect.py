"""What stands for each single message transform and predicate of Kafka Connect: a table for the docs.

Never builds or runs one; the tests run every line.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Equivalent:
    """`options` as typed in a shell (empty: there is none, and `note` says why)."""

    name: str
    options: str
    note: str = ""


EQUIVALENTS: tuple[Equivalent, ...] = (
    Equivalent("Cast", "--cast .amount=int", "a cast with a loss is a bad record instead of a changed number"),
    Equivalent("DropHeaders", "--drop-header trace-id", "globs, too"),
    Equivalent("ExtractField$Value", "--map .user.name", "--map-raw gives a string without its quotes"),
    Equivalent("ExtractField$Key", "--map-key '$meta.key | fromjson | .id'"),
    Equivalent("Filter", "--filter '.amount > 100'", "with predicates: --grep, --grep-not; negate: not"),
    Equivalent("Flatten", "--flatten _", "arrays stay as they are, as there"),
    Equivalent("HeaderFrom (copy)", "--set-header 'tenant={json[.tenant]}'"),
    Equivalent("HeaderFrom (move)", "--set-header 'tenant={json[.tenant]}' --drop-field .tenant"),
    Equivalent("HoistField", "--map '{line: .}'"),
    Equivalent("InsertField", "--map '. + {source: $meta.topic, offset: $meta.offset, site: \"berlin\"}'"),
    Equivalent("InsertHeader", "--add-header site=berlin", "--set-header replaces one that is there"),
    Equivalent("MaskField", "--mask .card", "--hash keeps equal values equal; --map '.card = \"none\"' any other text"),
    Equivalent(
        "RegexRouter", r"--rename-topic '^(.*)$=copy.\1'", "the first match, wherever it is; anchor with ^ and $"
    ),
    Equivalent("ReplaceField (exclude)", "--drop-field .user.mail"),
    Equivalent("ReplaceField (include)", "--map '{id, amount}'"),
    Equivalent("ReplaceField (renames)", "--rename-field .user.mail=email"),
    Equivalent("SetSchemaMetadata", "", "values are bytes or JSON here: there is no schema to rename"),
    Equivalent("TimestampConverter", "--map '.at |= (. / 1000 | todate)'", "--timestamp-from .at for the record's own"),
    Equivalent(
        "TimestampRouter",
        r"""--route '$meta | "\(.topic)-\(.timestamp / 1000 | strftime("%Y%m%d"))"' --route-allow 'orders-*'""",
    ),
    Equivalent("ValueToKey", "--map-key '{id}'", "--key-field .id for the bare field"),
    Equivalent("HasHeaderKey", "--filter '$meta.header | has(\"trace-id\")'", "--grep 'header[trace-id]:' unless null"),
    Equivalent("RecordIsTombstone", "--filter '$meta.tombstone'", "negate: --filter '$meta.tombstone | not'"),
    Equivalent("TopicNameMatches", "--filter '$meta.topic | test(\"^orders\")'"),
)

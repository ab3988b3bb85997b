"""The options of looking and changing commands, as data. Other commands start without them."""

# No `from __future__ import annotations`: the cli reads the fields' types as objects.
from dataclasses import dataclass

from kpipe.options import (
    DECODINGS,
    DELIVERY,
    EMPTY,
    FILE,
    GROUP,
    MESSAGES,
    OFFSET,
    OUTPUT,
    PLACE,
    SCHEMAS,
    SELECTION,
    TRACE,
    Options,
    SchemaOptions,
    option,
)


# fmt: off
@dataclass(kw_only=True, eq=False, repr=False)
class LookingOptions(Options):
    """How an answer is shown."""

    json: bool = option(
        OUTPUT, "--json", "-J", default=False, common=True,
        help="Print JSON lines, each an object with a version.",
    )
    no_header: bool = option(
        OUTPUT, "--no-header", default=False,
        help="Print a table without its headings.",
    )
    color: str = option(
        OUTPUT, "--color", default="auto", choices=("auto", "always", "never"), shown=True,
        help="auto: on a terminal, unless NO_COLOR is set.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class TopicsOptions(Options):
    """What to tell of each topic."""

    partitions: bool = option(
        SELECTION, "--partitions", default=False,
        help="A row a partition: leader, replicas, in-sync replicas, start, end, last stable offset, first and newest "
        "time.",
    )
    health: bool = option(
        SELECTION, "--health", default=False,
        help="Only what is wrong: offline, under-replicated, under or at min.insync.replicas, a transaction that stays "
        "open. Prints nothing when all is well.",
    )
    config: bool = option(
        SELECTION, "--config", default=False,
        help="What differs from the cluster's defaults.",
    )
    count_records: bool = option(
        SELECTION, "--count-records", default=False,
        help="Count the records, by reading all of them.",
    )
    at: str = option(
        SELECTION, "--at", default="", metavar="TIME",
        help="The first offset at or after a time: 03:10, 'yesterday 03:10', ISO 8601, epoch ms, -15m.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class GroupsOptions(Options):
    """Which groups, and what is too much."""

    topic: str = option(
        SELECTION, "--topic", default="", metavar="[CLUSTER:]TOPIC", completion=PLACE,
        help="Only groups that read this topic, and only it.",
    )
    watch: str = option(
        SELECTION, "--watch", default="", metavar="DURATION",
        help="Look again so often: rates in and out, time to catch up, partitions that stand still, and how long until "
        "unread records are deleted.",
    )
    metrics: str = option(
        MESSAGES, "--metrics", default="", metavar="[HOST:]PORT",
        help="Serve the lag for Prometheus instead, under the names of kafka-lag-exporter; looks again every 30 s, or "
        "as --watch says. On loopback unless a HOST is named.",
    )
    max_lag: int | None = option(
        SELECTION, "--max-lag", default=None, metavar="N", least=0,
        help="Exit 5 when a group is more records behind.",
    )
    max_behind: str = option(
        SELECTION, "--max-behind", default="", metavar="DURATION",
        help="Exit 5 when a group is longer behind: 30s, 10m, 2h.",
    )
    all_partitions: bool = option(
        SELECTION, "--all-partitions", default=False,
        help="Also partitions of its topics that a group never committed.",
    )
    no_times: bool = option(
        SELECTION, "--no-times", default=False,
        help="Do not read a record a partition to tell the time behind.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class DecodeOptions(SchemaOptions):
    """How what is shown is decoded."""

    decode: str = option(
        SCHEMAS, "--decode", default="", choices=(*DECODINGS, "internal"), common=True,
        help="Show values as JSON by their schema, as consume does, and keys as auto. internal: Kafka's own topics "
        "(__consumer_offsets, __transaction_state), which people see decoded also without it; none: nothing.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class TailOptions(Options):
    """How much, and how."""

    lines: int = option(
        SELECTION, "--lines", "-n", default=10, metavar="N", least=0, shown=True, common=True,
        help="Begin with the last N records of each partition.",
    )
    since: str = option(
        SELECTION, "--since", default="", metavar="TIME", common=True,
        help="Begin at a time instead: 03:10, 'yesterday 18:00', ISO 8601, epoch ms, -15m.",
    )
    no_follow: bool = option(
        SELECTION, "--no-follow", default=False, common=True,
        help="Stop at the end as it is now.",
    )
    partitions: tuple[str, ...] = option(
        SELECTION, "--partition", "-p", default=(), metavar="N", common=True,
        help="Only this partition: 3, 0-2 or 0,4. Repeatable.",
    )
    expand: bool = option(
        OUTPUT, "--expand", default=False, common=True,
        help="Indent JSON values, a line a member.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class FindOptions(Options):
    """What to find, and where."""

    key: str | None = option(
        SELECTION, "--key", "-k", default=None, metavar="TEXT", may_be=EMPTY,
        help="The key, where it looks like PARTITION@OFFSET or is empty.",
    )
    where: tuple[str, ...] = option(
        SELECTION, "--where", default=(), metavar="JQ", common=True,
        help="Records for which a jq program gives anything but false and null, as --filter does. Repeatable.",
    )
    grep: tuple[str, ...] = option(
        SELECTION, "--grep", default=(), metavar="REGEX", common=True,
        help="Records whose value matches; key:REGEX and header[NAME]:REGEX look there. Repeatable.",
    )
    all: bool = option(
        SELECTION, "--all", default=False, common=True,
        help="All of them, newest first.",
    )
    first: bool = option(
        SELECTION, "--first", default=False, common=True,
        help="The oldest one.",
    )
    everywhere: bool = option(
        SELECTION, "--everywhere", default=False,
        help="Look for the key in all partitions, not only where it hashes to.",
    )
    partitions: tuple[str, ...] = option(
        SELECTION, "--partition", "-p", default=(), metavar="N", common=True,
        help="Only this partition: 3, 0-2 or 0,4. Repeatable.",
    )
    since: str = option(
        SELECTION, "--since", default="", metavar="TIME", common=True,
        help="Only records of that time or later: 03:10, 'yesterday 18:00', ISO 8601, epoch ms, -15m.",
    )
    until: str = option(
        SELECTION, "--until", default="", metavar="TIME", common=True,
        help="Only records before that time.",
    )
    expand: bool = option(
        OUTPUT, "--expand", default=False, common=True,
        help="Indent JSON values, a line a member.",
    )
    quiet: bool = option(
        MESSAGES, "--quiet", "-q", default=False, common=True,
        help="Do not say how much was searched.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class ChangeOptions(Options):
    """Whether to do what was shown."""

    execute: bool = option(
        DELIVERY, "--execute", default=False,
        help="Do it. Without it, only what would be done is shown.",
    )
    yes: bool = option(
        DELIVERY, "--yes", "-y", default=False,
        help="Do not ask for the name to be typed.",
    )
    json: bool = option(
        OUTPUT, "--json", "-J", default=False,
        help="Print the plan as JSON lines.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class ResetOptions(Options):
    """Which group, and where to."""

    group: str = option(
        SELECTION, "--group", "-G", default="", metavar="[CLUSTER:]GROUP", completion=GROUP,
        help="The group.",
    )
    to: str = option(
        SELECTION, "--to", default="", metavar="POSITION",
        help="beginning, end, current, N, +N and -N from where it is, @TIME; group:GROUP: where another one is; "
        "file:FILE: Kafka's CSV or kpipe's JSON; trace:CLUSTER:GROUP: at the same records as a group of the cluster "
        "that this one's topics were copied from.",
    )
    topic: tuple[str, ...] = option(
        SELECTION, "--topic", default=(), metavar="GLOB[:PARTITIONS]", completion=PLACE,
        help="Only these topics, or partitions of them: orders, 'orders*', orders:0-2. Repeatable.",
    )
    new_topics: bool = option(
        SELECTION, "--new-topics", default=False,
        help="Also partitions that the group never committed: of the topics that --topic names, or of those that a "
        "file: or a group: names. --to trace: needs it not.",
    )
    undo: str = option(
        DELIVERY, "--undo", default="", metavar="FILE", completion=FILE,
        help="Where to keep the way back; without it below $XDG_STATE_HOME/kpipe/undo.",
    )
    csv: bool = option(
        OUTPUT, "--csv", default=False,
        help="Print the new offsets as Kafka's tool reads them: topic,partition,offset.",
    )
    trace_prefix: str = option(
        TRACE, "--trace-prefix", default="", metavar="TEXT",
        help="What stands before the names of trace headers.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class CreateOptions(Options):
    """What the new topic is."""

    like: str = option(
        SELECTION, "--like", default="", metavar="[CLUSTER:]TOPIC", completion=PLACE,
        help="Partitions and settings of this topic; settings that are its cluster's defaults are not copied.",
    )
    config: tuple[str, ...] = option(
        SELECTION, "--config", default=(), metavar="KEY=VALUE",
        help="A setting; with --like, KEY alone leaves one out. Repeatable.",
    )
    replication: int | None = option(
        SELECTION, "--replication", default=None, metavar="N", least=1,
        help="Replicas of each partition; without it what the cluster does by itself.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class AlterOptions(Options):
    """What is to change."""

    config: tuple[str, ...] = option(
        SELECTION, "--config", default=(), metavar="KEY=VALUE",
        help="A setting; KEY alone takes it back to its default. Repeatable.",
    )
    partitions: int | None = option(
        SELECTION, "--partitions", default=None, metavar="N", least=1,
        help="So many partitions in all; says how many keys will go elsewhere.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class DeleteRecordsOptions(Options):
    """What goes."""

    before: str = option(
        SELECTION, "--before", default="", metavar="OFFSET|@TIME|end", completion=OFFSET,
        help="Delete what is before this offset, or older than the first record at or after a time.",
    )
    partitions: tuple[str, ...] = option(
        SELECTION, "--partition", "-p", default=(), metavar="N",
        help="Only this partition: 3, 0-2 or 0,4. Repeatable.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class TraceBackOptions(Options):
    """Which way."""

    onward: bool = option(
        SELECTION, "--onward", default=False,
        help="Find the copies of the record instead of its origin; exit 5 when there are none.",
    )
    to: tuple[str, ...] = option(
        SELECTION, "--to", default=(), metavar="[CLUSTER:]GLOB", completion=PLACE,
        help="With --onward: only in these topics. Repeatable.",
    )
    window: str = option(
        SELECTION, "--window", default="1h", metavar="DURATION", shown=True,
        help="With --onward: read what was written up to so long after the record's time.",
    )
    trace_prefix: str = option(
        TRACE, "--trace-prefix", default="", metavar="TEXT",
        help="What stands before the names of trace headers.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class StatOptions(Options):
    """How much is read."""

    sample: int = option(
        SELECTION, "--sample", default=10_000, metavar="N", least=1, shown=True,
        help="Read so many of the newest records, shared out among the partitions.",
    )
    all: bool = option(
        SELECTION, "--all", default=False,
        help="Read everything.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class DumpOptions(Options):
    """How the files are written."""

    codec: str = option(
        OUTPUT, "--codec", default="gzip", choices=("gzip", "zstd", "none"), shown=True,
        help="How segments are compressed, as their names say: .jsonl.gz, .jsonl.zst, .jsonl. zstd needs Python "
        "3.14 or the package zstandard.",
    )
    segment: str = option(
        OUTPUT, "--segment", default="64M", metavar="SIZE", shown=True,
        help="Bytes of envelopes in a segment, before compression; a segment has 100,000 records at most.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class LoadOptions(Options):
    """Where the records may go, and how."""

    create: bool = option(
        DELIVERY, "--create", default=False,
        help="Create the target topic when it is missing: as many partitions, and the settings of the topic dumped.",
    )
    append: bool = option(
        DELIVERY, "--append", default=False,
        help="Load into a topic that holds other records, too.",
    )
    compression: str = option(
        DELIVERY, "--compression", "-z", default="", choices=("none", "lz4", "zstd", "snappy", "gzip"),
        help="The codec of what is sent. Default: none.",
    )
    rate: tuple[str, ...] = option(
        DELIVERY, "--rate", default=(), metavar="N/s|NMB/s",
        help="Send no more than so many records, or so much, a second: 500/s, 64KB/s, 2MB/s. Both may be given.",
    )
    dry_run: bool = option(
        OUTPUT, "--dry-run", "-n", default=False,
        help="Check the dump and the target, and say what would be done.",
    )
    no_compare: bool = option(
        OUTPUT, "--no-compare", default=False,
        help="Do not compare the target with the dump afterwards.",
    )
    groups: bool = option(
        DELIVERY, "--groups", default=False, common=True,
        help="Afterwards put the dump's consumer groups at the records that they had to read next; shows the plan, and "
        "does it with --execute.",
    )
    group: tuple[str, ...] = option(
        DELIVERY, "--group", default=(), metavar="GLOB",
        help="Of the dump's groups only these, as --groups does it. Repeatable.",
    )
    execute: bool = option(
        DELIVERY, "--execute", default=False,
        help="Put the groups there. Without it, only the plan is shown.",
    )
    yes: bool = option(
        DELIVERY, "--yes", "-y", default=False,
        help="Do not ask for a name to be typed before groups are put elsewhere.",
    )
    undo: str = option(
        DELIVERY, "--undo", default="", metavar="FILE", completion=FILE,
        help="Where to keep where the groups stood; without it below $XDG_STATE_HOME/kpipe/undo.",
    )
    json: bool = option(
        OUTPUT, "--json", "-J", default=False,
        help="Print the groups' plan as JSON lines.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class SchemaShowOptions(Options):
    """How a schema is shown."""

    raw: bool = option(
        OUTPUT, "--raw", default=False,
        help="The text as the registry has it; without it JSON is indented, and what it refers to is put in.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class ReferenceOptions(Options):
    """What the file refers to."""

    reference: tuple[str, ...] = option(
        SELECTION, "--reference", default=(), metavar="NAME=SUBJECT:VERSION",
        help="What NAME means in FILE: an import path, a type, or a $ref. Repeatable.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class SchemaCheckOptions(Options):
    """What the file is checked against."""

    against: str = option(
        SELECTION, "--against", default="", metavar="latest|all|N",
        help="The versions to be compatible with; without it those that the subject's rule means.",
    )
    topic: str = option(
        SELECTION, "--topic", default="", metavar="TOPIC", completion=PLACE,
        help="Read the last records of this topic through FILE; without it the topic that the subject's name says.",
    )
    records: int = option(
        SELECTION, "--records", default=1000, metavar="N", least=0, shown=True,
        help="How many of the last records; 0 reads none.",
    )

"""Every option of kpipe, declared once: `--help`, man pages, completions and the README's tables come from here.

Only what was typed is checked here; what needs a cluster, a file or two options together is `kpipe.plan`'s.
"""

# No `from __future__ import annotations`: the annotations are the declarations, and are read as objects.
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from kpipe.errors import UsageError
from kpipe.transform.registry import TRANSFORMS
from kpipe.units import parse_duration

CONNECTION, INPUT, OUTPUT, SELECTION = "Connection", "Input", "Output", "Selection"
RECORD, TRANSFORM, TRACE, DELIVERY, MESSAGES = (
    "Record",
    "Transforms (in the order given)",
    "Trace",
    "Delivery",
    "Messages",
)
BROKER = "Broker"
PANELS = (SELECTION, INPUT, RECORD, OUTPUT, TRANSFORM, TRACE, DELIVERY, CONNECTION, BROKER, MESSAGES)

_DELIMITER = "escapes: \\n \\t \\r \\0 \\xNN"


def option(panel: str, *names: str, help: str, **more: Any) -> Any:
    """One option of a panel; its default is shown only when asked for."""
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=more.pop("show_default", False), **more)


def duration(least: str, most: str) -> Any:
    """What reads an option in seconds: `30s`, `1h30m`, or a number of seconds; both ends are allowed."""

    def read(typed: "str | float") -> float:
        if not isinstance(typed, str):
            return typed  # a default
        try:
            seconds = parse_duration(typed)
        except UsageError as error:
            raise typer.BadParameter(f"{typed!r} is {error.what}") from None
        if not parse_duration(least) <= seconds <= parse_duration(most):
            raise typer.BadParameter(f"{typed!r} is not between {least} and {most}")
        return seconds

    return read


@dataclass(slots=True, kw_only=True)
class Connection:
    """Which cluster, and how to reach it."""

    brokers: Annotated[
        str,
        option(
            CONNECTION, "--brokers", "--bootstrap-server", "-b", metavar="HOST:PORT,…", envvar="KPIPE_BROKERS",
            help="Brokers of the current cluster. Without it: the config's default cluster, then localhost:9092.",
        ),
    ] = ""  # fmt: skip
    cluster: Annotated[
        str,
        option(CONNECTION, "--cluster", metavar="NAME", help="The current cluster: a [clusters.NAME] of the config."),
    ] = ""
    properties: Annotated[
        list[str],
        option(
            CONNECTION, "--property", "-X", metavar="KEY=VALUE",
            help="Set a librdkafka property; source.KEY and target.KEY set it on one side. Repeatable.",
        ),
    ] = ()  # type: ignore[assignment]  # fmt: skip
    config_file: Annotated[
        str,
        option(
            CONNECTION, "--config-file", "--command-config", "-F", metavar="FILE",
            help="Read properties from a Java client.properties or a kcat config file.",
        ),
    ] = ""  # fmt: skip
    config: Annotated[
        str,
        option(CONNECTION, "--config", metavar="FILE", help="Read this file instead of the user's config.toml."),
    ] = ""
    timeout: Annotated[
        float,
        option(
            CONNECTION, "--timeout", metavar="DURATION", parser=duration("100ms", "1d"),
            help="How long the cluster may take to answer at the start. Default: 10s.",
        ),
    ] = 10.0  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Selection:
    """Which records of a topic."""

    offset: Annotated[
        list[str],
        option(
            SELECTION, "--offset", "-o", metavar="OFFSET",
            help="Where to start: beginning (the default), end, stored, N, -N (from the end), or a time: @03:10, "
            "'@yesterday 18:00', @2025-11-23T10:00, @-15m, @EPOCH_MS, s@MS, e@MS; the local zone unless it says Z or "
            "+01:00. With a group: where to start without a committed offset.",
        ),
    ] = ()  # type: ignore[assignment]  # fmt: skip
    until: Annotated[
        str,
        option(SELECTION, "--until", metavar="OFFSET", help="Where to stop, exclusive; the same forms as --offset."),
    ] = ""
    exit: Annotated[
        bool,
        option(SELECTION, "--exit", "-e", help="Stop at the end of each partition as it was at the start."),
    ] = False
    count: Annotated[
        int | None,
        option(SELECTION, "--count", "-c", metavar="N", min=0, help="Stop after N records (those that pass filters)."),
    ] = None
    partitions: Annotated[
        list[str],
        option(
            SELECTION, "--partition", "-p", metavar="N", help="Read only this partition: 3, 0-2 or 0,4. Repeatable."
        ),
    ] = ()  # type: ignore[assignment]
    group: Annotated[
        str,
        option(SELECTION, "--group", "-G", metavar="GROUP", help="Read as this consumer group, and commit to it."),
    ] = ""
    instance: Annotated[
        str,
        option(
            SELECTION, "--instance", metavar="NAME",
            help="A name of its own for this member of the group: a restart under it causes no rebalance.",
        ),
    ] = ""  # fmt: skip
    group_protocol: Annotated[
        str,
        option(
            SELECTION, "--group-protocol", metavar="auto|classic|consumer", show_default=True,
            help="How the group shares partitions; auto takes consumer (KIP-848) where the brokers have it.",
        ),
    ] = "auto"  # fmt: skip
    min_age: Annotated[
        str,
        option(
            SELECTION, "--min-age", metavar="DURATION",
            help="Hold each record back until its timestamp is that old: 500ms, 30s, 5m, 2h, 1h30m, 7d; 30 is 30 s.",
        ),
    ] = ""  # fmt: skip
    on_gap: Annotated[
        str,
        option(
            SELECTION, "--on-gap", metavar="stop|warn|earliest|latest", show_default=True,
            help="When records were deleted before the group read them, or its offset is past the end.",
        ),
    ] = "stop"  # fmt: skip
    fail_if_empty: Annotated[bool, option(SELECTION, "--fail-if-empty", help="Exit 5 when no record was read.")] = False


@dataclass(slots=True, kw_only=True)
class Input:
    """How bytes become records."""

    input: Annotated[
        str,
        option(
            INPUT, "--input", metavar="lines|json|binary|kcat|kcl|rpk|kaf", show_default=True,
            help="What the input is: json are kpipe's envelopes, the last four are dumps of other tools.",
        ),
    ] = "lines"  # fmt: skip
    format: Annotated[
        str,
        option(INPUT, "--format", "-f", metavar="FORMAT", help="Read by a format string: %k %s %S %h … as in consume."),
    ] = ""
    null: Annotated[bool, option(INPUT, "--null", "-0", help="Records end with a NUL byte.")] = False
    delimiter: Annotated[
        str,
        option(INPUT, "--delimiter", "-D", metavar="TEXT", help=f"Records end with TEXT ({_DELIMITER})."),
    ] = ""
    key_delimiter: Annotated[
        str,
        option(
            INPUT, "--key-delimiter", "-K", metavar="TEXT",
            help="The first TEXT in a record ends its key; without it the key is null.",
        ),
    ] = ""  # fmt: skip
    whole_file: Annotated[bool, option(INPUT, "--whole-file", help="Each file is one record.")] = False
    null_marker: Annotated[
        str | None,
        option(
            INPUT, "--null-marker", "-Z", metavar="TEXT", help="A key or value equal to TEXT is null (a tombstone)."
        ),
    ] = None
    lenient: Annotated[bool, option(INPUT, "--lenient", help="Ignore unknown fields of envelopes.")] = False
    max_record_bytes: Annotated[
        str,
        option(
            INPUT, "--max-record-bytes", metavar="SIZE", show_default=True,
            help="A longer record is bad, and no more of it is kept in memory; 16M where memory is scarce.",
        ),
    ] = "128M"  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Record:
    """What produce adds to each record."""

    key: Annotated[
        str | None, option(RECORD, "--key", "-k", metavar="TEXT", help="The key of every record that has none.")
    ] = None
    headers: Annotated[
        list[str],
        option(
            RECORD, "--header", "-H", metavar="NAME=VALUE",
            help="Add a header; NAME alone has a null value. Repeatable, duplicates and order are kept.",
        ),
    ] = ()  # type: ignore[assignment]  # fmt: skip
    partition: Annotated[
        str,
        option(
            RECORD, "--partition", "-p", metavar="N|same", help="The partition to write to; same keeps an envelope's."
        ),
    ] = ""
    timestamp: Annotated[
        str,
        option(
            RECORD, "--timestamp", metavar="keep|now|TIME", show_default=True,
            help="keep takes the envelope's timestamp; TIME is as in -o: epoch ms, 03:10, 2025-11-23T10:00 (local).",
        ),
    ] = "keep"  # fmt: skip
    count: Annotated[
        int | None,
        option(INPUT, "--count", "-c", metavar="N", min=0, help="Stop after N records (those that pass filters)."),
    ] = None
    tee: Annotated[bool, option(OUTPUT, "--tee", help="Pass the input through to stdout.")] = False
    ack: Annotated[
        str,
        option(
            DELIVERY, "--ack", metavar="PATH",
            help="Tell kpipe consume --commit-acked PATH, at the start of the pipe, what was delivered.",
        ),
    ] = ""  # fmt: skip
    report: Annotated[
        bool,
        option(OUTPUT, "--report", help="Print topic, partition and offset of each delivered record as a JSON line."),
    ] = False
    restore: Annotated[
        str,
        option(
            INPUT, "--restore", metavar="FILE",
            help="Send what --spill kept in FILE, as it is and in order; FILE then keeps what is left, or is renamed.",
        ),
    ] = ""  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Output:
    """How records become bytes."""

    json: Annotated[bool, option(OUTPUT, "--json", "-J", help="Print envelopes: JSON lines that lose nothing.")] = False
    json_value: Annotated[
        bool,
        option(OUTPUT, "--json-value", help="Envelopes with JSON values embedded as JSON (not byte-exact)."),
    ] = False
    format: Annotated[
        str,
        option(
            OUTPUT, "--format", "-f", metavar="FORMAT",
            help="%s value, %S its length, %R length as int32, %k key, %K its length, %T timestamp, %t topic, "
            "%p partition, %o offset, %h headers, %%; escapes \\n \\t \\0 \\xNN.",
        ),
    ] = ""  # fmt: skip
    output: Annotated[
        str,
        option(
            OUTPUT, "--output", metavar="lines|json|binary", show_default=True, help="What is printed; json is --json."
        ),
    ] = "lines"
    null: Annotated[bool, option(OUTPUT, "--null", "-0", help="End each record with a NUL byte.")] = False
    delimiter: Annotated[
        str, option(OUTPUT, "--delimiter", "-D", metavar="TEXT", help=f"End each record with TEXT ({_DELIMITER}).")
    ] = ""
    key_delimiter: Annotated[
        str, option(OUTPUT, "--key-delimiter", "-K", metavar="TEXT", help="Print the key and TEXT before each value.")
    ] = ""
    commit_acked: Annotated[
        str,
        option(
            DELIVERY, "--commit-acked", metavar="PATH",
            help="Commit only what kpipe produce --ack PATH, at the end of the pipe, has delivered. Needs -G and -J. PATH "
            "is a socket that is made and removed.",
        ),
    ] = ""  # fmt: skip
    acks: Annotated[
        str,
        option(
            DELIVERY, "--acks", metavar="in-order|each", show_default=True,
            help="in-order: an acknowledged record settles all before it in its partition, so a filter may drop records; "
            "each: every record is waited for, so a filter may reorder but not drop.",
        ),
    ] = "in-order"  # fmt: skip
    trust_end: Annotated[
        bool,
        option(
            DELIVERY, "--trust-end",
            help="When produce has ended well, commit also what was dropped behind the last acknowledged record; a filter "
            "that was killed looks the same, so check its exit code.",
        ),
    ] = False  # fmt: skip
    null_marker: Annotated[
        str | None,
        option(
            OUTPUT,
            "--null-marker",
            "-Z",
            metavar="TEXT",
            help="Print a null key or value as TEXT; not behind its length, -1.",
        ),
    ] = None


@dataclass(slots=True, kw_only=True)
class Forward:
    """What forward may change on the way, and in how many processes."""

    workers: Annotated[
        int | None,
        option(
            DELIVERY, "--workers", metavar="N", min=1, max=256,
            help="Run N processes that share the group's partitions; one that crashes is started again. Needs -G.",
        ),
    ] = None  # fmt: skip
    to_partition: Annotated[
        str,
        option(
            RECORD, "--to-partition", metavar="N|same",
            help="The target partition; same keeps the number. Without it: by key, see --partitioner and --keyless.",
        ),
    ] = ""  # fmt: skip
    timestamp: Annotated[
        str,
        option(RECORD, "--timestamp", metavar="keep|now", show_default=True, help="The timestamp at the target."),
    ] = "keep"
    tee: Annotated[
        list[str],
        option(OUTPUT, "--tee", metavar="[CLUSTER:]TOPIC", help="The same as --also."),
    ] = ()  # type: ignore[assignment]
    exactly_once: Annotated[
        bool,
        option(
            DELIVERY, "--exactly-once",
            help="Send in transactions that carry the group's offsets. Needs -G; source and target on one cluster. Two "
            "processes of one group on one machine each need an --instance of their own.",
        ),
    ] = False  # fmt: skip
    txn_records: Annotated[
        int,
        option(
            DELIVERY, "--txn-records", metavar="N", min=1, show_default=True,
            help="Commit a transaction after N records.",
        ),
    ] = 10_000  # fmt: skip
    txn_interval: Annotated[
        float,
        option(
            DELIVERY, "--txn-interval", metavar="DURATION", parser=duration("10ms", "30s"),
            help="Commit a transaction after so long; readers of the target see its records then. Default: 1s.",
        ),
    ] = 1.0  # fmt: skip
    resume_by_trace: Annotated[
        bool,
        option(
            DELIVERY, "--resume-by-trace",
            help="Leave out records that are in TARGET already, as the trace headers at its end say: effectively once, "
            "also between clusters.",
        ),
    ] = False  # fmt: skip
    resume_limit: Annotated[
        int,
        option(
            DELIVERY, "--resume-limit", metavar="N", min=0, show_default=True,
            help="How many records of TARGET --resume-by-trace may read at the start; more is an error.",
        ),
    ] = 10_000_000  # fmt: skip
    to_origin: Annotated[
        bool,
        option(
            DELIVERY, "--to-origin",
            help="Instead of TARGET: send dead letters home, to the topic and partition that their headers name; "
            "the cluster is that of SOURCE, or CLUSTER: in place of TARGET.",
        ),
    ] = False  # fmt: skip
    max_attempts: Annotated[
        int,
        option(
            DELIVERY, "--max-attempts", metavar="N", min=1, show_default=True,
            help="With --to-origin: refuse a record that failed N times.",
        ),
    ] = 5  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Target:
    """How records are sent; produce and forward."""

    create: Annotated[
        bool,
        option(
            DELIVERY, "--create",
            help="Create the target topic when it is missing (forward: with as many partitions as the source).",
        ),
    ] = False  # fmt: skip
    compression: Annotated[
        str,
        option(
            DELIVERY, "--compression", "-z", metavar="none|lz4|zstd|snappy|gzip",
            help="The codec. Default: none; lz4 for forward.",
        ),
    ] = ""  # fmt: skip
    partitioner: Annotated[
        str,
        option(
            DELIVERY, "--partitioner", show_default=True,
            metavar="murmur2_random|consistent_random|murmur2|consistent|random|fnv1a|fnv1a_random",
            help="How a key chooses its partition: murmur2_random as Java clients, consistent_random as kcat.",
        ),
    ] = "murmur2_random"  # fmt: skip
    keyless: Annotated[
        str,
        option(
            DELIVERY, "--keyless", metavar="sticky|spread|key", show_default=True,
            help="Records without a key: all of a source partition to one target partition; spread; or the source "
            "partition's number as the key.",
        ),
    ] = "sticky"  # fmt: skip
    buffer: Annotated[
        str,
        option(
            DELIVERY, "--buffer", metavar="SIZE", show_default=True,
            help="Bytes of records that may be in flight (32M, 1G, 64MB); reading stops while it is full.",
        ),
    ] = "32M"  # fmt: skip
    also: Annotated[
        list[str],
        option(
            OUTPUT, "--also", metavar="[CLUSTER:]TOPIC",
            help="Send every record to this topic, too; it counts as delivered when all topics have it. Repeatable.",
        ),
    ] = ()  # type: ignore[assignment]  # fmt: skip
    rate: Annotated[
        list[str],
        option(
            DELIVERY, "--rate", metavar="N/s|NMB/s",
            help="Send no more than so many records, or so much, a second: 500/s, 64KB/s, 2MB/s. Both may be given.",
        ),
    ] = ()  # type: ignore[assignment]  # fmt: skip
    dry_run: Annotated[
        bool,
        option(
            OUTPUT, "--dry-run", "-n",
            help="Show each record before and after instead of sending it; nothing is produced, committed or joined.",
        ),
    ] = False  # fmt: skip
    spill: Annotated[
        str,
        option(DELIVERY, "--spill", metavar="FILE", help="Append records that could not be delivered, as envelopes."),
    ] = ""


@dataclass(slots=True, kw_only=True)
class Trace:
    """Which headers say where a record came from."""

    trace: Annotated[
        str,
        option(
            TRACE, "--trace", metavar="none|source|full", show_default=True,
            help="source_* (last hop), origin_* (first hop) and trace_hops; full adds host, file and line to stdin's lines.",
        ),
    ] = "source"  # fmt: skip
    trace_prefix: Annotated[
        str, option(TRACE, "--trace-prefix", metavar="TEXT", help="Put TEXT before the names of trace headers.")
    ] = ""
    max_hops: Annotated[
        int,
        option(TRACE, "--max-hops", metavar="N", min=1, show_default=True, help="Refuse a record after N hops."),
    ] = 16


@dataclass(slots=True, kw_only=True)
class Run:
    """How a run goes on, stops and tells."""

    on_error: Annotated[
        str,
        option(
            DELIVERY, "--on-error", metavar="stop|skip|dlq:TOPIC", show_default=True,
            help="What a bad or refused record does; dlq:[cluster:]TOPIC sends it there as it was read, with what went "
            "wrong in headers. A skipped record counts as failed.",
        ),
    ] = "stop"  # fmt: skip
    drain_timeout: Annotated[
        float,
        option(
            DELIVERY, "--drain-timeout", metavar="DURATION", parser=duration("0s", "1d"),
            help="How long what was read may take to be delivered after a signal. Default: 9s.",
        ),
    ] = 9.0  # fmt: skip
    summary: Annotated[
        str,
        option(MESSAGES, "--summary", metavar="FILE", help="Write what became of the records to FILE, as JSON."),
    ] = ""
    verbose: Annotated[bool, option(MESSAGES, "--verbose", "-v", help="Print the summary also when all went well.")] = (
        False
    )
    quiet: Annotated[bool, option(MESSAGES, "--quiet", "-q", help="Print errors only.")] = False


TRANSFORMS_FILE = Annotated[
    list[str],
    option(
        TRANSFORM, "--transforms", metavar="FILE",
        help="Transforms from a TOML file, in the place of this option: [[transform]] tables, their keys the names below.",
    ),
]  # fmt: skip
"""Where a chain may stand besides the command line."""


def transform_options() -> dict[str, Any]:
    """One option per row of the transforms' table: name -> annotation. Their order comes from the command line itself."""
    annotations: dict[str, Any] = {}
    for row in TRANSFORMS:
        name = f"--{row.name}"
        if row.metavar is None:
            annotations[row.name] = Annotated[int, option(TRANSFORM, name, help=row.help, count=True)]
        else:
            declared = option(TRANSFORM, name, help=row.help, metavar=row.metavar)
            annotations[row.name] = Annotated[list[str], declared]
    return annotations

"""Every option of kpipe, declared once, as data: what it is called, what it means, what it takes, what it is without.

`kpipe.cli` makes its parameters, help, completion and manual of it, and plans are made from objects of these classes.
Nothing here reads a command line, opens anything or knows what two options mean together.
"""

# No `from __future__ import annotations`: the cli reads the fields' types as objects.
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from kpipe import sinks
from kpipe.codecs import CODECS, WRITTEN
from kpipe.errors import UsageError
from kpipe.formats import INPUTS, OUTPUTS
from kpipe.transform.registry import TRANSFORMS
from kpipe.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CONNECTION, INPUT, OUTPUT, SELECTION = "Connection", "Input", "Output", "Selection"
RECORD, TRANSFORM, TRACE, DELIVERY, MESSAGES = (
    "Record",
    "Transforms (in the order given)",
    "Trace",
    "Delivery",
    "Messages",
)
BROKER, SCHEMAS = "Broker", "Schemas"
PANELS = (SELECTION, INPUT, RECORD, OUTPUT, SCHEMAS, TRANSFORM, TRACE, DELIVERY, CONNECTION, BROKER, MESSAGES)

FILE, OFFSET, PROPERTY, CLUSTER, PLACE, GROUP = "file", "offset", "property", "cluster", "place", "group"
SUBJECT = "subject"
"""What completes a value: files, words for offsets, librdkafka's properties, clusters, `[cluster:]topic`, groups, and
subjects of a registry."""

BLANK, EMPTY = "blank", "empty"
"""Values that mean something: blanks alone (a delimiter), or even no text at all (a key, a marker of null)."""

DUMPS = ("kcat", "kcl", "rpk", "kaf")
"""Inputs that are what other tools print."""
DECODINGS = ("auto", *CODECS, "plugin:NAME", "none")
"""How keys and values are decoded; what ends in capitals is a beginning, and the user fills the rest in."""
ENCODINGS = (*WRITTEN, "same")
"""How they are encoded."""
_DELIMITER = "escapes: \\n \\t \\r \\0 \\xNN"


class Option(NamedTuple):
    """An option as people see it; the type and the default of its value are those of its field."""

    panel: str
    names: tuple[str, ...]
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    """The words it takes; empty: any text, or what the type says."""

    least: float | None = None
    most: float | None = None
    variable: str = ""
    """The environment variable that stands for it."""

    shown: bool = False
    """Whether help shows the default."""

    completion: str = ""
    reads: "Callable[[str], Any] | None" = None
    """Makes the value of what was typed; UsageError when that is none."""
    common: bool = False
    """Whether it stands on the first page of help."""

    may_be: str = ""
    """What else than a word it takes: BLANK or EMPTY text. See `refuse_nothing`."""


class Operand(NamedTuple):
    """An argument without a name, as people see it."""

    metavar: str
    help: str
    many: bool = False
    required: bool = True
    completion: str = ""


def option(
    panel: str,
    *names: str,
    default: Any,
    help: str,
    metavar: str = "",
    choices: tuple[str, ...] = (),
    **more: Any,
) -> Any:
    """A field that is an option; without a metavar its choices stand for the value."""
    described = Option(panel, names, help, metavar or "|".join(choices), choices, **more)
    return field(default=default, metadata={"option": described})


def declared(group: type[Any]) -> "Iterator[tuple[str, Any, Any, Option]]":
    """The options of a group: the field's name, its type, its default, and what people see."""
    for each in fields(group):
        yield each.name, each.type, each.default, each.metadata["option"]


def duration(least: str, most: str) -> "Callable[[str], float]":
    """What reads an option in seconds: `30s`, `1h30m`, or a number of seconds; both ends are allowed."""

    def read(typed: str) -> float:
        seconds = parse_duration(typed)
        if not parse_duration(least) <= seconds <= parse_duration(most):
            raise UsageError(f"not between {least} and {most}")
        return seconds

    return read


def refuse_nothing(described: "Option | Operand", values: "Sequence[str]", *, where: str = "") -> None:
    """UsageError for a value that says nothing, as a variable of the shell that was not set gives it.

    The one rule for every option and operand: taken as not given, `-G "$GROUP"` would commit nothing, and `-b "$BROKERS"`
    another cluster. Only what declares so (`may_be`) takes blanks or nothing.
    """
    allowed = described.may_be if isinstance(described, Option) else ""
    name = described.names[0] if isinstance(described, Option) else described.metavar.strip("[]…. ")
    for value in values:
        if (value and (allowed or not value.isspace())) or (allowed == EMPTY):
            continue
        what = "holds only blanks" if value else "is empty"
        raise UsageError(f"{name} {value!r} {what}; give it a value, or leave it out", where=where)


class Options:
    """A group of options. An object of it holds only words that its options take, or UsageError was raised.

    Nobody changes it; `dataclasses.replace` makes another one. Its classes are dataclasses without what nobody needs:
    a frozen one with repr and comparison takes 0.8 ms to define, these take 0.2, and a start defines all of them.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__:
            raise AttributeError(f"{type(self).__name__}.{name} is what was asked for; use dataclasses.replace")
        super().__setattr__(name, value)

    def __post_init__(self) -> None:
        for name, _, default, option in declared(type(self)):
            value = getattr(self, name)
            if option.choices and value != default:
                check_choice(option.names[0], value, option.choices)


LOG_FORMATS = ("text", "json")


def check_choice(option: str, value: str, choices: "Sequence[str]") -> str:
    """One of the words an option takes; UsageError naming the nearest."""
    if value in choices or any(_fills_in(choice, value) for choice in choices):
        return value
    import difflib

    near = difflib.get_close_matches(value, choices, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(choices)}"
    raise UsageError(f"{option} {value!r}: {hint}")


def _fills_in(choice: str, value: str) -> bool:
    """Whether a choice such as `plugin:NAME` is meant by `plugin:` and something behind it."""
    start, colon, name = choice.rpartition(":")
    return bool(colon) and name.isupper() and value.startswith(start + colon) and value != start + colon


# fmt: off
# A table: the first line of an option is for the program, the second for people.
@dataclass(kw_only=True, eq=False, repr=False)
class ConnectionOptions(Options):
    """Which cluster, and how to reach it."""

    brokers: str = option(
        CONNECTION, "--brokers", "--bootstrap-server", "-b", default="", metavar="HOST:PORT,…", variable="KPIPE_BROKERS", common=True,
        help="Brokers of the current cluster. Without it: the config's default cluster, then localhost:9092.",
    )
    cluster: str = option(
        CONNECTION, "--cluster", default="", metavar="NAME", completion=CLUSTER, common=True,
        help="The current cluster: a [clusters.NAME] of the config.",
    )
    properties: tuple[str, ...] = option(
        CONNECTION, "--property", "-X", default=(), metavar="KEY=VALUE", completion=PROPERTY, common=True,
        help="Set a librdkafka property; source.KEY and target.KEY set it on one side. Repeatable.",
    )
    config_file: str = option(
        CONNECTION, "--config-file", "--command-config", "-F", default="", metavar="FILE", completion=FILE, common=True,
        help="Read properties from a Java client.properties or a kcat config file.",
    )
    config: str = option(
        CONNECTION, "--config", default="", metavar="FILE", completion=FILE,
        help="Read this file instead of the user's config.toml.",
    )
    timeout: float = option(
        CONNECTION, "--timeout", default=10.0, metavar="DURATION", reads=duration("100ms", "1d"),
        help="How long the cluster may take to answer at the start. Default: 10s.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class SelectionOptions(Options):
    """Which records of a topic."""

    offset: tuple[str, ...] = option(
        SELECTION, "--offset", "-o", default=(), metavar="OFFSET", completion=OFFSET, common=True,
        help="Where to start: beginning (the default), end, stored, N, -N (from the end), or a time: @03:10, "
        "'@yesterday 18:00', @2025-11-23T10:00, @-15m, @EPOCH_MS, s@MS, e@MS; the local zone unless it says Z or "
        "+01:00. With a group: where to start without a committed offset.",
    )
    until: str = option(
        SELECTION, "--until", default="", metavar="OFFSET", completion=OFFSET, common=True,
        help="Where to stop, exclusive; the same forms as --offset.",
    )
    exit: bool = option(
        SELECTION, "--exit", "-e", default=False, common=True,
        help="Stop at the end of each partition as it was at the start.",
    )
    count: int | None = option(
        SELECTION, "--count", "-c", default=None, metavar="N", least=0, common=True,
        help="Stop after N records (those that pass filters).",
    )
    partitions: tuple[str, ...] = option(
        SELECTION, "--partition", "-p", default=(), metavar="N", common=True,
        help="Read only this partition: 3, 0-2 or 0,4. Repeatable.",
    )
    group: str = option(
        SELECTION, "--group", "-G", default="", metavar="GROUP", completion=GROUP, common=True,
        help="Read as this consumer group, and commit to it.",
    )
    instance: str = option(
        SELECTION, "--instance", default="", metavar="NAME",
        help="A name of its own for this member of the group: a restart under it causes no rebalance.",
    )
    group_protocol: str = option(
        SELECTION, "--group-protocol", default="auto", choices=("auto", "classic", "consumer"), shown=True,
        help="How the group shares partitions; auto takes consumer (KIP-848) where the brokers have it.",
    )
    min_age: str = option(
        SELECTION, "--min-age", default="", metavar="DURATION",
        help="Hold each record back until its timestamp is that old: 500ms, 30s, 5m, 2h, 1h30m, 7d; 30 is 30 s.",
    )
    on_gap: str = option(
        SELECTION, "--on-gap", default="stop", choices=("stop", "warn", "earliest", "latest"), shown=True,
        help="When records were deleted before the group read them, or its offset is past the end.",
    )
    idle: str = option(
        SELECTION, "--idle", default="", metavar="DURATION",
        help="Stop when nothing came for so long.",
    )
    fail_if_empty: bool = option(
        SELECTION, "--fail-if-empty", default=False,
        help="Exit 5 when no record was read.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class InputOptions(Options):
    """How bytes become records."""

    input: str = option(
        INPUT, "--input", default="lines", choices=INPUTS, shown=True, common=True,
        help="What the input is: json and binary are what consume writes, the last four are dumps of other tools.",
    )
    format: str = option(
        INPUT, "--format", "-f", default="", metavar="FORMAT", may_be=BLANK, common=True,
        help="Read by a format string: %k %s %S %h … as in consume.",
    )
    null: bool = option(
        INPUT, "--null", "-0", default=False, common=True,
        help="Records end with a NUL byte.",
    )
    delimiter: str = option(
        INPUT, "--delimiter", "-D", default="", metavar="TEXT", may_be=BLANK,
        help=f"Records end with TEXT ({_DELIMITER}).",
    )
    key_delimiter: str = option(
        INPUT, "--key-delimiter", "-K", default="", metavar="TEXT", may_be=BLANK, common=True,
        help="The first TEXT in a record ends its key; without it the key is null.",
    )
    whole_file: bool = option(
        INPUT, "--whole-file", default=False, common=True,
        help="Each file is one record.",
    )
    null_marker: str | None = option(
        INPUT, "--null-marker", "-Z", default=None, metavar="TEXT", may_be=EMPTY,
        help="A key or value equal to TEXT is null (a tombstone).",
    )
    lenient: bool = option(
        INPUT, "--lenient", default=False,
        help="Ignore unknown fields of envelopes.",
    )
    max_record_bytes: str = option(
        INPUT, "--max-record-bytes", default="128M", metavar="SIZE", shown=True,
        help="A longer record is bad, and no more of it is kept in memory; 16M where memory is scarce.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class RecordOptions(Options):
    """What produce adds to each record."""

    key: str | None = option(
        RECORD, "--key", "-k", default=None, metavar="TEXT", may_be=EMPTY, common=True,
        help="The key of every record that has none.",
    )
    headers: tuple[str, ...] = option(
        RECORD, "--header", "-H", default=(), metavar="NAME=VALUE", common=True,
        help="Add a header; NAME alone has a null value. Repeatable, duplicates and order are kept.",
    )
    partition: str = option(
        RECORD, "--partition", "-p", default="", metavar="N|same", common=True,
        help="The partition to write to; same keeps an envelope's, and refuses one that is not there.",
    )
    timestamp: str = option(
        RECORD, "--timestamp", default="keep", metavar="keep|now|TIME", shown=True,
        help="keep takes the envelope's timestamp; TIME is as in -o: epoch ms, 03:10, 2025-11-23T10:00 (local).",
    )
    count: int | None = option(
        INPUT, "--count", "-c", default=None, metavar="N", least=0, common=True,
        help="Stop after N records (those that pass filters).",
    )
    tee: bool = option(
        OUTPUT, "--tee", default=False,
        help="Pass the input through to stdout.",
    )
    ack: str = option(
        DELIVERY, "--ack", default="", metavar="PATH",
        help="Tell kpipe consume --commit-acked PATH, at the start of the pipe, what was delivered.",
    )
    raw: bool = option(
        OUTPUT, "--raw", default=False,
        help="With --tee: control characters of the input reach a terminal as they are, not escaped.",
    )
    report: bool = option(
        OUTPUT, "--report", default=False,
        help="Print topic, partition and offset of each delivered record as a JSON line.",
    )
    restore: str = option(
        INPUT, "--restore", default="", metavar="FILE", completion=FILE,
        help="Send what --spill kept in FILE, as it is and in order; FILE then keeps what is left, or is renamed.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class OutputOptions(Options):
    """How records become bytes."""

    json: bool = option(
        OUTPUT, "--json", "-J", default=False, common=True,
        help="Print envelopes: JSON lines that lose nothing.",
    )
    json_value: bool = option(
        OUTPUT, "--json-value", default=False,
        help="Envelopes with JSON values embedded as JSON (not byte-exact).",
    )
    format: str = option(
        OUTPUT, "--format", "-f", default="", metavar="FORMAT", may_be=BLANK, common=True,
        help="%s value, %S its length, %R length as int32, %k key, %K its length, %T timestamp, %t topic, "
        "%p partition, %o offset, %h headers, %%; escapes \\n \\t \\0 \\xNN.",
    )
    output: str = option(
        OUTPUT, "--output", default="lines", choices=(*OUTPUTS, *sinks.OUTPUTS), shown=True,
        help="What is printed; json is --json, binary keeps as much and is the fastest way into --input binary; pretty is "
        "for people: time, place, key, headers and value.",
    )
    raw: bool = option(
        OUTPUT, "--raw", default=False,
        help="Control characters and line breaks of records reach a terminal as they are, not escaped; in a pipe they "
        "always do.",
    )
    null: bool = option(
        OUTPUT, "--null", "-0", default=False, common=True,
        help="End each record with a NUL byte.",
    )
    delimiter: str = option(
        OUTPUT, "--delimiter", "-D", default="", metavar="TEXT", may_be=BLANK,
        help=f"End each record with TEXT ({_DELIMITER}).",
    )
    key_delimiter: str = option(
        OUTPUT, "--key-delimiter", "-K", default="", metavar="TEXT", may_be=BLANK, common=True,
        help="Print the key and TEXT before each value.",
    )
    commit_acked: str = option(
        DELIVERY, "--commit-acked", default="", metavar="PATH",
        help="Commit only what kpipe produce --ack PATH, at the end of the pipe, has delivered. Needs -G and -J. PATH "
        "is a socket that is made and removed.",
    )
    acks: str = option(
        DELIVERY, "--acks", default="in-order", choices=("in-order", "each"), shown=True,
        help="in-order: an acknowledged record settles all before it in its partition, so a filter may drop records; "
        "each: every record is waited for, so a filter may reorder but not drop.",
    )
    trust_end: bool = option(
        DELIVERY, "--trust-end", default=False,
        help="When produce has ended well, commit also what was dropped behind the last acknowledged record; a filter "
        "that was killed looks the same, so check its exit code.",
    )
    null_marker: str | None = option(
        OUTPUT, "--null-marker", "-Z", default=None, metavar="TEXT", may_be=EMPTY,
        help="Print a null key or value as TEXT; not behind its length, -1.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class SchemaOptions(Options):
    """How keys and values with a schema become JSON to be looked at."""

    decode: str = option(
        SCHEMAS, "--decode", default="", choices=(*DECODINGS, "internal"),
        help="Show values as JSON by their schema. auto: those that name one (Avro, Protobuf and JSON Schema of a registry, "
        "Avro files); the others: all of them. consume then decodes keys as auto. plugin:NAME[=TEXT]: by one of `kpipe plugins`. "
        "internal (consume): keys and values of "
        "__consumer_offsets and __transaction_state.",
    )
    decode_key: str = option(
        SCHEMAS, "--decode-key", default="", choices=DECODINGS,
        help="The same for keys.",
    )
    schema: str = option(
        SCHEMAS, "--schema", default="", metavar="FILE|SUBJECT[:VERSION]|id:N", completion=FILE,
        help="The schema of values: FILE.avsc, FILE.proto, FILE.json or a descriptor set of protoc, or one of the registry.",
    )
    message: str = option(
        SCHEMAS, "--message", default="", metavar="NAME",
        help="The Protobuf message type in --schema, as pkg.Name; needed where there are several.",
    )
    avro_json: str = option(
        SCHEMAS, "--avro-json", default="plain", choices=("plain", "tagged"), shown=True,
        help="plain: unions without tags where they are clear, times and decimals as text; tagged: Avro's own JSON.",
    )
    big_ints: str = option(
        SCHEMAS, "--big-ints", default="number", choices=("number", "string"), shown=True,
        help="Avro's longs beyond 2^53, which jq rounds.",
    )
    defaults: bool = option(
        SCHEMAS, "--defaults", default=False,
        help="Show also Protobuf fields that have their default value.",
    )
    connect_types: bool = option(
        SCHEMAS, "--connect-types", default=False,
        help="Show numbers that Kafka Connect or Debezium call a date or a time (connect.name) as such.",
    )
    reader_schema: str = option(
        SCHEMAS, "--reader-schema", default="", metavar="FILE|SUBJECT[:VERSION]|id:N", completion=FILE,
        help="Show values as a reader with this schema sees them: fields by name or alias, defaults for those that are not there. "
        "What it cannot read counts as not decoded.",
    )
    no_schema_cache: bool = option(
        SCHEMAS, "--no-schema-cache", default=False,
        help="Ask the registry anew, and keep no schema on disk.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class ViewOptions(SchemaOptions):
    """How keys and values are decoded to be counted or compared."""

    decode: str = option(
        SCHEMAS, "--decode", default="", choices=DECODINGS,
        help="Look at values as the JSON that they are by their schema, and at keys as auto: see kpipe consume.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class EncodeOptions(Options):
    """How keys and values that are JSON are written by a schema."""

    encode: str = option(
        SCHEMAS, "--encode", default="", choices=ENCODINGS,
        help="Write values, which are JSON, by --schema; same: each by the schema that its envelope names, as consume -J "
        "--decode wrote it, and keys likewise.",
    )
    encode_key: str = option(
        SCHEMAS, "--encode-key", default="", choices=(*ENCODINGS, "none"),
        help="The same for keys, by --key-schema.",
    )
    schema: str = option(
        SCHEMAS, "--schema", default="", metavar="FILE|SUBJECT[:VERSION]|id:N", completion=FILE,
        help="The schema of values. A FILE ends with .avsc, .proto, .json (JSON Schema) or .desc; the registry must have it "
        "under TOPIC-value. Without it the subject of TOPIC, if there is one only.",
    )
    key_schema: str = option(
        SCHEMAS, "--key-schema", default="", metavar="FILE|SUBJECT[:VERSION]|id:N", completion=FILE,
        help="The schema of keys; a FILE under TOPIC-key. Without it that subject.",
    )
    register: bool = option(
        SCHEMAS, "--register", default=False,
        help="Add a FILE to the registry where it has none such.",
    )
    framing: str = option(
        SCHEMAS, "--framing", default="confluent", choices=("confluent", "header", "none"), shown=True,
        help="How records name their schema: Confluent's prefix, its GUID in a header, or not at all.",
    )
    message: str = option(
        SCHEMAS, "--message", default="", metavar="NAME",
        help="The Protobuf message type of values, as pkg.Name; needed where the schema has several.",
    )
    avro_json: str = option(
        SCHEMAS, "--avro-json", default="plain", choices=("plain", "tagged"), shown=True,
        help="What JSON becomes Avro: plain, where decimals, durations and UUIDs are text; tagged: Avro's own, where they are "
        "bytes. Unions may have tags in both.",
    )
    no_schema_cache: bool = option(
        SCHEMAS, "--no-schema-cache", default=False,
        help="Ask the registry anew, and keep no schema on disk.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class ReencodeOptions(Options):
    """How forward writes keys and values that a transform has changed."""

    encode: str = option(
        SCHEMAS, "--encode", default="", choices=tuple(word for word in ENCODINGS if word != "same"),
        help="Write values that a transform has changed, that have another format or that no schema had by --schema, or by "
        "the subject TOPIC-value; the others travel as they are. Without it a changed one is written by the schema it "
        "was read with. Implies --decode auto; --schema then is not that of --decode.",
    )
    encode_key: str = option(
        SCHEMAS, "--encode-key", default="", choices=tuple(word for word in ENCODINGS if word != "same"),
        help="The same for keys, by --key-schema or the subject TOPIC-key.",
    )
    key_schema: str = option(
        SCHEMAS, "--key-schema", default="", metavar="FILE|SUBJECT[:VERSION]|id:N", completion=FILE,
        help="The schema of keys; a FILE under TOPIC-key.",
    )
    decode_schema: str = option(
        SCHEMAS, "--decode-schema", default="", metavar="FILE|SUBJECT[:VERSION]|id:N", completion=FILE,
        help="With --encode: the schema that values are read with which name none.",
    )
    register: bool = option(
        SCHEMAS, "--register", default=False,
        help="With --encode: add a FILE to the target's registry where that has none such.",
    )
    framing: str = option(
        SCHEMAS, "--framing", default="confluent", choices=("confluent", "header", "none"), shown=True,
        help="With --encode: how records name their schema: Confluent's prefix, its GUID in a header, or not at all.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class ForwardOptions(Options):
    """What forward may change on the way, and in how many processes."""

    workers: int | None = option(
        DELIVERY, "--workers", default=None, metavar="N", least=1, most=256, common=True,
        help="Run N processes that share the group's partitions; one that crashes is started again. Needs -G.",
    )
    to_partition: str = option(
        RECORD, "--to-partition", default="", metavar="N|same", common=True,
        help="The target partition; same keeps the number. Without it: by key, see --partitioner and --keyless.",
    )
    timestamp: str = option(
        RECORD, "--timestamp", default="keep", choices=("keep", "now"), shown=True,
        help="The timestamp at the target.",
    )
    tee: tuple[str, ...] = option(
        OUTPUT, "--tee", default=(), metavar="[CLUSTER:]TOPIC", completion=PLACE,
        help="The same as --also.",
    )
    exactly_once: bool = option(
        DELIVERY, "--exactly-once", default=False, common=True,
        help="Send in transactions that carry the group's offsets. Needs -G; source and target on one cluster. Two "
        "processes of one group on one machine each need an --instance of their own.",
    )
    txn_records: int = option(
        DELIVERY, "--txn-records", default=10_000, metavar="N", least=1, shown=True,
        help="Commit a transaction after N records.",
    )
    txn_interval: float = option(
        DELIVERY, "--txn-interval", default=1.0, metavar="DURATION", reads=duration("10ms", "30s"),
        help="Commit a transaction after so long; readers of the target see its records then. Default: 1s.",
    )
    resume_by_trace: bool = option(
        DELIVERY, "--resume-by-trace", default=False, common=True,
        help="Leave out records that are in TARGET already, as the trace headers at its end say: effectively once, "
        "also between clusters.",
    )
    resume_limit: int = option(
        DELIVERY, "--resume-limit", default=10_000_000, metavar="N", least=0, shown=True,
        help="How many records of TARGET --resume-by-trace may read at the start; more is an error.",
    )
    translate_schemas: str = option(
        SCHEMAS, "--translate-schemas", default="", choices=("register", "lookup"),
        help="Let keys and values name their schema by the id of the target cluster's registry. register: bring schemas there, "
        "with what they refer to and their earlier versions; lookup: register nothing.",
    )
    translate_key_schemas: str = option(
        SCHEMAS, "--translate-key-schemas", default="", choices=("register", "lookup", "none"),
        help="The same for keys; without it as --translate-schemas. A key stays in the partition that it had by the old bytes.",
    )
    to_origin: bool = option(
        DELIVERY, "--to-origin", default=False,
        help="Instead of TARGET: send dead letters home, to the topic and partition that their headers name; "
        "the cluster is that of SOURCE, or CLUSTER: in place of TARGET.",
    )
    max_attempts: int = option(
        DELIVERY, "--max-attempts", default=5, metavar="N", least=1, shown=True,
        help="With --to-origin: refuse a record that failed N times.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class TargetOptions(Options):
    """How records are sent; produce and forward."""

    create: bool = option(
        DELIVERY, "--create", default=False, common=True,
        help="Create the target topic when it is missing; --create=PARTITIONS,KEY=VALUE,... says how. forward gives it as "
        "many partitions as the source, and on another cluster also the source's settings (retention, compaction).",
    )
    create_as: str = option(
        DELIVERY, "--create-as", default="", metavar="PARTITIONS[,KEY=VALUE…]",
        help="How --create makes a topic, as in --create=6,retention.ms=3600000; KEY=VALUE alone sets only that.",
    )
    like: str = option(
        DELIVERY, "--like", default="", metavar="[CLUSTER:]TOPIC", completion=PLACE,
        help="--create makes it like this topic: its partitions, and its settings that are not its cluster's defaults; "
        "what --create=… says comes on top.",
    )
    create_partitions: int | None = option(
        DELIVERY, "--create-partitions", default=None, metavar="N", least=1,
        help="How many partitions --create makes; default: the source's (forward), or what the cluster is set to.",
    )
    compression: str = option(
        DELIVERY, "--compression", "-z", default="", choices=("none", "lz4", "zstd", "snappy", "gzip"),
        help="The codec. Default: none; lz4 for forward.",
    )
    partitioner: str = option(
        DELIVERY, "--partitioner", default="murmur2_random", choices=("murmur2_random", "consistent_random", "murmur2", "consistent", "random", "fnv1a", "fnv1a_random"), shown=True,
        help="How a key chooses its partition: murmur2_random as Java clients, consistent_random as kcat.",
    )
    keyless: str = option(
        DELIVERY, "--keyless", default="sticky", choices=("sticky", "spread", "key"), shown=True,
        help="Records without a key: all of a source partition to one target partition; spread; or the source "
        "partition's number as the key.",
    )
    buffer: str = option(
        DELIVERY, "--buffer", default="32M", metavar="SIZE", shown=True,
        help="Bytes of records that may be in flight (32M, 1G, 64MB); reading stops while it is full.",
    )
    also: tuple[str, ...] = option(
        OUTPUT, "--also", default=(), metavar="[CLUSTER:]TOPIC", completion=PLACE, common=True,
        help="Send every record to this topic, too; it counts as delivered when all topics have it. Repeatable.",
    )
    rate: tuple[str, ...] = option(
        DELIVERY, "--rate", default=(), metavar="N/s|NMB/s",
        help="Send no more than so many records, or so much, a second: 500/s, 64KB/s, 2MB/s. Both may be given.",
    )
    dry_run: bool = option(
        OUTPUT, "--dry-run", "-n", default=False, common=True,
        help="Show each record before and after instead of sending it; nothing is produced, committed or joined.",
    )
    spill: str = option(
        DELIVERY, "--spill", default="", metavar="FILE", completion=FILE,
        help="Append records that could not be delivered, as envelopes.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class TraceOptions(Options):
    """Which headers say where a record came from."""

    trace: str = option(
        TRACE, "--trace", default="source", choices=("none", "source", "full"), shown=True,
        help="Headers that say where a record was read: source_*, and from the second hop on origin_* and trace_hops; "
        "full writes all of them at every hop, and host, file and line on stdin's lines.",
    )
    trace_prefix: str = option(
        TRACE, "--trace-prefix", default="", metavar="TEXT",
        help="Put TEXT before the names of trace headers.",
    )
    max_hops: int = option(
        TRACE, "--max-hops", default=16, metavar="N", least=1, shown=True,
        help="Refuse a record after N hops.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class RunOptions(Options):
    """How a run goes on, stops and tells."""

    on_error: str = option(
        DELIVERY, "--on-error", default="stop", metavar="stop|skip|dlq:TOPIC", shown=True, common=True,
        help="What a bad or refused record does; dlq:[cluster:]TOPIC sends it there as it was read, with what went "
        "wrong in headers. A skipped record counts as failed.",
    )
    drain_timeout: float = option(
        DELIVERY, "--drain-timeout", default=9.0, metavar="DURATION", reads=duration("0s", "1d"),
        help="How long what was read may take to be delivered after a signal. Default: 9s.",
    )
    summary: str = option(
        MESSAGES, "--summary", default="", metavar="FILE", completion=FILE, common=True,
        help="Write what became of the records to FILE, as JSON.",
    )
    metrics: str = option(
        MESSAGES, "--metrics", default="", metavar="[HOST:]PORT",
        help="Serve /metrics for Prometheus, /healthz, /readyz and /status while the run goes on; on loopback unless a "
        "HOST is named. Port 0 takes a free one.",
    )
    metrics_file: str = option(
        MESSAGES, "--metrics-file", default="", metavar="FILE", completion=FILE,
        help="Write the metrics to FILE at the end, for node_exporter's textfile collector (FILE.prom).",
    )
    log_format: str = option(
        MESSAGES, "--log-format", default="text", choices=LOG_FORMATS, shown=True, variable="KPIPE_LOG_FORMAT",
        help="How kpipe's own messages are written: json is one object a line.",
    )
    verbose: bool = option(
        MESSAGES, "--verbose", "-v", default=False, common=True,
        help="Print the summary also when all went well.",
    )
    quiet: bool = option(
        MESSAGES, "--quiet", "-q", default=False, common=True,
        help="Print errors only.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class VerifyOptions(Options):
    """What to compare, and how to tell."""

    offset: tuple[str, ...] = option(
        SELECTION, "--offset", "-o", default=(), metavar="OFFSET", completion=OFFSET,
        help="Where in SOURCE to start; the forms of consume.",
    )
    until: str = option(
        SELECTION, "--until", default="", metavar="OFFSET", completion=OFFSET,
        help="Where in SOURCE to stop, exclusive. Default: its end of now.",
    )
    partitions: tuple[str, ...] = option(
        SELECTION, "--partition", "-p", default=(), metavar="N",
        help="Compare only these partitions of SOURCE: 3, 0-2, 0,4.",
    )
    translated_schemas: bool = option(
        SCHEMAS, "--translated-schemas", default=False,
        help="Compare the schema that a key or value names, as each cluster's registry has it, instead of its id.",
    )
    ignore_timestamp: bool = option(
        SELECTION, "--ignore-timestamp", default=False,
        help="Another timestamp is no difference.",
    )
    allow_missing: bool = option(
        SELECTION, "--allow-missing", default=False,
        help="A missing record is no difference: the copy was filtered.",
    )
    allow_extra: bool = option(
        SELECTION, "--allow-extra", default=False,
        help="A copy of what SOURCE lost since (compaction) is no difference.",
    )
    trace_prefix: str = option(
        TRACE, "--trace-prefix", default="", metavar="TEXT",
        help="What stands before the names of trace headers.",
    )
    memory: str = option(
        DELIVERY, "--memory", default="256M", metavar="SIZE", shown=True,
        help="Memory for the comparison; what needs more goes to TMPDIR, about 40 bytes a record.",
    )
    examples: int = option(
        OUTPUT, "--examples", default=10, metavar="N", least=0, shown=True,
        help="Print the first N of each difference.",
    )
    json: bool = option(
        OUTPUT, "--json", "-J", default=False,
        help="Print the verdict as one JSON object.",
    )
    quiet: bool = option(
        MESSAGES, "--quiet", "-q", default=False,
        help="Print nothing but errors.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class CheckOptions(Options):
    """What to check, and how to tell it."""

    topic: tuple[str, ...] = option(
        SELECTION, "--topic", default=(), metavar="TOPIC",
        help="What may be done with this topic. Repeatable.",
    )
    group: tuple[str, ...] = option(
        SELECTION, "--group", "-G", default=(), metavar="GROUP", completion=GROUP,
        help="What may be done with this group. Repeatable.",
    )
    wait: str = option(
        SELECTION, "--wait", default="", metavar="DURATION",
        help="Try again for so long until the cluster, and each --topic, is there: for start-up scripts.",
    )
    json: bool = option(
        OUTPUT, "--json", "-J", default=False,
        help="Print JSON.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class BrokerOptions(Options):
    """What the embedded broker serves."""

    port: int = option(
        BROKER, "--port", default=0, metavar="PORT", least=0, most=65535, shown=True,
        help="The port; 0 takes a free one.",
    )
    topics: str = option(
        BROKER, "--topics", default="", metavar="NAME:PARTITIONS,…",
        help="Topics to have from the start.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class CompletionOptions(Options):
    """Where a completion script goes."""

    install: bool = option(
        OUTPUT, "--install", default=False,
        help="Write it to where the shell looks for it, instead of printing it.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class ManOptions(Options):
    """Where the manual goes."""

    install: bool = option(
        OUTPUT, "--install", default=False,
        help="Write all pages to where man looks for them, instead of showing one.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class UnitOptions(Options):
    """What a unit is called and may use."""

    name: str = option(
        OUTPUT, "--name", default="", metavar="NAME",
        help="The unit's name. Default: kpipe-COMMAND and the group, or the topic.",
    )
    schedule: str = option(
        OUTPUT, "--schedule", default="", metavar="WHEN",
        help="When a bounded run starts: OnCalendar= of systemd for timer, five fields for cron and k8s.",
    )
    image: str = option(
        OUTPUT, "--image", default="kpipe:latest", metavar="IMAGE", shown=True,
        help="The container image, for k8s and compose.",
    )
    credential: tuple[str, ...] = option(
        OUTPUT, "--credential", default=(), metavar="NAME=PATH|NAME=SECRET/KEY",
        help="A secret that the unit hands over as a file: systemd and compose take a PATH, k8s a SECRET and its KEY. "
        "Name it in the configuration as password_file. Repeatable.",
    )
    replicas: int = option(
        OUTPUT, "--replicas", default=1, metavar="N", least=1, shown=True,
        help="Processes of the same group, for k8s.",
    )
    scale: str = option(
        OUTPUT, "--scale", default="", choices=("keda", "hpa"),
        help="Also print what scales by lag, for k8s: KEDA's Kafka trigger, or an HPA over kpipe's own metric.",
    )
    max_replicas: int = option(
        OUTPUT, "--max-replicas", default=4, metavar="N", least=1, shown=True,
        help="How far it scales; not beyond the number of partitions.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class ShowOptions(Options):
    """How `config show` prints."""

    origin: bool = option(
        OUTPUT, "--origin", default=False,
        help="Add where each value comes from.",
    )
    json: bool = option(
        OUTPUT, "--json", "-J", default=False,
        help="Print JSON.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class WhereOptions(Options):
    """Which file."""

    config: str = option(
        CONNECTION, "--config", default="", metavar="FILE", completion=FILE,
        help="This file instead of the user's config.toml.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class PathOptions(Options):
    """Which places `config path` prints."""

    all: bool = option(
        MESSAGES, "--all", default=False,
        help="Every place that is looked at, and whether a file is there.",
    )


@dataclass(kw_only=True, eq=False, repr=False)
class ImportOptions(Options):
    """Where `config import` writes."""

    output: str = option(
        OUTPUT, "--output", default="", metavar="FILE", completion=FILE,
        help="Write a new file, readable by you alone, not stdout.",
    )


TRANSFORMS_FILE = Option(
    TRANSFORM, ("--transforms",),
    "Transforms from a TOML file, in the place of this option: [[transform]] tables, their keys the names below.",
    "FILE", completion=FILE,
)
# fmt: on
"""Where a chain may stand besides the command line."""


_TEXTS = ("grep", "grep-not", "tombstone-if", "flatten")
"""Transforms for which a blank is a text as any other."""


def transform_options() -> dict[str, Option]:
    """One option per row of the transforms' table, by its name; one without a metavar takes no value.

    Their values are in no group: what counts is the order of all of them on the command line.
    """
    return {
        row.name: Option(
            TRANSFORM,
            (f"--{row.name}",),
            row.help,
            row.metavar or "",
            completion=FILE if row.metavar == "FILE" else "",
            may_be=EMPTY if row.name in ("set-key", "value-null") else BLANK if row.name in _TEXTS else "",
        )
        for row in TRANSFORMS
    }

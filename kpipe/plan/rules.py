"""What options mean together, as one table: this needs that, this excludes that, and the sentence that is shown.

It opens nothing: a contradiction is found before anything else is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kpipe.codecs import BY_SCHEMA
from kpipe.errors import UsageError
from kpipe.options import DUMPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kpipe.options import (
        EncodeOptions,
        ForwardOptions,
        InputOptions,
        OutputOptions,
        RecordOptions,
        ReencodeOptions,
        SchemaOptions,
        SelectionOptions,
        TargetOptions,
        TraceOptions,
        VerifyOptions,
        ViewOptions,
    )
    from kpipe.transform.step import Step

FILTERS = ("through", "through-json")
ROUTES = ("route", "rename-topic")
SPREADING = ("split", *ROUTES, "through-json")
"""Transforms after which one record of the source is none, several, or one elsewhere."""

EXCLUDES, NEEDS = "excludes", "needs"
TOGETHER = "{option} and {other} do not go together; drop one"
CONTRADICT = "{option} and {other} contradict each other; give one"


class Rule(NamedTuple):
    """`option` needs or excludes `other`; `{option}` and `{other}` in the sentence stand for what was typed."""

    option: str
    verb: str
    other: str
    sentence: str = TOGETHER


def _excludes(option: str, others: Iterable[str], sentence: str = TOGETHER) -> list[Rule]:
    return [Rule(option, EXCLUDES, other, sentence) for other in others]


# fmt: off
# The table: a rule is a line or two.
FORWARD = (
    Rule("a mirror", EXCLUDES, "a route",
         "{option}: keeps the names of topics, and {other} chooses them; name a target"),
    Rule("--to-origin", EXCLUDES, "--to-partition",
         "--to-origin: a record goes to the partition it came from; drop --to-partition"),
    *_excludes("--exactly-once", ("--also", "--dry-run", "a filter", "--rate")),
    *_excludes("--resume-by-trace", ("--also", "--dry-run", "a filter")),
    *_excludes("--translate-schemas", ("--also", "--to-origin", "a route")),
    Rule("--translate-schemas", EXCLUDES, "a mirror",
         "--translate-schemas looks at one target, and {other}: has one for each source; name the topic"),
    Rule("translated keys", EXCLUDES, "a hash that kpipe does not have",
         "{other}: translated keys stay in the partition of the key as it was, and kpipe cannot tell it for this hash"),
    *_excludes("--to-origin", ("--also", "a route")),
    Rule("--exactly-once", EXCLUDES, "--resume-by-trace", "--exactly-once needs no --resume-by-trace; drop it"),
    Rule("--exactly-once", NEEDS, "-G", "--exactly-once commits the offsets of a group; add -G GROUP"),
    Rule("--exactly-once", EXCLUDES, "-p", "--exactly-once needs the group to share the partitions out; drop -p"),
    Rule("--exactly-once", EXCLUDES, "--spill",
         "--exactly-once leaves nothing to spill: what is not committed is read again; drop --spill"),
    Rule("--resume-by-trace", NEEDS, "a trace", "--resume-by-trace reads the trace headers; drop --trace none"),
    Rule("--resume-by-trace", EXCLUDES, "--to-origin", "--resume-by-trace looks at one target; --to-origin has many"),
    Rule("--resume-by-trace", EXCLUDES, "a spread",
         "--resume-by-trace needs one record in TARGET for each source record; drop {other}"),
    Rule("--resume-by-trace", EXCLUDES, "a mirror",
         "--resume-by-trace looks at one target, and {other}: has one for each source; name the topic"),
    Rule("forward", EXCLUDES, "--decode internal",
         "--decode internal is for kpipe consume: its JSON cannot be made Kafka's own bytes again"),
)

WORKERS = (
    Rule("--workers", NEEDS, "-G", "{option}: workers need a group that shares the partitions out; add -G GROUP"),
    Rule("--workers", EXCLUDES, "-p", "{option}: workers share the partitions out by themselves; drop -p"),
    Rule("--workers", EXCLUDES, "-c", "{option}: workers would each count by themselves; drop -c"),
)

CONSUME = (
    Rule("--acks", NEEDS, "--commit-acked", "--acks and --trust-end belong to --commit-acked PATH; add it"),
    Rule("--trust-end", NEEDS, "--commit-acked", "--acks and --trust-end belong to --commit-acked PATH; add it"),
    Rule("--commit-acked", NEEDS, "-G", "--commit-acked needs a group to commit to; add -G GROUP"),
    Rule("--commit-acked", NEEDS, "envelopes",
         "--commit-acked needs envelopes, which carry topic, partition and offset; add -J"),
    Rule("consume", EXCLUDES, "a route", "{other}: consume has no target; use kpipe forward"),
    Rule("--commit-acked", EXCLUDES, "a filter"),
    Rule("consume", EXCLUDES, "-p same", "-p same: consume has no target; name partitions by number"),
)

PRODUCE = (
    *_excludes("--restore", (
        "FILE", "--input", "--format", "--whole-file", "--key", "--header", "--timestamp", "--tee", "--count",
        "an encoding", "--spill", "a transform",
    ), "--restore sends the spill's records as they are; drop {other}"),
    Rule("--tee", EXCLUDES, "--report", "--tee and --report both print to stdout; give one"),
    Rule("--ack", NEEDS, "envelopes on stdin",
         "--ack answers a kpipe consume -J at the start of the pipe; read stdin with --input json"),
    *_excludes("--dry-run", ("--tee", "--report", "--ack", "--restore")),
)

SENDING = (
    Rule("--like", NEEDS, "--create", "--like says how --create makes a topic; add --create"),
)

VERIFY = (
    Rule("--translated-schemas", EXCLUDES, "a decoding",
         "--translated-schemas compares bytes behind their ids, --decode what they say; give one"),
)

SELECTION = (
    Rule("--instance", NEEDS, "-G", "--instance belongs to a group; add -G GROUP"),
)

DECODE = (
    *_excludes("--decode internal", ("--decode-key", "--schema"),
               "--decode internal decodes keys as well, by layouts of its own; drop --decode-key and --schema"),
    Rule("a decoding", EXCLUDES, "--through-json",
         "--through-json gives records as they are; with --decode use --through, --map or --filter"),
    Rule("--schema", EXCLUDES, "--decode plugin:",
         "--schema says how values are decoded, and so does --decode plugin:NAME; drop one of them"),
    Rule("--schema", NEEDS, "a decoding",
         "--schema says how values are decoded; add --decode avro, protobuf or auto"),
    *(Rule(option, EXCLUDES, "--decode plugin:",
           "{option} says how values are shown by their schema, and --decode plugin:NAME knows none; drop one of them")
      for option in ("--reader-schema", "--connect-types")),
    *(Rule(option, NEEDS, "a decoding by a schema",
           "{option} says how values are shown that are decoded; add --decode auto")
      for option in ("--reader-schema", "--connect-types")),
    Rule("--message", NEEDS, "a schema with types",
         "--message names a type in a Protobuf schema; add --schema FILE.proto or a descriptor set"),
)

REENCODE = (
    Rule("--register", NEEDS, "an encoding", "--register belongs to --encode; add it"),
    Rule("--framing", NEEDS, "an encoding", "--framing belongs to --encode; add it"),
    Rule("--decode-schema", NEEDS, "--encode",
         "--decode-schema is for a --schema that belongs to --encode; write --schema"),
    Rule("--key-schema", NEEDS, "--encode-key",
         "--key-schema says how keys are encoded; add --encode-key avro, protobuf or json"),
    Rule("an encoding", EXCLUDES, "--to-origin"),
    Rule("an encoding", EXCLUDES, "a mirror",
         "{option} writes by the subject of one target, and {other}: has one for each source; name the topic"),
)

ENCODE = (
    Rule("--schema", NEEDS, "--encode",
         "--schema says how data are encoded; add --encode avro, protobuf or json"),
    Rule("--key-schema", NEEDS, "--encode-key",
         "--key-schema says how data are encoded; add --encode-key avro, protobuf or json"),
    Rule("--encode same", NEEDS, "--input json",
         "--encode same reads the envelopes of consume -J --decode; add --input json"),
    Rule("--register", NEEDS, "an encoding", "--register belongs to --encode; add it"),
    Rule("--message", NEEDS, "an encoding", "--message belongs to --encode; add it"),
    Rule("--framing", NEEDS, "an encoding by a schema",
         "--framing belongs to --encode avro, protobuf or json; add one"),
)

LINES_ONLY = (
    Rule("a format", EXCLUDES, "--null", "{other} belongs to lines, not to {option}; drop one of them"),
    Rule("a format", EXCLUDES, "--delimiter", "{other} belongs to lines, not to {option}; drop one of them"),
    Rule("a format", EXCLUDES, "--key-delimiter", "{other} belongs to lines, not to {option}; drop one of them"),
    Rule("a format", EXCLUDES, "--null-marker",
         "{other} belongs to lines and --format, not to {option}; drop one of them"),
    Rule("--null", EXCLUDES, "--delimiter", CONTRADICT),
)

INPUT = (
    Rule("--input", EXCLUDES, "--format", CONTRADICT),
    Rule("--input", EXCLUDES, "--whole-file", CONTRADICT),
    Rule("--format", EXCLUDES, "--whole-file", CONTRADICT),
    *LINES_ONLY,
    Rule("--lenient", NEEDS, "a format with names",
         "--lenient belongs to --input json and to other tools' dumps; add one"),
)

OUTPUT = (
    Rule("--json", EXCLUDES, "--format", CONTRADICT),
    Rule("--json", EXCLUDES, "--output", CONTRADICT),
    Rule("--format", EXCLUDES, "--output", CONTRADICT),
    *LINES_ONLY,
)
# fmt: on


def check(rules: Sequence[Rule], given: Mapping[str, object]) -> None:
    """UsageError with the sentence of the first rule that is broken.

    `given` says of each word of the rules whether it was typed; a text stands for it in the sentence.
    """
    for rule in rules:
        if given[rule.option] and bool(given[rule.other]) is (rule.verb == EXCLUDES):
            words = {
                name: text if isinstance(text := given[word], str) and text else word
                for name, word in (("option", rule.option), ("other", rule.other))
            }
            raise UsageError(rule.sentence.format(**words))


def first_step(steps: Sequence[Step], names: Sequence[str]) -> str:
    """The first transform of these that was typed, as `--name`; empty when there is none."""
    return next((f"--{step.name}" for step in steps if step.name in names), "")


def _only(word: str, typed: object) -> str:
    """What stands for an option with its value in a sentence, if it was typed."""
    return word if typed else ""


# --- the commands ------------------------------------------------------------------------------------------------


def check_forward(
    forward: ForwardOptions,
    selection: SelectionOptions,
    sending: TargetOptions,
    trace: TraceOptions,
    schemas: SchemaOptions,
    steps: Sequence[Step],
    mirror: str = "",
) -> None:
    """What forward's options mean together; `mirror` is the target's cluster where topics keep their names."""
    translated = translated_sides(forward)
    hashed = sending.partitioner.startswith("fnv1a") and not forward.to_partition
    given = {
        "forward": True,
        "a mirror": mirror,
        "--exactly-once": forward.exactly_once,
        "--resume-by-trace": forward.resume_by_trace,
        "--to-origin": forward.to_origin,
        "--to-partition": bool(forward.to_partition),
        "--translate-schemas": bool(translated),
        "translated keys": "key" in translated,
        "a hash that kpipe does not have": _only(f"--partitioner {sending.partitioner}", hashed),
        "--also": bool(sending.also or forward.tee),
        "--dry-run": sending.dry_run,
        "--rate": bool(sending.rate),
        "--spill": bool(sending.spill),
        "--decode internal": schemas.decode == "internal",
        "-G": bool(selection.group),
        "-p": any(text != "same" for text in selection.partitions),
        "a trace": trace.trace != "none",
        "a filter": first_step(steps, FILTERS),
        "a route": first_step(steps, ROUTES),
        "a spread": first_step(steps, SPREADING),
    }
    check(FORWARD, given)
    check_sending(sending)
    check_selection(selection)
    check_decode(schemas, steps)


def check_workers(workers: int, selection: SelectionOptions) -> None:
    """What several members of a group cannot do."""
    given = {
        "--workers": f"--workers {workers}",
        "-G": bool(selection.group),
        "-p": any(text != "same" for text in selection.partitions),
        "-c": selection.count is not None,
    }
    check(WORKERS, given)


def check_consume(
    options: OutputOptions, selection: SelectionOptions, schemas: SchemaOptions, steps: Sequence[Step]
) -> None:
    """What consume's options mean together."""
    given = {
        "consume": True,
        "--commit-acked": bool(options.commit_acked),
        "--acks": options.acks != "in-order",
        "--trust-end": options.trust_end,
        "-G": bool(selection.group),
        "-p same": "same" in selection.partitions,
        "envelopes": bool(options.json or options.json_value or options.output == "json"),
        "a filter": first_step(steps, FILTERS),
        "a route": first_step(steps, ROUTES),
    }
    check_output(options)
    check(CONSUME, given)
    check_selection(selection)
    check_decode(schemas, steps)


def check_produce(
    options: InputOptions,
    record: RecordOptions,
    sending: TargetOptions,
    schemas: EncodeOptions,
    steps: Sequence[Step],
    files: Sequence[str],
) -> None:
    """What produce's options mean together; `files` are those that were named."""
    given = {
        "FILE": bool(files),
        "--input": _only(f"--input {options.input}", options.input not in ("lines", "json")),
        "--format": bool(options.format),
        "--whole-file": options.whole_file,
        "--key": record.key is not None,
        "--header": bool(record.headers),
        "--timestamp": record.timestamp != "keep",
        "--tee": record.tee,
        "--count": record.count is not None,
        "an encoding": _only("--encode", encoded_sides(schemas)),
        "--spill": bool(sending.spill),
        "a transform": f"--{steps[0].name}" if steps else "",
        "--report": record.report,
        "--ack": bool(record.ack),
        "--restore": bool(record.restore),
        "--dry-run": sending.dry_run,
        "envelopes on stdin": options.input == "json" and not record.restore and list(files) in ([], ["-"]),
    }
    check_encode(schemas, options)
    check(PRODUCE, given)
    check_sending(sending)
    check_input(options)


def check_verify(options: VerifyOptions, schemas: ViewOptions) -> None:
    """What verify's options mean together; keys are decoded where values are."""
    decoded = schemas.decode not in ("", "none") or bool(schemas.decode_key)
    check(VERIFY, {"--translated-schemas": options.translated_schemas, "a decoding": decoded})
    check_decode(schemas, ())


# --- groups of options that several commands have -----------------------------------------------------------------


def check_sending(sending: TargetOptions) -> None:
    """What the options of sending mean together; a dry run makes no topic."""
    check(SENDING, {"--like": bool(sending.like) and not sending.dry_run, "--create": sending.create})


def check_selection(selection: SelectionOptions) -> None:
    """What the options of reading mean together."""
    check(SELECTION, {"--instance": bool(selection.instance), "-G": bool(selection.group)})


def check_decode(options: SchemaOptions, steps: Sequence[Step]) -> None:
    """What the options of decoding mean together."""
    given = {
        "--decode internal": options.decode == "internal",
        "--decode-key": bool(options.decode_key),
        "--schema": bool(options.schema),
        "--message": bool(options.message),
        "--decode plugin:": options.decode.startswith("plugin:"),
        "a decoding": bool(options.decode or options.decode_key),
        "a decoding by a schema": options.decode not in ("", "none", "internal")
        or options.decode_key not in ("", "none"),
        "a schema with types": bool(options.schema or options.reader_schema),
        "--reader-schema": bool(options.reader_schema),
        "--connect-types": options.connect_types,
        "--through-json": any(step.name == "through-json" for step in steps),
    }
    check(DECODE, given)


def check_reencode(writing: ReencodeOptions, forward: ForwardOptions, mirror: str = "") -> None:
    """What the options mean together by which forward writes what a transform has changed."""
    asked = writing.encode or writing.encode_key
    given = {
        "--register": writing.register,
        "--framing": writing.framing != "confluent",
        "--decode-schema": bool(writing.decode_schema),
        "--key-schema": bool(writing.key_schema),
        "--encode": bool(writing.encode),
        "--encode-key": bool(writing.encode_key),
        "an encoding": _only("--encode" if writing.encode else "--encode-key", asked),
        "--to-origin": forward.to_origin,
        "a mirror": mirror,
    }
    check(REENCODE, given)


def check_encode(options: EncodeOptions, inputs: InputOptions) -> None:
    """What the options of encoding mean together."""
    given = {
        "--encode": bool(options.encode),
        "--schema": bool(options.schema),
        "--encode-key": bool(options.encode_key),
        "--key-schema": bool(options.key_schema),
        "--encode same": "same" in (options.encode, options.encode_key),
        "--input json": inputs.input == "json",
        "--register": options.register,
        "--message": bool(options.message),
        "--framing": options.framing != "confluent",
        "an encoding": bool(encoded_sides(options)),
        "an encoding by a schema": options.encode in BY_SCHEMA or options.encode_key in BY_SCHEMA,
    }
    check(ENCODE, given)


def check_input(options: InputOptions) -> None:
    """What the options of an input format mean together."""
    given: dict[str, object] = {
        "--input": _only(f"--input {options.input}", options.input != "lines"),
        "--format": _only("--format", options.format),
        "--whole-file": _only("--whole-file", options.whole_file),
        "--lenient": options.lenient,
        "a format with names": options.input in ("json", *DUMPS),
    }
    given |= _framing(options, given["--input"] or given["--format"] or given["--whole-file"])
    check(INPUT, given)


def check_output(options: OutputOptions) -> None:
    """What the options of an output format mean together."""
    given: dict[str, object] = {
        "--json": _only("--json", options.json or options.json_value or options.output == "json"),
        "--format": _only("--format", options.format),
        "--output": _only(f"--output {options.output}", options.output not in ("lines", "json")),
    }
    given |= _framing(options, given["--json"] or given["--format"] or given["--output"])
    check(OUTPUT, given)


def _framing(options: InputOptions | OutputOptions, chosen: object) -> dict[str, object]:
    return {
        "a format": chosen,
        "--null": options.null,
        "--delimiter": bool(options.delimiter),
        "--key-delimiter": bool(options.key_delimiter),
        "--null-marker": options.null_marker is not None and not options.format,
    }


# --- what a few words stand for -----------------------------------------------------------------------------------


def key_encoding(options: EncodeOptions) -> str:
    """`--encode same` means keys, too: consume decodes both."""
    if options.encode_key == "none":
        return ""
    return options.encode_key or ("same" if options.encode == "same" else "")


def encoded_sides(options: EncodeOptions) -> tuple[str, ...]:
    """Which of key and value are encoded."""
    sides = (("key", key_encoding(options)), ("value", options.encode))
    return tuple(side for side, encoding in sides if encoding)


def translated_sides(options: ForwardOptions) -> dict[str, bool]:
    """The sides that are translated, each with whether it may register: keys as values, unless they have a word."""
    asked = {"key": options.translate_key_schemas or options.translate_schemas, "value": options.translate_schemas}
    return {side: mode == "register" for side, mode in asked.items() if mode not in ("", "none")}

"""What options mean together, row by row: each is refused with its sentence, and its option alone is not."""

from __future__ import annotations

from typing import Any

import pytest

from kpipe.errors import UsageError
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
    declared,
)
from kpipe.plan import rules
from kpipe.plan.rules import EXCLUDES, NEEDS, Rule, check
from kpipe.transform.step import Step

TABLES = {
    name: table
    for name, table in vars(rules).items()
    if isinstance(table, tuple) and table and isinstance(table[0], Rule) and type(table) is tuple
}
ROWS = [
    pytest.param(rule, id=f"{name}: {rule.option} {rule.verb} {rule.other}") for name in TABLES for rule in TABLES[name]
]


@pytest.mark.parametrize("rule", ROWS)
def test_a_row_refuses_with_its_sentence(rule: Rule) -> None:
    check((rule,), {rule.option: True, rule.other: rule.verb == NEEDS})
    with pytest.raises(UsageError) as caught:
        check((rule,), {rule.option: True, rule.other: rule.verb == EXCLUDES})
    assert caught.value.what == rule.sentence.format(option=rule.option, other=rule.other)


@pytest.mark.parametrize("rule", ROWS)
def test_what_was_not_typed_needs_and_excludes_nothing(rule: Rule) -> None:
    check((rule,), {rule.option: False, rule.other: rule.verb == EXCLUDES})


def test_no_rule_stands_twice_and_every_table_is_seen() -> None:
    assert set(TABLES) >= {
        "FORWARD",
        "WORKERS",
        "CONSUME",
        "PRODUCE",
        "SELECTION",
        "DECODE",
        "ENCODE",
        "REENCODE",
        "INPUT",
        "OUTPUT",
    }
    for table in TABLES.values():
        assert len({rule[:3] for rule in table}) == len(table)


def test_a_sentence_names_what_was_typed() -> None:
    steps = [Step("age"), Step("through-json", "cat")]
    rule = Rule("--exactly-once", EXCLUDES, "a filter")
    with pytest.raises(UsageError) as caught:
        check((rule,), {"--exactly-once": True, "a filter": rules.first_step(steps, rules.FILTERS)})
    assert caught.value.what == "--exactly-once and --through-json do not go together; drop one"
    assert rules.first_step(steps, ("split",)) == ""


# --- from the options ---------------------------------------------------------------------------------------------


def groups(typed: dict[str, Any], *classes: type[Any]) -> list[Any]:
    """An object of each group of options, each with what was typed of it; all that was typed belongs to one."""
    names = [{name for name, *_ in declared(cls)} for cls in classes]
    assert set(typed) <= set().union(*names)
    return [cls(**{name: typed[name] for name in own & typed.keys()}) for cls, own in zip(classes, names, strict=True)]


def steps_of(names: tuple[str, ...]) -> list[Step]:
    return [Step(name, "") for name in names]


def forward(*steps: str, mirror: str = "", **typed: Any) -> None:
    found = groups(typed, ForwardOptions, SelectionOptions, TargetOptions, TraceOptions, SchemaOptions)
    rules.check_forward(*found, steps=steps_of(steps), mirror=mirror)


@pytest.mark.parametrize(
    ("steps", "typed", "told"),
    [
        ((), {"exactly_once": True, "also": ("t",)}, "--exactly-once and --also do not go together; drop one"),
        ((), {"exactly_once": True, "tee": ("t",)}, "--exactly-once and --also"),
        ((), {"exactly_once": True, "dry_run": True}, "--exactly-once and --dry-run"),
        (("through",), {"exactly_once": True}, "--exactly-once and --through do"),
        (("through-json",), {"exactly_once": True}, "--exactly-once and --through-json"),
        ((), {"exactly_once": True, "rate": ("1/s",)}, "--exactly-once and --rate"),
        ((), {"exactly_once": True}, "add -G GROUP"),
        ((), {"exactly_once": True, "group": "g", "partitions": ("0",)}, "drop -p"),
        ((), {"exactly_once": True, "group": "g", "spill": "f"}, "drop --spill"),
        ((), {"exactly_once": True, "group": "g", "resume_by_trace": True}, "needs no --resume-by-trace; drop it"),
        ((), {"resume_by_trace": True, "also": ("t",)}, "--resume-by-trace and --also"),
        ((), {"resume_by_trace": True, "dry_run": True}, "--resume-by-trace and --dry-run"),
        (("through",), {"resume_by_trace": True}, "--resume-by-trace and --through"),
        ((), {"resume_by_trace": True, "trace": "none"}, "drop --trace none"),
        ((), {"resume_by_trace": True, "to_origin": True}, "--to-origin has many"),
        (("split",), {"resume_by_trace": True}, "drop --split"),
        (("route",), {"resume_by_trace": True}, "drop --route"),
        (("rename-topic",), {"resume_by_trace": True}, "drop --rename-topic"),
        ((), {"resume_by_trace": True, "mirror": "dr"}, "dr: has one for each source; name the topic"),
        ((), {"to_origin": True, "also": ("t",)}, "--to-origin and --also"),
        (("route",), {"to_origin": True}, "--to-origin and --route"),
        ((), {"to_origin": True, "to_partition": "3"}, "drop --to-partition"),
        (("route",), {"mirror": "dr"}, "dr: keeps the names of topics, and --route chooses them; name a target"),
        ((), {"translate_schemas": "lookup", "also": ("t",)}, "--translate-schemas and --also"),
        ((), {"translate_key_schemas": "lookup", "to_origin": True}, "--translate-schemas and --to-origin"),
        (("route",), {"translate_schemas": "register"}, "--translate-schemas and --route"),
        ((), {"translate_schemas": "register", "mirror": "dr"}, "dr: has one for each source; name the topic"),
        ((), {"translate_schemas": "lookup", "partitioner": "fnv1a"}, "--partitioner fnv1a: translated keys"),
        ((), {"like": "t"}, "--like says how --create makes a topic; add --create"),
        ((), {"decode": "internal"}, "--decode internal is for kpipe consume"),
        ((), {"instance": "a"}, "--instance belongs to a group; add -G GROUP"),
        (("through-json",), {"decode": "avro"}, "--through-json gives records as they are"),
    ],
)  # fmt: skip
def test_forward_refuses(steps: tuple[str, ...], typed: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        forward(*steps, **typed)
    assert told in caught.value.what


def test_forward_takes_what_goes_together() -> None:
    forward("through", "split", "route", also=("t",), rate=("1/s",), spill="f", partitions=("0",), trace="none")
    forward("map", exactly_once=True, group="g", partitions=("same",), instance="a")
    forward("map", resume_by_trace=True, spill="f")
    forward("through", to_origin=True)
    forward(mirror="dr", exactly_once=True, group="g")
    forward(translate_schemas="lookup", translate_key_schemas="none", partitioner="fnv1a")
    forward(translate_schemas="lookup", to_partition="same", partitioner="fnv1a")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({}, "--workers 3: workers need a group that shares the partitions out; add -G GROUP"),
        ({"group": "g", "partitions": ("0",)}, "--workers 3: workers share the partitions out by themselves; drop -p"),
        ({"group": "g", "count": 5}, "--workers 3: workers would each count by themselves; drop -c"),
    ],
)
def test_workers_refuse(typed: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        rules.check_workers(3, SelectionOptions(**typed))
    assert caught.value.what == told
    rules.check_workers(3, SelectionOptions(group="g", partitions=("same",)))


def consume(*steps: str, **typed: Any) -> None:
    rules.check_consume(*groups(typed, OutputOptions, SelectionOptions, SchemaOptions), steps=steps_of(steps))


@pytest.mark.parametrize(
    ("steps", "typed", "told"),
    [
        ((), {"acks": "each"}, "--commit-acked PATH"),
        ((), {"trust_end": True}, "--commit-acked PATH"),
        ((), {"commit_acked": "p", "json": True}, "-G GROUP"),
        ((), {"commit_acked": "p", "group": "g"}, "add -J"),
        (("through",), {"commit_acked": "p", "group": "g", "output": "json"}, "--commit-acked and --through"),
        (("route",), {}, "--route: consume has no target; use kpipe forward"),
        ((), {"partitions": ("same",)}, "-p same: consume has no target"),
        ((), {"instance": "a"}, "add -G GROUP"),
        ((), {"json": True, "format": "%s"}, "--json and --format contradict each other"),
        ((), {"decode": "internal", "decode_key": "avro"}, "drop --decode-key and --schema"),
        ((), {"decode": "internal", "schema": "f"}, "drop --decode-key and --schema"),
        (("through-json",), {"decode_key": "avro"}, "--through-json gives records as they are"),
        ((), {"schema": "f"}, "add --decode avro, protobuf or auto"),
        ((), {"decode": "auto", "message": "M"}, "add --schema FILE.proto"),
    ],
)
def test_consume_refuses(steps: tuple[str, ...], typed: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        consume(*steps, **typed)
    assert told in caught.value.what


def test_consume_takes_what_goes_together() -> None:
    consume("through", partitions=("0",))
    consume(commit_acked="p", group="g", json_value=True, acks="each", trust_end=True, instance="a")
    consume(decode="protobuf", schema="f", message="M")
    consume(decode="internal")
    consume(decode="auto", reader_schema="f", message="M", connect_types=True)
    consume(decode_key="avro", connect_types=True)
    produce(encode="avro", encode_key="protobuf")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"register": True}, "--register belongs to --encode; add it"),
        ({"framing": "none"}, "--framing belongs to --encode; add it"),
        ({"encode_key": "avro", "decode_schema": "f"}, "write --schema"),
        ({"encode": "avro", "key_schema": "f"}, "add --encode-key avro, protobuf or json"),
        ({"encode": "avro", "to_origin": True}, "--encode and --to-origin do not go together"),
        ({"encode_key": "avro", "to_origin": True}, "--encode-key and --to-origin"),
        ({"encode": "avro", "mirror": "dr"}, "--encode writes by the subject of one target, and dr: has one for each"),
    ],
)
def test_forward_that_encodes_refuses(typed: dict[str, Any], told: str) -> None:
    mirror = typed.pop("mirror", "")
    with pytest.raises(UsageError) as caught:
        rules.check_reencode(*groups(typed, ReencodeOptions, ForwardOptions), mirror)
    assert told in caught.value.what


def test_forward_that_encodes_takes_what_goes_together() -> None:
    typed = {"encode": "avro", "register": True, "framing": "header", "decode_schema": "f"}
    rules.check_reencode(*groups(typed, ReencodeOptions, ForwardOptions))
    typed = {"encode_key": "avro", "key_schema": "f", "framing": "none"}
    rules.check_reencode(*groups(typed, ReencodeOptions, ForwardOptions))


def produce(*steps: str, files: tuple[str, ...] = (), **typed: Any) -> None:
    found = groups(typed, InputOptions, RecordOptions, TargetOptions, EncodeOptions)
    rules.check_produce(*found, steps=steps_of(steps), files=files)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"tee": True, "report": True}, "both print to stdout"),
        ({"ack": "p"}, "--input json"),
        ({"files": ("f",), "ack": "p", "input": "json"}, "--input json"),
        ({"ack": "p", "input": "json", "restore": "f"}, "--input json"),
        ({"dry_run": True, "tee": True}, "--dry-run and --tee"),
        ({"dry_run": True, "report": True}, "--dry-run and --report"),
        ({"dry_run": True, "ack": "p", "input": "json"}, "--dry-run and --ack"),
        ({"dry_run": True, "restore": "f"}, "--dry-run and --restore"),
        ({"restore": "f", "files": ("g",)}, "drop FILE"),
        ({"restore": "f", "input": "kcat"}, "drop --input kcat"),
        ({"restore": "f", "format": "%s"}, "drop --format"),
        ({"restore": "f", "whole_file": True}, "drop --whole-file"),
        ({"restore": "f", "key": "k"}, "drop --key"),
        ({"restore": "f", "headers": ("a=b",)}, "drop --header"),
        ({"restore": "f", "timestamp": "now"}, "drop --timestamp"),
        ({"restore": "f", "tee": True}, "drop --tee"),
        ({"restore": "f", "count": 1}, "drop --count"),
        ({"restore": "f", "encode": "same", "input": "json"}, "drop --encode"),
        ({"restore": "f", "spill": "g"}, "drop --spill"),
        ({"schema": "f"}, "--schema says how data are encoded; add --encode avro, protobuf or json"),
        ({"key_schema": "f"}, "--key-schema says how data are encoded; add --encode-key avro, protobuf or json"),
        ({"encode": "same"}, "add --input json"),
        ({"encode_key": "same"}, "add --input json"),
        ({"register": True}, "--register belongs to --encode; add it"),
        ({"message": "M"}, "--message belongs to --encode; add it"),
        ({"encode": "same", "input": "json", "framing": "none"}, "--framing belongs to --encode avro, protobuf or json"),
        ({"like": "t"}, "--like says how --create makes a topic; add --create"),
        ({"lenient": True}, "--lenient belongs to --input json"),
    ],
)  # fmt: skip
def test_produce_refuses(typed: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        produce(**typed)
    assert told in caught.value.what


def test_produce_refuses_a_transform_of_what_is_restored() -> None:
    with pytest.raises(UsageError) as caught:
        produce("grep", restore="f")
    assert caught.value.what == "--restore sends the spill's records as they are; drop --grep"


def test_produce_takes_what_goes_together() -> None:
    produce(tee=True)
    produce(ack="p", input="json")
    produce(files=("-",), ack="p", input="json")
    produce("route", files=("f",))
    produce(restore="f", input="json")
    produce(encode="avro", schema="f", register=True, message="M", framing="none")
    produce(encode_key="json", key_schema="f", framing="header")
    produce(encode="same", encode_key="none", input="json")


def test_verify_compares_bytes_or_what_they_say() -> None:
    with pytest.raises(UsageError, match="compares bytes behind their ids"):
        rules.check_verify(VerifyOptions(translated_schemas=True), ViewOptions(decode="auto"))
    rules.check_verify(VerifyOptions(translated_schemas=True), ViewOptions(decode="none"))
    rules.check_verify(VerifyOptions(), ViewOptions(decode_key="avro"))

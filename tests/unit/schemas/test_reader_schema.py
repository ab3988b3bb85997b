"""Data of one schema as a reader with another one sees them: Avro's Schema Resolution, compared with fastavro's."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import orjson
import pytest

from kpipe.codecs import avro, avro_read, avro_resolve, avro_schema, avro_write, json_schema
from kpipe.codecs.decoder import SchemaDecoder, Undecodable
from kpipe.codecs.encoder import SchemaEncoder
from kpipe.codecs.errors import SchemaError
from kpipe.codecs.schema import Codec, ValueStyle
from kpipe.errors import BadRecord


def record(*fields: Any, name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def resolved(writer: Any, wanted: Any, value: Any, **options: bool) -> Any:
    data = avro_write.writer(avro_schema.parse(json.dumps(writer)))(value)
    trees = [avro_schema.parse(json.dumps(each)) for each in (writer, wanted)]
    found, end = avro_resolve.reader(*trees, **options)(data, 0)
    assert end == len(data)
    return orjson.loads(orjson.dumps(found))


ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
CASES = [
    ("int", "long", 5, 5),
    ("int", "double", 5, 5.0),
    ("long", "float", 16777217, 16777216.0),
    ("float", "double", 1.5, 1.5),
    ("string", "bytes", "hé", {"base64": "aMOp"}),
    ("bytes", "string", {"base64": "aMOp"}, "hé"),
    ("int", ["null", "int"], 5, 5),
    ("int", ["string", "long"], 5, 5),
    ("int", ["float", "long"], 5, {"float": 5.0}),  # the first that takes it
    (["null", "int"], ["null", "long"], None, None),
    (["null", "int"], "long", 7, 7),
    ({"type": "array", "items": "int"}, {"type": "array", "items": "double"}, [1], [1.0]),
    ({"type": "map", "values": "int"}, {"type": "map", "values": ["null", "long"]}, {"a": 1}, {"a": 1}),
    (record(field("a", "int"), field("b", "string")), record(field("b", "string")), {"a": 1, "b": "x"}, {"b": "x"}),
    (
        record(field("a", "int"), field("b", "string")),
        record(field("b", "string"), field("c", ["null", "long"], default=None), field("a", "long")),
        {"a": 1, "b": "x"},
        {"b": "x", "c": None, "a": 1},
    ),
    (record(field("old", "int")), record(field("new", "int", aliases=["old"])), {"old": 3}, {"new": 3}),
    (record(), record(field("at", {"type": "int", "logicalType": "date"}, default=1)), {}, {"at": "1970-01-02"}),
    (ENUM, {**ENUM, "symbols": ["B", "C"]}, "B", "B"),
    (ENUM, {**ENUM, "symbols": ["B", "C"], "default": "C"}, "A", "C"),
    (
        {"type": "long"},
        {"type": "long", "logicalType": "timestamp-millis"},
        0,
        "1970-01-01T00:00:00.000Z",
    ),
]


@pytest.mark.parametrize(("writer", "wanted", "value", "shown"), CASES)
def test_a_value_in_the_form_of_the_reader(writer, wanted, value, shown) -> None:
    found = resolved(writer, wanted, value)
    assert found == shown
    assert list(found) == list(shown) if isinstance(shown, dict) else True


@pytest.mark.parametrize(
    ("writer", "wanted", "value"),
    [
        case[:3]
        for case in CASES
        if "base64" not in str(case) and "logicalType" not in str(case) and case[1] not in ("float", ["float", "long"])
    ],
)
def test_another_library_resolves_it_to_the_same(writer, wanted, value) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(writer))), value)
    out.seek(0)
    theirs = fastavro.schemaless_reader(out, fastavro.parse_schema(writer), fastavro.parse_schema(wanted))
    assert resolved(writer, wanted, value) == theirs


@pytest.mark.parametrize(
    ("writer", "wanted", "value", "told"),
    [
        ("string", "int", "x", "string cannot be read as int"),
        ("long", "int", 1, "long cannot be read as int"),
        ("string", ["null", "int"], "x", "string cannot be read as int"),
        (
            record(field("a", "int")),
            record(field("b", "int")),
            {"a": 1},
            r"\.b: the records do not have it, and it is mis",
        ),
        (record(field("a", "int")), record(field("a", "string")), {"a": 1}, r"\.a: int cannot be read as string"),
        ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 3}, "ab", "2 bytes cannot"),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
            {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 4},
            "1.00",
            "2 digits behind the point cannot be read as 4",
        ),
        (ENUM, {**ENUM, "symbols": ["X"]}, "A", "no symbol of E is one of E"),
    ],
)
def test_schemas_that_never_fit_say_where(writer, wanted, value, told) -> None:
    with pytest.raises(avro_resolve.Mismatch, match=told):
        resolved(writer, wanted, value)


def test_what_does_not_fit_in_one_record_is_that_records_error() -> None:
    assert resolved(["int", "string"], "long", {"int": 4}) == 4
    with pytest.raises(avro_read.AvroError, match="string cannot be read as long"):
        resolved(["int", "string"], "long", {"string": "x"})
    with pytest.raises(avro_read.AvroError, match="'A' is no symbol of E"):
        resolved(ENUM, {**ENUM, "symbols": ["B"]}, "A")


def test_a_type_in_itself_resolves_and_depth_has_its_limit() -> None:
    old = record(field("v", "int"), field("next", ["null", "Node"]), name="Node")
    new = record(field("next", ["null", "Node"]), field("v", "long"), field("n", "int", default=0), name="Node")
    assert resolved(old, new, {"v": 1, "next": {"v": 2, "next": None}}) == {
        "next": {"next": None, "v": 2, "n": 0}, "v": 1, "n": 0,
    }  # fmt: skip
    trees = [avro_schema.parse(json.dumps(each)) for each in (old, new)]
    with pytest.raises(avro_read.AvroError, match="nests"):
        avro_resolve.reader(*trees)(b"\x02\x02" * 5000 + b"\x02\x00", 0)


def view_of(reader: Codec) -> ValueStyle:
    return ValueStyle(reader=reader, reader_name="new.avsc")


def test_what_is_shown_through_a_reader_cannot_be_written_by_its_own_schema() -> None:
    new = avro.of_text(json.dumps(record(field("b", "string", default="d"))), (), ValueStyle())
    old = avro.of_text(json.dumps(record(field("a", "int"))), (), view_of(new))
    found = SchemaDecoder("avro", view_of(new), given=old).decode(b"\x02")
    assert (found.text, found.back) == (b'{"b":"d"}', None)
    assert found.schema == {"format": "avro", "reader_schema": "new.avsc"}
    with pytest.raises(BadRecord, match=r"shown through the schema new\.avsc"):
        SchemaEncoder(None).encode(found.text, found.schema)


def test_json_and_other_formats_through_a_reader() -> None:
    new = json_schema.Json('{"type":"object","required":["b"]}', {})
    seen = json_schema.Json("true", {}, view_of(new))
    assert SchemaDecoder("json", view_of(new), given=seen).decode(b'{"b": 1}').text == b'{"b": 1}'
    with pytest.raises(Undecodable, match="required"):
        SchemaDecoder("json", view_of(new), given=seen).decode(b"{}")
    with pytest.raises(SchemaError, match="it is avro, and the reader's schema is json"):
        avro.of_text('"int"', (), view_of(new))


@pytest.mark.parametrize(
    ("name", "kind", "value", "shown"),
    [
        ("io.debezium.time.Date", "int", 1, "1970-01-02"),
        ("io.debezium.time.MicroTime", "long", 1, "00:00:00.000001"),
        ("io.debezium.time.NanoTime", "long", 1, "00:00:00.000000001"),
        ("io.debezium.time.Timestamp", "long", 1, "1970-01-01T00:00:00.001"),
        ("io.debezium.time.NanoTimestamp", "long", 1, "1970-01-01T00:00:00.000000001"),
        ("org.apache.kafka.connect.data.Timestamp", "long", 1, "1970-01-01T00:00:00.001Z"),
        ("io.debezium.time.Date", "long", 1, 1),  # another type than that name has
        ("io.debezium.data.Year", "int", 1, 1),
    ],
)
def test_connects_types_are_shown_and_come_back_with_and_without_them(name, kind, value, shown) -> None:
    text = json.dumps(
        record(
            field("x", ["null", {"type": kind, "connect.name": name}]),
            field("y", ["string", {"type": kind, "connect.name": name}]),
        )
    )
    plain, seen = avro.of_text(text, (), ValueStyle()), avro.of_text(text, (), ValueStyle(connect_types=True))
    data = plain.writer()(orjson.dumps({"x": value, "y": {kind: value}}))
    found = seen.read(data, 0)
    assert found.value["x"] == shown
    for codec in (seen, plain):
        assert codec.writer()(orjson.dumps(found.value)) == data
        assert codec.writer()(orjson.dumps(plain.read(data, 0).value)) == data

"""Avro: every type and logical type as golden values, what is read becomes the same bytes again, and no bytes hurt."""

from __future__ import annotations

import io
import json
import math
import struct
from decimal import Decimal

import fastavro
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpipe.codecs.avro_read import DEEPEST, AvroError, reader
from kpipe.codecs.avro_schema import parse
from kpipe.codecs.avro_write import writer
from kpipe.codecs.errors import NoFit, SchemaError


def plain(schema: object, data: bytes) -> object:
    value, end = reader(parse(json.dumps(schema)))(data, 0)
    assert end == len(data)
    return orjson.loads(orjson.dumps(value))


def tagged(schema: object, data: bytes) -> object:
    return orjson.loads(orjson.dumps(reader(parse(json.dumps(schema)), tagged=True)(data, 0)[0]))


def encoded(schema: object, value: object) -> bytes:
    return writer(parse(json.dumps(schema)))(value)


def of(kind: str, logical: str, **more: object) -> dict[str, object]:
    return {"type": kind, "logicalType": logical, **more}


FIXED_12 = {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}
FIXED_16 = {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}
FIXED_DECIMAL = {"type": "fixed", "name": "M", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 2}
ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}

GOLDEN = [
    ("null", "", None),
    ("boolean", "01", True),
    ("int", "01", -1),
    ("long", "feffffffffffffffff01", 2**63 - 1),
    ("float", "0000c03f", 1.5),
    ("double", "000000000000f87f", "NaN"),
    ("double", "000000000000f0ff", "-Infinity"),
    ("double", "0000000000000080", -0.0),
    ("bytes", "0461ff", {"base64": "Yf8="}),
    ("bytes", "046162", {"base64": "YWI="}),
    ("string", "06c3bc21", "ü!"),
    (ENUM, "02", "B"),
    ({"type": "array", "items": "int"}, "04020400", [1, 2]),
    ({"type": "array", "items": "int"}, "00", []),
    ({"type": "map", "values": "int"}, "0202610200", {"a": 1}),
    (of("bytes", "decimal", precision=6, scale=2), "0404ce", "12.30"),
    (of("bytes", "decimal", precision=6, scale=2), "02ff", "-0.01"),
    (of("bytes", "decimal", precision=6, scale=0), "020c", "12"),
    (FIXED_DECIMAL, "fffffb32", "-12.30"),
    (of("int", "time-millis"), "02", "00:00:00.001"),
    (of("long", "time-micros"), "02", "00:00:00.000001"),
    (of("long", "timestamp-millis"), "02", "1970-01-01T00:00:00.001Z"),
    (of("long", "timestamp-millis"), "01", "1969-12-31T23:59:59.999Z"),
    (of("long", "timestamp-micros"), "02", "1970-01-01T00:00:00.000001Z"),
    (of("long", "timestamp-nanos"), "02", "1970-01-01T00:00:00.000000001Z"),
    (of("long", "local-timestamp-millis"), "02", "1970-01-01T00:00:00.001"),
    (of("string", "uuid"), "0a68656c6c6f", "hello"),
    (of("string", "no-such-type"), "0261", "a"),
    (FIXED_12, "010000000200000003000000", "P1M2DT0.003S"),
    (FIXED_16, "00112233445566778899aabbccddeeff", "00112233-4455-6677-8899-aabbccddeeff"),
    (["null", "string"], "00", None),
    (["null", "string"], "020261", "a"),
    (["int", "long"], "0002", {"int": 1}),
    (["int", "long"], "0202", {"long": 1}),
    (["null", "int"], "0202", 1),
]


@pytest.mark.parametrize(("schema", "data", "value"), GOLDEN)
def test_a_value_is_shown_as_the_table_has_it_and_becomes_the_same_bytes(schema, data, value) -> None:
    raw = bytes.fromhex(data)
    assert plain(schema, raw) == value
    assert encoded(schema, value) == raw
    assert encoded(schema, plain(schema, raw)) == raw


@pytest.mark.parametrize(
    ("logical", "kind", "value"),
    [
        ("date", "int", 4_000_000),
        ("date", "int", -800_000),
        ("timestamp-millis", "long", 10**15),
        ("timestamp-micros", "long", -(10**18)),
        ("time-millis", "int", 86_400_000),
        ("time-millis", "int", -1),
    ],
)
def test_a_time_beyond_iso_stays_the_integer(logical, kind, value) -> None:
    raw = encoded(kind, value)
    assert plain(of(kind, logical), raw) == value
    assert encoded(of(kind, logical), value) == raw


def test_the_last_day_of_the_calendar_is_a_date() -> None:
    assert plain(of("int", "date"), encoded("int", 2932896)) == "9999-12-31"
    assert plain(of("int", "date"), encoded("int", 2932897)) == 2932897
    assert encoded(of("int", "date"), "1970-01-02") == encoded("int", 1)


def test_a_decimal_with_more_digits_than_declared_is_not_rounded() -> None:
    raw = encoded("bytes", {"base64": "BN4x"})
    assert plain(of("bytes", "decimal", precision=4, scale=2), raw) == str(Decimal(0x04DE31) / 100)


def test_a_decimal_written_longer_than_need_be_keeps_its_bytes() -> None:
    schema, raw = of("bytes", "decimal", precision=9, scale=2), bytes.fromhex("06000001")
    assert plain(schema, raw) == {"base64": "AAAB"}
    assert encoded(schema, plain(schema, raw)) == raw


def test_a_union_tells_records_of_equal_fields_apart() -> None:
    def record(name: str) -> dict[str, object]:
        return {"type": "record", "name": name, "namespace": "n", "fields": [{"name": "x", "type": "int"}]}

    schema = [record("A"), record("B")]
    assert plain(schema, b"\x02\x04") == {"n.B": {"x": 2}}
    assert encoded(schema, {"n.B": {"x": 2}}) == b"\x02\x04"
    assert encoded(schema, {"B": {"x": 2}}) == b"\x02\x04"
    with pytest.raises(NoFit, match=r"it fits n.A and n.B; say which"):
        encoded(schema, {"x": 2})


def test_a_map_that_looks_like_a_tag_is_tagged() -> None:
    schema = ["null", {"type": "map", "values": "int"}]
    raw = encoded(schema, {"map": {"map": 1}})
    assert plain(schema, raw) == {"map": {"map": 1}}
    assert encoded(schema, plain(schema, raw)) == raw
    assert plain(schema, encoded(schema, {"a": 1})) == {"a": 1}


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        ({"type": "array", "items": "int"}, [1, "x"], r"\[1\]: the string 'x', where an int belongs"),
        ("int", 2**31, "beyond the range of int"),
        ("long", 2**63, "beyond the range of long"),
        ("int", 1.5, "where an int belongs"),
        ("int", True, "where an int belongs"),
        ("string", 5, "where a string belongs"),
        (ENUM, "C", "no symbol of E"),
        ("boolean", 1, "where true or false belongs"),
        (of("bytes", "decimal", precision=4, scale=2), "1.234", "more than 2 digits behind the point"),
        (of("bytes", "decimal", precision=4, scale=2), "123.45", "more than 4 digits"),
        (of("bytes", "decimal", precision=4, scale=2), 1.5, "write"),
        (of("long", "timestamp-millis"), "1970-01-01T00:00:00.0001Z", "more than 3 digits"),
        (of("long", "timestamp-millis"), "1970-01-01T00:00:00.000", "end it with Z"),
        (of("long", "timestamp-millis"), "1970-01-01T00:00:00+02:00", "end it with Z"),
        (of("long", "local-timestamp-millis"), "1970-01-01T00:00:00.000Z", "leave out Z"),
        (of("int", "date"), "tomorrow", "no date"),
        (["null", "int"], "x", "where one of null, int belongs"),
        ({"type": "fixed", "name": "F", "size": 2}, {"base64": "YQ=="}, "1 byte, where F has 2"),
    ],
)
def test_what_does_not_fit_is_told_with_its_path(schema, value, told) -> None:
    with pytest.raises(NoFit, match=told):
        encoded(schema, value)


def test_fields_missing_unknown_and_with_defaults() -> None:
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "a", "type": "int"},
            {"name": "b", "type": ["null", "string"], "default": None},
            {"name": "c", "type": "bytes", "default": "\u00ff"},
            {"name": "d", "type": ["null", "string"], "default": "of the second branch"},
        ],
    }
    raw = encoded(schema, {"a": 1})
    assert plain(schema, raw) == {"a": 1, "b": None, "c": {"base64": "/w=="}, "d": "of the second branch"}
    with pytest.raises(NoFit, match=r"^\.a: it is missing and has no default"):
        encoded(schema, {})
    with pytest.raises(NoFit, match=r"^\.z: the record R has no such field"):
        encoded(schema, {"a": 1, "z": 2})


def test_recursion_ends_at_a_limit_and_a_list_comes_back() -> None:
    schema = {"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}
    with pytest.raises(AvroError, match=f"deeper than {DEEPEST}"):
        plain(schema, b"\x02" * 100_000)
    raw = b"\x02" * 100 + b"\x00"
    assert encoded(schema, plain(schema, raw)) == raw


@pytest.mark.parametrize("items", ["null", {"type": "record", "name": "Z", "fields": []}])
def test_items_of_no_size_are_limited(items) -> None:
    with pytest.raises(AvroError, match="items of no size"):
        plain({"type": "array", "items": items}, b"\xfe\xff\xff\xff\x0f\x00")


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ("string", b"\xfe\xff\xff\xff\x0f"),
        ("bytes", b"\xff\xff\xff\xff\x0f"),
        ("string", b"\x02\xff"),
        ("long", b"\xff" * 11),
        ("boolean", b"\x02"),
        (ENUM, b"\x04"),
        (ENUM, b"\x01"),
        (["null", "int"], b"\x04"),
        ({"type": "map", "values": "int"}, bytes.fromhex("04026102026104") + b"\0"),
        ("double", b"1234567"),
        ("int", b""),
    ],
)
def test_bytes_that_do_not_fit_are_an_error(schema, data) -> None:
    with pytest.raises(AvroError):
        plain(schema, data)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ("{", "not JSON"),
        ('{"type":"record","name":"R","fields":[{"name":"x","type":"Q"}]}', "unknown type 'Q'"),
        ('["int","int"]', "holds int twice"),
        ('{"type":"array"}', "without 'items'"),
        ('{"type":"fixed","name":"F"}', "without a size"),
        ('{"type":"record","fields":[]}', "without a name"),
        ("[" * 90 + '"int"' + "]" * 90, "union directly inside"),
        ('{"type":' * 200 + '"int"' + "}" * 200, "deeper"),
    ],
)
def test_a_text_that_is_no_schema_says_so(schema, told) -> None:
    with pytest.raises(SchemaError, match=told):
        parse(schema)


def test_a_schema_may_be_a_bare_word_and_use_types_of_others() -> None:
    assert parse("string").kind == "string"
    named: dict = {}
    parse('{"type":"enum","name":"x.E","symbols":["A"]}', named)
    found = parse('{"type":"record","name":"x.R","fields":[{"name":"e","type":"E"}]}', named)
    assert found.fields[0].node.name == "x.E"


# Generated: fastavro, written by others, makes the bytes.

_LEAVES = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])


@st.composite
def schemas(draw, depth: int = 0):
    kind = draw(st.sampled_from(["leaf", "record", "array", "map", "union", "enum"])) if depth < 3 else "leaf"
    inner = schemas(depth + 1)
    match kind:
        case "record":
            fields = [{"name": f"f{n}", "type": draw(inner)} for n in range(draw(st.integers(0, 4)))]
            return {"type": "record", "name": f"R{draw(st.integers(0, 10**9))}", "fields": fields}
        case "array":
            return {"type": "array", "items": draw(inner)}
        case "map":
            return {"type": "map", "values": draw(inner)}
        case "union":
            branches = draw(st.lists(_LEAVES, min_size=1, max_size=5, unique=True))
            if draw(st.booleans()):
                branches.append({"type": "map", "values": draw(inner)})
            return branches
        case "enum":
            return {"type": "enum", "name": f"E{draw(st.integers(0, 10**9))}", "symbols": ["A", "B", "C"]}
    return draw(_LEAVES)


_VALUES = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32).map(lambda x: struct.unpack("<f", struct.pack("<f", x))[0]),
    "double": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=20),
    "string": st.text(max_size=20),
}


@st.composite
def data_of(draw, schema):
    """The bytes of some value, and where unions are, of some branch, written without this project's code."""
    if isinstance(schema, list):
        number = draw(st.integers(0, len(schema) - 1))
        return _varint(number) + draw(data_of(schema[number]))
    if isinstance(schema, str):
        out = io.BytesIO()
        value = draw(_VALUES[schema])
        if schema in ("float", "double") and math.isnan(value):  # one NaN of the many
            value = float("nan")
        fastavro.schemaless_writer(out, schema, value)
        return out.getvalue()
    match schema["type"]:
        case "record":
            return b"".join(draw(data_of(each["type"])) for each in schema["fields"])
        case "enum":
            return _varint(draw(st.integers(0, 2)))
    count = draw(st.integers(0, 3))
    items = [
        (_string(str(n)) if schema["type"] == "map" else b"") + draw(data_of(schema.get("items", schema.get("values"))))
        for n in range(count)
    ]
    return (_varint(count) + b"".join(items) if count else b"") + b"\0"


def _varint(number: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    return out.getvalue()


def _string(text: str) -> bytes:
    return _varint(len(text.encode())) + text.encode()


_MANY = settings(max_examples=100, suppress_health_check=list(HealthCheck))


@_MANY
@given(st.data())
def test_read_then_written_is_the_same_bytes_plain_and_tagged(data) -> None:
    schema = data.draw(schemas())
    raw = data.draw(data_of(schema))
    assert encoded(schema, plain(schema, raw)) == raw
    assert encoded(schema, tagged(schema, raw)) == raw


@_MANY
@given(st.data())
def test_no_bytes_raise_anything_but_an_avro_error(data) -> None:
    schema = data.draw(schemas())
    raw = data.draw(st.binary(max_size=60)) if data.draw(st.booleans()) else data.draw(data_of(schema))
    cut = raw[: data.draw(st.integers(0, len(raw)))]
    try:
        value, end = reader(parse(json.dumps(schema)))(cut, 0)
    except AvroError:
        return
    assert end <= len(cut)
    orjson.dumps(value)


def test_no_name_of_a_schema_is_taken_for_a_line_of_python() -> None:
    names = ["a'", 'b"', "c\n", "d\\", "V", "place", "__import__('os')", "{x}", "é"]
    text = json.dumps({"type": "record", "name": "R'\"\n", "fields": [{"name": n, "type": "int"} for n in names]})
    value, _ = reader(parse(text))(bytes(range(0, 2 * len(names), 2)), 0)
    assert value == {name: number for number, name in enumerate(names)}


PAY = {"type": "record", "name": "Pay", "aliases": ["Zahlung"], "fields": [{"name": "x", "type": "int"}]}
ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 10}},
        {
            "name": "fee",
            "type": {"type": "fixed", "name": "Fee", "size": 20, "logicalType": "decimal", "precision": 40},
        },
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
        {"name": "day", "type": [{"type": "int", "logicalType": "date"}, "string"], "aliases": ["tag"]},
        {
            "name": "how",
            "type": [
                PAY,
                {**PAY, "name": "other.Pay", "fields": [{"name": "again", "type": ["null", "shop.Pay"]}]},
                "string",
                {"type": "enum", "name": "Way", "symbols": ["A", "B"]},
            ],
        },
        {"name": "last", "type": ["Way", "null", "Pay", "other.Pay"]},
        {"name": "span", "type": {"type": "fixed", "name": "Span", "size": 12, "logicalType": "duration"}},
        {
            "name": "m",
            "type": {"type": "map", "values": ["null", "double", {"type": "array", "items": ["int", "long"]}]},
        },
    ],
}


@st.composite
def orders(draw):
    """The bytes of an ORDER: decimals of any length and digits, every branch, types by their short and whole names."""

    def long(low: int = -(2**63), high: int = 2**63 - 1) -> bytes:
        return _varint(draw(st.integers(low, high)))

    def pay() -> bytes:
        return long(-(2**31), 2**31 - 1)

    def other() -> bytes:
        return draw(st.sampled_from([b"\0", b"\x02\x08"]))

    def text() -> bytes:
        return _string(draw(st.text(max_size=9)))

    def double() -> bytes:
        return struct.pack("<d", draw(st.floats(allow_nan=False)))

    def items() -> bytes:
        found = [b"\0" + pay() if draw(st.booleans()) else b"\x02" + long() for _ in range(draw(st.integers(0, 3)))]
        return (_varint(len(found)) + b"".join(found) if found else b"") + b"\0"

    def branch(*rows) -> bytes:
        number = draw(st.integers(0, len(rows) - 1))
        return _varint(number) + rows[number]()

    way = lambda: draw(st.sampled_from([b"\0", b"\x02"]))  # noqa: E731
    price = draw(st.binary(max_size=24))
    parts = [draw(st.binary(min_size=16, max_size=16)), _varint(len(price)) + price]
    parts += [draw(st.binary(min_size=20, max_size=20)), branch(bytes, long), branch(pay, text)]
    parts += [branch(pay, other, text, way), branch(way, bytes, pay, other), draw(st.binary(min_size=12, max_size=12))]
    entries = [_string(f"k{n}") + branch(bytes, double, items) for n in range(draw(st.integers(0, 2)))]
    parts.append((_varint(len(entries)) + b"".join(entries) if entries else b"") + b"\0")
    return b"".join(parts)


@_MANY
@given(orders(), st.booleans(), st.booleans())
def test_an_order_comes_back_byte_for_byte(raw, tagged, big) -> None:
    root = parse(json.dumps(ORDER))
    value, end = reader(root, tagged=tagged, big_ints_as_text=big)(raw, 0)
    assert end == len(raw)
    assert writer(root, tagged=tagged, as_read=True)(orjson.loads(orjson.dumps(value))) == raw


def test_a_short_name_of_two_branches_says_nothing() -> None:
    root = parse(json.dumps([{**PAY, "namespace": "a"}, {**PAY, "namespace": "b"}]))
    with pytest.raises(NoFit, match=r"Pay is the name of several of a\.Pay, b\.Pay; write the whole name"):
        writer(root)({"Pay": {"x": 1}})
    assert writer(root)({"b.Pay": {"x": 1}}) == b"\x02\x02"


def test_a_decimal_beyond_its_precision_is_refused_from_people_and_comes_back_as_read() -> None:
    root = parse(json.dumps(of("bytes", "decimal", precision=4, scale=2)))
    with pytest.raises(NoFit, match="more than 4 digits"):
        writer(root)("12345.67")
    assert writer(root, as_read=True)("12345.67") == b"\x06" + (1234567).to_bytes(3, "big")


def test_the_text_of_a_decimal_is_bytes_in_avros_own_json_and_a_number_in_plain() -> None:
    root = parse(json.dumps(of("bytes", "decimal", precision=9, scale=0)))
    assert (writer(root)("12"), writer(root, tagged=True)("12")) == (b"\x02\x0c", b"\x0412")

"""The JSON-lines envelope: lossless, strict, exact in its positions and numbers."""

from __future__ import annotations

import json

import pytest
from format_records import batch, consumed, cuts, decode, rows
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kpipe.formats.envelope import EnvelopeDecoder
from kpipe.formats.envelope_output import EnvelopeEncoder
from kpipe.formats.header_names import name_of
from kpipe.formats.rows import Row
from kpipe.record import NO_TIMESTAMP, Batch


def read(data, **options):
    return decode(EnvelopeDecoder("stdin", **options), data)


def values(data, **options):
    found, complaints = read(data, **options)
    assert complaints == []
    return [row.value for row in found]


def complaint(line, **options):
    found, complaints = read(b'{"value":"before"}\n' + line + b'\n{"value":"after"}\n', **options)
    assert [row.value for row in found] == [b"before", b"after"]
    (text,) = complaints
    assert text.isprintable()
    assert text.startswith("decode: stdin:2: ")
    return text.removeprefix("decode: stdin:2: ")


FULL = Row(
    b"\x00\xff", b"k", [("h", b"v"), ("h", None), ("h", b""), ("é", b"\xfe"), ("", b"\n")], (2, 1), "t", 3, 2**63 - 1
)


@settings(max_examples=60)
@given(st.lists(rows, max_size=5), cuts)
@example([FULL, Row(None, headers=[]), Row(b"", headers=[])], [1, 50])
def test_decode_of_encode_is_the_record(records, places):
    data = EnvelopeEncoder()(batch(*records))
    assert data.count(b"\n") == len(records)
    assert decode(EnvelopeDecoder("stdin"), data, places) == (records, [])


@settings(max_examples=60)
@given(st.lists(consumed, min_size=1, max_size=4) | st.lists(rows, max_size=4), st.booleans())
@example([FULL, Row(b"1.10", b"\x7f\xe2\x80\xa8", [("\x00/", b"\x1f")], (2, -5), "100%", 0, 0)], True)
def test_at_first_and_later_and_field_by_field_the_same_is_written(records, json_value):
    whole = batch(*records)
    singly = [EnvelopeEncoder(json_value=json_value)._by_field(whole, place) for place in range(len(records))]
    for worth_loading in (10_000, 0):
        encode = EnvelopeEncoder(json_value=json_value, worth_loading=worth_loading)
        assert encode(whole).splitlines(keepends=True) == singly
    for line, record in zip(singly, records, strict=True):
        assert json.loads(line).get("topic") == record.topic


def test_the_shape_is_the_documented_one():
    record = Row(
        b"x", b"user-1", [("h", b"v"), ("h", None), ("h", b"\x00\x01\xff")], (1, 1763884800000), "orders", 0, 42
    )
    assert EnvelopeEncoder()(batch(record)) == (
        b'{"topic":"orders","partition":0,"offset":42,"timestamp":1763884800000,"timestamp_type":"create",'
        b'"key":"user-1","value":"x","headers":[["h","v"],["h",null],["h",{"base64":"AAH/"}]]}\n'
    )
    assert EnvelopeEncoder()(batch(Row(b"", headers=[(name_of(b"caf\xe9"), b"x"), ("n", None)]))) == (
        b'{"key":null,"value":"","headers":[[{"base64":"Y2Fm6Q=="},"x"],["n",null]]}\n'
    )
    assert EnvelopeEncoder()(batch(Row(None))) == b'{"key":null,"value":null,"headers":[]}\n'
    assert (
        EnvelopeEncoder()(batch(Row(b"\xff", b"\xfe"))) == b'{"key_base64":"/g==","value_base64":"/w==","headers":[]}\n'
    )
    assert EnvelopeEncoder()(Batch([])) == b""


def test_every_field_but_the_value_is_optional():
    assert read(b'{"value":"v"}\n')[0] == [Row(b"v", headers=[])]
    nulls = (
        b'{"topic":null,"partition":null,"offset":null,"timestamp":null,"timestamp_type":null,'
        b'"key":null,"value":null,"headers":null}'
    )
    assert read(nulls) == ([Row(None, headers=[])], [])


def test_null_and_empty_differ():
    data = b'{"key":null,"value":"","headers":[["a",""],["b",null]]}\n{"key":"","value":null}\n'
    assert [row[:3] for row in read(data)[0]] == [(b"", None, [("a", b""), ("b", None)]), (None, b"", [])]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b"1.10", b"1.10"),
        (b"1e400", b"1e400"),
        (b"-0", b"-0"),
        (b"12345678901234567890123", b"12345678901234567890123"),
        (b"9007199254740993", b"9007199254740993"),
        (b"9" * 5000, b"9" * 5000),
        (b"true", b"true"),
        (b"0.1", b"0.1"),
        (b'[ 1.0 , "a b" ]', b'[1.0,"a b"]'),
        (b'{"a":1}', b'{"a":1}'),
        (
            b'{ "a" :\t1e400, "b": {"value": [2.50, "\\u00e9\\" :"]} }',
            b'{"a":1e400,"b":{"value":[2.50,"\\u00e9\\" :"]}}',
        ),
        (b'{"value":1,"value":2}', b'{"value":1,"value":2}'),
        (b'{"value":{"value":1.0},"x":1.0}', b'{"value":{"value":1.0},"x":1.0}'),
        (b"{}", b"{}"),
    ],
)
@pytest.mark.parametrize(
    "line",
    [
        b'{"value":%b}',
        b'{"key":"k","value": %b ,"headers":[["value","\\"value\\":1"]]}',
        b'{"v\\u0061lue":%b,"key":"a:b"}',
    ],
)
def test_json_values_are_taken_as_their_exact_text(line, written, value):
    assert values(line % written) == [value]


def test_a_json_null_is_a_tombstone_and_a_string_is_text():
    assert values(b'{"value":null}\n{"value":"null"}\n{"value":"{\\"a\\":1}"}') == [None, b"null", b'{"a":1}']


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"value":1', "not JSON: "),
        (b"value", "not JSON: unexpected character, expected a JSON value at column 1; write one envelope per line"),
        (b'{"value":NaN}', "not JSON: unexpected character, expected a JSON value at column 10"),
        (b'{"value":"a"}{"value":"b"}', "not JSON: unexpected content after document at column 14"),
        (b'{"value":"\xff"}', "the line is not UTF-8; put such bytes into value_base64"),
        (b"[1]", "the line is an array, not an object; write one envelope per line"),
        (b'"text"', "the line is a string, not an object"),
        (b'{"key":"a"}', 'the envelope has no value; a tombstone is written "value":null'),
        (b'{"value":"a","value_base64":"AA=="}', "value and value_base64 are both there; keep one of the two"),
        (b'{"value":"a","value":"b"}', 'field "value" is there twice; keep one of the two'),
        (b'{"value" :"a","value" :"b"}', 'field "value" is there twice'),
        (b'{"value":{"a":1},"key":"a","key":"b"}', 'field "key" is there twice'),
        (b'{"value":"a","payload":"b"}', 'unknown field "payload"; --lenient ignores unknown fields'),
        (b'{"value":"a","timstamp":1}', 'unknown field "timstamp"; did you mean timestamp? --lenient ignores'),
        (b'{"value":"\\ud800"}', "value holds half a surrogate pair"),
        (b'{"value":"a","headers":[["\\ud800","a"]]}', 'header 1 ("\\ud800") holds half a surrogate pair'),
        (b'{"value":"a","topic":"\\ud800"}', "topic holds half a surrogate pair"),
        (b'{"value_base64":"AA="}', 'value_base64 is not base64 ("AA="); write padded standard base64'),
        (b'{"value_base64":"A\\nA=="}', "value_base64 is not base64"),
        (b'{"value_base64":"\xc3\xa9"}', "value_base64 is not base64"),
        (b'{"value_base64":null}', "value_base64 is null (null); write it as a base64 string"),
        (b'{"value":"a","key":42}', "key is a number (42); write it as a JSON string or null"),
        (b'{"value":"a","key":{"a":1}}', 'key is an object ({"a": 1}); write it as a JSON string or null'),
        (b'{"value":"a","topic":1}', "topic is a number (1); write it as a JSON string"),
        (b'{"value":"a","partition":-1}', "partition is -1; it must lie between 0 and 2147483647"),
        (b'{"value":"a","partition":2147483648}', "partition is 2147483648; it must lie between"),
        (b'{"value":"a","partition":"3"}', 'partition is a string ("3"); write a whole number without quotes'),
        (b'{"value":"a","partition":true}', "partition is a boolean (true); write a whole number"),
        (b'{"value":"a","offset":1.5}', "offset is a number (1.5); write a whole number without a fraction"),
        (b'{"value":"a","offset":-5}', "offset is -5; it must lie between"),
        (b'{"value":"a","offset":9223372036854775808}', "offset is 9223372036854775808; it must lie between"),
        (b'{"value":"a","offset":1e400}', "offset is a number (1e400)"),
        (b'{"value":"a","timestamp":-9223372036854775809}', "timestamp is a number (-9.223372036854776e+18)"),
        (b'{"value":"a","timestamp":"2025-01-01"}', 'timestamp is a string ("2025-01-01")'),
        (b'{"value":"a","timestamp_type":"log"}', 'timestamp_type is "log"; it is one of none, create, append'),
        (b'{"value":"a","timestamp_type":[]}', "timestamp_type is []"),
        (
            b'{"value":"a","headers":{"a":"b"}}',
            'headers is an object ({"a": "b"}); write a list of ["name", "value"] pairs',
        ),
        (b'{"value":"a","headers":{}}', "headers is an object ({})"),
        (b'{"value":"a","headers":"ab"}', 'headers is a string ("ab")'),
        (b'{"value":"a","headers":["ab"]}', 'header 1 is "ab"; write it as ["name", "value"]'),
        (b'{"value":"a","headers":[["a","b"],["c"]]}', 'header 2 is ["c"]'),
        (b'{"value":"a","headers":[[{"base64":"AA"},"b"]]}', 'the name of header 1 is not base64 ("AA")'),
        (b'{"value":"a","headers":[[{"hex":"AA"},"b"]]}', 'the name of header 1 is {"hex": "AA"}; an object there'),
        (b'{"value":"a","headers":[[null,"b"]]}', 'header 1 is [null, "b"]; write it as ["name", "value"]'),
        (b'{"value":"a","headers":[[1,"b"]]}', 'header 1 is [1, "b"]'),
        (b'{"value":"a","headers":[["a",1]]}', 'header 1 ("a") is a number (1); write it as a JSON string or null'),
        (b'{"value":"a","headers":[["a\\nb",1]]}', 'header 1 ("a\\nb") is a number'),
        (b'{"value":"a","headers":[["a",{"base64":"AA"}]]}', 'header 1 ("a") is not base64 ("AA")'),
        (
            b'{"value":"a","headers":[["a",{"hex":"AA"}]]}',
            'header 1 ("a") is {"hex": "AA"}; an object there has one field',
        ),
        (
            b'{"value":"a"' + b"," + b'"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            "the line nests deeper than 254 levels",
        ),
    ],
)
def test_a_bad_line_says_what_and_where_and_leaves_the_others(line, what):
    assert complaint(line).startswith(what)


@pytest.mark.parametrize("depth", [200, 300, 1010])
def test_deep_nesting_is_taken_or_refused_but_never_a_crash(depth):
    deep = b"[" * depth + b"]" * depth
    for line in (
        b'{"value":%b}',
        b'{"value" :%b}',
    ):  # the second counts as if there were a twin: it is parsed once more
        found, complaints = read(line % deep)
        assert [row.value for row in found] == [deep][: depth < 255]
        assert ["nests deeper than 254 levels" in text for text in complaints] == [True] * (depth > 254)
    for line in (b'{"value":"a","key":%b}', b'{"value":"a","headers":[%b]}', b'{"value":"a","partition":%b}', b"%b"):
        assert complaint(line % deep)


def test_the_first_error_of_a_line_is_told_and_all_bad_lines_are():
    _, complaints = read(b'{"partition":-1,"offset":-1}\n{"value":"ok"}\nx\n')
    assert [text.split(": ")[1] for text in complaints] == ["stdin:1", "stdin:3"]


def test_lenient_ignores_unknown_fields_only():
    data = b'{"value":"a","x":{"value":1}}\n{"value":1.10,"x":{"value":1.1}}\n'
    assert values(data, lenient=True) == [b"a", b"1.10"]
    assert complaint(b'{"value":"a","x":1,"partition":-1}', lenient=True).startswith("partition is -1")


def test_blank_lines_carry_no_record_and_positions_stay():
    batch = EnvelopeDecoder("a.json").feed(b'\xef\xbb\xbf{"value":"a"}\r\n\n \t\r\n{"value":"b"}\r\nx\n')
    assert batch.values == [b"a", b"b"]
    assert [batch.where(0), batch.where(1), batch.bad[0].error.where] == ["a.json:1", "a.json:4", "a.json:5"]
    assert read(b"\n\n") == ([], [])
    assert read(b"") == ([], [])


def test_a_byte_order_mark_is_skipped_at_the_start_only():
    assert complaint(b'\xef\xbb\xbf{"value":"a"}').startswith("not JSON: UTF-8 byte order mark")


def test_positions_count_over_blocks():
    decoder = EnvelopeDecoder("stdin")
    assert list(decoder.feed(b'{"value":"a"}\n\n{"va').lines) == [1]
    assert decoder.pending == 4
    assert [bad.error.where for bad in decoder.feed(b'lue":"b"}\n{}\n').bad] == ["stdin:4"]


def test_an_unterminated_last_line_is_a_record_or_a_bad_one():
    assert read(b'{"value":"a"}\n{"value":"b"}')[0][1].value == b"b"
    assert read(b'{"value":"a"}\n{"value":"b')[1][0].startswith("decode: stdin:2: not JSON: ")


def test_an_oversized_line_is_a_bad_record():
    data = b'{"value":"a"}\n{"value":"%b"}\n{"value":"c"}\n' % (b"b" * 50)
    found, complaints = read(data, max_record_bytes=40)
    assert [row.value for row in found] == [b"a", b"c"]
    assert [text.split(";")[0] for text in complaints] == ["decode: stdin:2: record is longer than 40 bytes"]


def test_a_timestamp_without_a_type_is_the_create_time():
    data = b'{"value":"a","timestamp":5}\n{"value":"a","timestamp_type":"append","timestamp":6}\n{"value":"a"}\n'
    assert [row.timestamp for row in read(data)[0]] == [(1, 5), (2, 6), NO_TIMESTAMP]


@pytest.mark.parametrize(
    ("value", "embedded"),
    [
        (b'{"a": 1.10}', b'{"a": 1.10}'),
        (b'{\n  "a": "x\\n"\r\n}', b'{   "a": "x\\n"  }'),
        (b"[1]", b"[1]"),
        (b"12345678901234567890123", b"12345678901234567890123"),
        (b"true", b"true"),
        (b'"text"', b'"\\"text\\""'),
        (b"null", b'"null"'),
        (b"{not json", b'"{not json"'),
        (b"NaN", b'"NaN"'),
        (b"", b'""'),
        (None, b"null"),
    ],
)
@pytest.mark.parametrize("timestamp", [(1, 5), NO_TIMESTAMP])
def test_json_value_embeds_json_on_one_line(value, embedded, timestamp):
    line = EnvelopeEncoder(json_value=True)(batch(Row(value, None, None, timestamp, "t", 0, 1)))
    assert line.count(b"\n") == 1
    assert b'"value":' + embedded + b',"headers"' in line
    json.loads(line)


@settings(max_examples=25)
@given(st.lists(rows, min_size=1, max_size=4))
def test_json_value_loses_nothing_but_blanks(records):
    found, complaints = decode(EnvelopeDecoder("stdin"), EnvelopeEncoder(json_value=True)(batch(*records)))
    assert complaints == []
    assert [row._replace(value=None) for row in found] == [row._replace(value=None) for row in records]
    for row, record in zip(found, records, strict=True):
        assert row.value == record.value or json.loads(row.value) == json.loads(record.value)


def test_fragments_of_900_kb_and_many_quotes():
    value = b'{"a":"' + b'\\"' * 450_000 + b'"}'
    assert values(b'{"value": %b}' % value) == [value]
    assert values(EnvelopeEncoder()(batch(Row(value)))) == [value]

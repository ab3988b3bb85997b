"""Dumps of other tools, as these tools write them, and what is said about what they lost."""

from __future__ import annotations

import json

import pytest
from format_records import cuts, decode, headers, nullable
from hypothesis import given, settings
from hypothesis import strategies as st

from kpipe.formats.foreign import KafDecoder, KcatDecoder, KclDecoder, RpkDecoder
from kpipe.formats.header_names import bytes_of
from kpipe.formats.rows import Row

# Written by kcat 1.7.1 -J; the fourth has all 256 bytes in its value, bytes that are not UTF-8 in key and header.
KCAT = (
    b'{"topic":"t","partition":0,"offset":0,"tstype":"create","ts":1795457648323,"broker":1,"key":"k","payload":"hello"}\n'
    b'{"topic":"t","partition":0,"offset":1,"tstype":"logappend","ts":1795457648323,"broker":1,"key":"k","payload":null}\n'
    b'{"topic":"t","partition":0,"offset":2,"tstype":"create","ts":1795457648323,"broker":1,"key":"","payload":""}\n'
    b'{"topic":"t","partition":0,"offset":3,"tstype":"create","ts":1795457648323,"broker":1,"headers":["a","1","a",null,'
    b'"b","","\xc3\xa9","\xff\\"\\n"],"key":"\xff\xfe","payload":"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007'
    b"\\b\\t\\n\\u000B\\f\\r\\u000E\\u000F\\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001A"
    b"\\u001B\\u001C\\u001D\\u001E\\u001F !\\\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\\\]^_`"
    b"abcdefghijklmnopqrstuvwxyz{|}~" + bytes(range(0x7F, 0x100)) + b'"}\n'
    b'{"topic":"t","partition":0,"offset":4,"broker":1,"key":null,"payload":"\xc3\xa9\xe2\x98\x83\xf0\x9f\x98\x80/\x7f"}\n'
)
CREATED = (1, 1795457648323)


def kcat_line(row):
    """What yajl makes of a record: only quotes, backslashes and control bytes are escaped."""

    def string(data):
        escapes = {0x22: b'\\"', 0x5C: b"\\\\", 10: b"\\n", 13: b"\\r", 9: b"\\t", 8: b"\\b", 12: b"\\f"}
        return b'"' + b"".join(escapes.get(c) or (b"\\u00%02X" % c if c < 32 else bytes([c])) for c in data) + b'"'

    def entry(data):
        return b"null" if data is None else string(data)

    listed = b",".join(string(bytes_of(name)) + b"," + entry(value) for name, value in row.headers)
    return (
        b'{"topic":"t","partition":1,"offset":2,"tstype":"create","ts":3,"broker":0,"headers":[%b],"key":%b,"payload":%b}\n'
        % (
            listed,
            entry(row.key),
            entry(row.value),
        )
    )


def complaint(decoder, line):
    found, complaints = decode(decoder, line)
    assert found == []
    (text,) = complaints
    return text


def test_kcat_dumps_are_exact():
    found, complaints = decode(KcatDecoder("dump"), KCAT, [100, 333])
    assert complaints == []
    assert found == [
        Row(b"hello", b"k", [], CREATED, "t", 0, 0),
        Row(None, b"k", [], (2, 1795457648323), "t", 0, 1),
        Row(b"", b"", [], CREATED, "t", 0, 2),
        Row(
            bytes(range(256)),
            b"\xff\xfe",
            [("a", b"1"), ("a", None), ("b", b""), ("é", b'\xff"\n')],
            CREATED,
            "t",
            0,
            3,
        ),
        Row("é☃😀/\x7f".encode(), None, [], (0, -1), "t", 0, 4),
    ]


@settings(max_examples=50)
@given(
    st.lists(
        st.builds(Row, nullable, nullable, headers, st.just((1, 3)), st.just("t"), st.just(1), st.just(2)), max_size=4
    ),
    cuts,
)
def test_every_byte_of_a_kcat_dump_is_recovered(records, places):
    data = b"".join(map(kcat_line, records))
    assert decode(KcatDecoder("dump"), data, places) == (records, [])


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        (
            b'"payload":null,"payload_error":"bad magic"',
            'kcat could not decode it ("bad magic"), its bytes are lost; dump',
        ),
        (
            b'"payload":{"a":1},"value_schema_id":3',
            "payload is an object, decoded by kcat: its bytes are lost; dump without",
        ),
        (b'"payload":"a","tstype":"later","ts":1', 'tstype is "later"; kcat writes create, logappend or unknown'),
        (b'"payload":"a","headers":["a"]', 'headers is ["a"]; kcat writes a list of name, value'),
        (b'"payload":"a","headers":{"a":"b"}', 'headers is {"a": "b"}; kcat writes'),
        (b'"payload":"a","headers":[1,"b"]', "a header's name is a number (1); kcat writes a string"),
        (b'"payload":"\xff\\ud800"', "not UTF-8, and with surrogate escapes that kcat does not write"),
        (b'"payload":"\xff",,', "not JSON, even with bytes that are not UTF-8 allowed"),
        (b'"key":"a"', "the object has no payload; is this what kcat writes?"),
        (b'"payload":"a","valu":1', 'unknown field "valu"; --lenient'),
        (b'"payload":"a","partition":-1', "partition is -1"),
    ],
)
def test_what_kcat_lost_or_never_wrote_is_a_bad_record(fields, what):
    assert complaint(KcatDecoder("dump"), b"{" + fields + b"}\n").startswith(f"decode: dump:1: {what}")


def test_an_escaped_backslash_before_ud800_is_text():
    assert decode(KcatDecoder("dump"), b'{"payload":"\xff\\\\ud800"}\n')[0][0].value == b"\xff\\ud800"


def test_kcl_records_are_exact():
    data = (
        b'{"topic":"t","partition":1,"offset":2,"timestamp":3,"leader_epoch":0,"key":null,"value":"a","headers":'
        b'[{"key":"h","value":"v"},{"key":"h","value":null},{"key":"b","value_base64":"/w=="},{"key":"e","value":""}]}\n'
        b'{"topic":"t","partition":1,"offset":3,"timestamp":-1,"leader_epoch":0,"key_base64":"/w==","value":null}\n'
        b'{"topic":"t","partition":1,"offset":4,"timestamp":3,"leader_epoch":0,"key":"","value_base64":"/w==","delivery_count":1}\n'
    )
    assert decode(KclDecoder("dump"), data) == (
        [
            Row(b"a", None, [("h", b"v"), ("h", None), ("b", b"\xff"), ("e", b"")], (1, 3), "t", 1, 2),
            Row(None, b"\xff", [], (0, -1), "t", 1, 3),
            Row(b"\xff", b"", [], (1, 3), "t", 1, 4),
        ],
        [],
    )


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ('"value":{"a":1}', "value is an object, decoded by kcl: its bytes are lost; dump without decoding"),
        ('"value":"a","value_base64":"AA=="', "value and value_base64 are both there"),
        ('"key":"a"', "the object has no value"),
        ('"value":"a","headers":[{"value":"a"}]', "a header has no key"),
        ('"value":"a","headers":[{"key":"a"}]', "the object has no value"),
        ('"value":"a","headers":["a"]', 'headers is ["a"]; kcl writes a list of {"key": ..., "value": ...}'),
    ],
)
def test_what_kcl_never_wrote_is_a_bad_record(fields, what):
    assert complaint(KclDecoder("dump"), b"{" + fields.encode() + b"}").startswith(f"decode: dump:1: {what}")


RPK = [
    {
        "topic": "t",
        "key": "k",
        "value": 'a"}\n{',
        "headers": [{"key": "h", "value": "v"}],
        "timestamp": 3,
        "partition": 1,
        "offset": 2,
    },
    {"topic": "t", "timestamp": 3, "partition": 1, "offset": 3},
    {"topic": "t", "value": "", "timestamp": 3, "partition": 1, "offset": 4},
]
RPK_ROWS = [
    Row(b'a"}\n{', b"k", [("h", b"v")], (1, 3), "t", 1, 2),
    Row(None, None, [], (1, 3), "t", 1, 3),
    Row(b"", None, [], (1, 3), "t", 1, 4),
]


@pytest.mark.parametrize("indent", [None, 2, 0])
@pytest.mark.parametrize("between", ["\n", "", "\n\n", "\r\n"])
@settings(max_examples=12)
@given(places=cuts)
def test_rpk_objects_may_span_lines_or_stand_together(indent, between, places):
    data = between.join(json.dumps(record, indent=indent) for record in RPK).encode() + b"\n"
    if indent == 0:
        data = data.replace(b"\n{\n", b"\n {\n")  # a `{` in the first column begins a record
    assert decode(RpkDecoder("dump"), data, places) == (RPK_ROWS, [])


def test_rpk_positions_are_those_of_the_first_lines():
    data = "\n".join(json.dumps(record, indent=2) for record in RPK).encode() + b"\n"
    decoder = RpkDecoder("dump")
    batch = decoder.feed(data)
    assert [batch.where(place) for place in range(3)] == ["dump:1", "dump:15", "dump:21"]
    assert decoder.pending == 0


def test_a_broken_object_does_not_swallow_the_next():
    good = json.dumps(RPK[2], indent=2).encode()
    found, complaints = decode(
        RpkDecoder("dump"), b'{\n  "topic": "t",\n' + good + b'\n}\n{"topic": "x\n' + good + b"\n{"
    )
    assert found == [RPK_ROWS[2]] * 2
    assert [text.split(": ")[1:3] for text in complaints] == [
        ["dump:1", "not JSON"],
        ["dump:10", "not JSON"],
        ["dump:11", "not JSON"],
        ["dump:19", "not JSON"],
    ]


def test_an_unfinished_object_is_pending_then_bad():
    decoder = RpkDecoder("dump")
    assert decoder.feed(b'{\n "topic": "t",').read == 0
    assert decoder.pending == 16
    assert [bad.error.where for bad in decoder.finish().bad] == ["dump:1"]
    assert decoder.pending == 0


def test_an_object_over_the_limit_is_bad_and_dropped():
    data = b'{\n "topic": "t",\n "value": "%b"\n}\n{"topic":"t","value":"a"}\n' % (b"x" * 30)
    found, complaints = decode(RpkDecoder("dump", max_record_bytes=35), data, range(0, 90, 7))
    assert [row.value for row in found] == [b"a"]
    assert any("longer than 35 bytes" in text for text in complaints)


def test_an_array_of_objects_is_refused():
    text = complaint(RpkDecoder("dump"), b'[{"topic":"t"},\n {"topic":"u"}]')
    assert text.startswith("decode: dump:1: found an array (")
    assert text.endswith("), not an object; rpk writes an object per record")


@pytest.mark.parametrize("decoder", [RpkDecoder, KafDecoder])
def test_replaced_bytes_are_noticed_where_go_escaped_them(decoder):
    line = b'{"topic":"t","offset":1,"%b":"a\\ufffdb"}\n' % (b"value" if decoder is RpkDecoder else b"payload")
    assert "replaced bytes that are not UTF-8 by U+FFFD, they are lost" in complaint(decoder("dump"), line)
    assert decode(decoder("dump", lenient=True), line)[0][0].value == "a\ufffdb".encode()
    assert decode(decoder("dump"), line.replace(b"\\ufffd", "\ufffd".encode()))[0][0].value == "a\ufffdb".encode()
    assert decode(decoder("dump"), line.replace(b"\\ufffd", b"\\\\ufffd"))[0][0].value == b"a\\ufffdb"


def test_rpk_metadata_is_not_a_tombstone():
    line = b'{"topic":"t","value_size":5,"timestamp":3,"partition":1,"offset":3}'
    assert complaint(RpkDecoder("dump"), line).endswith("the values are not in this dump; dump without --meta-only")
    assert "neither topic nor offset" in complaint(RpkDecoder("dump"), b"{}")


def test_kaf_rows():
    line = (
        '{"topic":"t","partition":1,"offset":2,"timestamp":"%s","headers":[{"key":"h","value":"v"}],'
        '"key":"%s","payload":"%s"}\n'
    )
    times = {
        "2024-01-02T15:04:05.1Z": (1, 1704207845100),
        "2024-01-02T15:04:05.123456789+02:00": (1, 1704200645123),
        "1970-01-01T00:00:00.001Z": (1, 1),
        "0001-01-01T00:00:00Z": (0, -1),
    }
    found, complaints = decode(KafDecoder("dump"), "".join(line % (time, "k", "v") for time in times).encode())
    assert complaints == []
    assert found == [Row(b"v", b"k", [("h", b"v")], stamp, "t", 1, 2) for stamp in times.values()]
    assert decode(KafDecoder("dump"), (line % ("0001-01-01T00:00:00Z", "", "")).encode())[0][0][:2] == (b"", None)
    assert 'timestamp is "noon"; kaf writes RFC 3339' in complaint(
        KafDecoder("dump"), (line % ("noon", "k", "v")).encode()
    )
    assert "timestamp is" in complaint(KafDecoder("dump"), (line % ("2024-01-02T15:04:05", "k", "v")).encode())
    assert "the object has no payload" in complaint(KafDecoder("dump"), b'{"topic":"t"}')


@pytest.mark.parametrize("decoder", [KcatDecoder, KclDecoder, RpkDecoder, KafDecoder])
def test_a_line_that_cannot_be_read_keeps_its_bytes_for_a_dead_letter(decoder):
    for line in (b"no json", b"[1]", b'{"unknown":1}', b'{"topic":1}'):
        reader = decoder("dump")
        (bad,) = [*reader.feed(line + b"\n").bad, *reader.finish().bad]
        assert bad.error.raw == line

"""Records whole in bytes, what 0.1 wrote, and the registry that names all formats."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from format_records import batch, cuts, decode, nullable, rows, rows_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kpipe.errors import BadRecord, UsageError
from kpipe.formats import DECODERS, ENCODERS, make_decoder, make_encoder
from kpipe.formats.binary import BinaryDecoder, BinaryEncoder
from kpipe.formats.header_names import name_of
from kpipe.formats.rows import Row
from kpipe.formats.sharing import MOST_WORDS


def whole(*records: Row) -> bytes:
    return BinaryEncoder()(batch(*records))


def old(*records: Row) -> bytes:
    """As kpipe 0.1 wrote them."""
    fields = [field for record in records for field in (record.key, record.value)]
    return b"".join(b"\xff\xff\xff\xff" if field is None else len(field).to_bytes(4, "big") + field for field in fields)


old_rows = st.lists(st.builds(Row, nullable, nullable, st.just([])), max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, max_size=5), cuts)
@example([Row(None, headers=[]), Row(b"", b"", [("", b"")], (2, -(2**63)), "t", 2**31 - 1, 2**63 - 1)], [3, 4, 5, 9])
def test_decode_of_encode_is_the_record(records, places):
    assert decode(BinaryDecoder("in"), whole(*records), places) == (records, [])


def test_what_was_seen_before_changes_nothing_that_is_read():
    """Topics, names and headers that come again, that are new, that are no text, and more of them than are kept."""
    decoder = BinaryDecoder("in")
    for block in range(3):
        for count in (1, MOST_WORDS + 1, 3):
            found = [
                Row(b"v", b"k", [(f"h{n % 7}", b"\xff%d" % (n % 2)), (f"n{n}", None)], (1, 5), f"t{n}", n, n)
                for n in range(count)
            ]
            found += [Row(None, headers=[]), Row(b"", headers=[("h0", b"%d" % block)])] * 3
            for records in (found, [*found, Row(b"", headers=[(name_of(b"\xff"), b"")]), *found]):
                assert rows_of(decoder.feed(whole(*records))) == records


@settings(max_examples=40, deadline=None)
@given(old_rows, st.lists(st.lists(rows, max_size=2), max_size=3), cuts)
def test_what_0_1_wrote_reads_back_and_files_can_be_joined(before, after, places):
    data = old(*before) + b"".join(whole(*records) for records in after)
    found = [*before, *(record for records in after for record in records)]
    assert decode(BinaryDecoder("in"), data, places) == (found, [])


@settings(max_examples=40, deadline=None)
@given(st.lists(rows, min_size=1, max_size=3))
def test_any_messagepack_library_reads_a_record(records):
    for record in records:
        data = whole(record)
        assert data.startswith(b"\xffkp\x02")
        assert int.from_bytes(data[4:8], "big") == len(data) - 8
        topic, partition, offset, stamp, key, value, headers = msgspec.msgpack.decode(data[8:])
        assert (topic, partition, offset, tuple(stamp)) == (*record[4:], record.timestamp)
        assert (key, value) == (record.key, record.value)
        listed = [(name if isinstance(name, str) else name_of(name), content) for name, content in headers or []]
        assert listed == record.headers


def test_the_bytes():
    assert whole(Row(b"v", b"k", [("h", None), (name_of(b"\xff"), b"")], (1, 5), "t", 3, 4), Row(None)) == (
        b"\xffkp\x02"
        b"\0\0\0\x19" + b"\x97\xa1t\x03\x04\x92\x01\x05\xc4\x01k\xc4\x01v\x92\x92\xa1h\xc0\x92\xc4\x01\xff\xc4\0"
        b"\0\0\0\x0a" + b"\x97\xc0\xc0\xc0\x92\0\xff\xc0\xc0\xc0"
    )


def framed(*bodies: bytes) -> bytes:
    return b"\xffkp\x02" + b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


GOOD = whole(Row(b"good", headers=[]))[8:]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({0: 5}, "Expected `str | null`, got `int` - at `$[0]`"),
        ({1: 2**31}, "Expected `int` <= 2147483647 - at `$[1]`"),
        ({2: -1}, "Expected `int` >= 0 - at `$[2]`"),
        ({3: [3, 0]}, "Expected `int` <= 2 - at `$[3][0]`"),
        ({3: None}, "Expected `array`, got `None` - at `$[3]`"),
        ({4: "text"}, "Expected `bytes | null`, got `str`"),
        ({5: 1}, "Expected `bytes | null`, got `int` - at `$[5]`"),
        ({6: [["a"]]}, "Expected `array` of length 2, got 1 - at `$[6][0]`"),
        ({6: [[None, b"a"]]}, "a header name is NoneType, neither str nor bin"),
        (b"", "Input data was truncated"),
        (GOOD + b"\xc0", "MessagePack data is malformed: trailing characters (byte 15)"),
        (GOOD[:-1], "Input data was truncated"),
        (msgspec.msgpack.encode([b"good"]), "Expected `array` of length 7, got 1"),
        (GOOD.replace(b"\x97\xc0", b"\x97\xa1\xff", 1), "'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_record_that_is_none_is_told_and_leaves_its_neighbours(change, what):
    body = change
    if isinstance(change, dict):
        fields = [None, None, None, [0, -1], None, b"x", None]
        for place, entry in change.items():
            fields[place] = entry
        body = msgspec.msgpack.encode(fields)
    part = BinaryDecoder("in").feed(framed(GOOD, body, GOOD))
    assert part.values == [b"good", b"good"]
    (bad,) = part.bad
    assert str(bad.error).startswith(f"decode: in:2: not a record: {what}")
    assert bad.error.raw == body


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xfe", b"\x7f\xff\xff\xff", b"abcd"])
@pytest.mark.parametrize(
    ("before", "name"), [(old(Row(b"v")) + b"\xff\xff\xff\xff", "value"), (whole(Row(b"v")), "record")]
)
def test_an_impossible_length_ends_the_reading(length, before, name):
    decoder = BinaryDecoder("in", max_record_bytes=1000)
    batch = decoder.feed(before + length + b"rest")
    assert batch.values == [b"v"]
    assert [bad.error.where for bad in batch.bad] == ["in:2"]
    assert str(batch.bad[0].error).startswith(f"decode: in:2: {name} length is ")
    assert decoder.pending == 0
    with pytest.raises(BadRecord, match="no record after a bad length"):
        decoder.feed(b"more")
    with pytest.raises(BadRecord, match="no record after a bad length"):
        decoder.finish()


@pytest.mark.parametrize("begun", [b"\xff\xff\xff\xff\0\0", whole(Row(b"value"))[4:10], b"\xffkp"])
def test_an_unfinished_record_is_pending_then_bad(begun):
    decoder = BinaryDecoder("in")
    assert decoder.feed(b"\xffkp\x02" if b"\x97" in begun else b"").read == 0
    assert decoder.feed(begun).read == 0
    assert decoder.pending == len(begun)
    assert [str(bad.error) for bad in decoder.finish().bad] == [
        f"decode: in:1: the input ends inside a record, {len(begun)} bytes after its beginning; is it cut off?"
    ]
    assert decoder.pending == 0
    assert decoder.finish().read == 0


def test_a_long_record_is_joined_once():
    value = bytes(300_000)
    data = whole(Row(value), Row(b"next"))
    decoder = BinaryDecoder("in")
    parts = [decoder.feed(data[place : place + 1000]) for place in range(0, len(data), 1000)]
    assert [part.values for part in parts if part.values] == [[value, b"next"]]


def test_all_names_make_something():
    for name in DECODERS:
        decoder = make_decoder(name, "in", *(["%s\\n"] if name == "format" else []))
        assert decoder.feed(b"").values == []
        assert decoder.pending == 0
    for name in ENCODERS:
        assert make_encoder(name, *(["%s\\n"] if name == "format" else []))(batch()) == b""


def test_options_pass_through():
    assert make_decoder("lines", "in", delimiter=b"\0").feed(b"a\0").values == [b"a"]
    assert make_encoder("lines", b"\0")(batch(Row(b"a"))) == b"a\0"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="unknown input format jsn; did you mean json"):
        make_decoder("jsn", "in")
    with pytest.raises(UsageError, match="unknown output format xyzzy; use one of lines, json, format, binary"):
        make_encoder("xyzzy")


def test_lines_need_no_json_parser():
    code = (
        "import sys; from kpipe.formats import make_decoder; "
        "make_decoder('lines', 'in'); print('orjson' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "False\n"

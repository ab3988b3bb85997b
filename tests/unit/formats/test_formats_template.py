"""Format strings, out and in, and the escapes that delimiters share with them."""

from __future__ import annotations

import pytest
from format_records import batch, consumed, cuts, decode, nullable, some_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from kpipe.errors import BadRecord, UsageError
from kpipe.formats.escapes import parse_escapes
from kpipe.formats.rows import Row
from kpipe.formats.splitting import oversized
from kpipe.formats.template import FormatEncoder
from kpipe.formats.template_input import FormatDecoder
from kpipe.record import Batch

HEADERS = [("a", b"1"), ("a", None), ("b", b""), ("é", b'\xff"')]
RECORD = Row(b"hello", b"k\x00", HEADERS, (1, 1763884800000), "orders", 3, 42)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        # What kcat 1.7.1 prints for the same record.
        ("[%s|%S|%k|%K|%T|%t|%p|%o|%%]\\n", b"[hello|5|k\x00|2|1763884800000|orders|3|42|%]\n"),
        ("%h", b'a=1,a=NULL,b=,\xc3\xa9=\xff"'),
        ("%R%s", b"\x00\x00\x00\x05hello"),
        ("%v %V\\0", b"hello 5\x00"),
        ("\\x25s%%s\\x00\\xff", b"%s%s\x00\xff"),
        ("é\\t\\r\\\\", b"\xc3\xa9\t\r\\"),
        ("%s", b"hello"),
        ("%s%s", b"hellohello"),
    ],
)
def test_verbs_and_escapes(spec, expected):
    assert FormatEncoder(spec)(batch(RECORD)) == expected
    assert FormatEncoder(spec)(batch(RECORD, RECORD)) == expected * 2


def test_null_has_length_minus_one_and_empty_has_zero():
    records = batch(Row(None, None), Row(b"", b""))
    assert FormatEncoder("%S %K %s%k\\n")(records) == b"-1 -1 \n0 0 \n"
    assert FormatEncoder("%R")(records) == b"\xff\xff\xff\xff\x00\x00\x00\x00"
    assert FormatEncoder("%s,%k\\n", null_marker=b"NULL")(records) == b"NULL,NULL\n,\n"
    assert FormatEncoder("%s,%k\\n", null_marker=b"NULL")(batch(Row(None))) == b"NULL,NULL\n"


def test_the_null_marker_is_not_written_behind_a_length_which_says_it_all():
    records = batch(Row(None, None), Row(b"v", b"k"))
    encode = FormatEncoder("%k %S %s\n", null_marker=b"NULL")
    assert encode(records) == b"NULL -1 \nk 1 v\n"
    assert FormatEncoder("%s %S\n", null_marker=b"NULL")(records) == b"NULL -1\nv 1\n"
    found, complaints = decode(FormatDecoder("stdin", "%k %S %s\n", null_marker=b"NULL"), encode(records))
    assert (found, complaints) == ([Row(None, None, []), Row(b"v", b"k", [])], [])


def test_what_a_record_does_not_have_is_nothing_and_its_timestamp_minus_one():
    assert FormatEncoder("%t|%p|%o|%T|%h\\n")(batch(Row(b"a"))) == b"|||-1|\n"
    assert FormatEncoder("%t|%p|%o|%T|%h\\n")(batch(Row(b"a"), RECORD)).startswith(
        b"|||-1|\norders|3|42|1763884800000|a=1"
    )
    assert FormatEncoder("%s\\n")(Batch([])) == b""
    assert FormatEncoder("--\\n")(batch(RECORD, RECORD)) == b"--\n--\n"


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("%s %q", '--format: unknown verb %q at character 4 of "%s %q"; use %s %k'),
        ("é%", '--format: a lone % at character 2 of "é%"'),
        ("%s\\q", "--format: unknown escape \\q at character 1"),
        ("%s\n%\n", '--format: unknown verb %\\n at character 4 of "%s\\n%\\n"; use'),
        ("\udcff\\\udcff", '--format: unknown escape \\\\udcff at character 2 of "\\udcff'),
        ("", "--format: the format is empty"),
    ],
)
def test_a_bad_format_names_the_place(spec, what):
    for make in (FormatEncoder, lambda text: FormatDecoder("stdin", text)):
        with pytest.raises(UsageError) as caught:
            make(spec)
        assert str(caught.value).startswith(what)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", b""),
        ("\\n\\t\\r\\\\", b"\n\t\r\\"),
        ("\\0", b"\x00"),
        ("\\012\\033", b"\n\x1b"),
        ("\\x00\\xfF", b"\x00\xff"),
        ("\\\\n", b"\\n"),
        ("é", b"\xc3\xa9"),
        ("\udcff", b"\xff"),
        ("\\x0a1", b"\n1"),
    ],
)
def test_escapes(text, expected):
    assert parse_escapes(text) == expected


@pytest.mark.parametrize("text", ["\\", "a\\q", "\\x1", "\\xgg", "\\1", "\\N"])
def test_unknown_escapes_are_refused(text):
    with pytest.raises(UsageError, match=r"unknown escape .* at character .*; use"):
        parse_escapes(text, where="-D")


@pytest.mark.parametrize(
    "spec",
    [
        "%S %s\\n", "%K %k %S %s\\n", "%R%s", "%K,%R%k%s", "%t/%p/%o/%T %K:%S:%k%s\\0", "[%S,%s|%K,%k]",
        "\\n%S %s", "%S\\n%K\\n%s%k",
    ],
)  # fmt: skip
@settings(max_examples=12)
@given(records=st.lists(consumed, max_size=4), places=cuts)
def test_formats_with_lengths_read_back_every_byte(spec, records, places):
    data = FormatEncoder(spec)(batch(*records))
    found, complaints = decode(FormatDecoder("stdin", spec), data, places)
    assert complaints == []
    assert [row.value for row in found] == [row.value for row in records]
    if "%k" in spec:
        assert [row.key for row in found] == [row.key for row in records]
    if "%t" in spec:
        assert [row[4:] for row in found] == [row[4:] for row in records]
        assert [row.timestamp[1] for row in found] == [row.timestamp[1] for row in records]


@settings(max_examples=20)
@given(st.lists(st.tuples(some_bytes, nullable), max_size=5), cuts)
def test_delimited_formats_read_back_what_does_not_hold_their_literals(pairs, places):
    pairs = [(k.replace(b" ", b"").replace(b"\n", b""), v and v.replace(b"\n", b"")) for k, v in pairs]
    data = FormatEncoder("<%k> %s\\n", null_marker=b"~~")(batch(*(Row(v, k) for k, v in pairs)))
    if any(b"> " in k + b">" for k, _ in pairs):
        return
    found, complaints = decode(FormatDecoder("stdin", "<%k> %s\\n", null_marker=b"~~"), data, places)
    assert (found, complaints) == ([Row(v, k, []) for k, v in pairs], [])


def test_a_record_over_two_lines():
    found, complaints = decode(FormatDecoder("stdin", "%k\\n%s\\n"), b"k\nv\n\n\nk2\nv2", [1, 2, 3])
    assert complaints == []
    assert [(row.key, row.value) for row in found] == [(b"k", b"v"), (b"", b""), (b"k2", b"v2")]


def test_delimited_errors_stay_alone_and_have_positions():
    data = b"1 a x\nb\n2 c\nq c d\n-1 c d\n 3\n4 e f\n"
    found, complaints = decode(FormatDecoder("in", "%p %k %s\\n"), data, [3, 9])
    assert [(row.partition, row.key, row.value) for row in found] == [(1, b"a", b"x"), (4, b"e", b"f")]
    assert [text.removeprefix("decode: ") for text in complaints] == [
        "in:2: there is no ' ' behind the partition; does the input fit the format?",
        "in:3: there is no ' ' behind the key; does the input fit the format?",
        "in:4: partition is 'q', not a number; does the input fit the format?",
        "in:5: partition is -1; it must lie between 0 and 2147483647",
        "in:6: there is no ' ' behind the key; does the input fit the format?",
    ]


def test_a_literal_at_the_start_must_be_there():
    found, complaints = decode(FormatDecoder("in", "> %s\\n"), b"> a\nx> b\n> c")
    assert [row.value for row in found] == [b"a", b"c"]
    assert complaints == ["decode: in:2: '> ' is not where the format has it; does the input fit the format?"]


def test_an_oversized_delimited_record_is_bad():
    found, complaints = decode(FormatDecoder("in", "%s\\n", max_record_bytes=3), b"abc\nabcd\na\n", [5, 7])
    assert [row.value for row in found] == [b"abc", b"a"]
    assert [text.split(";")[0] for text in complaints] == ["decode: in:2: record is longer than 3 bytes"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"1 a\nx b\n", "in:2: length is 'x', not a number; does the input fit the format?"),
        (b"1 a\n-2 b\n", "in:2: length is -2; it must lie between -1 and 100"),
        (b"1 a\n101 b\n", "in:2: length is 101; it must lie between -1 and 100"),
        (b"1 a\n1 bc\n", "in:2: '\\n' is not where the format has it; does the input fit the format?"),
        (b"1 a\n5 b", "in:2: the input ends inside a record, 3 bytes after its beginning; is it cut off?"),
        (b"1 a\n5", "in:2: the input ends inside a record, 1 byte after its beginning; is it cut off?"),
        (b"1 a\n" + b"9" * 101, f"in:2: {oversized(100).what}"),
    ],
)
def test_a_bad_record_with_lengths_is_reported_after_the_good_ones(data, what):
    decoder = FormatDecoder("in", "%S %s\\n", max_record_bytes=100)
    batches = [decoder.feed(data)]
    if not batches[0].bad:
        batches.append(decoder.finish())
    assert [value for part in batches for value in part.values] == [b"a"]
    assert [str(bad.error) for part in batches for bad in part.bad] == [f"decode: {what}"]
    assert decoder.pending == 0


def test_after_a_lost_place_nothing_is_read():
    decoder = FormatDecoder("in", "%S %s\\n")
    assert len(decoder.feed(b"x y\n1 a\n").bad) == 1
    with pytest.raises(BadRecord, match="no record after a bad one"):
        decoder.feed(b"1 a\n")
    with pytest.raises(BadRecord, match="no record after a bad one"):
        decoder.finish()


def test_an_unfinished_record_is_pending():
    decoder = FormatDecoder("in", "%S %s\\n")
    assert decoder.feed(b"1 a\n10 abc").values == [b"a"]
    assert decoder.pending == 6
    assert decoder.feed(b"defghij").values == []
    assert decoder.pending == 13
    assert decoder.finish().values == [b"abcdefghij"]
    assert decoder.pending == 0


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("%s", "nothing tells where %s at character 1 ends"),
        ("%k%s\\n", "nothing tells where %k at character 1 ends"),
        ("%S%s\\n", "nothing tells where %S at character 1 ends"),
        ("%S0%s\\n", "the literal behind %S begins like a number"),
        ("%p-%s\\n", "the literal behind %p begins like a number"),
        ("%h %s\\n", "%h at character 1 cannot be read back"),
        ("%s %v\\n", "%s at character 4 is there twice"),
        ("%s %S\\n", "%S at character 4 comes after %s"),
        ("%S %R%s", "%S and %R both give the length"),
        ("%k\\n", "the format has no value"),
        ("%K %s\\n", "%K is there without a key"),
    ],
)
def test_formats_that_cannot_be_read_back_are_refused(spec, what):
    with pytest.raises(UsageError) as caught:
        FormatDecoder("stdin", spec)
    assert str(caught.value).startswith(f"--format: {what}")

"""Delimited input and output, whole files, and the cutting of blocks under them."""

from __future__ import annotations

import time

import pytest
from format_records import batch, cuts, decode, nullable, rows_of, some_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from kpipe.errors import UsageError
from kpipe.formats.lines import LineDecoder, LineEncoder
from kpipe.formats.rows import Row
from kpipe.formats.splitting import Splitter
from kpipe.formats.whole import WholeDecoder

delimiters = st.sampled_from([b"\n", b"\x00", b"\r\n", b"::", b"aba", b"\n\n", b"||"])


def values(decoder, data, places=()):
    return [row.value for row in decode(decoder, data, places)[0]]


@settings(max_examples=75)
@given(
    st.lists(st.sampled_from([b"a", b"b", b":", b"\n", b"\r", b"|", b"\x00"]), max_size=30).map(b"".join),
    delimiters,
    cuts,
)
def test_any_blocks_are_cut_as_the_whole_would_be(data, delimiter, places):
    pieces = data.split(delimiter)
    expected = pieces if pieces[-1] else pieces[:-1]
    assert values(LineDecoder("stdin", delimiter=delimiter), data, places) == expected


@settings(max_examples=30)
@given(st.lists(nullable, max_size=6), delimiters)
def test_output_not_called_ambiguous_reads_back(column, delimiter):
    encode = LineEncoder(delimiter, null_marker=b"\xfe\xfd")
    data = encode(batch(*map(Row, column)))
    decoder = LineDecoder("stdin", delimiter=delimiter, null_marker=b"\xfe\xfd")
    assert encode.ambiguous or values(decoder, data) == column


@settings(max_examples=50)
@given(
    st.lists(st.tuples(some_bytes, some_bytes), max_size=6), delimiters, st.sampled_from([b"\t", b"::", b": ", b"a"])
)
def test_pairs_not_called_ambiguous_read_back(pairs, delimiter, key_delimiter):
    if delimiter in key_delimiter:
        return
    encode = LineEncoder(delimiter, key_delimiter=key_delimiter)
    data = encode(batch(*(Row(value, key) for key, value in pairs)))
    found, _ = decode(LineDecoder("stdin", delimiter=delimiter, key_delimiter=key_delimiter), data)
    assert encode.ambiguous or encode.ambiguous_keys or [(row.key, row.value) for row in found] == pairs


def test_an_empty_line_is_an_empty_value_and_only_the_delimiter_is_cut():
    assert values(LineDecoder("stdin"), b"\na\r\n  \n\n") == [b"", b"a\r", b"  ", b""]


def test_no_words_are_magic():
    assert values(LineDecoder("stdin"), b"null\nNULL\n-1\n") == [b"null", b"NULL", b"-1"]


def test_an_unterminated_last_line_is_a_record_at_the_end_and_pending_before():
    decoder = LineDecoder("stdin")
    assert decoder.feed(b"one\ntw").values == [b"one"]
    assert decoder.pending == 2
    assert decoder.feed(b"o").values == []
    assert decoder.pending == 3
    assert decoder.finish().values == [b"two"]
    assert decoder.pending == 0
    assert decoder.finish().values == []


def test_positions_count_over_blocks():
    decoder = LineDecoder("in.txt")
    assert decoder.feed(b"a\nb\nc").lines == range(1, 3)
    batch = decoder.feed(b"\nd\n")
    assert batch.lines == range(3, 5)
    assert batch.where(1) == "in.txt:4"


def test_keys_are_split_at_the_first_delimiter_and_missing_ones_are_null():
    found, _ = decode(LineDecoder("stdin", key_delimiter=b":"), b"k:v:w\nv\n:v\nk:\n")
    assert [(row.key, row.value) for row in found] == [(b"k", b"v:w"), (None, b"v"), (b"", b"v"), (b"k", b"")]


def test_the_null_marker_works_on_keys_and_values():
    decoder = LineDecoder("stdin", key_delimiter=b":", null_marker=b"NULL")
    found, _ = decode(decoder, b"k:NULL\nNULL:v\nNULL\nk:\n")
    assert [(row.key, row.value) for row in found] == [(b"k", None), (None, b"v"), (None, None), (b"k", b"")]


def test_an_empty_null_marker_does_what_kcat_does():
    found, _ = decode(LineDecoder("stdin", key_delimiter=b":", null_marker=b""), b"k:\n:v\n")
    assert [(row.key, row.value) for row in found] == [(b"k", None), (None, b"v")]


@pytest.mark.parametrize("size", [0, 65535, 65536, 65537, 2**20 - 1, 2**20, 2**20 + 1, 20 * 2**20])
def test_sizes_around_buffers(size):
    data = b"x" * size
    assert values(LineDecoder("stdin"), data + b"\nend\n", range(0, size, 2**16)) == [data, b"end"]


def test_a_long_record_in_many_blocks_is_not_quadratic():
    decoder = LineDecoder("stdin", delimiter=b"\r\n")
    block = b"x" * 4096
    started = time.perf_counter()
    for _ in range(8192):  # 32 MiB; joined per block it would be 128 GiB of copies
        decoder.feed(block)
    assert len(decoder.finish().values[0]) == 32 * 2**20
    assert time.perf_counter() - started < 2


def test_an_oversized_record_is_reported_once_at_once_and_dropped():
    decoder = LineDecoder("stdin", max_record_bytes=4)
    first = decoder.feed(b"ok\n12345")
    assert first.values == [b"ok"]
    assert [str(bad.error) for bad in first.bad] == [
        "decode: stdin:2: record is longer than 4 bytes; is the delimiter or the input format right? "
        "--max-record-bytes raises the limit"
    ]
    assert decoder.pending == 0
    assert decoder.feed(b"6789").read == 0
    last = decoder.feed(b"0\n1234\n123456\nok\n")
    assert last.values == [b"1234", b"ok"]
    assert [bad.error.where for bad in last.bad] == ["stdin:4"]
    assert list(last.lines) == [3, 5]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), max_size=8), cuts, st.sampled_from([b"\n", b"\r\n"]))
def test_the_limit_holds_in_any_blocks(sizes, places, delimiter):
    data = delimiter.join(b"x" * size for size in [*sizes, 0])
    found, complaints = decode(LineDecoder("stdin", delimiter=delimiter, max_record_bytes=5), data, places)
    assert [len(row.value) for row in found] == [size for size in sizes if size <= 5]
    assert [int(text.split(":")[2]) for text in complaints] == [n for n, size in enumerate(sizes, 1) if size > 5]


def test_memory_stays_bounded_behind_an_oversized_record():
    splitter = Splitter(b"\r\n", 10)
    for _ in range(1000):
        splitter.feed(b"x" * 100)
    assert sum(map(len, splitter._held)) + len(splitter._edge) <= 10


def test_ambiguity_is_counted_in_records():
    encode = LineEncoder(b"\n")
    assert encode(batch(Row(b"a\nb\nc"), Row(b"d"), Row(b"\n"))) == b"a\nb\nc\nd\n\n\n"
    assert (encode.ambiguous, encode.nulls) == (2, 0)


def test_a_value_that_runs_into_its_delimiter_is_ambiguous():
    encode = LineEncoder(b"::")
    assert encode(batch(Row(b"a:"), Row(b"b"))) == b"a:::b::"
    assert encode.ambiguous == 1


def test_nulls_are_counted_unless_marked():
    encode = LineEncoder(b"\n", key_delimiter=b":")
    assert encode(batch(Row(None, b"k"), Row(b"v"), Row(b"", b""))) == b"k:\n:v\n:\n"
    assert (encode.ambiguous, encode.nulls) == (0, 2)
    marked = LineEncoder(b"\n", key_delimiter=b":", null_marker=b"NULL")
    assert marked(batch(Row(None, b"k"), Row(b"v"))) == b"k:NULL\nNULL:v\n"
    assert marked.nulls == 0


def test_a_key_that_holds_a_delimiter_is_ambiguous():
    encode = LineEncoder(b"\n", key_delimiter=b":")
    encode(batch(Row(b"v", b"a:b"), Row(b"v:w", b"a"), Row(b"v", b"a\n")))
    assert (encode.ambiguous, encode.ambiguous_keys) == (0, 2)


def test_nul_delimits_on_both_sides():
    data = LineEncoder(b"\x00")(batch(Row(b"a\nb"), Row(b"")))
    assert data == b"a\nb\x00\x00"
    assert values(LineDecoder("stdin", delimiter=b"\x00"), data) == [b"a\nb", b""]


@pytest.mark.parametrize("options", [{"delimiter": b""}, {"key_delimiter": b""}, {"key_delimiter": b"a\n"}])
@pytest.mark.parametrize("make", [lambda **options: LineDecoder("stdin", **options), LineEncoder])
def test_impossible_delimiters_are_refused(make, options):
    with pytest.raises(UsageError):
        make(**options)


@settings(max_examples=15)
@given(some_bytes, cuts)
def test_a_whole_file_is_one_record(data, places):
    assert decode(WholeDecoder("a.bin"), data, places) == ([Row(data, headers=[])], [])


def test_a_whole_file_counts_as_pending_until_it_ends():
    decoder = WholeDecoder("a.bin")
    assert rows_of(decoder.feed(b"ab")) == []
    assert decoder.pending == 2
    batch = decoder.finish()
    assert batch.where(0) == "a.bin:1"
    assert decoder.pending == 0


def test_a_whole_file_over_the_limit_is_one_bad_record():
    found, complaints = decode(WholeDecoder("a.bin", max_record_bytes=3), b"123456", [1, 2, 3, 4, 5])
    assert found == []
    assert [text.split(";")[0] for text in complaints] == ["decode: a.bin:1: record is longer than 3 bytes"]

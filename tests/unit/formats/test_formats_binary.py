"""Length-prefixed records, and the registry that names all formats."""

from __future__ import annotations

import subprocess
import sys

import pytest
from format_records import batch, cuts, decode, nullable
from hypothesis import given, settings
from hypothesis import strategies as st

from kpipe.errors import BadRecord, UsageError
from kpipe.formats import DECODERS, ENCODERS, make_decoder, make_encoder
from kpipe.formats.binary import BinaryDecoder, BinaryEncoder
from kpipe.formats.rows import Row


@settings(max_examples=40)
@given(st.lists(st.builds(Row, nullable, nullable, st.just([])), max_size=5), cuts)
def test_every_key_and_value_reads_back(records, places):
    data = BinaryEncoder()(batch(*records))
    assert decode(BinaryDecoder("in"), data, places) == (records, [])


def test_the_bytes():
    assert BinaryEncoder()(batch(Row(b"v", b"k"), Row(None), Row(b"", b""))) == (
        b"\0\0\0\1k\0\0\0\1v" + b"\xff\xff\xff\xff" * 2 + b"\0\0\0\0" * 2
    )
    assert BinaryEncoder()(batch(Row(b"v"))) == b"\xff\xff\xff\xff\0\0\0\1v"


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xfe", b"\x7f\xff\xff\xff", b"abcd"])
def test_an_impossible_length_ends_the_reading(length):
    decoder = BinaryDecoder("in", max_record_bytes=1000)
    batch = decoder.feed(b"\xff\xff\xff\xff\0\0\0\1v\xff\xff\xff\xff" + length + b"rest")
    assert batch.values == [b"v"]
    assert [bad.error.where for bad in batch.bad] == ["in:2"]
    assert str(batch.bad[0].error).startswith("decode: in:2: value length is ")
    assert decoder.pending == 0
    with pytest.raises(BadRecord, match="no record after a bad length"):
        decoder.feed(b"more")
    with pytest.raises(BadRecord, match="no record after a bad length"):
        decoder.finish()


def test_an_unfinished_record_is_pending_then_bad():
    decoder = BinaryDecoder("in")
    assert decoder.feed(b"\xff\xff\xff\xff\0\0").read == 0
    assert decoder.pending == 6
    assert [str(bad.error) for bad in decoder.finish().bad] == [
        "decode: in:1: the input ends inside a record, 6 bytes after its beginning; is it cut off?"
    ]
    assert decoder.pending == 0
    assert decoder.finish().read == 0


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

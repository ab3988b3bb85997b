"""Which options of input and output belong together; the others are refused with both names."""

from __future__ import annotations

from typing import Any

import pytest

from kpipe.errors import UsageError
from kpipe.options import InputOptions, OutputOptions
from kpipe.plan.formats import make_decoder, make_encoder
from kpipe.record import Batch


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"input": "json", "whole_file": True}, "--input json and --whole-file contradict each other"),
        ({"input": "kcat", "format": "%s"}, "--input kcat and --format contradict each other"),
        ({"whole_file": True, "null": True}, "--null belongs to lines, not to --whole-file"),
        ({"input": "json", "delimiter": ";"}, "--delimiter belongs to lines, not to --input json"),
        ({"format": "%s", "key_delimiter": ":"}, "--key-delimiter belongs to lines, not to --format"),
        ({"input": "json", "null_marker": ""}, "--null-marker belongs to lines and --format, not to --input json"),
        ({"max_record_bytes": "5X"}, "--max-record-bytes '5X': not a size"),
        ({"null": True, "delimiter": ";"}, "--null and --delimiter contradict each other"),
        ({"lenient": True}, "--lenient belongs to --input json"),
        ({"input": "kcta"}, "did you mean kcat?"),
        ({"input": "xml"}, "it takes lines, json, binary"),
    ],
)
def test_input_that_makes_no_sense(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_decoder(InputOptions(**options))("stdin")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"json": True, "format": "%s"}, "--json and --format contradict each other"),
        ({"json": True, "output": "binary"}, "--json and --output binary contradict each other"),
        ({"json": True, "null": True}, "--null belongs to lines, not to --json"),
        ({"format": "%s", "key_delimiter": ":"}, "--key-delimiter belongs to lines, not to --format"),
        ({"output": "jsno"}, "did you mean json?"),
    ],
)
def test_output_that_makes_no_sense(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_encoder(OutputOptions(**options))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"json": True},
        {"output": "json"},
        {"output": "binary"},
        {"format": "%R%s"},
        {"null": True},
        {"null_marker": "N"},
        {"format": "%k,%s\\n", "null_marker": "N"},
        {},
    ],
)
def test_every_output_encodes_and_its_input_reads_it_back(options: dict[str, Any]) -> None:
    batch = Batch([b"a", b"b"], topics=["t"] * 2, partitions=[0] * 2, offsets=[1, 2], timestamps=[(1, 5)] * 2)
    block = make_encoder(OutputOptions(**options))(batch)
    into = {"input": "json" if options.get("json") else options.get("output", "lines")}
    into |= {name: options[name] for name in ("format", "null", "null_marker") if name in options}

    decoder = make_decoder(InputOptions(**into))("stdin")

    first, last = decoder.feed(block), decoder.finish()
    assert [*first.values, *last.values] == [b"a", b"b"]


def test_a_null_marker_stands_for_null_in_a_format_both_ways() -> None:
    batch = Batch([None, b"", b"v"], keys=[b"k", None, b""])
    block = make_encoder(OutputOptions(format="%k=%s;", null_marker="~"))(batch)
    assert block == b"k=~;~=;=v;"

    read = make_decoder(InputOptions(format="%k=%s;", null_marker="~"))("stdin").feed(block)

    assert (read.keys, read.values) == (batch.keys, batch.values)


@pytest.mark.parametrize(
    "options", [{}, {"input": "json"}, {"input": "binary"}, {"format": "%s\\n"}, {"whole_file": True}]
)
def test_a_record_longer_than_the_limit_is_bad_in_every_format(options: dict[str, Any]) -> None:
    decoder = make_decoder(InputOptions(max_record_bytes="1K", **options))("stdin")
    (bad,) = decoder.feed(b"\0\0\4\1" * 300).bad
    assert bad.error.what.endswith("--max-record-bytes raises the limit")


def test_every_file_has_a_decoder_of_its_own() -> None:
    make = make_decoder(InputOptions(key_delimiter=":"))
    one, two = make("a"), make("b")
    one.feed(b"unfinished")
    assert two.finish().values == []
    assert one.finish().where(0) == "a:1"

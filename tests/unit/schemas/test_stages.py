"""Decoded to be looked at, original bytes to travel: what the two stages do to a batch."""

from __future__ import annotations

import re

import orjson
import pytest

from kpipe.codecs import avro
from kpipe.codecs.decoder import SchemaDecoder
from kpipe.codecs.schema import ValueStyle
from kpipe.codecs.stages import Decode, Reencode
from kpipe.record import Batch

RECORD = '{"type":"record","name":"R","fields":[{"name":"x","type":"int"}]}'


def stage(*, refuses: bool = False, keys: bool = False) -> tuple[Decode, list[str]]:
    said: list[str] = []
    decoder = SchemaDecoder("avro", ValueStyle(), given=avro.of_text(RECORD, (), ValueStyle()))
    return Decode(decoder, decoder if keys else None, refuses=refuses, say=said.append), said


def test_unchanged_records_leave_with_the_bytes_they_came_with() -> None:
    batch = Batch([b"\x02", None, b"\x84\x00"])  # 0x84 0x00 is 2 in more bytes than it needs
    stage()[0](batch)
    assert batch.values == [b'{"x":1}', None, b'{"x":2}']
    Reencode()(batch)
    assert batch.values == [b"\x02", None, b"\x84\x00"]
    assert batch.shown_values is None


def test_a_changed_record_is_written_with_its_schema() -> None:
    batch = Batch([b"\x02", b"\x04"])
    stage()[0](batch)
    batch.values = [batch.values[0], b'{"x":-3}']
    Reencode()(batch)
    assert batch.values == [b"\x02", b"\x05"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (b'{"x":"one"}', r"the changed value does not fit its schema: \.x: "),
        (b"one", "the changed value is not JSON"),
        (b'{"x":1,"y":2}', r"\.y: "),
    ],
)
def test_a_change_that_does_not_fit_is_a_bad_record(changed, told) -> None:
    batch = Batch([b"\x02", b"\x04"], file="t", lines=[1, 2])
    stage()[0](batch)
    batch.values = [changed, batch.values[1]]
    Reencode()(batch)
    assert batch.values == [b"\x04"]
    assert [bad.index for bad in batch.bad] == [0]
    assert batch.bad[0].error.stage == "encode"
    assert re.search(told, str(batch.bad[0].error))


def test_a_filter_between_the_stages_keeps_rows_together() -> None:
    batch = Batch([b"\x02", b"\x04", b"\x06"], keys=[b"\x08", None, b"\x0a"])
    stage(keys=True)[0](batch)
    batch.keep([False, True, True])
    Reencode()(batch)
    assert (batch.values, batch.keys) == ([b"\x04", b"\x06"], [None, b"\x0a"])


def test_what_cannot_be_decoded_is_shown_as_it_is_told_once_and_counted() -> None:
    decode, said = stage()
    batch = Batch([b"\xff", b"\x02", b"\xff"], file="t", lines=[1, 2, 3])
    decode(batch)
    assert batch.values == [b"\xff", b'{"x":1}', b"\xff"]
    assert decode.undecoded == 2
    assert len(said) == 1
    assert said[0].startswith("decode: t:1: the value is shown as it is: ")
    Reencode()(batch)
    assert batch.values == [b"\xff", b"\x02", b"\xff"]


def test_where_a_transform_needs_the_value_it_is_a_bad_record_with_the_bytes_as_read() -> None:
    decode, said = stage(refuses=True)
    batch = Batch([b"\xff", b"\x02"], file="t", lines=[1, 2])
    decode(batch)
    assert [str(bad.error) for bad in batch.bad] == [
        "decode: t:1: the value cannot be decoded: the data ends too early (1 byte)"
    ]
    assert batch.values == [b'{"x":1}']
    assert said == []


def test_a_value_made_null_stays_null() -> None:
    batch = Batch([b"\x02"])
    stage()[0](batch)
    batch.values = [None]
    Reencode()(batch)
    assert batch.values == [None]


def test_the_schema_is_told_beside_the_value() -> None:
    batch = Batch([b"\x02"])
    stage()[0](batch)
    assert orjson.dumps(batch.shown_values[0].schema) == b'{"format":"avro"}'

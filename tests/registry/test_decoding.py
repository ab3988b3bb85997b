"""Keys and values decoded with the schemas of a registry: what is shown, what is left alone, and why."""

from __future__ import annotations

import io
import json
import sys
import zlib
from typing import TYPE_CHECKING
from uuid import UUID

import fastavro
import orjson
import pytest

from kpipe.codecs import avro, json_schema, protobuf
from kpipe.codecs.decoder import SchemaDecoder, Undecodable
from kpipe.codecs.library import FORGET_NOT_FOUND, Library
from kpipe.codecs.proto_source import compile_text
from kpipe.codecs.schema import ValueStyle
from kpipe.codecs.stages import Decode
from kpipe.errors import UsageError
from kpipe.record import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD = json.dumps({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]})
PROTO = 'syntax = "proto3"; message A { int32 x = 1; } message B { message C { string y = 1; } }'


def framed(number: int, data: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + data


@pytest.fixture
def decoder_of(client) -> Callable[..., SchemaDecoder]:
    """Makes decoders that know a registry."""

    def make(fake, decoding: str = "auto", folder: str | None = None) -> SchemaDecoder:
        return SchemaDecoder(decoding, ValueStyle(), library=Library(client([fake.url]), ValueStyle(), folder))

    return make


def test_avro_by_id_and_one_question_for_100_000_records(fake_registry, decoder_of) -> None:
    fake = fake_registry()
    number = fake.add("t-value", RECORD)
    stage = Decode(decoder_of(fake), None, refuses=True, say=print)
    rows = [framed(number, bytes([x * 2])) for x in range(50)]
    for _ in range(100):
        batch = Batch(rows * 20, headers=[[("h", b"v")]] * 1000)
        stage(batch)
        assert batch.bad == []
    assert batch.values[:50] == [b'{"x":%d}' % x for x in range(50)]
    assert batch.shown_values[7].schema == {"format": "avro", "id": number, "registry": fake.url}
    assert len(fake.asked) == 1


def test_what_is_like_the_records_before_is_not_taken_for_one(fake_registry, decoder_of) -> None:
    """After many of a schema: broken data, another schema in a header, Azure's old form, an id that is given out anew."""
    fake = fake_registry(first_id=0x33)
    number, other = fake.add("t-value", RECORD), fake.add("u-value", '"string"')
    decoder = decoder_of(fake)
    stage = Decode(decoder, None, refuses=False, say=print)
    good = framed(number, b"\x04")
    azure = b"\0\0\0\0" + b"3" * 32 + b"\x04"
    rows = [
        good,
        framed(number, b"\x04\x04"),
        framed(number, b""),
        azure,
        b"\x02a",
        good,
        None,
        framed(other, b"\x02b"),
    ]
    header = [("__value_schema_id", b"\0" + other.to_bytes(4, "big"))]
    batch = Batch([good, *rows], headers=[None] * 5 + [header] + [None] * 3)
    stage(batch)
    told = [None if each is None else each.error for each in batch.shown_values]
    assert batch.values[:2] == [b'{"x":2}'] * 2
    assert "left over" in told[2]
    assert "too early" in told[3]
    assert "Azure" in told[4]
    assert batch.values[5:] == [b'"a"', b'{"x":2}', None, b'"b"']
    batch = Batch(rows[:1])
    stage(batch)
    assert batch.values == [b'{"x":2}']


def test_by_guid_in_a_header(fake_registry, decoder_of) -> None:
    fake = fake_registry()
    number = fake.add("t-value", RECORD)
    header = b"\x01" + UUID(fake.guid(number)).bytes
    found = decoder_of(fake).decode(b"\x04", [("__value_schema_id", header)])
    assert orjson.loads(found.text) == {"x": 2}


def test_protobuf_by_index_with_and_without_its_prefix(fake_registry, decoder_of) -> None:
    fake = fake_registry()
    number = fake.add("t-value", PROTO, "PROTOBUF")
    decoder = decoder_of(fake)
    assert orjson.loads(decoder.decode(framed(number, b"\x00\x08\x05")).text) == {"x": 5}
    assert orjson.loads(decoder.decode(framed(number, b"\x04\x02\x00\x0a\x01z")).text) == {"y": "z"}
    header = b"\x01" + UUID(fake.guid(number)).bytes + b"\x04\x02\x00"
    assert orjson.loads(decoder.decode(b"\x0a\x01z", [("__value_schema_id", header)]).text) == {"y": "z"}
    with pytest.raises(Undecodable, match="no message at index"):
        decoder.decode(framed(number, b"\x02\x08\x08\x05"))


def test_fields_that_the_protobuf_schema_does_not_know_are_told(fake_registry, decoder_of) -> None:
    fake = fake_registry()
    number = fake.add("t-value", PROTO, "PROTOBUF")
    assert "the field 99" in decoder_of(fake).decode(framed(number, b"\x00\x98\x06\x01")).note


def test_json_schema_is_shown_as_it_stands(fake_registry, decoder_of) -> None:
    fake = fake_registry()
    number = fake.add("t-value", '{"type":"object"}', "JSON")
    assert decoder_of(fake).decode(framed(number, b'{"a": 1.10}')).text == b'{"a": 1.10}'
    with pytest.raises(Undecodable, match="not JSON"):
        decoder_of(fake).decode(framed(number, b"{"))


def test_references_are_resolved_depth_first(fake_registry, decoder_of) -> None:
    fake = fake_registry()
    fake.add("e", json.dumps({"type": "enum", "name": "n.E", "symbols": ["A", "B"]}))
    inner = {"type": "record", "name": "n.I", "fields": [{"name": "e", "type": "n.E"}]}
    fake.add("i", json.dumps(inner), references=[{"name": "n.E", "subject": "e", "version": 1}])
    outer = {"type": "record", "name": "n.O", "fields": [{"name": "i", "type": "I"}, {"name": "e", "type": "E"}]}
    number = fake.add(
        "t-value",
        json.dumps(outer),
        references=[{"name": "n.I", "subject": "i", "version": 1}, {"name": "n.E", "subject": "e", "version": 1}],
    )
    assert orjson.loads(decoder_of(fake).decode(framed(number, b"\x02\x00")).text) == {"i": {"e": "B"}, "e": "A"}


def test_references_in_a_circle_are_refused(fake_registry, decoder_of) -> None:
    fake = fake_registry()
    reference = [{"name": "t", "subject": "t", "version": 1}]
    number = fake.add("t", RECORD, references=reference)
    with pytest.raises(Undecodable, match="circle"):
        decoder_of(fake).decode(framed(number, b"\x00"))


def test_nothing_is_asked_for_a_null_or_for_plain_bytes(fake_registry, decoder_of) -> None:
    fake = fake_registry()
    decoder = decoder_of(fake)
    for payload in (None, b"", b"user-1", b'{"a":1}', b"\0\0\0"):
        assert decoder.decode(payload) is None
    assert fake.asked == []


def test_a_zero_byte_that_names_no_schema_is_left_alone_and_the_answer_is_kept_for_a_minute(
    fake_registry, decoder_of, client
) -> None:
    fake = fake_registry()
    now = [0.0]
    library = Library(client([fake.url]), ValueStyle(), None, clock=lambda: now[0])
    decoder = SchemaDecoder("auto", ValueStyle(), library=library)
    for _ in range(5):
        assert decoder.decode(framed(7, b"x")) is None
    assert len(fake.asked) == 1
    now[0] = FORGET_NOT_FOUND + 1
    assert decoder.decode(framed(7, b"x")) is None
    assert len(fake.asked) == 2
    with pytest.raises(Undecodable, match="id 7"):
        decoder_of(fake, "avro").decode(framed(7, b"x"))


def test_bytes_left_over_show_a_wrong_schema(fake_registry, decoder_of) -> None:
    fake = fake_registry()
    number = fake.add("t-value", RECORD)
    with pytest.raises(Undecodable, match="another schema"):
        decoder_of(fake).decode(framed(number, b"\x04\x04"))


def test_schemas_are_kept_on_disk_for_their_user_alone_and_ids_given_out_again_are_noticed(
    fake_registry, tmp_path, decoder_of
) -> None:
    fake = fake_registry()
    number = fake.add("t-value", RECORD)
    folder = str(tmp_path / "cache")
    assert decoder_of(fake, folder=folder).decode(framed(number, b"\x04")) is not None
    (kept,) = (tmp_path / "cache").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert decoder_of(fake, folder=folder).decode(framed(number, b"\x04")) is not None
    assert len(fake.asked) == 1
    fake.schemas[number] = {"schema": '"string"', "schemaType": "AVRO", "references": []}
    found = decoder_of(fake, folder=folder).decode(framed(number, b"\x04ab"))
    assert found.text == b'"ab"'
    kept.write_text("{broken")
    assert decoder_of(fake, folder=folder).decode(framed(number, b"\x04ab")) is not None


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_an_avro_file_in_a_record(codec) -> None:
    out = io.BytesIO()
    fastavro.writer(out, json.loads(RECORD), [{"x": 1}, {"x": 2}], codec=codec)
    raw, decoder = out.getvalue(), SchemaDecoder("auto", ValueStyle())
    assert orjson.loads(decoder.decode(raw).text) == [{"x": 1}, {"x": 2}]
    header_end = raw.index(raw[-16:]) + 16
    for end in set(range(4, len(raw))) - {header_end}:  # a file without blocks is whole
        with pytest.raises(Undecodable):
            decoder.decode(raw[:end])


def test_an_avro_file_with_another_compression_is_told() -> None:
    out = io.BytesIO()
    fastavro.writer(out, json.loads(RECORD), [{"x": 1}], codec="bzip2")
    with pytest.raises(Undecodable, match="compressed with bzip2"):
        SchemaDecoder("auto", ValueStyle()).decode(out.getvalue())


def test_glue_data_with_a_schema_at_hand_also_compressed_and_no_bomb() -> None:
    given = avro.of_text(RECORD, (), ValueStyle())
    decoder = SchemaDecoder("auto", ValueStyle(), given=given)
    start = b"\x03\x00" + b"\1" * 16
    assert decoder.decode(start + b"\x04").text == b'{"x":2}'
    packed = b"\x03\x05" + b"\1" * 16
    assert decoder.decode(packed + zlib.compress(b"\x04")).text == b'{"x":2}'
    with pytest.raises(Undecodable, match="64 MiB"):
        decoder.decode(packed + zlib.compress(b"\0" * (100 << 20)))
    with pytest.raises(Undecodable, match="end too early"):
        decoder.decode(packed + zlib.compress(b"\x04")[:-3])


def test_a_schema_file_reads_what_has_no_frame() -> None:
    decoder = SchemaDecoder("avro", ValueStyle(), given=avro.of_text(RECORD, (), ValueStyle()))
    assert decoder.decode(b"\x04").text == b'{"x":2}'
    files = compile_text("a.proto", PROTO, {})
    from kpipe.codecs.proto import Messages

    named = protobuf.Proto(Messages(files), ValueStyle(message="C"), indexed=False)
    assert SchemaDecoder("protobuf", ValueStyle(), given=named).decode(b"\x0a\x01z").text == b'{"y":"z"}'


def test_messagepack_and_cbor_with_what_json_has_no_word_for() -> None:
    assert SchemaDecoder("msgpack", ValueStyle()).decode(b"\x81\xa1a\xc4\x01\xff").text == b'{"a":{"base64":"/w=="}}'
    assert SchemaDecoder("cbor", ValueStyle()).decode(b"\xa1\x61a\x41\xff").text == b'{"a":{"base64":"/w=="}}'
    for decoding in ("msgpack", "cbor"):
        with pytest.raises(Undecodable):
            SchemaDecoder(decoding, ValueStyle()).decode(b"\xc1\xff\xff")


def test_without_a_registry_a_frame_is_left_alone_and_a_header_is_told() -> None:
    decoder = SchemaDecoder("auto", ValueStyle())
    assert decoder.decode(framed(7, b"x")) is None
    with pytest.raises(Undecodable, match=r"schema\.registry\.url"):
        decoder.decode(b"x", [("__value_schema_id", b"\0\0\0\0\x07")])


def test_protobuf_without_any_schema_shows_field_numbers() -> None:
    found = SchemaDecoder("protobuf", ValueStyle()).decode(b"\x08\x05\x12\x02hi")
    assert orjson.loads(found.text) == [{"field": 1, "varint": 5}, {"field": 2, "text": "hi"}]
    assert "no schema" in found.note


def test_json_schema_checks_what_is_written(fake_registry) -> None:
    codec = json_schema.Json(
        '{"type":"object","properties":{"a":{"$ref":"other.json"}}}', {"other.json": '{"type":"integer"}'}
    )
    assert codec.writer()(b'{"a":1}') == b'{"a":1}'
    with pytest.raises(ValueError, match=r"^\.a: "):
        codec.writer()(b'{"a":"x"}')


def test_a_schema_that_cannot_be_read_is_asked_for_once_a_minute(fake_registry, decoder_of) -> None:
    fake = fake_registry()
    number = fake.add("t-value", '{"type":"no such"}')
    decoder = decoder_of(fake)
    for _ in range(5):
        with pytest.raises(Undecodable, match="no such"):
            decoder.decode(framed(number, b"\x04"))
    assert len(fake.asked) == 1


def test_a_given_schema_is_for_what_names_none_that_the_registry_has(fake_registry, client) -> None:
    fake = fake_registry()
    number = fake.add("t-value", RECORD)
    given = avro.of_text('{"type":"record","name":"G","fields":[{"name":"g","type":"int"}]}', (), ValueStyle())
    decoder = SchemaDecoder("avro", ValueStyle(), library=Library(client([fake.url]), ValueStyle(), None), given=given)
    assert decoder.decode(framed(number, b"\x04")).text == b'{"x":2}'
    assert decoder.decode(framed(number + 1, b"\x04")).text == b'{"g":2}'
    assert decoder.decode(b"\x04").text == b'{"g":2}'
    many = ",".join(f'{{"name":"f{place}","type":"int"}}' for place in range(6))
    wide = avro.of_text(f'{{"type":"record","name":"W","fields":[{many}]}}', (), ValueStyle())
    unframed = SchemaDecoder("avro", ValueStyle(), given=wide).decode(
        bytes(6)
    )  # starts like Confluent's prefix, and has none
    assert orjson.loads(unframed.text) == {f"f{place}": 0 for place in range(6)}
    assert "framing" not in unframed.schema


def test_a_schema_with_rules_is_told(fake_registry, decoder_of) -> None:
    fake = fake_registry()
    number = fake.add("t-value", RECORD)
    fake.schemas[number]["ruleSet"] = {"domainRules": []}
    assert "may be encrypted" in decoder_of(fake).decode(framed(number, b"\x04")).note


def test_without_its_library_protobuf_says_which_to_install(fake_registry, decoder_of, monkeypatch) -> None:
    fake = fake_registry()
    number = fake.add("t-value", PROTO, "PROTOBUF")
    for name in [name for name in sys.modules if name.startswith(("kpipe.codecs.proto", "google"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(UsageError, match=r"pip install 'kpipe-cli\[schemas\]'"):
        decoder_of(fake).decode(framed(number, b"\x00\x08\x05"))

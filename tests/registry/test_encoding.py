"""What was read is written again: the same bytes of Avro, the same content of Protobuf, in the framing it came in."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpipe.codecs import avro, protobuf, schema
from kpipe.codecs.decoder import SchemaDecoder
from kpipe.codecs.encoder import SchemaEncoder, framed
from kpipe.codecs.library import Library
from kpipe.codecs.proto_source import compile_text
from kpipe.codecs.registry import Registry, SchemaText
from kpipe.codecs.schema import ValueStyle
from kpipe.codecs.stages import Decode, Encode
from kpipe.errors import BadRecord
from kpipe.formats.envelope import EnvelopeDecoder
from kpipe.formats.envelope_output import EnvelopeEncoder
from kpipe.record import Batch
from tests.unit.schemas.test_codec_avro import data_of, schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.registry.fake import FakeRegistry

RECORD = json.dumps({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]})
PROTO = 'syntax = "proto3"; message A { int32 x = 1; } message B { message C { string y = 1; } }'
BOTH = ("key", "value")


def prefixed(number: int, data: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + data


class Pipe:
    """`consume -J --decode auto | produce --input json --encode same`, without the topics."""

    def __init__(self, fake: FakeRegistry, *, tagged: bool = False) -> None:
        self.registry = Registry([fake.url])
        library = Library(self.registry, ValueStyle(tagged=tagged), None)
        self.said: list[str] = []
        decoders = [
            SchemaDecoder("auto", ValueStyle(tagged=tagged), is_key=is_key, library=library) for is_key in (False, True)
        ]
        self._decode = Decode(*decoders, refuses=False, say=self.said.append)
        self._encode = Encode(SchemaEncoder(None, library), SchemaEncoder(None, library))

    def __call__(self, batch: Batch) -> Batch:
        self._decode(batch)
        return self.back(EnvelopeEncoder()(batch))

    def back(self, lines: bytes) -> Batch:
        batch = EnvelopeDecoder("stdin", encoded=BOTH).feed(lines)
        self._encode(batch)
        return batch


@pytest.fixture
def pipe_of(fake_registry) -> Iterator[Callable[..., tuple[FakeRegistry, Pipe]]]:
    made: list[Pipe] = []

    def make(**options: bool) -> tuple[FakeRegistry, Pipe]:
        fake = fake_registry()
        made.append(Pipe(fake, **options))
        return fake, made[-1]

    yield make
    for pipe in made:
        pipe.registry.close()


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data(), tagged=st.booleans())
def test_avro_through_the_pipe_is_the_same_bytes(pipe_of, data, tagged) -> None:
    fake, pipe = pipe_of(tagged=tagged)
    key_schema, value_schema = data.draw(schemas()), data.draw(schemas())
    key_id, value_id = fake.add("t-key", json.dumps(key_schema)), fake.add("t-value", json.dumps(value_schema))
    rows = [(prefixed(key_id, data.draw(data_of(key_schema))), prefixed(value_id, data.draw(data_of(value_schema))))]
    rows += [(None, None), (b"plain", b"text"), (b"", b""), (b"\0\xff", rows[0][1]), (rows[0][0], None)]
    batch = Batch([value for _, value in rows], keys=[key for key, _ in rows])
    found = pipe(batch)
    assert found.bad == []
    assert found.values == [value for _, value in rows]
    assert found.keys == [key for key, _ in rows]


def test_protobuf_and_json_schema_through_the_pipe(pipe_of) -> None:
    fake, pipe = pipe_of()
    proto = fake.add("t-value", PROTO, "PROTOBUF")
    text = fake.add("u-value", '{"type":"object"}', "JSON")
    values = [
        prefixed(proto, b"\0\x08\x05"),
        prefixed(proto, b"\x04\x02\x00\x0a\x01z"),
        prefixed(text, b'{"a":1.10,"b":123456789012345678901234567890}'),
    ]
    assert pipe(Batch(list(values))).values == values


def test_data_whose_schema_is_in_a_header_get_no_prefix(pipe_of) -> None:
    fake, pipe = pipe_of()
    avro, proto = fake.add("t-value", RECORD), fake.add("u-value", PROTO, "PROTOBUF")
    values = [b"\x04", b"\x0a\x01z", b"\x06"]
    headers = [
        [("__value_schema_id", b"\x01" + UUID(fake.guid(avro)).bytes)],
        [("__value_schema_id", b"\x01" + UUID(fake.guid(proto)).bytes + b"\x04\x02\x00")],
        [("__value_schema_id", b"\0" + avro.to_bytes(4, "big"))],
    ]
    found = pipe(Batch(list(values), headers=[list(each) for each in headers]))
    assert (found.values, found.headers) == (values, headers)


def test_the_long_prefix_of_apicurio_comes_back(pipe_of) -> None:
    fake, pipe = pipe_of()
    value = b"\0" + fake.add("t-value", RECORD).to_bytes(8, "big") + b"\x04"
    assert pipe(Batch([value])).values == [value]


@pytest.mark.parametrize("tagged", [False, True])
def test_decimals_that_look_like_text_come_back_in_both_forms(pipe_of, tagged) -> None:
    fake, pipe = pipe_of(tagged=tagged)
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 0}
    number = fake.add("t-value", json.dumps(decimal))
    rows = [prefixed(number, data) for data in (b"\x0412", b"\x02\x0c", b"\x06123", b"\0", b"\x04\0\x05")]
    assert pipe(Batch(list(rows))).values == rows


def test_avro_null_is_no_tombstone(pipe_of) -> None:
    fake, pipe = pipe_of()
    number = fake.add("t-value", '"null"')
    assert pipe(Batch([prefixed(number, b""), None])).values == [prefixed(number, b""), None]


def test_a_frame_of_another_registry_comes_back_with_the_schema_of_the_file() -> None:
    glue = b"\x03\x05" + bytes(range(16)) + zlib.compress(b"\x04")
    azure = b"\0\0\0\0" + b"0" * 32 + b"\x04"
    codec = avro.of_text(RECORD, (), ValueStyle())
    decode = Decode(SchemaDecoder("auto", ValueStyle(), given=codec), None, refuses=False, say=print)
    batch = Batch([glue, azure])
    decode(batch)
    assert [orjson.loads(value) for value in batch.values] == [{"x": 2}] * 2
    batch = EnvelopeDecoder("stdin", encoded=BOTH).feed(EnvelopeEncoder()(batch))
    Encode(SchemaEncoder(None, None, codec), None)(batch)
    assert batch.values == [glue, azure]


def test_a_prefixed_protobuf_is_read_with_a_file_alone() -> None:
    files = compile_text("a.proto", PROTO, {})
    from kpipe.codecs.proto import Messages

    codec = protobuf.Proto(Messages(files), ValueStyle(message="C"), indexed=False)
    found = SchemaDecoder("protobuf", ValueStyle(message="C"), given=codec).decode(
        prefixed(3, b"\x04\x02\x00\x0a\x01z")
    )
    assert orjson.loads(found.text) == {"y": "z"}
    assert found.back(b'{"y":"w"}') == prefixed(3, b"\x04\x02\x00\x0a\x01w")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"value": {"x": "one"}}, r"the value does not fit its schema: \.x: "),
        ({"value": {"x": 1, "y": {}}}, r"\.y: the record R has no such field"),
        ({"value_schema": {"format": "avro", "id": 99}}, "has none"),
        ({"value_schema": {"format": "protobuf", "id": 1}}, "it was read as protobuf, and the registry has avro"),
        ({"value_schema": {"format": "avro", "id": 1, "registry": "http://other"}}, "its id is one of http://other"),
        ({"value_schema": {"format": "avro"}}, "give its schema with --schema FILE"),
        ({"value_schema": {"format": "avro", "id": 1, "framing": "Glue"}}, "the framing Glue cannot be written"),
        ({"value_schema": {"format": "avro", "id": [1]}}, "a schema that consume did not write"),
        ({"value_schema": {"format": "avro", "id": -1}}, "cannot be written"),
        ({"value_schema": {"format": "avro", "id": 1 << 40}}, "cannot be written"),
        ({"value_schema": {"format": "avro", "id": 1, "prefix": 7}}, ""),
        ({"value_schema": 3}, "value_schema is a number"),
        ({"value_schema": {"format": "avro", "id": 1}, "value": None}, "does not fit its schema"),
    ],
)
def test_what_does_not_fit_is_a_bad_record_with_its_path(pipe_of, changes, told) -> None:
    fake, pipe = pipe_of()
    number = fake.add("t-value", RECORD)
    envelope = {"value": {"x": 1}, "value_schema": {"format": "avro", "id": number}, **changes}
    good = {"value": {"x": 2}, "value_schema": {"format": "avro", "id": number}}
    found = pipe.back(orjson.dumps(envelope) + b"\n" + orjson.dumps(good) + b"\n")
    if not told:
        assert found.values == [prefixed(number, b"\x02"), prefixed(number, b"\x04")]
        return
    assert [bad.index for bad in found.bad] == [0]
    assert found.values == [prefixed(number, b"\x04")]
    with pytest.raises(BadRecord, match=told):
        raise found.bad[0].error


def test_without_encode_a_decoded_value_is_refused_and_lenient_sends_its_json() -> None:
    line = b'{"value":{"x": 1},"value_schema":{"format":"avro","id":1}}\n'
    (bad,) = EnvelopeDecoder("stdin").feed(line).bad
    assert "--encode same" in bad.error.what
    assert EnvelopeDecoder("stdin", lenient=True).feed(line).values == [b'{"x":1}']
    undecoded = b'{"value":"x","decode_error":"why","key":"k","key_decode_error":"why"}\n'
    found = EnvelopeDecoder("stdin").feed(undecoded)
    assert (found.values, found.keys, found.bad) == ([b"x"], [b"k"], [])


def test_a_member_twice_is_found_beside_a_schema() -> None:
    line = (
        b'{"value":{"x":1,"x":2},"key":{"a":1},"key_schema":{"id":1},"value_schema":{"id":1},"topic":"a","topic":"b"}\n'
    )
    (bad,) = EnvelopeDecoder("stdin", encoded=BOTH).feed(line).bad
    assert "twice" in bad.error.what
    found = EnvelopeDecoder("stdin", encoded=BOTH).feed(line.replace(b',"topic":"b"', b""))
    assert (found.values, found.keys) == ([b'{"x":1,"x":2}'], [b'{"a":1}'])


def test_a_fixed_schema_writes_prefix_header_or_neither() -> None:
    codec = schema.load(SchemaText("PROTOBUF", PROTO), {}, ValueStyle())
    guid = str(UUID(int=7))

    def written(framing: str, message: str = "", *, is_key: bool = False) -> tuple[bytes | None, object]:
        fixed = framed(codec, framing, is_key=is_key, number=9, guid=guid, message=message)
        return SchemaEncoder(fixed).encode(b'{"x":5}' if not message else b'{"y":"z"}', None), fixed.header

    assert written("confluent") == (prefixed(9, b"\0\x08\x05"), None)
    assert written("confluent", "B.C") == (prefixed(9, b"\x04\x02\x00\x0a\x01z"), None)
    assert written("none", "C") == (b"\x0a\x01z", None)
    name = ("__key_schema_id", b"\x01" + UUID(int=7).bytes + b"\x04\x02\x00")
    assert written("header", "C", is_key=True) == (b"\x0a\x01z", name)


def test_the_header_replaces_one_that_was_there_and_a_null_gets_none() -> None:
    fixed = framed(avro.of_text(RECORD, (), ValueStyle()), "header", is_key=False, number=0, guid=str(UUID(int=7)))
    old = ("__value_schema_id", b"old")
    batch = Batch([b'{"x":1}', None, b"{"], headers=[[("a", b"b"), old], [old], None], file="stdin", lines=[1, 2, 3])
    Encode(SchemaEncoder(fixed), None)(batch)
    assert batch.values == [b"\x02", None]
    assert batch.headers == [[("a", b"b"), fixed.header], [old]]
    assert str(batch.bad[0].error) == "encode: stdin:3: the value is not JSON, and its schema wants JSON"

"""Bytes that want to hurt: every framing and decoder ends with a value or a reason, in bounded memory and time."""

from __future__ import annotations

import json
import zlib

import fastavro
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpipe.codecs.avro import of_text
from kpipe.codecs.decoder import SchemaDecoder, Undecodable
from kpipe.codecs.proto_source import compile_text
from kpipe.codecs.schema import ValueStyle

NODE = {
    "type": "record",
    "name": "N",
    "fields": [{"name": "next", "type": ["null", "N"]}, {"name": "v", "type": "int"}],
}
SCHEMAS = [
    NODE,
    {"type": "array", "items": {"type": "array", "items": "null"}},
    {"type": "map", "values": {"type": "array", "items": {"type": "record", "name": "E", "fields": []}}},
    ["null", "string", {"type": "enum", "name": "X", "symbols": ["A", "B"]}, {"type": "fixed", "name": "F", "size": 3}],
    {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2},
]
PROTO = """syntax = "proto3"; import "google/protobuf/any.proto"; import "google/protobuf/timestamp.proto";
message T { T t = 1; map<string, T> m = 2; repeated int64 n = 3; google.protobuf.Any a = 4;
google.protobuf.Timestamp at = 5; }"""
HEADERS = [
    "__value_schema_id",
    "__key_schema_id",
    "apicurio.value.globalId",
    "apicurio.value.contentId",
    "content-type",
]


def long(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def deep(count: int) -> bytes:
    """A Protobuf message in itself, so often."""
    data = b""
    for _ in range(count):
        size, varint = len(data), b""
        while size > 0x7F:
            varint, size = varint + bytes([size & 0x7F | 0x80]), size >> 7
        data = b"\x0a" + varint + bytes([size]) + data
    return data


def avro(document: object) -> SchemaDecoder:
    return SchemaDecoder("avro", ValueStyle(), given=of_text(json.dumps(document), (), ValueStyle()))


@pytest.fixture(scope="module")
def protobuf() -> SchemaDecoder:
    from kpipe.codecs.proto import Messages
    from kpipe.codecs.protobuf import Proto

    messages = Messages(compile_text("t.proto", PROTO, {}))
    return SchemaDecoder(
        "protobuf", ValueStyle(message="T"), given=Proto(messages, ValueStyle(message="T"), indexed=False)
    )


def decode(decoder: SchemaDecoder, payload: bytes, headers: object = None) -> object:
    """What it says, or why not; anything else it raises fails the test."""
    try:
        found = decoder.decode(payload, headers)  # type: ignore[arg-type]
    except Undecodable as error:
        return str(error) and None
    return None if found is None else orjson.loads(found.text)


@settings(max_examples=200, deadline=None)
@given(
    payload=st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=60).map(lambda rest: b"\0\0\0\0\x07" + rest),
        st.binary(max_size=60).map(lambda rest: b"\x03\x05" + bytes(16) + rest),
        st.binary(max_size=60).map(lambda rest: b"Obj\x01" + rest),
        st.binary(max_size=60).map(lambda rest: b"\xc3\x01" + rest),
    ),
    headers=st.lists(st.tuples(st.sampled_from(HEADERS), st.none() | st.binary(max_size=40)), max_size=3),
    is_key=st.booleans(),
)
def test_no_frame_hurts(payload, headers, is_key) -> None:
    for given_codec in (None, of_text(json.dumps(NODE), (), ValueStyle())):
        decode(SchemaDecoder("auto", ValueStyle(), is_key=is_key, given=given_codec), payload, headers)


@settings(max_examples=100, deadline=None)
@given(payload=st.binary(max_size=300), data=st.data())
def test_no_bytes_hurt_a_decoder(protobuf, payload, data) -> None:
    decode(avro(data.draw(st.sampled_from(SCHEMAS))), payload)
    decode(protobuf, payload)
    for name in ("msgpack", "cbor", "json", "protobuf", "auto"):
        decode(SchemaDecoder(name, ValueStyle()), payload)


@pytest.mark.parametrize(
    ("decoding", "payload"),
    [
        ("msgpack", b"\x91" * 200_000 + b"\xc0"),
        ("msgpack", b"\xdd\xff\xff\xff\xff"),
        ("cbor", b"\x81" * 200_000 + b"\x00"),
        ("cbor", b"\xc1" * 200_000 + b"\x00"),
        ("cbor", b"\x9b\x00\x00\x00\x7f\xff\xff\xff\xff"),
        ("cbor", b"\x5b\x00\x00\x00\x7f\xff\xff\xff\xff"),
        ("cbor", bytes.fromhex("d81c81d81d00")),  # an array that holds itself
        ("cbor", b"\x00\x00"),  # something is left over
        ("json", b"[" * 300_000),
    ],
)
def test_depth_and_length_end_with_a_reason(decoding, payload) -> None:
    with pytest.raises(Undecodable):
        SchemaDecoder(decoding, ValueStyle()).decode(payload)


def test_a_cbor_value_that_is_referred_to_again_and_again_is_no_bomb() -> None:
    """Thirty arrays, each the one before twice: 2^30 numbers in 200 bytes."""
    payload = b"\xd8\x1c\x82\x00\x00"
    for number in range(30):
        payload = (
            b"\xd8\x1c\x82"
            + payload
            + b"\xd8\x1d"
            + (b"\x18" + bytes([30 - number]) if number < 7 else bytes([30 - number]))
        )
    with pytest.raises(Undecodable):
        SchemaDecoder("cbor", ValueStyle()).decode(payload)


def test_protobuf_in_itself_ends_at_a_depth(protobuf) -> None:
    for count in (99, 101, 20_000):
        decode(protobuf, deep(count))
        decode(SchemaDecoder("protobuf", ValueStyle()), deep(count))


def test_avro_that_nests_or_announces_ends_at_a_limit() -> None:
    decode(avro(NODE), b"\x02" * 100_000)
    for count in (1 << 20, 1 << 62, -(1 << 62)):
        decode(avro({"type": "array", "items": "null"}), long(count) + (long(0) if count < 0 else b"") + b"\0")
    inner = long(65_000) + b"\0"
    with pytest.raises(Undecodable, match="items of no size"):  # each array is below the limit, all together are not
        avro({"type": "array", "items": {"type": "array", "items": "null"}}).decode(long(1000) + inner * 1000 + b"\0")


def container(blocks: list[tuple[int, bytes]], of: object, codec: bytes = b"deflate") -> bytes:
    sync = b"0123456789abcdef"
    text = json.dumps(of).encode()
    meta = long(2) + long(11) + b"avro.schema" + long(len(text)) + text
    meta += long(10) + b"avro.codec" + long(len(codec)) + codec + b"\0"
    return b"Obj\x01" + meta + sync + b"".join(long(n) + long(len(data)) + data + sync for n, data in blocks)


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


def test_an_avro_file_may_not_grow_without_end() -> None:
    assert decode(SchemaDecoder("auto", ValueStyle()), container([(1, deflated(b"\x02a"))], "string")) == "a"
    zeros = deflated(long(30 << 20) + bytes(30 << 20))
    with pytest.raises(Undecodable, match="more than 64 MiB"):
        SchemaDecoder("auto", ValueStyle()).decode(container([(1, zeros)] * 4, "string"))
    with pytest.raises(Undecodable, match="announces"):
        SchemaDecoder("auto", ValueStyle()).decode(container([(60_000, b"")] * 100, "null", b"null"))


def test_a_compressed_frame_may_not_grow_without_end() -> None:
    bomb = b"\x03\x05" + bytes(16) + zlib.compress(bytes(80 << 20))
    with pytest.raises(Undecodable, match="more than 64 MiB"):
        SchemaDecoder("auto", ValueStyle(), given=of_text('"bytes"', (), ValueStyle())).decode(bomb)


@pytest.mark.parametrize(
    ("decoding", "payload", "shown"),
    [
        ("msgpack", b"\xcb\x7f\xf8\0\0\0\0\0\0", "NaN"),
        ("msgpack", b"\xc7\x01\x05a", {"ext": 5, "base64": "YQ=="}),
        ("msgpack", b"\x81\x01\xc4\x01a", {"1": {"base64": "YQ=="}}),
        ("msgpack", b"\xcf" + b"\xff" * 8, 2**64 - 1),
        ("cbor", bytes.fromhex("f97c00"), "Infinity"),
        ("cbor", b"\xc2\x49\x01" + bytes(8), str(2**64)),
        ("cbor", bytes.fromhex("d9ffff01"), {"tag": 65535, "value": 1}),
        ("cbor", bytes.fromhex("c4822001"), "0.1"),
    ],
)
def test_what_json_has_no_word_for_is_not_lost(decoding, payload, shown) -> None:
    assert decode(SchemaDecoder(decoding, ValueStyle()), payload) == shown


def test_members_that_json_would_call_the_same_are_refused() -> None:
    with pytest.raises(Undecodable, match="two of its members"):
        SchemaDecoder("msgpack", ValueStyle()).decode(b"\x82\x01\xc0\xa11\xc0")


def test_data_cut_at_each_byte_end_with_a_reason() -> None:
    import io

    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(NODE), {"next": {"next": None, "v": 300}, "v": -5})
    whole = out.getvalue()
    for end in range(len(whole)):
        with pytest.raises(Undecodable):
            avro(NODE).decode(whole[:end])

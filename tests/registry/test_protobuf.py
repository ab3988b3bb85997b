"""Protobuf read and written again: every kind of field, and what JSON cannot show of them is told and never lost."""

from __future__ import annotations

import orjson
import pytest
from google.protobuf import json_format

from kpipe.codecs import protobuf
from kpipe.codecs.errors import DataError, NoFit
from kpipe.codecs.proto import Messages
from kpipe.codecs.proto_source import compile_text
from kpipe.codecs.schema import ValueStyle

THREE = """syntax = "proto3"; package p;
import "google/protobuf/any.proto"; import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto"; import "google/protobuf/struct.proto";
enum Color { RED = 0; BLUE = 1; }
message In { string s = 1; }
message M {
  map<string, int64> m = 1; map<int32, In> mi = 2;
  oneof o { string a = 3; int32 b = 4; In c = 12; }
  Color color = 5; repeated Color colors = 6; google.protobuf.Any any = 7; google.protobuf.Timestamp at = 8;
  google.protobuf.StringValue w = 9; optional int32 opt = 10; double d = 11; google.protobuf.Struct st = 13;
  bytes raw = 14; float f = 15; uint64 u = 16; map<bool, string> mb = 17; google.protobuf.Value v = 18;
  repeated google.protobuf.Any anys = 19; map<bool, google.protobuf.Any> anym = 20;
}
"""
TWO = """syntax = "proto2"; package q;
message G {
  optional group Part = 1 { optional int32 x = 2; }
  required int32 r = 3; optional Kind k = 5; enum Kind { A = 1; B = 2; } extensions 100 to 200;
}
extend G { optional string ext = 100; }
"""
ANY = b"\x0a\x05x/y.Z\x12\x01a"
SHOWN_ANY = {"@type": "x/y.Z", "value": "YQ=="}


@pytest.fixture(scope="module")
def codec() -> protobuf.Proto:
    return protobuf.Proto(Messages(compile_text("a.proto", THREE, {})), ValueStyle(message="p.M"), indexed=False)


@pytest.fixture(scope="module")
def old() -> protobuf.Proto:
    return protobuf.Proto(Messages(compile_text("b.proto", TWO, {})), ValueStyle(message="q.G"), indexed=False)


@pytest.mark.parametrize(
    "value",
    [
        {"m": {"a": "5", "b": str(2**62)}, "mi": {"1": {"s": "x"}}, "mb": {"true": "y"}},
        {"b": 0},
        {"a": ""},
        {"c": {}},
        {"color": "BLUE", "colors": ["RED", 9, "BLUE"]},
        {"color": 9},
        {"any": {"@type": "type.googleapis.com/p.In", "s": "x"}},
        {"at": "2020-01-01T00:00:00.000000001Z", "w": "", "opt": 0},
        {"d": "NaN", "f": "-Infinity", "u": str(2**64 - 1), "raw": "/w=="},
        {"st": {"a": [1.5, None, {"b": True}]}, "v": None},
        {"any": {}},
        {},
    ],
)
def test_each_kind_of_field_is_shown_and_comes_back(codec, value) -> None:
    message = codec.like("p.M")
    made = json_format.ParseDict(value, message.make(), descriptor_pool=message.pool)
    data = made.SerializeToString(deterministic=True)
    found = codec.read(data, 0)
    assert (found.value, found.note) == (value, "")
    assert found.write(orjson.dumps(found.value)) == data


def test_groups_and_extensions_of_proto2_come_back(old) -> None:
    for data, shown in (
        (b"\x0b\x10\x05\x0c\x18\x01", {"part": {"x": 5}, "r": 1}),
        (b"\x18\x01\xa2\x06\x01z", {"r": 1, "[q.ext]": "z"}),
    ):
        found = old.read(data, 0)
        assert found.value == shown
        assert found.write(orjson.dumps(shown)) == data


def test_a_required_field_that_is_missing_is_shown_as_missing_and_not_written(old) -> None:
    found = old.read(b"\x0b\x10\x05\x0c", 0)
    assert found.value == {"part": {"x": 5}}
    with pytest.raises(NoFit, match="missing required fields: r"):
        found.write(b'{"part":{"x":5}}')


@pytest.mark.parametrize(
    ("data", "value", "fields"),
    [
        (b"\x98\x06\x01", {}, "field 99"),
        (b"\x62\x06\x0a\x01x\x98\x06\x01", {"c": {"s": "x"}}, "field c.99"),
        (b"\x12\x08\x08\x01\x12\x04\x98\x06\x01\x08", None, ""),
        (b"\x12\x07\x08\x01\x12\x03\x98\x06\x01", {"mi": {"1": {}}}, "field mi.99"),
    ],
)
def test_fields_that_no_type_knows_are_told_at_any_depth_and_never_lost(codec, data, value, fields) -> None:
    if value is None:
        with pytest.raises(DataError):
            codec.read(data, 0)
        return
    found = codec.read(data, 0)
    assert (found.value, found.note) == (value, f"the schema does not know the {fields}")
    with pytest.raises(NoFit, match="which would be lost"):
        found.write(orjson.dumps(value))


def test_an_any_of_a_type_that_nobody_knows_is_shown_by_its_name_and_bytes(codec) -> None:
    size = bytes([len(ANY)])
    entry = b"\x08\x01\x12" + size + ANY
    data = b"\x3a" + size + ANY + b"\x9a\x01" + size + ANY + b"\xa2\x01" + bytes([len(entry)]) + entry
    found = codec.read(data, 0)
    assert found.value == {"any": SHOWN_ANY, "anys": [SHOWN_ANY], "anym": {"true": SHOWN_ANY}}
    with pytest.raises(NoFit, match=r"y\.Z"):
        found.write(orjson.dumps(found.value))

"""Every way in which a payload or its headers may name a schema, as golden bytes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.codecs.framing import FramingError, frame_of, read_index, write_index

GUID = "01234567-89ab-cdef-0123-456789abcdef"
RAW = bytes.fromhex(GUID.replace("-", ""))
HEX = b"0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("payload", "headers", "found"),
    [
        (b"\0\0\0\0\x07data", None, ("Confluent", "id", 7, 5)),
        (b"\0\0\0\0\0\0\0\0\x07data", None, ("Apicurio", "global id", 7, 9)),
        (b"\0\0\0\0" + HEX + b"data", None, ("Azure, old form", "Azure id", HEX.decode(), 36)),
        (b"\x03\x00" + RAW + b"data", None, ("Glue", "Glue version", GUID, 18)),
        (b"\x03\x05" + RAW + b"data", None, ("Glue", "Glue version", GUID, 18)),
        (b"Obj\x01rest", None, ("Avro file", "embedded", "", 0)),
        (b"\xc3\x0112345678data", None, ("Avro single object", "fingerprint", b"12345678", 10)),
        (b"data", [("__value_schema_id", b"\x01" + RAW)], ("Confluent header", "guid", GUID, 0)),
        (b"data", [("__value_schema_id", b"\0\0\0\0\x07")], ("Confluent header", "id", 7, 0)),
        (b"data", [("apicurio.value.globalId", b"\0" * 7 + b"\x07")], ("Apicurio header", "global id", 7, 0)),
        (b"data", [("apicurio.value.contentId", b"\0" * 7 + b"\x07")], ("Apicurio header", "content id", 7, 0)),
        (b"data", [("content-type", b"avro/binary+" + HEX)], ("Azure", "Azure id", HEX.decode(), 0)),
        (b"\0\0\0\0\x07data", [("__value_schema_id", b"\0\0\0\0\x08")], ("Confluent header", "id", 8, 0)),
    ],
)
def test_each_framing_is_told_from_the_others(payload, headers, found) -> None:
    assert frame_of(payload, headers, is_key=False)[:4] == found


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        (b"", None),
        (b"\0", None),
        (b"\0\0\0\x07", None),
        (b"\0\0\0\0\0\0\0\x07", None),  # the key 7 of Java's LongSerializer
        (b'{"a":1}', None),
        (b"user-1", [("__key_schema_id", b"\x01" + RAW)]),
        (b"data", [("content-type", b"application/json")]),
        (b"\x03\x01" + RAW, None),
        (b"\x03\x00short", None),
        (b"data", [("__value_schema_id", None)]),
    ],
)
def test_what_names_no_schema_has_no_frame(payload, headers) -> None:
    assert frame_of(payload, headers, is_key=False) is None


def test_the_last_header_of_a_name_counts_and_key_and_value_are_apart() -> None:
    headers = [("__key_schema_id", b"\0\0\0\0\x01"), ("__key_schema_id", b"\0\0\0\0\x02")]
    assert frame_of(b"x", headers, is_key=True).ref == 2
    assert frame_of(b"x", headers, is_key=False) is None


def test_a_schema_header_of_another_shape_is_told() -> None:
    with pytest.raises(FramingError, match="neither an id nor a GUID"):
        frame_of(b"x", [("__value_schema_id", b"7")], is_key=False)


def test_a_message_index_stands_behind_the_id_in_a_header() -> None:
    assert frame_of(b"x", [("__value_schema_id", b"\x01" + RAW + b"\x02\x02")], is_key=False).beside == b"\x02\x02"


@pytest.mark.parametrize(("path", "raw"), [((0,), "00"), ((1,), "0202"), ((0, 0), "040000"), ((1, 2), "040204")])
def test_message_indexes_are_zigzag_varints_and_the_first_message_is_one_byte(path, raw) -> None:
    assert write_index(path) == bytes.fromhex(raw)
    assert read_index(bytes.fromhex(raw) + b"data", 0) == (path, len(raw) // 2)


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=9).map(tuple))
def test_a_message_index_comes_back(path) -> None:
    assert read_index(b"x" + write_index(path), 1) == (path, 1 + len(write_index(path)))


@given(st.binary(max_size=40), st.booleans())
def test_no_bytes_hurt(payload, is_key) -> None:
    frame_of(payload, [("__key_schema_id", None), ("x", payload)], is_key=is_key)
    with suppress(FramingError):
        read_index(payload, 0)

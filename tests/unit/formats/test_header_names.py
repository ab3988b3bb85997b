"""Names of headers keep every byte on their way through the client and back."""

from __future__ import annotations

import ctypes

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.formats.header_names import RawName, bytes_of, name_in_argument, name_of, read_headers

CAFE = b"caf\xe9"


def sent(name: str) -> bytes | None:
    """What the client would send: it takes `str` of a name, and of that the UTF-8 form that CPython keeps."""
    keep = ctypes.pythonapi.PyUnicode_AsUTF8
    keep.restype, keep.argtypes = ctypes.c_char_p, [ctypes.py_object]
    kept: bytes | None = keep(str(name))
    return kept


@given(st.binary())
def test_every_name_is_its_bytes(raw: bytes) -> None:
    name = name_of(raw)
    assert bytes_of(name) == raw
    assert isinstance(name, RawName) == (raw.decode("utf-8", "replace").encode() != raw)


@given(st.binary().filter(lambda raw: b"\0" not in raw))
def test_every_name_is_sent_as_its_bytes(raw: bytes) -> None:
    assert sent(name_of(raw)) == raw


def test_a_name_that_was_sent_is_still_no_text_for_an_encoder() -> None:
    name = name_of(CAFE)
    assert sent(name) == sent(name) == CAFE
    with pytest.raises(UnicodeEncodeError):
        name.encode()
    with pytest.raises(TypeError):
        orjson.dumps(name)


def test_names_that_are_no_utf8_are_marked_when_they_are_read_and_strict_stays_strict() -> None:
    def read() -> list[list[tuple[str, bytes | None]] | None]:
        return [None, [("é", b"1"), (ctypes.pythonapi.PyUnicode_FromString(CAFE), None)]]

    ctypes.pythonapi.PyUnicode_FromString.restype = ctypes.py_object
    ctypes.pythonapi.PyUnicode_FromString.argtypes = [ctypes.c_char_p]
    _, headers = read_headers(read)  # type: ignore[arg-type]
    assert headers == [("é", b"1"), (name_of(CAFE), None)]
    assert [type(name) for name, _ in headers or ()] == [str, RawName]
    with pytest.raises(UnicodeDecodeError):
        CAFE.decode()
    with pytest.raises(UnicodeEncodeError):
        "\udce9".encode()


def test_strict_stays_strict_when_reading_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        read_headers(lambda: [1 // 0])  # type: ignore[list-item]
    with pytest.raises(UnicodeDecodeError):
        CAFE.decode()


def test_a_name_on_the_command_line_is_the_bytes_that_were_typed() -> None:
    assert bytes_of(name_in_argument("caf\udce9")) == CAFE
    assert type(name_in_argument("caf\udce9")) is RawName
    assert type(name_in_argument("é")) is str

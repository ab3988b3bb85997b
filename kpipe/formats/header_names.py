"""Header names as text, also those that are not UTF-8: Kafka takes any bytes, its Python client only text.

No byte of a name is ever replaced or left out. Bytes that are not UTF-8 stand in it as lone surrogates (PEP 383).
"""

from __future__ import annotations

import codecs
import os
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.record import Headers

T = TypeVar("T")

_STRICT: Any = codecs.lookup_error("strict")


class RawName(str):
    """A name that is not UTF-8. No JSON or UTF-8 encoder takes it by mistake: its surrogates make them raise.

    The client sends what `str` gives, by the UTF-8 form that CPython keeps beside every text (`PyUnicode_AsUTF8`).
    It does not look whether it got one: a plain text with a lone surrogate ends the process in librdkafka.
    """

    __slots__ = ()

    def __str__(self) -> str:
        """A text whose kept UTF-8 form is the bytes of the name; one of its own each time, so that `self` stays raw."""
        import ctypes

        raw = bytes_of(self)
        text = raw.decode("utf-8", "surrogateescape")
        keep = ctypes.pythonapi.PyUnicode_AsUTF8
        keep.restype, keep.argtypes = ctypes.c_char_p, [ctypes.py_object]
        kept, _ = _with_lone_surrogates(lambda: keep(text))
        if kept != raw:
            raise TypeError(f"header name {raw!r} cannot be sent")
        return text


def name_of(raw: bytes) -> str:
    """The name that these bytes are."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return RawName(raw.decode("utf-8", "surrogateescape"))


def bytes_of(name: str) -> bytes:
    """The bytes of a name."""
    return name.encode("utf-8", "surrogateescape")


def name_in_argument(text: str) -> str:
    """A name as it was typed: Python has put the bytes of the command line that are not UTF-8 into surrogates, too."""
    return text if text.isascii() else name_of(os.fsencode(text))


def read_headers(read: Callable[[], Any]) -> list[Headers | None]:
    """What `read` gets from the client, whose decoder of names fails on bytes that are not UTF-8.

    It would lose such a record's headers and return a list with a hole. CPython looks up what its strict decoder does
    on an error by name, so for the length of this one call it is given the bytes as surrogates: that costs two
    assignments a batch. `read` is one call into C, so no other code runs meanwhile.
    """
    columns: list[Headers | None]
    columns, seen = _with_lone_surrogates(read)
    if not seen:
        return columns
    return [headers and [(_marked(name), value) for name, value in headers] for headers in columns]


def _marked(name: str) -> str:
    return name if name.isascii() else name_of(bytes_of(name))


def _with_lone_surrogates(call: Callable[[], T]) -> tuple[T, bool]:
    """What `call` returns, and whether a text in it was not UTF-8."""
    seen: list[None] = []
    escape: Any = codecs.lookup_error("surrogateescape")

    def note(error: UnicodeError) -> Any:
        seen.append(None)
        return escape(error)

    codecs.register_error("strict", note)
    try:
        return call(), bool(seen)
    finally:
        codecs.register_error("strict", _STRICT)

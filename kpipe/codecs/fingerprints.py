"""Schema ids -> what is the same in every registry: for comparing a topic with its copy beside another registry.

An id that the registry does not know stays as it is, and so does everything that names none.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from uuid import UUID

import orjson

from kpipe.codecs import framing
from kpipe.codecs.registry import NotFound

if TYPE_CHECKING:
    from kpipe.codecs.registry import Registry, SchemaText
    from kpipe.record import Batch, Headers


class Fingerprints:
    """Puts a schema's fingerprint in the place of its id, in keys, values and headers of a batch.

    The header `mark`, by which a record says that its ids were translated, is no difference.
    """

    def __init__(self, registry: Registry, mark: str) -> None:
        self._registry, self._mark = registry, mark
        self._known: dict[int | str, bytes | None] = {}

    def __call__(self, batch: Batch) -> None:
        """The columns of the batch as they compare; lists that are there are not changed."""
        headers = list(batch.headers) if batch.headers is not None else None
        batch.values = self._column(batch.values, headers, is_key=False)
        if batch.keys is not None:
            batch.keys = self._column(batch.keys, headers, is_key=True)
        batch.headers = headers and without_mark(headers, self._mark)

    def _column(
        self, column: list[bytes | None], headers: list[Headers | None] | None, *, is_key: bool
    ) -> list[bytes | None]:
        settled: list[bytes | None] = []
        for place, payload in enumerate(column):
            own = headers[place] if headers is not None else None
            try:
                frame = None if payload is None else framing.frame_of(payload, own, is_key=is_key)
            except framing.FramingError:
                frame = None
            found = None
            if frame is not None and frame.kind in (framing.ID, framing.GUID) and not isinstance(frame.ref, bytes):
                found = self._of(frame.ref)
            if found is None or frame is None or payload is None:
                settled.append(payload)
            elif frame.start:
                settled.append(b"\0" + found + payload[5:])
            else:
                settled.append(payload)
                assert headers is not None and own is not None  # noqa: PT018, S101  # the frame is in them
                headers[place] = _renamed(own, "__key_schema_id" if is_key else "__value_schema_id", found)
        return settled

    def _of(self, ref: int | str) -> bytes | None:
        if ref not in self._known:
            try:
                text = self._registry.by_id(ref) if isinstance(ref, int) else self._registry.by_guid(ref)
                self._known[ref] = fingerprint(text)
            except NotFound:
                self._known[ref] = None
        return self._known[ref]


def without_mark(headers: list[Headers | None], mark: str) -> list[Headers | None]:
    """The headers but for the one that tells of a translation."""
    return [own and [each for each in own if each[0] != mark] for own in headers]


def fingerprint(text: SchemaText) -> bytes:
    """16 bytes of what a schema says and refers to; how its text is laid out does not count."""
    try:
        said = orjson.dumps(orjson.loads(text.text), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        said = b" ".join(text.text.encode().split())
    names = sorted(reference.name for reference in text.references)
    return hashlib.blake2b(b"\0".join([text.kind.encode(), said, *map(str.encode, names)]), digest_size=16).digest()


def _renamed(headers: Headers, name: str, found: bytes) -> Headers:
    """The header with the fingerprint in place of id or GUID; a message index behind it stays."""
    return [
        (each, found + value[5 if value[:1] == b"\0" else 1 + len(UUID(int=0).bytes) :])
        if each == name and value is not None
        else (each, value)
        for each, value in headers
    ]

"""The schemas of a run: asked for once, kept in memory and on disk, and never asked for again while they are known.

An id means one schema for as long as its registry lives; a test registry that starts anew gives ids out again, so
bytes that do not fit a schema from disk are tried once more with a fresh copy. What a registry does not have is
remembered for a minute only.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from typing import TYPE_CHECKING

import orjson

from kpipe.codecs import CODECS, FORMATS
from kpipe.codecs import schema as schemas
from kpipe.codecs.errors import SchemaError
from kpipe.codecs.registry import NotFound, SchemaReference, SchemaText

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.codecs.registry import Registry
    from kpipe.codecs.schema import Codec, ValueStyle

FORGET_NOT_FOUND = 60.0
"""Seconds after which a schema that was not there, or could not be read, is asked for again."""
_DEEPEST_REFERENCES = 50


class Known:
    """A schema and how to read and write with it; `fresh` is false when it came from disk."""

    __slots__ = ("codec", "fresh", "text")

    def __init__(self, text: SchemaText, codec: Codec, *, fresh: bool) -> None:
        self.text, self.codec, self.fresh = text, codec, fresh


class Library:
    """Schemas of one registry, by id or GUID.

    `folder` keeps them between runs (None: not at all). Files are written whole and renamed, so processes may share it.
    """

    def __init__(
        self, registry: Registry, view: ValueStyle, folder: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.registry = registry
        self._view, self._folder, self._clock = view, folder, clock
        self._known: dict[int | str, Known] = {}
        self._missing: dict[int | str, tuple[float, NotFound | SchemaError]] = {}

    def seen(self, view: ValueStyle) -> Library:
        """The same schemas in another view."""
        return Library(self.registry, view, self._folder, self._clock)

    def get(self, ref: int | str) -> Known:
        """The schema of an id or GUID; NotFound, SchemaError, or what the registry's client raises."""
        found = self._known.get(ref)
        if found is not None:
            return found
        told = self._missing.get(ref)
        if told is not None and self._clock() - told[0] < FORGET_NOT_FOUND:
            raise told[1]
        kept = self._read(ref)
        if kept is not None:
            try:
                return self._load(ref, *kept, fresh=False)
            except SchemaError:
                pass  # the registry may have another one by now
        return self.again(ref)

    def again(self, ref: int | str) -> Known:
        """The schema as the registry has it now, whatever was known of it."""
        try:
            text = self.registry.by_id(ref) if isinstance(ref, int) else self.registry.by_guid(ref)
            return self._fetched(ref, text)
        except (NotFound, SchemaError) as error:
            self._missing[ref] = self._clock(), error
            raise

    def hold(self, text: SchemaText) -> Known:
        """A schema that the registry has just given, with what it refers to."""
        ref = text.id if text.id is not None else text.guid
        return self._known.get(ref) or self._fetched(ref, text._replace(subject="", version=None))

    def references(self, text: SchemaText) -> dict[str, str]:
        """The texts of all that a schema refers to, by name, those that others need first."""
        others: dict[str, str] = {}
        self._follow(text, others, ())
        return others

    def _fetched(self, ref: int | str, text: SchemaText) -> Known:
        others: dict[str, str] = {}
        self._follow(text, others, ())
        descriptor = None
        has_descriptors = text.kind in FORMATS and CODECS[FORMATS[text.kind]].has_descriptors
        if has_descriptors and not others and isinstance(ref, int):
            descriptor = self.registry.descriptor(ref)
        self._write(ref, text, others, descriptor)
        return self._load(ref, text, others, descriptor, fresh=True)

    def _load(
        self, ref: int | str, text: SchemaText, others: dict[str, str], descriptor: bytes | None, *, fresh: bool
    ) -> Known:
        known = Known(text, schemas.load(text, others, self._view, descriptor), fresh=fresh)
        self._known[ref] = known
        return known

    def _follow(self, text: SchemaText, others: dict[str, str], inside: tuple[SchemaReference, ...]) -> None:
        """The texts of all references, those that others need first; a circle is refused."""
        for reference in text.references:
            if reference in inside or len(inside) > _DEEPEST_REFERENCES:
                raise SchemaError(f"its references run in a circle, over {reference.name}")
            if reference.name in others:
                continue
            found = self.registry.version(reference.subject, reference.version)
            self._follow(found, others, (*inside, reference))
            others[reference.name] = found.text

    def _path(self, ref: int | str) -> str | None:
        if self._folder is None:
            return None
        name = hashlib.sha256(f"{self.registry.where} {ref}".encode()).hexdigest()[:32]
        return os.path.join(self._folder, f"{name}.json")

    def _read(self, ref: int | str) -> tuple[SchemaText, dict[str, str], bytes | None] | None:
        path = self._path(ref)
        if path is None:
            return None
        try:
            with open(path, "rb") as file:
                kept = orjson.loads(file.read())
            if kept["version"] != 1 or kept["registry"] != self.registry.where or kept["ref"] != ref:
                return None
            fields = kept["schema"]
            references = tuple(SchemaReference(*each) for each in fields.pop("references"))
            descriptor = kept["descriptor"]
            return (
                SchemaText(**fields, references=references),
                kept["others"],
                None if descriptor is None else descriptor.encode(),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # a cache that cannot be read is no cache

    def _write(self, ref: int | str, text: SchemaText, others: dict[str, str], descriptor: bytes | None) -> None:
        path = self._path(ref)
        if path is None or self._folder is None:
            return
        kept = {
            "version": 1,
            "registry": self.registry.where,
            "ref": ref,
            "schema": {**text._asdict(), "references": [list(each) for each in text.references]},
            "others": others,
            "descriptor": None if descriptor is None else descriptor.decode(),
        }
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            handle, beside = tempfile.mkstemp(dir=self._folder)  # 0600
            with os.fdopen(handle, "wb") as file:
                file.write(orjson.dumps(kept))
            os.replace(beside, path)
        except OSError:
            return  # a full or read-only disk costs a question to the registry, nothing else

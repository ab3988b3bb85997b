"""`kpipe schema`: what a registry has, one schema with what it refers to, and how records read through a new one.

It registers nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from kpipe.codecs import schema
from kpipe.codecs.decoder import SchemaDecoder, Undecodable
from kpipe.codecs.library import Library
from kpipe.codecs.registry import NotFound, SchemaReference
from kpipe.codecs.schema import ValueStyle
from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kpipe.codecs.registry import Registry, SchemaText
    from kpipe.record import Batch

SHOWN = 10
"""Records that do not fit, told one by one."""


class Subject(NamedTuple):
    """A subject in a list."""

    name: str
    versions: list[int]
    latest: SchemaText
    level: str


def subjects(registry: Registry, names: Iterable[str]) -> Iterable[Subject]:
    """Each subject with its versions; one that goes meanwhile is left out."""
    for name in names:
        try:
            yield Subject(name, registry.versions(name), registry.version(name), registry.level(name))
        except NotFound:
            continue


def split_version(name: str) -> tuple[str, str]:
    """`SUBJECT[:VERSION]`; the version is `latest` where none is given."""
    subject, colon, version = name.rpartition(":")
    return (subject, version) if colon and (version.isdecimal() or version == "latest") else (name, "latest")


def find(registry: Registry, name: str) -> SchemaText:
    """The schema of `SUBJECT[:VERSION]` or `id:N`; NotFound."""
    if name.startswith("id:"):
        number = name.removeprefix("id:")
        if not number.isdecimal():
            raise UsageError(f"{name}: write id:N, with a number")
        return registry.by_id(int(number))
    return registry.version(*split_version(name))


def parse_references(texts: Sequence[str]) -> tuple[SchemaReference, ...]:
    """`NAME=SUBJECT:VERSION`, each."""
    found = []
    for text in texts:
        name, sign, rest = text.partition("=")
        subject, colon, version = rest.rpartition(":")
        if not (name and sign and subject and colon and version.isdecimal()):
            raise UsageError(f"--reference {text!r}: write NAME=SUBJECT:VERSION")
        found.append(SchemaReference(name, subject, int(version)))
    return tuple(found)


def readable(text: SchemaText, others: Mapping[str, str]) -> str:
    """The schema for people: JSON indented, with `others`, what it refers to, in their places or behind it."""
    if text.kind == "PROTOBUF":
        behind = "".join(f"\n// {name}\n\n{other.strip()}\n" for name, other in others.items())
        return f"{text.text.strip()}\n{behind}"
    try:
        document = orjson.loads(text.text)
        more = {name: orjson.loads(other) for name, other in others.items()}
    except orjson.JSONDecodeError:
        return f"{text.text.strip()}\n"
    if text.kind == "AVRO":
        definitions: dict[str, Any] = {}
        for other in more.values():
            _collect(other, "", definitions)
        document = _filled_in(document, "", definitions, set())
    elif more:
        document = (
            {**document, "$defs": {**document.get("$defs", {}), **more}} if isinstance(document, dict) else document
        )
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"


def _full_name(definition: dict[str, Any], namespace: str) -> tuple[str, str]:
    """The name with its namespace, and the namespace that types inside inherit."""
    name = str(definition.get("name", ""))
    space = str(definition.get("namespace", namespace))
    full = name if "." in name or not space else f"{space}.{name}"
    return full, full.rpartition(".")[0]


def _collect(document: Any, namespace: str, found: dict[str, Any]) -> None:
    """Named types of a document, each by its full name, with the name written out."""
    if isinstance(document, list):
        for each in document:
            _collect(each, namespace, found)
    elif isinstance(document, dict):
        if document.get("type") in ("record", "error", "enum", "fixed"):
            full, namespace = _full_name(document, namespace)
            found[full] = {**{k: v for k, v in document.items() if k != "namespace"}, "name": full}
        for each in document.get("fields", ()):
            if isinstance(each, dict):
                _collect(each.get("type"), namespace, found)
        for inner in ("type", "items", "values"):
            if isinstance(document.get(inner), dict | list):
                _collect(document[inner], namespace, found)


def _filled_in(document: Any, namespace: str, definitions: Mapping[str, Any], done: set[str]) -> Any:
    """The document with each referenced type written out where it is first used."""
    if isinstance(document, str):
        full = document if "." in document or not namespace else f"{namespace}.{document}"
        name = full if full in definitions else document
        if name not in definitions or name in done:
            return document
        done.add(name)
        return _filled_in(definitions[name], "", definitions, done)
    if isinstance(document, list):
        return [_filled_in(each, namespace, definitions, done) for each in document]
    if not isinstance(document, dict):
        return document
    if document.get("type") in ("record", "error", "enum", "fixed"):
        full, namespace = _full_name(document, namespace)
        done.add(full)
    filled = dict(document)
    for inner in ("type", "items", "values"):
        if inner in filled and filled[inner] not in ("record", "error", "enum", "fixed", "array", "map"):
            filled[inner] = _filled_in(filled[inner], namespace, definitions, done)
    if isinstance(filled.get("fields"), list):
        filled["fields"] = [
            {**each, "type": _filled_in(each.get("type"), namespace, definitions, done)}
            if isinstance(each, dict)
            else each
            for each in filled["fields"]
        ]
    return filled


@dataclass(slots=True)
class Replay:
    """What became of records that were read through a new schema."""

    read: int = 0
    fit: int = 0
    unframed: int = 0
    """Records that name no schema of the registry: nobody can say what they are."""
    misfits: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)
    """Where, and why."""

    def refuse(self, where: str, why: str) -> None:
        """One that does not fit."""
        self.misfits += 1
        if len(self.examples) < SHOWN:
            self.examples.append((where, why))


class Through:
    """Reads records with the schema they were written with, then as a reader with a new one sees them."""

    def __init__(self, registry: Registry, text: SchemaText, others: Mapping[str, str], *, is_key: bool) -> None:
        seen = ValueStyle(reader=schema.load(text, others, ValueStyle()), reader_name=text.subject or "the new schema")
        self._own, self._seen = (
            SchemaDecoder("auto", view, is_key=is_key, library=Library(registry, view, None))
            for view in (ValueStyle(), seen)
        )
        self._is_key = is_key
        self.found = Replay()

    def __call__(self, batch: Batch) -> None:
        """Look at a batch."""
        found = self.found
        for place, value in enumerate(batch.keys or () if self._is_key else batch.values):
            found.read += 1
            if value is None:
                found.fit += 1
                continue
            headers = batch.header(place)
            try:
                decoded = self._own.decode(value, headers)
            except Undecodable as error:
                found.refuse(batch.where(place), f"it cannot be read with its own schema: {error}")
                continue
            if decoded is None or not (decoded.schema.keys() & {"id", "guid"}):
                found.unframed += 1
                continue
            try:
                self._seen.decode(value, headers)
            except Undecodable as error:
                written = f"written with schema {decoded.schema.get('id') or decoded.schema.get('guid')}"
                found.refuse(batch.where(place), f"{error} ({written})")
            else:
                found.fit += 1

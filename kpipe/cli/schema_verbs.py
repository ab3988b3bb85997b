"""The verbs of `kpipe schema`: each asks a registry, prints the answer, and ends."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.cli.looking import json_line, look_of, write
from kpipe.codecs import FORMATS
from kpipe.errors import Exit, KpipeError, Stage, UsageError
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.codecs.registry import Registry, SchemaText
    from kpipe.ops.options import LookingOptions, ReferenceOptions, SchemaCheckOptions, SchemaShowOptions
    from kpipe.ops.schemas import Replay
    from kpipe.options import ConnectionOptions


class _Registries:
    """The registries of one command; what a name says before its colon is a cluster where one is called so."""

    def __init__(self, connection: ConnectionOptions) -> None:
        from kpipe.plan.places import read_profiles

        self._profiles = read_profiles(connection)
        for warning in self._profiles.warnings:
            tell(warning)
        self._timeout = connection.timeout

    def split(self, text: str) -> tuple[Cluster, str]:
        """`[CLUSTER:]NAME`."""
        name, colon, rest = text.partition(":")
        if colon and name in self._profiles.names:
            return self._profiles.resolve(name), rest
        return self._profiles.resolve(None), text

    def open(self, cluster: Cluster) -> Registry:
        """The cluster's registry; UsageError where it names none."""
        from kpipe.codecs.connect import open_registry
        from kpipe.kafka.client import label

        for warning in cluster.warnings:
            tell(warning)
        registry = open_registry(
            cluster,
            where=label(cluster),
            patience=self._timeout,
            stopped=lambda: False,
            waiting=lambda _why: None,
            sleep=time.sleep,
        )
        if registry is None:
            raise UsageError("the cluster names no schema registry; set schema.registry.url", where=label(cluster))
        return registry


def list_subjects(names: list[str], connection: ConnectionOptions, looking: LookingOptions) -> int:
    """A row a subject."""
    from kpipe.ops.schemas import subjects
    from kpipe.ops.table import Table

    registries = _Registries(connection)
    table = Table(("SUBJECT", ">VERSIONS", ">LATEST", ">ID", "FORMAT", "COMPATIBILITY"))
    for text in names or [""]:
        cluster, pattern = registries.split(text)
        registry = registries.open(cluster)
        known = [name for name in registry.subjects() if not pattern or fnmatchcase(name, pattern)]
        if pattern and not known:
            raise UsageError(f"no subject matches {pattern!r}", where=registry.where)
        for each in subjects(registry, known):
            kind = FORMATS.get(each.latest.kind, each.latest.kind.lower())
            if looking.json:
                fields = {
                    "cluster": cluster.name,
                    "subject": each.name,
                    "versions": each.versions,
                    "id": each.latest.id,
                }
                write(json_line({**fields, "format": kind, "compatibility": each.level}))
            table.add(each.name, len(each.versions), each.versions[-1], each.latest.id or "-", kind, each.level)
    if not looking.json:
        write(table.text(look_of(looking)))
    return 0


def show(name: str, connection: ConnectionOptions, options: SchemaShowOptions, looking: LookingOptions) -> int:
    """One schema."""
    from kpipe.codecs.library import Library
    from kpipe.codecs.schema import ValueStyle
    from kpipe.ops.schemas import find, readable

    registries = _Registries(connection)
    cluster, rest = registries.split(name)
    registry = registries.open(cluster)
    text = find(registry, rest)
    others = {} if options.raw else Library(registry, ValueStyle(), None).references(text)
    shown = text.text + "\n" if options.raw else readable(text, others)
    if looking.json:
        fields = {
            "subject": text.subject or None,
            "schema_version": text.version,
            "id": text.id,
            "guid": text.guid or None,
        }
        references = [each._asdict() for each in text.references]
        more = {"format": FORMATS.get(text.kind, text.kind), "schema": text.text, "references": references}
        shown = json_line({"cluster": cluster.name, **fields, **more, "texts": others})
    write(shown)
    return 0


def diff(one: str, other: str, connection: ConnectionOptions) -> int:
    """A unified diff of both, as they are shown."""
    from difflib import unified_diff

    registries = _Registries(connection)
    before, after = (_text_of(registries, name).splitlines(keepends=True) for name in (one, other))
    lines = list(unified_diff(before, after, one, other))
    write("".join(lines))
    return int(Exit.DIFFERENCE if lines else Exit.OK)


def _text_of(registries: _Registries, name: str) -> str:
    from kpipe.codecs.library import Library
    from kpipe.codecs.named import is_file
    from kpipe.codecs.schema import ValueStyle
    from kpipe.ops.schemas import find, readable

    if is_file(name):
        return readable(_file(name), {})
    cluster, rest = registries.split(name)
    registry = registries.open(cluster)
    text = find(registry, rest)
    return readable(text, Library(registry, ValueStyle(), None).references(text))


def _file(path: str) -> SchemaText:
    from kpipe.codecs.files import schema_text

    text = schema_text(path)
    if text is None:
        raise UsageError(f"{path}: a descriptor set has no text that a registry takes; give the .proto file")
    return text


def check(
    subject: str,
    file: str,
    connection: ConnectionOptions,
    options: SchemaCheckOptions,
    references: ReferenceOptions,
    looking: LookingOptions,
) -> int:
    """Ask the registry, then read records; exit code 5 where one of both says no."""
    from kpipe.codecs.errors import SchemaError
    from kpipe.codecs.library import Library
    from kpipe.codecs.registry import NotFound
    from kpipe.codecs.schema import ValueStyle, load
    from kpipe.ops.schemas import Through, parse_references

    registries = _Registries(connection)
    cluster, name = registries.split(subject)
    registry = registries.open(cluster)
    text = _file(file)._replace(references=parse_references(references.reference))
    others = Library(registry, ValueStyle(), None).references(text)
    try:
        load(text, others, ValueStyle())
    except SchemaError as error:
        raise UsageError(f"{file}: {error}") from None
    try:
        level = registry.level(name)
        fits, reasons = registry.compatibility(name, text, options.against or _range(level))
    except NotFound:
        fits, reasons, level = True, [], "the subject is not there yet"
    topic = options.topic or next((name.removesuffix(end) for end in ("-value", "-key") if name.endswith(end)), "")
    reading = None
    if options.records and topic:
        through = Through(registry, text, others, is_key=name.endswith("-key"))
        _read_last(connection, cluster, topic, options, through)
        reading = through.found
    _tell_check(looking, name, topic, level, fits, reasons, reading)
    return int(Exit.OK if fits and not (reading and reading.misfits) else Exit.DIFFERENCE)


def _range(level: str) -> str:
    """The versions that a rule looks at."""
    return "all" if level.endswith("_TRANSITIVE") else "latest"


def _read_last(
    connection: ConnectionOptions, cluster: Cluster, topic: str, options: SchemaCheckOptions, through: Any
) -> None:
    from kpipe.kafka.connection import Connection
    from kpipe.ops.tail import Followed, last_records, merged

    opened = Connection(cluster, connection.timeout)
    if topic not in opened.metadata().topics:
        if options.topic:
            raise KpipeError("no such topic", where=opened.where(topic), stage=Stage.READ)
        return
    records = sorted(last_records(Followed(opened, [topic]), options.records), key=lambda each: each[1].timestamp()[1])
    for batch in merged(records[-options.records :]):
        through(batch)


def _tell_check(
    looking: LookingOptions,
    subject: str,
    topic: str,
    level: str,
    fits: bool,
    reasons: Sequence[str],
    reading: Replay | None,
) -> None:
    if looking.json:
        read: dict[str, Any] | None = None
        if reading is not None:
            read = {"topic": topic, "read": reading.read, "fit": reading.fit, "unframed": reading.unframed}
            read |= {"misfits": reading.misfits, "examples": [list(each) for each in reading.examples]}
        fields = {"subject": subject, "rule": level, "compatible": fits, "reasons": list(reasons), "records": read}
        write(json_line(fields))
        return
    lines = [f"{subject}: {'compatible' if fits else 'not compatible'} ({level})", *(f"  {each}" for each in reasons)]
    if reading is not None and reading.read:
        lines.append(f"{topic}: {counted(reading.read, 'record')} read; {reading.misfits:,} cannot be read with it")
        lines += [f"  {where}: {why}" for where, why in reading.examples]
        if reading.unframed:
            lines.append(f"  {reading.unframed:,} name no schema and were not judged")
    elif reading is not None:
        lines.append(f"{topic}: no records to read")
    from kpipe.errors import visible

    write("".join(f"{visible(line)}\n" for line in lines))


def register(
    subject: str, file: str, connection: ConnectionOptions, references: ReferenceOptions, looking: LookingOptions
) -> int:
    """Add it, or find it."""
    from kpipe.codecs.registry import NotFound
    from kpipe.kafka.client import label
    from kpipe.ops.schemas import parse_references

    registries = _Registries(connection)
    cluster, name = registries.split(subject)
    if cluster.read_only:
        raise UsageError(f"cluster {label(cluster)} is read_only; remove read_only from its profile to change it")
    registry = registries.open(cluster)
    text = _file(file)._replace(references=parse_references(references.reference))
    new = False
    try:
        found = registry.lookup(name, text)
    except NotFound:
        registry.register(name, text)
        found, new = registry.lookup(name, text), True
    if looking.json:
        write(json_line({"subject": name, "schema_version": found.version, "id": found.id, "registered": new}))
    else:
        write(f"{name}: version {found.version}, id {found.id}{'' if new else ', which was there'}\n")
    return 0

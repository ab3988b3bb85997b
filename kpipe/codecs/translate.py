"""Keys and values that name a schema of one registry name it in another one: the id changes, the data never do.

What names no schema passes as it is; an id that the source does not know is never passed on. A schema is brought over
with what it refers to and with the versions before it, so that the target's compatibility rules see the same history.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import orjson

from kpipe.codecs import framing
from kpipe.codecs.registry import Incompatible, NotFound, RegistryError
from kpipe.errors import BadRecord, KpipeError, Stage
from kpipe.record import split_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kpipe.codecs.framing import Frame
    from kpipe.codecs.registry import Registry, SchemaReference, SchemaText
    from kpipe.record import Batch, Headers

MARK = "translated_schemas"
"""The header, behind the prefix of the trace's: `value=ID key=ID registry=URL cluster=ID`."""
FORGET_UNKNOWN = 60.0
_DEEPEST = 50
_UNTOUCHED = (framing.GLUE, framing.AZURE, framing.FINGERPRINT, framing.EMBEDDED)
"""Frames that name no schema of such a registry."""


class Side(NamedTuple):
    """What is translated: `name` is key or value; `registers` false only looks schemas up."""

    name: str
    registers: bool


class Marking(NamedTuple):
    """How a record says that its ids are those of the target by now, and how such a record is known again.

    `name` is the header's; the addresses are those of the registries, the others the ids of the clusters.
    """

    name: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    source_cluster: str = ""
    target_cluster: str = ""

    def done(self, value: bytes | None) -> frozenset[str]:
        """Which sides name schemas of the target's registry: this hop, or one like it, has translated them before.

        A header that says so of the source's registry tells of the hop before; one of any other registry, nothing.
        """
        said = dict(word.partition("=")[::2] for word in (value or b"").decode(errors="replace").split(" "))
        registry, cluster = said.get("registry"), said.get("cluster")
        if registry is None or registry in self.source:
            return _NO_SIDE
        known = cluster and cluster == self.target_cluster != self.source_cluster
        return frozenset(said.keys() & {"key", "value"}) if registry in self.target or known else _NO_SIDE

    def header(self, former: Mapping[str, str]) -> tuple[str, bytes]:
        """The header of a record, with the ids or GUIDs that its sides had before (`-`: none)."""
        sides = [f"{side}={former[side]}" for side in ("value", "key") if side in former]
        cluster = [f"cluster={self.target_cluster}"] if self.target_cluster else []
        return self.name, " ".join([*sides, f"registry={self.target[0]}", *cluster]).encode()


_NO_SIDE: frozenset[str] = frozenset()


class Translator:
    """The stage of forward. `topic` is where records go that no route leads elsewhere.

    `marking` None: records do not say that they were translated (`--trace none`), and none is known again.
    """

    def __init__(
        self,
        source: Registry,
        target: Registry,
        sides: tuple[Side, ...],
        topic: str,
        marking: Marking | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shelf = _Shelf(source, target)
        self._sides, self._topic, self._marking, self._clock = sides, topic, marking, clock
        self._ids: dict[tuple[str, str, str, int | str], int | str] = {}
        self._unknown: dict[int | str, tuple[float, str]] = {}
        self._headers: dict[tuple[str | None, str | None], tuple[str, bytes]] = {}
        self._done: dict[bytes | None, frozenset[str]] = {}
        self.unframed = 0
        """Keys and values that name no schema."""
        self.before = 0
        """Records that were translated before."""

    def __call__(self, batch: Batch) -> None:
        """Rewrite the ids of a batch; what cannot be named at the target is bad."""
        bad: dict[int, BadRecord] = {}
        done = self._translated_before(batch)
        former: dict[int, dict[str, str]] = {}
        for side in self._sides:
            column = batch.keys if side.name == "key" else batch.values
            if column is not None:
                self._column(side, batch, column, bad, done, former)
        batch.shown_keys = batch.shown_values = None
        if self._marking is not None and former:
            self._mark(self._marking, batch, former)
        batch.reject(bad)

    def notes(self) -> list[str]:
        """What is told at the end."""
        told = [
            (self.unframed, "keys or values name no schema and passed as they are (--translate-schemas)"),
            (self.before, "records were translated before, as their header says, and passed as they are"),
        ]
        return [f"encode: {count:,} {what}" for count, what in told if count]

    def _translated_before(self, batch: Batch) -> Mapping[int, frozenset[str]]:
        """The records that say so, by place, and which sides of them."""
        marking, found = self._marking, {}
        if marking is None or batch.headers is None:
            return {}
        for place, headers in enumerate(batch.headers):
            for name, value in headers or ():
                if name == marking.name:  # the last one counts, as of all headers
                    if value not in self._done:
                        self._done[value] = marking.done(value)
                    found[place] = self._done[value]
        found = {place: sides for place, sides in found.items() if sides}
        self.before += len(found)
        return found

    def _mark(self, marking: Marking, batch: Batch, former: Mapping[int, dict[str, str]]) -> None:
        headers: list[Headers | None] = list(batch.headers) if batch.headers is not None else [None] * len(batch)
        for place, refs in former.items():
            asked = (refs.get("value"), refs.get("key"))
            if asked not in self._headers:
                self._headers[asked] = marking.header(refs)
            kept = [each for each in headers[place] or () if each[0] != marking.name]
            headers[place] = [*kept, self._headers[asked]]
        batch.headers = headers

    def _column(
        self,
        side: Side,
        batch: Batch,
        column: list[bytes | None],
        bad: dict[int, BadRecord],
        done: Mapping[int, frozenset[str]],
        former: dict[int, dict[str, str]],
    ) -> None:
        written = list(column)
        headers: list[Headers | None] = list(batch.headers) if batch.headers is not None else [None] * len(batch)
        shown = batch.shown_keys if side.name == "key" else batch.shown_values
        for place, payload in enumerate(column):
            if payload is None or place in bad or side.name in done.get(place, ()):
                continue
            if shown is not None and shown[place] is not None:  # --encode wrote it, by the target's registry
                former.setdefault(place, {})[side.name] = "-"
                continue
            try:
                written[place], named, ref = self._one(side, batch, place, payload, headers[place])
            except BadRecord as error:
                error.what = f"the {side.name} {error.what}"
                bad[place] = error
                continue
            if ref:
                former.setdefault(place, {})[side.name] = ref
            headers[place] = named
        if batch.headers is not None:
            batch.headers = headers
        if side.name == "value":
            batch.values = written
        elif written != column:
            batch.keys = written
            batch.partition_keys = [old if old != new else None for old, new in zip(column, written, strict=True)]

    def _one(
        self, side: Side, batch: Batch, place: int, payload: bytes, headers: Headers | None
    ) -> tuple[bytes, Headers | None, str]:
        """The bytes and headers that name the target's schema, and what they named before (empty: no id)."""
        try:
            frame = framing.frame_of(payload, headers, is_key=side.name == "key")
        except framing.FramingError as error:
            raise BadRecord(f"cannot be translated: {error}", stage=Stage.ENCODE) from None
        if frame is None or frame.kind in _UNTOUCHED:
            self.unframed += 1
            return payload, headers, ""
        if frame.framing.startswith("Apicurio"):
            what = f"names its schema as only Apicurio's own serdes do ({frame}); let them write Confluent's ids"
            raise BadRecord(what, stage=Stage.ENCODE)
        assert not isinstance(frame.ref, bytes)  # noqa: S101  # those are fingerprints
        topic = batch.topics[place] if batch.topics is not None else None
        route = batch.targets[place] if batch.targets is not None else None
        target = split_target(route)[1] if route is not None else self._topic
        asked = (side.name, topic or target, target, frame.ref)
        new = self._ids.get(asked)
        if new is None:
            new = self._ids[asked] = self._translated(side, topic or target, target, frame)
        former = str(frame.ref)
        if new == frame.ref:
            return payload, headers, former if isinstance(new, int) else ""
        if frame.start:
            assert isinstance(new, int)  # noqa: S101  # as it was asked for
            return b"\0" + new.to_bytes(4, "big") + payload[5:], headers, former
        return payload, _renamed(headers or [], f"__{side.name}_schema_id", new), former

    def _translated(self, side: Side, topic: str, target: str, frame: Frame) -> int | str:
        assert not isinstance(frame.ref, bytes)  # noqa: S101  # those are fingerprints
        told = self._unknown.get(frame.ref)
        if told is not None and self._clock() - told[0] < FORGET_UNKNOWN:
            raise BadRecord(told[1], stage=Stage.ENCODE)
        try:
            text = self._shelf.named(frame.ref)
        except NotFound as error:
            what = f"names a schema that its registry does not have ({frame}: {error.what})"
            self._unknown[frame.ref] = self._clock(), what
            raise BadRecord(what, stage=Stage.ENCODE) from None
        found = self._shelf.bring(text, side, topic, target)
        if isinstance(frame.ref, int):
            assert found.id is not None  # noqa: S101  # registries answer with it
            return found.id
        if not found.guid:
            what = "names its schema by GUID, and the target's registry has none; let its writer use ids"
            raise BadRecord(what, stage=Stage.ENCODE)
        return found.guid


def _renamed(headers: Headers, name: str, ref: int | str) -> Headers:
    """The header that names the schema (the last of its name) with another id or GUID; what stands behind it stays."""
    last = max(place for place, (each, value) in enumerate(headers) if each == name and value is not None)
    value = headers[last][1] or b""
    if isinstance(ref, int):
        value = b"\0" + ref.to_bytes(4, "big") + value[5:]
    else:
        value = b"\x01" + UUID(ref).bytes + value[17:]
    return [*headers[:last], (name, value), *headers[last + 1 :]]


class _Shelf:
    """The schemas of both registries: what is at the source is found at the target, or brought there."""

    def __init__(self, source: Registry, target: Registry) -> None:
        self._source, self._target = source, target
        self._brought: dict[tuple[str, int | None, bool], SchemaText] = {}

    def named(self, ref: int | str) -> SchemaText:
        """A schema of the source by its id or GUID; NotFound."""
        return self._source.by_id(ref) if isinstance(ref, int) else self._source.by_guid(ref)

    def bring(self, text: SchemaText, side: Side, topic: str, target: str) -> SchemaText:
        """The same schema at the target; BadRecord where it is only looked up and not there."""
        subject, there, version = self._subjects(text, side, topic, target)
        mapped = text._replace(references=self._references(text, registers=side.registers, depth=0))
        try:
            return self._target.lookup(there, mapped)
        except NotFound:
            if not side.registers:
                what = f"names a schema that the target's registry {self._target.where} does not have as {there}"
                advice = "register it there, or use --translate-schemas register"
                raise BadRecord(f"{what}; {advice}", stage=Stage.ENCODE) from None
        self._bring_earlier(subject, there, version)
        return self._register(there, mapped)

    def _subjects(self, text: SchemaText, side: Side, topic: str, target: str) -> tuple[str, str, int | None]:
        """The schema's subject at the source (empty: none), that at the target, and its version.

        A subject that starts with the topic's name belongs to it, as Confluent's strategies have it; another one keeps
        its name. KpipeError where several fit.
        """
        by_topic = f"{topic}-{side.name}"
        known = dict(self._versions(text, by_topic))
        if by_topic in known or not known:
            return by_topic if known else "", f"{target}-{side.name}", known.get(by_topic)
        record = _record_name(text)
        for subject, there in ((f"{topic}-{record}", f"{target}-{record}"), (record, record)):
            if record and subject in known:
                return subject, there, known[subject]
        if len(known) == 1:
            ((subject, version),) = known.items()
            return subject, subject, version
        what = f"schema {text.id or text.guid} belongs to {', '.join(sorted(known)[:5])} and not to {by_topic}"
        raise KpipeError(
            f"{what}: which of them is meant cannot be told; register it as {by_topic} in the source's registry",
            where=self._source.where,
            stage=Stage.ENCODE,
        )

    def _versions(self, text: SchemaText, by_topic: str) -> list[tuple[str, int]]:
        try:
            if text.id is not None:
                return self._source.versions_of_id(text.id)
            found = self._source.lookup(by_topic, text)
        except RegistryError:  # one that does not know the question, or a subject that was deleted
            return []
        return [] if found.version is None else [(by_topic, found.version)]

    def _references(self, text: SchemaText, *, registers: bool, depth: int) -> tuple[SchemaReference, ...]:
        """What the schema refers to, as the target numbers it."""
        if depth > _DEEPEST:
            raise KpipeError("its references run in a circle", where=self._source.where, stage=Stage.ENCODE)
        found = []
        for each in text.references:
            there = self._reference(each, registers=registers, depth=depth)
            assert there.version is not None  # noqa: S101  # registries answer with it
            found.append(each._replace(version=there.version))
        return tuple(found)

    def _reference(self, reference: SchemaReference, *, registers: bool, depth: int) -> SchemaText:
        key = (reference.subject, reference.version, registers)
        if key in self._brought:
            return self._brought[key]
        text = self._source.version(reference.subject, reference.version)
        mapped = text._replace(references=self._references(text, registers=registers, depth=depth + 1))
        try:
            found = self._target.lookup(reference.subject, mapped)
        except NotFound as error:
            if not registers:
                what = f"refers to {reference.subject}, which the target's registry does not have ({error.what})"
                raise BadRecord(what, stage=Stage.ENCODE) from None
            self._bring_earlier(reference.subject, reference.subject, reference.version)
            self._register(reference.subject, mapped)
            found = self._target.lookup(reference.subject, mapped)
        self._brought[key] = found
        return found

    def _bring_earlier(self, subject: str, there: str, version: int | None) -> None:
        """The versions of a subject before this one, in order: a rule like BACKWARD looks at them."""
        if not subject or version is None:
            return
        for number in self._source.versions(subject):
            if number >= version:
                return
            text = self._source.version(subject, number)
            mapped = text._replace(references=self._references(text, registers=True, depth=0))
            try:
                self._target.lookup(there, mapped)
            except NotFound:
                self._register(there, mapped)

    def _register(self, subject: str, text: SchemaText) -> SchemaText:
        try:
            made = self._target.register(subject, text)
        except Incompatible as error:
            raise KpipeError(
                f"{subject}: {error.what}{self._reasons(subject, text)}; see kpipe schema check",
                where=self._target.where,
                stage=Stage.ENCODE,
            ) from None
        return made if made.guid or not text.guid else self._target.lookup(subject, text)

    def _reasons(self, subject: str, text: SchemaText) -> str:
        try:
            _, reasons = self._target.compatibility(subject, text)
        except RegistryError:
            return ""
        return f" ({'; '.join(' '.join(each.split()) for each in reasons)[:1000]})" if reasons else ""


def _record_name(text: SchemaText) -> str:
    """The full name of an Avro record, for subjects that are named by it; empty for others."""
    try:
        found = orjson.loads(text.text)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return ""
    name, space = found["name"], found.get("namespace")
    return name if "." in name or not space else f"{space}.{name}"


class WarnOnce:
    """The stage of a forward between two registries that translates nothing: it tells at the first framed record."""

    def __init__(self, source: str, target: str, say: Callable[[str], None]) -> None:
        self._source, self._target, self._say = source, target, say
        self._told = False

    def __call__(self, batch: Batch) -> None:
        """Look until one was found."""
        if self._told:
            return
        for place, value in enumerate(batch.values):
            key = batch.keys[place] if batch.keys is not None else None
            headers = batch.headers[place] if batch.headers is not None else None
            if _names_id(value, headers, is_key=False) or _names_id(key, headers, is_key=True):
                self._told = True
                what = f"it starts as one that names a schema by an id of {self._source}"
                advice = f"{self._target} may have another one under that id; see --translate-schemas"
                self._say(f"encode: {batch.where(place)}: {what}, and {advice}")
                return


def _names_id(payload: bytes | None, headers: Headers | None, *, is_key: bool) -> bool:
    if payload is None or (payload[:1] != b"\0" and not headers):
        return False
    try:
        frame = framing.frame_of(payload, headers, is_key=is_key)
    except framing.FramingError:
        return False
    return frame is not None and frame.kind in (framing.ID, framing.GLOBAL_ID, framing.CONTENT_ID)

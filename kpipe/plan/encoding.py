"""How keys and values are written by a schema: which one, named how, and with the ids of which registry.

By produce, by forward where it changes them, and where the target has another registry. A schema is registered only
where that was asked for, and nothing of `kpipe.codecs` is imported where none is used.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from kpipe.codecs import BY_SCHEMA
from kpipe.errors import UsageError
from kpipe.options import EncodeOptions
from kpipe.plan.rules import encoded_sides, key_encoding, translated_sides

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.codecs.encoder import SchemaEncoder
    from kpipe.codecs.library import Library
    from kpipe.codecs.named import Named
    from kpipe.codecs.registry import SchemaText
    from kpipe.codecs.schema import ValueStyle
    from kpipe.options import ForwardOptions, ReencodeOptions, SchemaOptions, TraceOptions
    from kpipe.pipeline import PipelineStage
    from kpipe.plan.wiring import Wiring
    from kpipe.sinks.target import Target
    from kpipe.sources.opening import OpenSource

_URL = "schema.registry.url"


def encoding(
    options: EncodeOptions, cluster: Cluster, topic: str, stopped: Callable[[], bool], say: Callable[[str], None]
) -> list[PipelineStage]:
    """The stage that encodes for a topic; none when nothing of the kind is asked for."""
    if not encoded_sides(options):
        return []
    from kpipe.codecs.stages import Encode

    return [Encode(*encoders(options, cluster, topic, stopped, say, lambda: None))]


def encoders(
    options: EncodeOptions,
    cluster: Cluster,
    topic: str,
    stopped: Callable[[], bool],
    say: Callable[[str], None],
    keep_alive: Callable[[], None],
) -> tuple[SchemaEncoder | None, SchemaEncoder | None]:
    """Of values and of keys, for a topic; None for what is not encoded.

    A registry that is away is waited for. UsageError for a schema that is not there or of another kind.
    """
    from kpipe.codecs.opening import open_library
    from kpipe.codecs.schema import ValueStyle

    keys, values = key_encoding(options), options.encode
    tagged = options.avro_json == "tagged"
    view, key_view = ValueStyle(message=options.message, tagged=tagged), ValueStyle(tagged=tagged)
    library = open_library(cluster, view, stopped, say, keep_alive, keeps=not options.no_schema_cache)
    side = _Side(options, topic, library)
    value_encoder = side.encoder(values, options.schema, view, is_key=False) if values else None
    return value_encoder, side.encoder(keys, options.key_schema, key_view, is_key=True) if keys else None


class _Side:
    """Makes the encoder of keys or values."""

    def __init__(self, options: EncodeOptions, topic: str, library: Library | None) -> None:
        self._options, self._topic, self._library = options, topic, library

    def encoder(self, encoding: str, name: str, view: ValueStyle, *, is_key: bool) -> SchemaEncoder:
        from kpipe.codecs.encoder import SchemaEncoder, framed, plain
        from kpipe.codecs.errors import SchemaError
        from kpipe.codecs.named import load_named

        option = "--key-schema" if is_key else "--schema"
        if encoding != "same" and encoding not in BY_SCHEMA:
            if name:
                raise UsageError(
                    f"{option} {name}: --encode{'-key' * is_key} {encoding} needs no schema; drop {option}"
                )
            return SchemaEncoder(plain(encoding))
        if encoding != "same" and not name:
            name = self._subject(f"--encode{'-key' * is_key} {encoding}", option, is_key=is_key)
        named = load_named(name, view, self._library, option=option) if name else None
        if encoding == "same":
            return SchemaEncoder(None, self._library, None if named is None else named.codec)
        assert named is not None  # noqa: S101  # it has a name
        if named.codec.format != encoding:
            raise UsageError(f"{option} {name} is {named.codec.format}, not {encoding}; ask for that encoding")
        types = named.codec.types
        if len(types) > 1 and not view.message:
            advice = "encode keys with a schema of one" if is_key else "name one with --message"
            raise UsageError(f"{option} {name}: it has several messages ({', '.join(types[:20])}); {advice}")
        framing, text = self._options.framing, named.text
        if framing != "none":
            text = self._registered(named, f"{self._topic}-{'key' if is_key else 'value'}", option)
        number, guid = (text.id or 0, text.guid) if text is not None else (0, "")
        if framing == "header" and not guid:
            raise UsageError("--framing header: the registry gives its schemas no GUIDs; use --framing confluent")
        try:
            return SchemaEncoder(
                framed(named.codec, framing, is_key=is_key, number=number, guid=guid, message=view.message)
            )
        except SchemaError as error:
            raise UsageError(f"{option} {name}: {error}") from None

    def _subject(self, asked: str, option: str, *, is_key: bool) -> str:
        """The only subject that is the topic's by Confluent's strategies (topic name, topic and record name)."""
        if self._library is None:
            raise UsageError(f"{asked}: by which schema? Add {option} FILE, SUBJECT or id:N")
        registry, own = self._library.registry, f"{self._topic}-{'key' if is_key else 'value'}"
        known = registry.subjects()
        found = [own] if own in known else []
        if not is_key:
            record = re.compile(re.escape(self._topic) + r"-(?!key$|value$)[A-Za-z_][A-Za-z0-9_.]*")
            found += [subject for subject in known if record.fullmatch(subject)]
        if len(found) == 1:
            return found[0]
        if not found:
            what = f"{asked}: by which schema? The registry has no subject {own}"
            raise UsageError(f"{what}; add {option} FILE, SUBJECT or id:N", where=registry.where)
        what = f"{asked}: by which schema? The topic has the subjects {', '.join(found[:20])}"
        raise UsageError(f"{what}; say which with {option}", where=registry.where)

    def _registered(self, named: Named, subject: str, option: str) -> SchemaText:
        from kpipe.codecs.registry import Incompatible, NotFound

        if not named.path:
            assert named.text is not None  # noqa: S101  # the registry's own
            return named.text
        if self._library is None:
            what = "records name their schema by the registry's id, and none is set"
            raise UsageError(f"{what}; set schema.registry.url, or give --framing none")
        if named.text is None:
            what = f"{option} {named.path}: a descriptor set has no text that the registry could be asked for"
            raise UsageError(f"{what}; name the subject, or give --framing none")
        registry = self._library.registry
        try:
            return registry.lookup(subject, named.text)
        except NotFound as error:
            if not self._options.register:
                what = f"{option} {named.path}: the subject {subject} has no such schema"
                raise UsageError(
                    f"{what}; add it with --register or kpipe schema register", where=error.where
                ) from None
        try:
            made = registry.register(subject, named.text)
        except Incompatible as error:
            raise UsageError(f"{option} {named.path}: {error.what}", where=error.where) from None
        return made if made.guid or self._options.framing != "header" else registry.lookup(subject, named.text)


# --- what forward writes again ------------------------------------------------------------------------------------


def decoded_by(schemas: SchemaOptions, writing: ReencodeOptions) -> SchemaOptions:
    """How records are read: `--schema` and `--message` are those of `--encode` where that is given."""
    if not (writing.encode or writing.encode_key):
        return schemas
    keys = schemas.decode_key or ("auto" if writing.encode_key else "")
    if not writing.encode:
        return replace(schemas, decode_key=keys)
    values = schemas.decode or "auto"
    return replace(schemas, decode=values, decode_key=keys, schema=writing.decode_schema, message="")


def reencoders(
    schemas: SchemaOptions,
    writing: ReencodeOptions,
    cluster: Cluster,
    topic: str,
    wiring: Wiring,
    keep_alive: Callable[[], None],
) -> tuple[SchemaEncoder | None, SchemaEncoder | None]:
    """The encoders of values and keys for the target; UsageError where a further target has another registry."""
    if not (writing.encode or writing.encode_key):
        return None, None
    if writing.framing == "confluent":
        check_further_registries(cluster, (*wiring.also_clusters, *wiring.routed_clusters))
    options = EncodeOptions(
        encode=writing.encode,
        encode_key=writing.encode_key,
        schema=schemas.schema if writing.encode else "",
        key_schema=writing.key_schema,
        register=writing.register,
        framing=writing.framing,
        message=schemas.message if writing.encode else "",
        avro_json=schemas.avro_json,
        no_schema_cache=schemas.no_schema_cache,
    )
    return encoders(options, cluster, topic, wiring.stopped, wiring.say, keep_alive)


def check_further_registries(target: Cluster, further: Sequence[Cluster]) -> None:
    """An id of the target's registry means nothing, or another schema, in another one."""
    for each in further:
        if not _is_one(each.registry.get(_URL, ""), target.registry.get(_URL, "")):
            what = "--encode writes ids of the target's registry, and a further target has another registry"
            raise UsageError(f"{what}; send there with a forward of its own, or with --framing header", where=each.name)


# --- what forward does between two registries -----------------------------------------------------------------------


def check_registries(forward: ForwardOptions, source: Cluster, target: Cluster) -> None:
    """Each end has its own registry, or there is nothing to translate."""
    if not translated_sides(forward):
        return
    both = (source.registry.get(_URL, ""), target.registry.get(_URL, ""))
    for cluster, url, side in zip((source, target), both, ("source", "target"), strict=True):
        if not url:
            where = cluster.name or side
            raise UsageError(f"--translate-schemas: the {side} cluster names no registry; set {_URL}", where=where)
    if _is_one(*both):
        raise UsageError("--translate-schemas: one registry serves both clusters, so ids stay; drop it")


def _is_one(one: str, other: str) -> bool:
    """Whether two lists of addresses have one in common: all of a list are of one registry."""
    return not {_bare_url(url) for url in one.split(",")}.isdisjoint(map(_bare_url, other.split(",")))


def _bare_url(url: str) -> str:
    """Without a login and a slash at the end."""
    scheme, sign, rest = url.strip().rpartition("://")
    return f"{scheme or 'http'}{sign or '://'}{rest.rpartition('@')[2]}".rstrip("/").lower()


def translating(
    options: ForwardOptions,
    source: Cluster,
    target: Cluster,
    ready: Target,
    wiring: Wiring,
    opened: OpenSource,
    trace: TraceOptions,
) -> list[PipelineStage]:
    """The stage that rewrites ids, or the one that warns; none where one registry serves both, or none is set."""
    asked, both = translated_sides(options), (source.registry.get(_URL, ""), target.registry.get(_URL, ""))
    if not asked:
        if not all(both) or _is_one(*both):
            return []
        from kpipe.codecs.translate import WarnOnce

        return [WarnOnce(_bare(both[0]), _bare(both[1]), wiring.warn)]
    from kpipe.codecs.opening import open_registry_of
    from kpipe.codecs.translate import MARK, Marking, Side, Translator

    one, other = (
        open_registry_of(cluster, wiring.stopped, wiring.say, opened.source.keep_alive) for cluster in (source, target)
    )
    assert one is not None and other is not None  # noqa: PT018, S101  # both have a URL
    sides = tuple(Side(side, registers) for side, registers in asked.items())
    marking = None
    if trace.trace != "none":
        clusters = (opened.cluster_id, ready.cluster_id)
        marking = Marking(trace.trace_prefix + MARK, one.addresses, other.addresses, *clusters)
    return [Translator(one, other, sides, ready.topic, marking)]


def notes_of(stages: Sequence[PipelineStage]) -> list[str]:
    """What stages have to say at the end."""
    return [line for stage in stages if hasattr(stage, "notes") for line in stage.notes()]


def _bare(urls: str) -> str:
    """Registries in a message, without logins."""
    return ", ".join(url.strip().rpartition("@")[2] for url in urls.split(","))

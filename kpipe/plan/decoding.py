"""Which decoders the options ask for, and the stages that use them; nothing of `kpipe.codecs` is imported before.

It asks no registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.codecs.encoder import SchemaEncoder
    from kpipe.codecs.library import Library
    from kpipe.codecs.plugin import PluginDecoder
    from kpipe.codecs.schema import Codec, ValueStyle
    from kpipe.codecs.stages import Decode
    from kpipe.options import SchemaOptions
    from kpipe.pipeline import PipelineStage
    from kpipe.transform.step import Step

LOOKS_ELSEWHERE = (
    "drop-key", "drop-header", "rename-header", "strip-trace", "sample", "max-age", "rename-topic",
    "hash-salt", "through-jobs", "through-timeout", "dedupe-window", "route-allow", "sample-seed",
)  # fmt: skip
TEMPLATES = ("set-key", "set-header", "add-header")


def _fields(template: str) -> set[str]:
    return {field for field in ("{json", "{value") if field in template}


def looks_at_values(steps: Sequence[Step]) -> bool:
    """Whether a transform looks into values."""
    return any(
        step.name not in LOOKS_ELSEWHERE and not (step.name in TEMPLATES and not _fields(step.argument or ""))
        for step in steps
    )


def keys_with(options: SchemaOptions) -> str:
    """How keys are decoded beside values: only those that say that they are encoded, unless --decode-key says more."""
    return options.decode_key or ("auto" if options.decode not in ("", "none") else "")


def internal_topics(topics: Sequence[str]) -> PipelineStage:
    """The stage of `--decode internal`; UsageError for a topic that is not one of Kafka's own, or a pattern."""
    from kpipe.formats.internal import TOPICS, decode

    for topic in topics:
        if topic not in TOPICS:
            raise UsageError(
                f"--decode internal reads {' and '.join(TOPICS)}, and {topic} is neither; name one of them"
            )
    return decode


def decoding(
    options: SchemaOptions,
    cluster: Cluster,
    stopped: Callable[[], bool],
    say: Callable[[str], None],
    keep_alive: Callable[[], None],
    *,
    keys: str,
    refuses: bool,
    left: str = "shown",
) -> Decode | None:
    """The stage that shows values, and keys by `keys`, as JSON; None when nothing of the kind is asked for.

    A registry that is away is waited for as long as nobody stops the run; `keep_alive` is called meanwhile. `refuses`
    and `left` are as in `Decode`.
    """
    values = "" if options.decode == "none" else options.decode
    keys = "" if keys == "none" else keys
    if not (values or keys):
        return None
    from kpipe.codecs.decoder import SchemaDecoder
    from kpipe.codecs.opening import open_library
    from kpipe.codecs.schema import ValueStyle
    from kpipe.codecs.stages import Decode

    def view_of(message: str = "") -> ValueStyle:
        return ValueStyle(
            tagged=options.avro_json == "tagged",
            big_ints_as_text=options.big_ints == "string",
            defaults=options.defaults,
            message=message,
            connect_types=options.connect_types,
        )

    view, key_view = view_of(options.message), view_of()
    library = open_library(cluster, view, stopped, say, keep_alive, keeps=not options.no_schema_cache)
    key_library = library and library.seen(key_view)
    if options.reader_schema:  # of values only: keys have a schema of their own
        from kpipe.codecs.named import load_named

        plain = view_of(options.message)
        named = load_named(options.reader_schema, plain, library and library.seen(plain), option="--reader-schema")
        view.reader, view.reader_name = named.codec, options.reader_schema
    given = _given(options.schema, view, library)
    value_decoder = _plugin(values) or (
        SchemaDecoder(values, view, library=library, given=given, say=say) if values else None
    )
    key_decoder = _plugin(keys) or (
        SchemaDecoder(keys, key_view, is_key=True, library=key_library, say=say) if keys else None
    )
    return Decode(value_decoder, key_decoder, refuses=refuses, say=say, left=left)


def _plugin(decoding: str) -> PluginDecoder | None:
    if not decoding.startswith("plugin:"):
        return None
    from kpipe.codecs.plugin import PluginDecoder

    return PluginDecoder(decoding)


def around(
    stages: Sequence[PipelineStage],
    decode: Decode | None,
    encoders: tuple[SchemaEncoder | None, SchemaEncoder | None],
    *,
    marks: bool,
) -> list[PipelineStage]:
    """Transforms that see JSON, between records that arrive and leave as bytes: those of an unchanged one as read.

    `encoders` are those of values and keys, where changed ones are not written by their own schema; see `Reencode`.
    """
    if decode is None and encoders == (None, None):
        return list(stages)
    from kpipe.codecs.stages import Reencode

    return [*([] if decode is None else [decode]), *stages, Reencode(*encoders, marks=marks)]


def _given(name: str, view: ValueStyle, library: Library | None) -> Codec | None:
    """The schema of `--schema`."""
    if not name:
        return None
    from kpipe.codecs.named import load_named

    return load_named(name, view, library).codec

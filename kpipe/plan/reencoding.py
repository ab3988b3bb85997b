"""How forward writes what a transform has changed: by the schema it was read with, or as `--encode` says.

It registers nothing that was not asked for, and imports nothing of `kpipe.codecs`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kpipe.errors import UsageError
from kpipe.options import EncodeOptions
from kpipe.plan.encoding import encoders

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.clusters.profiles import Cluster
    from kpipe.codecs.encoder import SchemaEncoder
    from kpipe.options import ReencodeOptions, SchemaOptions
    from kpipe.plan.wiring import Wiring

_URL = "schema.registry.url"


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
    for each in (*wiring.also_clusters, *wiring.routed_clusters):
        if each.registry.get(_URL, "") != cluster.registry.get(_URL, "") and writing.framing == "confluent":
            what = "--encode writes ids of the target's registry, and a further target has another registry"
            raise UsageError(f"{what}; send there with a forward of its own, or with --framing header", where=each.name)
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

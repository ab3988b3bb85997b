"""What a forward between two schema registries does: translate ids, or warn.

It translates nothing itself, and imports nothing of `kpipe.codecs` where one registry serves both ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpipe.errors import UsageError
from kpipe.plan.rules import translated_sides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.options import ForwardOptions, TraceOptions
    from kpipe.pipeline import PipelineStage
    from kpipe.plan.wiring import Wiring
    from kpipe.sinks.target import Target
    from kpipe.sources.opening import OpenSource

_URL = "schema.registry.url"


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
    """What stages of this file have to say at the end."""
    return [line for stage in stages if hasattr(stage, "notes") for line in stage.notes()]


def _bare(urls: str) -> str:
    """Registries in a message, without logins."""
    return ", ".join(url.strip().rpartition("@")[2] for url in urls.split(","))

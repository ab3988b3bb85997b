"""`kpipe verify`: two topics read side by side, without a group, into a comparison.

It sends nothing and commits nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpipe.clusters.address import parse_partitions, place_name
from kpipe.errors import Interrupted, UsageError
from kpipe.kafka.client import label
from kpipe.kafka.watch import Watch
from kpipe.plan.decoding import decoding, keys_with
from kpipe.plan.places import open_profiles, read_profiles, source_places
from kpipe.plan.rules import check_verify
from kpipe.plan.selection import parse_range
from kpipe.sources.opening import OpenSource, prepare_source
from kpipe.sources.topic import BEGINNING, Selection
from kpipe.units import parse_size
from kpipe.verify.compare import Comparison, Verdict
from kpipe.verify.digest import Digester, Tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.options import ConnectionOptions, VerifyOptions, ViewOptions
    from kpipe.record import Batch
    from kpipe.shutdown import Stop

COLUMNS = frozenset(("keys", "headers", "timestamps", "positions"))
LEAST_MEMORY = 1 << 20


@dataclass(slots=True)
class ComparedTopic:
    """One of the two topics, ready to be read to its end of now."""

    where: str
    topic: str
    opened: OpenSource
    cluster: Cluster
    cluster_id: str


class Verification:
    """Both topics and their comparison; `read` counts the records of both sides, out of `total`."""

    def __init__(
        self,
        source: ComparedTopic,
        target: ComparedTopic,
        comparison: Comparison,
        watch: Watch,
        settles: Sequence[Callable[[Batch], None] | None],
    ) -> None:
        self.source, self.target, self._settles = source, target, settles
        self.read = 0
        self.watch = watch
        self._comparison = comparison

    def total(self) -> int:
        """Records to read, at most."""
        return sum(side.opened.source.progress.expected() for side in (self.source, self.target))

    def run(self, stop: Stop, progress: Callable[[], None]) -> Verdict:
        """Read both sides by turns, then compare; Interrupted when a signal comes."""
        sides = [
            (self.source.opened.source, self._comparison.add_source),
            (self.target.opened.source, self._comparison.add_target),
        ]
        with self._comparison.buckets:
            while any(not source.finished for source, _ in sides):
                for source, add in sides:
                    batch = None if source.finished else source.read()
                    if batch is not None:
                        self.read += len(batch)
                        add(batch)
                    if stop.requested:
                        raise Interrupted("stopped before both topics were read")
                self.watch()
                progress()
            return self._comparison.conclude()

    def held_back(self) -> int:
        """Offsets of both sides that open transactions keep from being compared; each place is told."""
        sides = (self.source, self.target)
        return sum(held.count for side in sides for held in side.opened.source.find_held_back())

    def notes(self) -> list[str]:
        """What could not be decoded, and was compared as it is."""
        decodes = [getattr(settle, "decode", None) for settle in self._settles]
        return [note for decode in decodes if decode is not None for note in decode.notes()]

    def close(self) -> None:
        """Let go of both topics."""
        for side in (self.source, self.target):
            side.opened.source.close(2.0)


def plan_verify(
    source: str,
    target: str,
    connection: ConnectionOptions,
    options: VerifyOptions,
    schemas: ViewOptions,
    stop: Stop,
    say: Callable[[str], None],
) -> Verification:
    """Open both topics; the source first, so that a copy that is still being made is not found to lack its newest."""
    memory = parse_size(options.memory, "--memory")
    check_verify(options, schemas)
    if memory < LEAST_MEMORY:
        raise UsageError(f"--memory {options.memory!r}: too little; give 1M or more")
    start, until = parse_range(options.offset, options.until, group="")
    (from_cluster, from_topics), (to_cluster, to_topics) = source_places([source]), source_places([target])
    for topic in (*from_topics, *to_topics):
        if topic.startswith("^"):
            raise UsageError(f"{topic!r}: verify compares two topics; name them")
    one, other = open_profiles(read_profiles(connection), [(from_cluster, "source"), (to_cluster, "target")], say)
    partitions = frozenset(parse_partitions(options.partitions)) or None
    wanted = Selection((from_topics[0],), start, until, at_end=True, partitions=partitions, columns=COLUMNS)
    left = _open(one, wanted, connection, stop, say)
    right = _open(other, Selection((to_topics[0],), BEGINNING, at_end=True, columns=COLUMNS), connection, stop, say)
    if left.topic == right.topic:
        left.opened.tell_apart(right)
    if left.opened.cluster_id == right.cluster_id and left.topic == right.topic:
        raise UsageError("source and target are the same topic; name the copy", where=left.where)
    settles = [_settle(side.cluster, options, schemas, stop, say) for side in (left, right)]
    progress = left.opened.source.progress
    starts = {partition: offset for (_, partition), offset in progress.starts.items()}
    ends = {partition: offset for (_, partition), offset in progress.ends.items()}
    digest, digest_copies = (
        Digester(options.trace_prefix, timestamps=not options.ignore_timestamp, settle=settle) for settle in settles
    )
    tracing = Tracing(left.topic, left.opened.cluster_id, options.trace_prefix)
    comparison = Comparison(starts, ends, digest, tracing, memory, options.examples, digest_copies=digest_copies)
    watch = Watch(say, lambda: stop.requested)
    for side in (left, right):
        side.opened.watched_by(watch, side.topic)
    return Verification(left, right, comparison, watch, settles)


def _settle(
    cluster: Cluster, options: VerifyOptions, schemas: ViewOptions, stop: Stop, say: Callable[[str], None]
) -> Callable[[Batch], None] | None:
    """What makes records of a cluster comparable; None where they are compared as they are."""
    if keys_with(schemas):
        decode = decoding(
            schemas, cluster, lambda: stop.requested, say, lambda: None,
            keys=keys_with(schemas), refuses=False, left="compared",
        )  # fmt: skip
        if decode is None:
            return None
        from kpipe.codecs.compared import ComparedView
        from kpipe.codecs.translate import MARK

        return ComparedView(decode, options.trace_prefix + MARK)
    if not options.translated_schemas:
        return None
    from kpipe.codecs.fingerprints import Fingerprints
    from kpipe.codecs.opening import open_registry_of
    from kpipe.codecs.translate import MARK

    registry = open_registry_of(cluster, lambda: stop.requested, say, lambda: None)
    if registry is None:
        raise UsageError("--translated-schemas: it names no registry; set schema.registry.url", where=label(cluster))
    return Fingerprints(registry, options.trace_prefix + MARK)


def _open(
    cluster: Cluster, selection: Selection, connection: ConnectionOptions, stop: Stop, say: Callable[[str], None]
) -> ComparedTopic:
    opened = prepare_source(cluster, selection, say, connection.timeout, lambda: stop.requested)
    opened.start()
    return ComparedTopic(
        place_name(label(cluster), selection.topics[0]), selection.topics[0], opened, cluster, opened.cluster_id
    )

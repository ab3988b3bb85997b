"""What to read, from what was typed: where it starts and ends, which partitions, in which group.

It asks no cluster.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.clusters.address import check_group, check_instance, parse_partitions
from kpipe.errors import UsageError
from kpipe.kafka.offsets import Offset, OffsetKind, RangeEnd, parse_offset
from kpipe.sources.selection import BEGINNING, REFRESH, Selection, is_pattern
from kpipe.transform.patterns import compile_pattern
from kpipe.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.clusters.profiles import Cluster
    from kpipe.options import SelectionOptions


def parse_range(offsets: Sequence[str], end: str, group: str) -> tuple[Offset, Offset | None]:
    """`-o` and `--until`; kcat's `s@` and `e@` say themselves which of the two they are."""
    now = int(time.time() * 1000)
    start: Offset | None = None
    until = parse_offset(end, now) if end else None
    for text in offsets:
        spec = parse_offset(text, now)
        if spec.side is RangeEnd.STOP:
            if until is not None:
                raise UsageError(f"-o {text}: the end is given twice; drop one")
            until = spec
        elif start is not None:
            raise UsageError(f"-o {text}: the start is given twice; drop one")
        else:
            start = spec
    if until is not None and until.kind is OffsetKind.STORED:
        raise UsageError("--until stored: a group's offset is a place to start, not to stop")
    if start is not None and start.kind is OffsetKind.STORED and not group:
        raise UsageError("-o stored needs a group; add -G GROUP")
    return start or BEGINNING, until


def make_selection(options: SelectionOptions, topics: Sequence[str], cluster: Cluster, columns: set[str]) -> Selection:
    """What to read, from what was typed."""
    start, until = parse_range(options.offset, options.until, options.group)
    partitions = None
    numbers = [text for text in options.partitions if text != "same"]
    if numbers:
        partitions = frozenset(parse_partitions(numbers))
    for topic in topics:
        if is_pattern(topic):
            try:
                compile_pattern(topic)
            except ValueError as error:
                raise UsageError(str(error), where=repr(topic)) from None
    strategy = str(cluster.properties.get("partition.assignment.strategy", "cooperative-sticky"))
    protocol = str(cluster.properties.get("group.protocol", "classic"))
    if options.group:
        check_group(options.group, "--group")
    if options.instance:
        check_instance(options.instance, "--instance")
    return Selection(
        topics=tuple(topics),
        start=start,
        until=until,
        given_start=any(text not in ("stored", "") for text in options.offset) and start.kind is not OffsetKind.STORED,
        at_end=options.exit,
        partitions=partitions,
        group=options.group or None,
        incremental="cooperative" in strategy or protocol == "consumer",
        on_gap=options.on_gap,
        instance=options.instance,
        protocol=options.group_protocol,
        columns=frozenset(columns),
        min_age=_min_age(options.min_age),
        idle=_idle(options.idle),
        refresh=_refresh(cluster),
    )


def _refresh(cluster: Cluster) -> float:
    """Seconds between looks for new topics and partitions: the client's own property, if it is set (-1: never)."""
    own = cluster.properties.get("topic.metadata.refresh.interval.ms")
    if own is None:
        return REFRESH
    return float(own) / 1000 if float(own) > 0 else float("inf")


def _idle(text: str) -> float:
    """Seconds of `--idle`, 0 without it."""
    if not text:
        return 0.0
    seconds = parse_duration(text, "--idle")
    if seconds <= 0:
        raise UsageError(f"--idle {text!r}: give more than 0; -e stops at the end")
    return seconds


def _min_age(text: str) -> float:
    """Seconds of `--min-age`, 0 without it."""
    if not text:
        return 0.0
    return parse_duration(text, "--min-age")

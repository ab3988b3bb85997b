"""What the parts of one topic source have in common: the client, what was asked of it, and how far it is.

It does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from kpipe.kafka.topic_ids import TopicIds
    from kpipe.ledger import TopicPartition
    from kpipe.sources.bounds import OffsetResolver
    from kpipe.sources.extents import Extents
    from kpipe.sources.fetching import Fetching
    from kpipe.sources.gaps import Gaps
    from kpipe.sources.selection import Hooks, Selection


@dataclass(slots=True, frozen=True)
class SourceState:
    """One source's parts; `cluster` is its name for messages, maybe empty."""

    consumer: Consumer
    cluster: str
    selection: Selection
    resolver: OffsetResolver
    hooks: Hooks
    ids: TopicIds
    gaps: Gaps
    extents: Extents
    fetching: Fetching
    known: set[TopicPartition] = field(default_factory=set)
    """The partitions that were there at the start; any other is read from its beginning, whatever -o says."""
    not_before: dict[TopicPartition, int] = field(default_factory=dict)
    """Offsets that were asked for and lay past the end at the start."""
    left_out: set[str] = field(default_factory=set)
    """Topics that no pattern means: those that this run writes to."""

    @property
    def group(self) -> str:
        """The group for messages: `prod: group billing`; empty without one."""
        name = f"group {self.selection.group}" if self.selection.group is not None else ""
        return f"{self.cluster}: {name}" if self.cluster and name else name

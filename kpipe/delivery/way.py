"""The face that every way of delivering has: what stands in the run for it, and what it wants to hear of its group.

It decides nothing: the plan builds one way, and the pipeline runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import TopicPartition as ClientPartition

    from kpipe.ledger import TopicPartition
    from kpipe.parts import Committer, Sink, Source, Transaction
    from kpipe.pipeline import PipelineStage


class GroupListener(Protocol):
    """What hears of a consumer group's partitions (Kafka's ConsumerRebalanceListener). It may raise KpipeError."""

    def began(self, starts: dict[TopicPartition, int]) -> None:
        """Partitions are read here from now on, from these offsets."""

    def revoked(self, places: list[TopicPartition]) -> None:
        """Partitions are about to go to another member: the last moment to deliver and to commit."""

    def lost(self, places: list[TopicPartition]) -> None:
        """Partitions went away; their offsets are somebody else's."""

    def committed(self, error: Any, partitions: list[ClientPartition]) -> None:
        """What became of a commit that was not waited for; called by the client, so it never raises."""


@dataclass(slots=True, frozen=True)
class Way:
    """One way of delivering. `before` and `behind` are its stages in front of the run's own and after them.

    None is what the way does without: a committer (there is no group), a transaction, a listener.
    """

    source: Source
    sink: Sink
    stages: Sequence[PipelineStage]
    before: Sequence[PipelineStage] = ()
    behind: Sequence[PipelineStage] = ()
    committer: Committer | None = None
    group: GroupListener | None = None
    transaction: Transaction | None = None
    notes: Callable[[], list[str]] = list
    """What people should know at the end."""

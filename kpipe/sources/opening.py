"""A topic source made ready: its topics found, its consumer opened, its cluster told from the target's.

It reads no record.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from kpipe.kafka.client import EMBEDDED, WAITING, admin_of, label, open_consumer
from kpipe.kafka.errors import Cause, cause_of
from kpipe.kafka.group_protocol import GroupAdmin, choose_protocol, classic_assignor
from kpipe.kafka.metadata import check_topic, fetch_metadata, unknown_topic
from kpipe.kafka.topic_ids import TopicIds
from kpipe.sources.offsets import OffsetResolver
from kpipe.sources.selection import REFRESH, Hooks, Selection, is_pattern, match_topics
from kpipe.sources.topic import TopicSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from confluent_kafka import Consumer

    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.troubles import Troubles
    from kpipe.kafka.watch import Watch
    from kpipe.pace import Pace
    from kpipe.sources.selection import GroupListener


THROTTLED_QUEUE = 4096
"""Kilobytes to fetch ahead at a limited rate: the client goes over it by what it had asked for, some 4 MB."""


class Far(Protocol):
    """A topic on the other side: a target, or the copy that verify reads."""

    cluster_id: str
    topic: str
    cluster: Cluster


class OpenSource:
    """A source that is ready to read, and what else needs to know its consumer."""

    def __init__(
        self,
        source: TopicSource,
        consumer: Consumer,
        troubles: Troubles,
        cluster: Cluster,
        metadata: Any,
        *,
        hooks: Hooks,
        selection: Selection,
    ) -> None:
        self.source = source
        self._left_out = selection.left_out
        self._hooks = hooks
        self.cluster = cluster
        self.consumer = consumer
        self.troubles = troubles
        self.cluster_id = str(metadata.cluster_id or "")
        self.metadata = metadata

    def start(self, group: GroupListener | None = None) -> None:
        """Join the group, or assign the partitions: from here on `group` hears what becomes of them."""
        if group is not None:
            hooks = self._hooks
            hooks.began, hooks.revoked, hooks.lost = group.began, group.revoked, group.lost
            hooks.committed = group.committed
        self.source.open(self.metadata)

    def names(self, topics: Sequence[str]) -> list[str]:
        """The topics that names and patterns mean."""
        return match_topics(topics, self.metadata.topics, self._left_out)

    def partitions(self, topics: Sequence[str]) -> int:
        """The largest number of partitions among the topics."""
        return max((len(self.metadata.topics[name].partitions) for name in self.names(topics)), default=1)

    def leave_out(self, topics: Sequence[str], cluster_id: str, topic: str) -> bool:
        """A topic that the run writes to is meant by no pattern of its own; whether one would have meant it."""
        if not self.cluster_id or cluster_id != self.cluster_id or topic in topics:
            return False
        patterns = [each for each in topics if is_pattern(each)]
        self._left_out.add(topic)
        return bool(match_topics(patterns, [topic]))

    def watched_by(self, watch: Watch, topic: str) -> None:
        """Have its cluster looked after while the run goes on; `topic` is one to ask for."""
        names = self.names([topic])
        asked = names[0] if names else ""
        source = self.source
        doubted = watch.add_source(
            self.cluster, self.troubles, lambda: self.consumer, asked, lambda: source.progress.count
        )
        source.ids.is_away = doubted

    def tell_apart(self, far: Far) -> None:
        """If the other side's topic has another id than the one of that name here, the clusters are two.

        Images with a fixed cluster id share it; topic ids (KIP-516) do not. What is written into a trace and compared
        with one is a longer name then: `CLUSTER/TOPIC_ID`.
        """
        shared = self.cluster_id
        if not shared or far.cluster_id.partition("/")[0] != shared.partition("/")[0]:
            return
        if shared.startswith(EMBEDDED):  # it has no topic ids, and each question for them would wait in vain
            return
        here, there = self._ids(far, [far.topic])
        if here and there and here != there:
            bare = shared.partition("/")[0]
            self.cluster_id, far.cluster_id = f"{bare}/{here[far.topic]}", f"{bare}/{there[far.topic]}"
        elif here == there:  # the very topic: it bears the longer name, too, if another target gave the source one
            far.cluster_id = self.cluster_id

    def has_same_topics(self, far: Far, topics: Iterable[str]) -> bool:
        """Whether the other side's cluster has the very topics that are read; so says one that has no topic ids."""
        here, there = self._ids(far, topics)
        return here == there

    def _ids(self, far: Far, topics: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        names = [topic for topic in topics if topic in self.metadata.topics]
        mine, theirs = self.source.ids, TopicIds(lambda: admin_of(far.cluster))
        mine.learn(names)
        theirs.learn(names)
        return (
            {name: mine.known[name] for name in names if name in mine.known},
            {name: theirs.known[name] for name in names if name in theirs.known},
        )


def prepare_source(
    cluster: Cluster,
    selection: Selection,
    say: Callable[[str], None],
    timeout: float,
    stopped: Callable[[], bool],
    pace: Pace | None = None,
) -> OpenSource:
    """Open the consumer, check that every topic exists, and fix where each partition starts and ends.

    Without a group the consumer still needs an id for one; it never joins or commits.
    """
    own: dict[str, Any] = {"group.id": selection.group or "kpipe-without-group"}
    hooks = Hooks(say=say)
    selection = replace(selection, cluster=cluster.name)
    ids = TopicIds(lambda: admin_of(cluster))
    if selection.group is not None:
        admin = GroupAdmin(cluster)
        ids = TopicIds(lambda: admin_of(cluster), retire=admin.retire)
        selection = _join_as(selection, cluster, admin, own, timeout, stopped)
    if selection.group is not None:
        own["on_commit"] = lambda error, partitions: hooks.committed(error, partitions)  # noqa: PLW0108 - hooked later
        # A classic group gives added partitions out when its leader's client has seen them; the default is 5 min.
        own["topic.metadata.refresh.interval.ms"] = round(REFRESH * 1000)
    if not selection.at_end:
        own |= WAITING
    if pace is not None and not pace.is_fast:
        own["queued.max.messages.kbytes"] = THROTTLED_QUEUE
    own = {name: value for name, value in own.items() if name not in cluster.properties}
    consumer, troubles = open_consumer(cluster, own)
    metadata = _find_topics(consumer, troubles, selection, cluster, timeout, stopped)
    resolver = OffsetResolver(consumer, label(cluster), timeout, _reader(cluster))
    if str(metadata.cluster_id).startswith(EMBEDDED):
        from kpipe.kafka.embedded_times import reading_with

        resolver.find_time = reading_with(lambda: open_consumer(cluster, {"group.id": "kpipe-without-group"})[0])
    source = TopicSource(consumer, selection, resolver, hooks, ids, pace=pace)
    return OpenSource(source, consumer, troubles, cluster, metadata, hooks=hooks, selection=selection)


def _reader(cluster: Cluster) -> Callable[[], Consumer] | None:
    """Opens a consumer that sees open transactions; None where the source's own sees them, too."""
    if cluster.properties.get("isolation.level", "read_committed") != "read_committed":
        return None
    own = {"group.id": "kpipe-without-group", "isolation.level": "read_uncommitted"}
    return lambda: open_consumer(cluster, own)[0]


def _join_as(
    selection: Selection,
    cluster: Cluster,
    admin: GroupAdmin,
    own: dict[str, Any],
    timeout: float,
    stopped: Callable[[], bool],
) -> Selection:
    """Choose the group protocol and the member's own name; the broker is asked what it speaks only when it matters."""
    if selection.instance:
        own["group.instance.id"] = selection.instance
    if selection.partitions is not None or "group.protocol" in cluster.properties:
        return selection
    single = selection.topics[0] if len(selection.topics) == 1 and not is_pattern(selection.topics[0]) else None
    fetch_metadata(admin.client, admin.troubles, timeout, single, stopped)
    # Under KIP-848 a killed static member cannot come back before its session has ended (UNRELEASED_INSTANCE_ID).
    wanted = "classic" if selection.instance and selection.protocol == "auto" else selection.protocol
    own["group.protocol"] = choose_protocol(wanted, cluster, admin)
    if own["group.protocol"] == "consumer" and wanted == "auto":
        assignor = classic_assignor(admin.client, selection.group or "")
        if assignor is not None:
            own["group.protocol"] = "classic"
        if assignor:
            own["partition.assignment.strategy"] = assignor
            return replace(selection, incremental=False)
    return replace(selection, incremental=selection.incremental or own["group.protocol"] == "consumer")


def _find_topics(
    consumer: Consumer,
    troubles: Troubles,
    selection: Selection,
    cluster: Cluster,
    timeout: float,
    stopped: Callable[[], bool],
) -> Any:
    topics = selection.topics
    single = topics[0] if len(topics) == 1 and not is_pattern(topics[0]) else None
    metadata = fetch_metadata(consumer, troubles, timeout, single, stopped)
    for topic in topics:
        if is_pattern(topic):
            continue
        entry = metadata.topics.get(topic)
        if entry is None or cause_of(entry.error) is Cause.NO_TOPIC:
            everything = fetch_metadata(consumer, troubles, timeout, None, stopped)
            raise unknown_topic(topic, label(cluster), list(everything.topics))
        check_topic(metadata, topic, label(cluster))
    return metadata

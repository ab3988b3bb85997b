"""Consumer lag in Prometheus's words, under the names of kafka-lag-exporter, for which dashboards exist.

It asks nothing: it holds the last look at the groups. What a look could not find out has no sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kpipe.ops.groups import Group, PartitionLag

GROUP = ("cluster_name", "group")
PARTITION = ("cluster_name", "topic", "partition")
MEMBER = (*GROUP, "topic", "partition", "member_host", "consumer_id", "client_id")
FAMILIES = {
    "kafka_partition_latest_offset": ("End of a partition.", PARTITION),
    "kafka_partition_earliest_offset": ("First offset of a partition.", PARTITION),
    "kafka_consumergroup_group_offset": ("Committed offset.", MEMBER),
    "kafka_consumergroup_group_lag": ("Offsets from what is committed to the end.", MEMBER),
    "kafka_consumergroup_group_lag_seconds": ("Age of the first record that was not read.", MEMBER),
    "kafka_consumergroup_group_messages_lost": ("Offsets that were deleted before they were read.", MEMBER),
    "kafka_consumergroup_group_retention_margin": ("Seconds until unread records may be deleted.", MEMBER),
    "kafka_consumergroup_group_max_lag": ("The largest lag of a partition.", GROUP),
    "kafka_consumergroup_group_max_lag_seconds": ("The largest lag of a partition, in seconds.", GROUP),
    "kafka_consumergroup_group_sum_lag": ("The lags of all partitions.", GROUP),
    "kafka_consumergroup_group_topic_sum_lag": ("The lags of a topic's partitions.", (*GROUP, "topic")),
    "kafka_consumergroup_poll_time_ms": ("How long the last look at the cluster took.", ("cluster_name",)),
    "kafka_consumergroup_problems": ("What the last look could not find out.", ("cluster_name",)),
}
"""Name, help and labels. The last one is ours, two more are klag-exporter's: `messages_lost`, `retention_margin`."""


class Exporter:
    """What a registry asks for a scrape."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[tuple[str, ...], float]] = {}

    def describe(self) -> Sequence[Any]:
        """Nothing beforehand: a registry would scrape to find out."""
        return ()

    def collect(self) -> Iterator[Any]:
        """All families that have a sample."""
        from prometheus_client.core import GaugeMetricFamily

        for name, rows in list(self._samples.items()):
            text, labels = FAMILIES[name]
            family = GaugeMetricFamily(name, text, labels=labels)
            for values, number in rows.items():
                family.add_metric(values, number)
            yield family

    def show(
        self,
        found: Sequence[tuple[str, Group]],
        margins: dict[tuple[str, str, int], int | None],
        took: dict[str, tuple[float, int]],
    ) -> None:
        """Replace the last look: groups by cluster, margins by cluster and partition, and how each cluster answered."""
        samples: dict[str, dict[tuple[str, ...], float]] = {}

        def add(name: str, labels: tuple[str, ...], number: float | None) -> None:
            if number is not None:
                samples.setdefault(name, {})[labels] = number

        for cluster, group in found:
            for row in group.rows:
                _add_row(add, cluster, group, row, margins.get((cluster, row.topic, row.partition)))
            _add_sums(add, cluster, group)
        for cluster, (seconds, problems) in took.items():
            add("kafka_consumergroup_poll_time_ms", (cluster,), seconds * 1000)
            add("kafka_consumergroup_problems", (cluster,), problems)
        self._samples = {name: samples[name] for name in FAMILIES if name in samples}


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _add_row(add: Any, cluster: str, group: Group, row: PartitionLag, margin: int | None) -> None:
    place = (cluster, row.topic, str(row.partition))
    member = row.member
    who = ("", "", "") if member is None else (member.host, member.member_id, member.client_id)
    labels = (cluster, group.group, row.topic, str(row.partition), *who)
    add("kafka_partition_latest_offset", place, row.end)
    add("kafka_partition_earliest_offset", place, row.start)
    prefix = "kafka_consumergroup_group_"
    add(f"{prefix}offset", labels, row.committed)
    add(f"{prefix}lag", labels, row.lag)
    add(f"{prefix}lag_seconds", labels, _seconds(row.behind_ms))
    add(f"{prefix}messages_lost", labels, row.lost if row.lag is not None else None)
    add(f"{prefix}retention_margin", labels, _seconds(margin))


def _add_sums(add: Any, cluster: str, group: Group) -> None:
    prefix, labels = "kafka_consumergroup_group_", (cluster, group.group)
    lags = [row.lag for row in group.rows if row.lag is not None]
    add(f"{prefix}sum_lag", labels, group.lag)
    add(f"{prefix}max_lag", labels, max(lags, default=None))
    add(f"{prefix}max_lag_seconds", labels, _seconds(group.behind_ms))
    for topic in sorted({row.topic for row in group.rows}):
        known = [row.lag for row in group.rows if row.topic == topic and row.lag is not None]
        if known:
            add(f"{prefix}topic_sum_lag", (*labels, topic), sum(known))

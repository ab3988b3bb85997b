"""Large blocks of records without keys take the partitions in turn; nothing else does."""

from __future__ import annotations

from kpipe.record import Batch
from kpipe.sinks.partition_rotation import BULK, REFRESH, PartitionRotation

BLOCK = Batch([b"v"] * BULK)


class Cluster:
    """A topic whose partitions are led as the test says, and a clock."""

    def __init__(self, *led: int) -> None:
        self.led = led
        self.now = 0.0
        self.looks = 0
        self.turns = PartitionRotation(self.look, lambda: self.now)

    def look(self) -> tuple[int, ...]:
        self.looks += 1
        return self.led

    def take(self, blocks: int) -> list[int]:
        return [self.turns.take(BLOCK) for _ in range(blocks)]


def test_blocks_go_round_the_partitions_that_have_a_leader() -> None:
    cluster = Cluster(0, 2, 3)
    assert sorted(cluster.take(3)) == [0, 2, 3]
    assert sorted(cluster.take(3)) == [0, 2, 3]
    assert cluster.looks == 1


def test_a_trickle_and_records_with_keys_are_left_to_the_partitioner() -> None:
    cluster = Cluster(0, 1)
    assert cluster.turns.take(Batch([b"v"] * (BULK - 1))) == -1
    assert cluster.turns.take(Batch([b"v"] * BULK, keys=[b"k"] * BULK)) == -1
    assert cluster.looks == 0


def test_who_leads_is_looked_at_again_and_an_answer_that_does_not_come_changes_nothing() -> None:
    cluster = Cluster(0)
    assert cluster.take(2) == [0, 0]
    cluster.now, cluster.led = REFRESH, (4, 5)
    assert set(cluster.take(2)) == {4, 5}
    cluster.now, cluster.led = 2 * REFRESH, ()
    assert set(cluster.take(2)) == {4, 5}
    assert cluster.looks == 3


def test_without_any_leader_the_partitioner_waits() -> None:
    assert Cluster().take(2) == [-1, -1]

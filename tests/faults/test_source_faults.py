"""What happens to a source while it is read: partitions added, topics that come and go under a pattern."""

from __future__ import annotations

import signal
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe, Running
    from tests.faults.conftest import Note
    from tests.faults.proxy import Proxy

SOON = ("-X", "source.topic.metadata.refresh.interval.ms=1000")
"""The default is 10 s, in which a new topic or partition is found without a group and in a classic one."""
WAYS = {
    "no group": SOON,
    "group, KIP-848": ("-G", "{g}", "--group-protocol", "consumer"),
    "group, classic": ("-G", "{g}", "--group-protocol", "classic", *SOON),
    "group, range assignor": ("-G", "{g}", "-X", "source.partition.assignment.strategy=range", *SOON),
    "group, workers": ("-G", "{g}", "--workers", "2"),
    "exactly once": ("-G", "{g}", "--exactly-once", "--txn-interval", "200ms"),
    "resume by trace": ("-G", "{g}", "--resume-by-trace"),
    "same partition": ("-G", "{g}", "--to-partition", "same"),
}


def values(cluster: Cluster, topic: str) -> list[bytes]:
    return sorted(record.value or b"" for record in cluster.read(topic))


def stop(running: Running) -> None:
    running.signal(signal.SIGTERM)
    assert running.wait(30).code == -signal.SIGTERM, running.err


@pytest.mark.parametrize(("way", "start"), [("group, KIP-848", "beginning"), *((way, "end") for way in WAYS)])
def test_added_partitions_are_read_from_their_beginning(
    lab: tuple[Cluster, Proxy], kpipe: Kpipe, note: Note, way: str, start: str
) -> None:
    """Also with `-o end`: what is written to a new partition before it is found is not older than the run."""
    cluster, _ = lab
    source, target = cluster.topic(1), cluster.topic(3)
    words = [word.format(g=f"g-{uuid.uuid4().hex[:8]}") for word in WAYS[way]]
    running = kpipe.start("forward", "-b", cluster.bootstrap, "-o", start, *words, source, target)
    seen = 0

    def arrives() -> bool:
        nonlocal seen
        seen += 1
        cluster.write(source, [Rec(b"old %d" % seen, partition=0)])
        return bool(values(cluster, target))

    running.wait_for(arrives, 30, "the first record arrives")
    cluster.grow(source, 3)
    cluster.write(source, [Rec(b"new %d" % n, partition=1 + n % 2) for n in range(10)])
    new = [b"new %d" % n for n in range(10)]
    running.wait_for(lambda: sum(v.startswith(b"new") for v in values(cluster, target)) >= 10, 40, "new partitions")
    stop(running)
    found = [value for value in values(cluster, target) if value.startswith(b"new")]
    assert found == new
    note("forward", f"partitions added ({way}, -o {start})", "10 of 10 new records, once", "read from their beginning")


def test_partitions_added_while_nobody_read_are_read_from_their_beginning(
    lab: tuple[Cluster, Proxy], kpipe: Kpipe
) -> None:
    """`-o end` is where a group starts that has never read the topic; it left off before the new partition was there."""
    cluster, _ = lab
    source, target = cluster.topic(2), cluster.topic(1)
    cluster.write(source, [Rec(b"before the group", partition=0)])
    words = ("forward", "-b", cluster.bootstrap, "-G", f"g-{source}", "-o", "end", "-e", source, target)
    assert kpipe(*words).code == 0
    cluster.grow(source, 4)
    cluster.write(source, [Rec(b"%d" % n, partition=n) for n in range(4)])
    assert kpipe(*words).code == 0
    assert values(cluster, target) == [b"0", b"1", b"2", b"3"]


@pytest.mark.long
def test_added_partitions_are_read_under_load(lab: tuple[Cluster, Proxy], kpipe: Kpipe) -> None:
    """They are looked for by the clock, not only when there is nothing to read."""
    cluster, _ = lab
    source = cluster.topic(1)
    cluster.write(source, [b"x" * 100] * 90_000)
    running = kpipe.start(
        "forward", "-b", cluster.bootstrap, *SOON, "--rate", "2000/s", source, target := cluster.topic(1)
    )
    running.wait_for(lambda: values(cluster, target), 30, "the first record arrives")
    cluster.grow(source, 2)
    cluster.write(source, [Rec(b"new", partition=1)])
    running.wait_for(lambda: b"new" in values(cluster, target), 40, "the new partition, long before the backlog's end")
    stop(running)


@pytest.mark.parametrize("way", ["no group", "group, KIP-848", "group, classic"])
def test_topics_of_a_pattern_come_and_go(lab: tuple[Cluster, Proxy], kpipe: Kpipe, way: str) -> None:
    """A pattern takes up topics that match it, drops deleted ones, and never means the target or an internal topic."""
    cluster, _ = lab
    tag = f"p{uuid.uuid4().hex[:6]}"
    first, target = cluster.topic(1, name=f"{tag}-1"), cluster.topic(1, name=f"{tag}-copy")
    cluster.topic(1, name=f"{tag}-d")  # the client's own engine takes \d for the letter
    cluster.write(first, [b"one"])
    words = [*(word.format(g=tag) for word in WAYS[way]), *(SOON if way == "group, KIP-848" else ())]
    running = kpipe.start("forward", "-b", cluster.bootstrap, *words, rf"^{tag}-(?:\d|copy)$", target)
    running.wait_for(lambda: values(cluster, target) == [b"one"], 30, "the first topic")
    assert f"{target}: the pattern matches it, too" in running.err
    second = cluster.topic(1, name=f"{tag}-2")
    cluster.write(second, [b"two"])
    cluster.write(f"{tag}-d", [b"never"])
    running.wait_for(lambda: values(cluster, target) == [b"one", b"two"], 30, "the new topic")
    assert f"{second}: a new topic that matches" in running.err
    cluster.admin.delete_topics([first])[first].result(20)
    running.wait_for_stderr(f"{first}: the topic was deleted; the others that match are read on", 30)
    cluster.write(second, [b"three"])
    running.wait_for(lambda: values(cluster, target) == [b"one", b"three", b"two"], 30, "the topic that is left")
    stop(running)

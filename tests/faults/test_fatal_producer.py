"""A producer that dies in mid-run takes no good record with it: no report of it is a judgement on a record.

It is fenced for real: a foreign batch with its producer id and a higher epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.broker.lab import LabError
from tests.broker.lab.cluster import Rec
from tests.broker.lab.foreign import fence

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe
    from tests.faults.conftest import Note
    from tests.faults.proxy import Proxy

    Lab = tuple[Cluster, Proxy]

COUNT = 6000
WAYS = {
    "plain": (),
    "group": ("-G", "GROUP"),
    "exactly once": ("-G", "GROUP", "--exactly-once", "--txn-records", "500"),
}


@pytest.mark.parametrize("policy", ["stop", "skip", "dlq"])
@pytest.mark.parametrize("way", WAYS)
def test_a_fenced_producer_condemns_no_record(lab: Lab, kpipe: Kpipe, note: Note, way: str, policy: str) -> None:
    kafka = lab[0]
    source, target, letters = kafka.topic(1), kafka.topic(1), kafka.topic(1)
    records = [Rec(b"%07d" % number, b"k") for number in range(COUNT)]
    kafka.write(source, records[: COUNT // 3])
    group = f"fenced-{source}"
    words = [group if word == "GROUP" else word for word in WAYS[way]]
    policies = ("--on-error", f"dlq:{letters}" if policy == "dlq" else policy)
    at = kpipe.at(kafka.bootstrap)

    running = at.start("forward", "-v", "-o", "beginning", *words, *policies, source, target)
    running.wait_for(lambda: len(kafka.read(target)) == COUNT // 3)
    fence(kafka, target)
    kafka.write(source, records[COUNT // 3 :])
    first = running.wait(60)

    values = [record.value for record in kafka.read(target) if record.value != b"foreign"]
    assert "skipped" not in first.err, first.err
    assert "dead-lettered" not in first.err.replace("0 dead-lettered", ""), first.err
    assert kafka.read(letters) == []
    assert "Traceback" not in first.err
    assert "internal" not in first.err
    assert first.code == 1, first.err
    assert "producer cannot go on" in first.err or "another pro" in first.err, first.err
    arrived = {int(value or b"") for value in values}
    missing = min(set(range(COUNT)) - arrived, default=COUNT)
    assert kafka.committed(group, source).get(0, 0) <= missing, "a restart begins at or before what is missing"
    if way != "plain":
        again = at("forward", "-e", "-v", *words, *policies, source, target)
        assert again.code == 0, again.err
        arrived = {int(r.value or b"") for r in kafka.read(target) if r.value != b"foreign"}
        assert arrived == set(range(COUNT))
    command = "forward --exactly-once" if "exactly" in way else "forward"
    note(
        command,
        f"the producer is fenced in mid-run, {way}, --on-error {policy}",
        "0 skipped, 0 lost",
        "exit 1, 0 lost",
        records=COUNT,
    )


@pytest.mark.parametrize("policy", ["stop", "skip", "dlq"])
def test_a_fenced_producer_of_lines_condemns_no_line(lab: Lab, kpipe: Kpipe, note: Note, policy: str) -> None:
    """By the column, where a library call of its own tells what failed."""
    kafka = lab[0]
    target, letters = kafka.topic(1), kafka.topic(1)
    policies = ("--on-error", f"dlq:{letters}" if policy == "dlq" else policy)
    running = kpipe.at(kafka.bootstrap).start("produce", "-v", *policies, target)
    running.write(b"".join(b"%07d\n" % number for number in range(1000)))
    running.wait_for(lambda: len(kafka.read(target)) == 1000)
    fence(kafka, target)
    running.write(b"".join(b"%07d\n" % number for number in range(1000, 3000)))
    running.close_stdin()
    done = running.wait(60)

    assert "skipped" not in done.err, done.err
    assert kafka.read(letters) == []
    assert (done.code, "another producer" in done.err) == (1, True), done.err
    arrived = len([record for record in kafka.read(target) if record.value != b"foreign"])
    assert f"3,000 read, {arrived:,} delivered, 0 failed, {3000 - arrived:,} unknown" in done.err, done.err
    note(
        "produce",
        f"the producer is fenced in mid-run, --on-error {policy}",
        "0 skipped",
        "exit 1, what is not there is told",
        records=3000,
    )


def test_the_lab_fences_for_real(lab: Lab) -> None:
    kafka = lab[0]
    topic = kafka.topic(1)
    kafka.write(topic, [b"1"])
    fence(kafka, topic)
    with pytest.raises(LabError, match=r"INVALID_PRODUCER_EPOCH|epoch"):
        kafka.write(topic, [b"2"], timeout=20)

"""`kpipe forward -G` when the target is gone, too small or forbidden, when a disk is full, and before a huge backlog."""

from __future__ import annotations

import resource
import signal
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.broker.lab.cluster import dense
from tests.faults.conftest import DISTURBED, FREEZE, LONG, PASSWORD, RECORDS, USER, Note
from tests.faults.course import AT_LEAST_ONCE, FLAT_OUT, QUICK, Course, stop
from tests.faults.memory import LIMIT_MIB, peak_mib
from tests.faults.proxy import disturbed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster, Rec
    from tests.conftest import Kpipe
    from tests.faults.proxy import Proxy

PLAIN = ("-X", "target.compression.type=none")
"""150 MB that are all alike go through a thin line in seconds once they are compressed."""
PATIENCE = 25.0 if LONG else 4.0
"""Seconds for which a run may wait for a target that vanished."""


def test_target_deleted_mid_run(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, note: Note
) -> None:
    """The target vanishes: the run stops or waits, and what it commits it has delivered."""
    cluster, _ = lab
    course = Course(kpipe, cluster, stock, AT_LEAST_ONCE, options=("--drain-timeout", "3"))
    running = course.start()
    course.under_way(running)
    cluster.admin.delete_topics([course.target])[course.target].result(20)
    deadline = time.monotonic() + PATIENCE
    while running.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if running.process.poll() is None:
        running.signal(signal.SIGTERM)
    code = running.wait(20).code
    committed = course.committed()
    assert code == 1, running.err
    assert committed < RECORDS
    happened = f"exit {code}, {committed:,} of {RECORDS:,} committed"
    note("forward", "target topic deleted", happened, "exit 1, nothing skipped", records=RECORDS)


def test_record_too_large_for_the_target_only(lab: tuple[Cluster, Proxy], kpipe: Kpipe, note: Note) -> None:
    """The record that the target refuses is named; those before it are delivered and committed."""
    cluster, _ = lab
    source, target = cluster.topic(1), cluster.topic(1, max_message_bytes=20_000)
    cluster.write(source, [b"a" * 10] * 100 + [dense(50_000)] + [b"c" * 10] * 100)
    done = kpipe("forward", "-b", cluster.bootstrap, "-G", f"g-{target}", "-e", source, target)
    assert done.code == 1
    assert f"{source}[0]@100" in done.err, done.err
    assert cluster.committed(f"g-{target}", source) == {0: 100}
    happened = "exit 1, committed up to it, named"
    note("forward", "record too large for the target only", happened, "nothing past it is committed", records=201)


@pytest.mark.parametrize("withdrawn", ["WRITE on the target", "READ on the source", "READ on the group"])
def test_right_withdrawn_while_running(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, withdrawn: str, note: Note
) -> None:
    """An ACL goes away in mid-stream: exit 4 names it, and once it is back the next run brings the rest."""
    cluster, _ = lab
    options = ("security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", f"sasl.username={USER}")
    course = Course(
        kpipe,
        cluster,
        stock,
        AT_LEAST_ONCE,
        options=(*QUICK, *(word for option in options for word in ("-X", option))),
        address=cluster.broker.address("GUARDED"),
        env={"KPIPE_SASL_PASSWORD": PASSWORD},
    )
    rules = {
        "WRITE on the target": right(ResourceType.TOPIC, course.target, AclOperation.WRITE),
        "READ on the source": right(ResourceType.TOPIC, course.source, AclOperation.READ),
        "READ on the group": right(ResourceType.GROUP, course.group, AclOperation.READ),
    }
    grant(cluster, *rules.values())
    running = course.start()
    course.under_way(running)
    withdraw(cluster, rules[withdrawn])
    ended = running.wait(30)
    assert ended.code == 4, ended.err
    assert "not authorised" in ended.err
    before = course.committed()
    there = len(cluster.read(course.target))
    grant(cluster, rules[withdrawn])
    course.finish()
    verdict = course.check(duplicates=there - before)  # the last commit needs the rights of a reader, too
    happened = f"exit 4 with {before:,} committed; in the end {verdict}"
    note("forward", f"ACL withdrawn: {withdrawn}", happened, "exit 4, 0 lost once it is back", records=verdict.records)


def right(kind: ResourceType, name: str, operation: AclOperation) -> AclBinding:
    literal = ResourcePatternType.LITERAL
    return AclBinding(kind, name, literal, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)


def grant(cluster: Cluster, *rules: AclBinding) -> None:
    for done in cluster.admin.create_acls(list(rules)).values():
        done.result(20)


def withdraw(cluster: Cluster, rule: AclBinding) -> None:
    kind, name, pattern = rule.restype, rule.name, rule.resource_pattern_type
    asked = AclBindingFilter(kind, name, pattern, rule.principal, rule.host, rule.operation, rule.permission_type)
    for done in cluster.admin.delete_acls([asked]).values():
        assert len(done.result(20)) == 1


def test_spill_on_a_full_disk(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, tmp_path: Path, note: Note
) -> None:
    """What could not be delivered cannot be spilled either: it is said, not committed, and comes again."""
    cluster, proxy = lab
    spill = tmp_path / "spill"
    # Python would cut its own .pyc files at the limit, and every later import would fail.
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    options = (*QUICK, "--drain-timeout", "1", "--spill", str(spill))
    course = Course(kpipe, cluster, stock, AT_LEAST_ONCE, options=options, target_address=proxy.address, env=env)
    running = course.start()
    course.under_way(running)
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    proxy.silent = True
    time.sleep(2)  # more must wait for an answer than the file may hold; longer only makes it more
    running.signal(signal.SIGTERM)
    ended = running.wait(20)
    proxy.heal()
    assert ended.code == 1, ended.err
    assert "undelivered records: File too large" in ended.err
    assert "not delivered" in ended.err
    course.finish()
    happened = f"exit 1, {spill.stat().st_size:,} bytes spilled, said so; in the end {course.check(duplicates=RECORDS)}"
    note("forward", "spill on a full disk", happened, "exit 1, 0 lost: it comes again", records=RECORDS)


@pytest.mark.cold
@pytest.mark.parametrize("target", DISTURBED)
def test_memory_before_a_target_that_does_not_take(
    lab: tuple[Cluster, Proxy], backlog: tuple[str, list[Rec]], kpipe: Kpipe, target: str, note: Note
) -> None:
    """More than fits anywhere waits in the source; what is held is bounded, and all arrives in the end."""
    cluster, proxy = lab
    course = Course(kpipe, cluster, backlog, FLAT_OUT, target_address=proxy.address, options=PLAIN)
    running = course.start()
    course.under_way(running)
    with disturbed(cluster, proxy, target):
        time.sleep(FREEZE)
        assert running.process.poll() is None, running.err
        if target != "frozen":
            assert course.committed() < len(course.records), "no backlog"
    course.to_the_end(running)
    peak = peak_mib(running.pid)
    stop(running)
    assert peak <= LIMIT_MIB, f"{peak} MiB"
    verdict = course.check(duplicates=0)
    megabytes = len(course.records) // 1000
    fault = f"{target} target for {FREEZE:.0f} s, {megabytes} MB behind it"
    note("forward", fault, f"{peak} MiB at most; {verdict}", f"memory under {LIMIT_MIB} MiB", records=verdict.records)

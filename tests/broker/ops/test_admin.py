"""`kpipe admin`: a preview first, then what was asked, read back; nothing is done by a typo, and the way back is kept."""

from __future__ import annotations

import json
import re
import shlex
import time
from typing import TYPE_CHECKING

import pexpect
from confluent_kafka import Consumer, TopicPartition

from tests.broker.lab.cluster import Rec, until
from tests.broker.ops.scenes import commit, java_lags, looked, member, name, rows
from tests.conftest import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe, Result

T0 = int(time.time() * 1000) - 7_200_000
DO = ("--execute", "--yes")


def stands(kafka: Cluster, group: str) -> dict[tuple[str, int], tuple[int, str]]:
    from confluent_kafka import ConsumerGroupTopicPartitions

    asked = kafka.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=10)
    return {(e.topic, e.partition): (e.offset, e.metadata or "") for e in asked[group].result(15).topic_partitions}


def test_reset_by_every_form_with_a_preview_and_an_undo(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group = kafka.topic(2), name()
    kafka.write(topic, [Rec(b"%d" % n, partition=0, timestamp=T0 + n * 60_000) for n in range(10)])
    kafka.write(topic, [Rec(b"x", partition=1, timestamp=T0)] * 4)
    kafka.admin.delete_records([TopicPartition(topic, 0, 2)], request_timeout=20)[TopicPartition(topic, 0, 2)].result(
        25
    )
    commit(kafka, group, {(topic, 0): 5, (topic, 1): 4}, "by hand")
    at, before = kpipe.at(kafka.bootstrap), stands(kafka, group)

    def plan(*words: str, code: int = 0) -> dict[int, dict[str, object]]:
        rows = looked(at, "admin", "reset-offsets", "-G", group, *words, code=code)
        return {row["partition"]: row for row in rows}

    def new(target: str) -> dict[int, object]:
        return {number: row["new"] for number, row in plan("--to", target).items()}

    assert new("beginning") == {0: 2, 1: 0}
    assert new("end") == {0: 10, 1: 4}
    assert new("current") == {0: 5, 1: 4}
    assert new("-2") == {0: 3, 1: 2}
    assert new("+100") == {0: 10, 1: 4}
    assert new("0") == {0: 2, 1: 0}
    assert new(f"@{T0 + 6 * 60_000}ms") == {0: 6, 1: 4}
    rows = plan("--to", f"@{T0 + 6 * 60_000}ms")
    assert (rows[0]["skipped"], rows[0]["repeated"], rows[0]["next_ms"]) == (1, 0, T0 + 6 * 60_000)
    assert rows[1]["notes"] == ["no record since then; goes to the end"]
    assert plan("--to", "-2", "--topic", f"{topic}:1").keys() == {1}
    assert plan("--to", "beginning")[0]["repeated"] == 3
    assert stands(kafka, group) == before  # all of these were previews

    undo = kpipe.home / "undo.jsonl"
    done = at("admin", "reset-offsets", "-G", group, "--to", "beginning", "--undo", undo, *DO)
    assert (done.code, "read back" in done.err) == (0, True)
    assert stands(kafka, group) == {(topic, 0): (2, "by hand"), (topic, 1): (0, "by hand")}
    assert [json.loads(line)["offset"] for line in undo.read_text().splitlines()] == [5, 4]
    again = at("admin", "reset-offsets", "-G", group, "--to", "end", "--undo", undo, *DO)
    assert (again.code, "File exists" in again.err) == (1, True)
    assert at("admin", "reset-offsets", "-G", group, "--to", f"file:{undo}", *DO).code == 0
    assert stands(kafka, group) == before


def test_kafkas_csv_goes_out_and_in_and_a_wrong_line_is_named(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group, other = kafka.topic(2), name(), name()
    kafka.write(topic, [Rec(b"x", partition=n % 2) for n in range(8)])
    commit(kafka, group, {(topic, 0): 1, (topic, 1): 1})
    commit(kafka, other, {(topic, 0): 3, (topic, 1): 2})
    at = kpipe.at(kafka.bootstrap)
    exported = at("admin", "reset-offsets", "-G", group, "--to", f"group:{other}", "--csv").out
    assert exported == f"{topic},0,3\n{topic},1,2\n".encode()
    file = kpipe.home / "plan.csv"
    file.write_bytes(exported)
    assert at("admin", "reset-offsets", "-G", group, "--to", f"file:{file}", *DO).code == 0
    assert {key: lag[0] for key, lag in java_lags(kafka, group).items()} == {(topic, 0): 3, (topic, 1): 2}
    for bad in (f"{topic},0,x\n", f"{topic},0\n", "{nonsense\n", f"{topic},0,1\n{topic},0,2\n"):
        file.write_text(bad)
        done = at("admin", "reset-offsets", "-G", group, "--to", f"file:{file}")
        assert (done.code, f"{file}:" in done.err) == (2, True)


def test_a_group_with_members_is_refused_and_they_are_named(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, at = kafka.topic(), kpipe.at(kafka.bootstrap)
    kafka.write(topic, [b"1", b"2"])
    for protocol in ("classic", "consumer"):
        group = name()
        commit(kafka, group, {(topic, 0): 1})
        with member(kafka, group, topic, protocol):
            done = at("admin", "reset-offsets", "-G", group, "--to", "beginning", *DO)
        assert (done.code, done.out) == (1, b"")
        assert "a-member on 127.0.0.1" in done.err
        assert stands(kafka, group)[topic, 0][0] == 1


def test_a_member_that_joins_between_plan_and_deed_keeps_its_place(kafka: Cluster, kpipe: Kpipe) -> None:
    """The reset waits for the name on its terminal; a consumer joins meanwhile."""
    topic, group = kafka.topic(), name()
    kafka.write(topic, [b"1", b"2"])
    commit(kafka, group, {(topic, 0): 1})
    child = pexpect.spawn(
        str(COMMAND),
        ["admin", "reset-offsets", "-b", kafka.bootstrap, "-G", group, "--to", "beginning", "--execute"],
        env={**kpipe.environment(), "TERM": "dumb"},
        timeout=60,
    )
    child.expect("to go on: ")
    with member(kafka, group, topic):
        child.sendline(group)
        child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    assert b"has members" in child.before
    assert stands(kafka, group)[topic, 0][0] == 1


def test_without_a_terminal_it_wants_yes_and_a_read_only_cluster_refuses_everything(
    kafka: Cluster, kpipe: Kpipe
) -> None:
    topic, group = kafka.topic(), name()
    kafka.write(topic, [b"1"])
    commit(kafka, group, {(topic, 0): 1})
    at = kpipe.at(kafka.bootstrap)
    done = at("admin", "reset-offsets", "-G", group, "--to", "beginning", "--execute")
    assert (done.code, "add --yes" in done.err) == (2, True)
    config = f'[clusters.ro]\n"bootstrap.servers" = "{kafka.bootstrap}"\nread_only = true\n'
    calls = (
        ("reset-offsets", "-G", f"ro:{group}", "--to", "beginning"), ("create-topic", "ro:new"), ("delete-topic", f"ro:{topic}"),
        ("alter-topic", f"ro:{topic}", "--partitions", "4"), ("delete-records", f"ro:{topic}", "--before", "1"),
        ("delete-group", f"ro:{group}"),
    )  # fmt: skip
    for call in calls:
        done = kpipe("admin", *call, *DO, config=config)
        assert (done.code, "read_only" in done.err) == (2, True), call
    assert stands(kafka, group)[topic, 0][0] == 1
    assert topic in kafka.topics()


def mirrored(kpipe: Kpipe, source: str, target: str, config: str) -> None:
    assert kpipe("forward", "-e", "--create", f"a:{source}", f"b:{target}", config=config, timeout=90).code == 0


def test_a_group_is_put_at_the_same_records_of_a_copy(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    """Other partitions, other offsets: no unread record may lie before the new position, repeats are counted."""
    topic, group = kafka.topic(3), name()
    kafka.write(topic, [Rec(b"%d" % n, b"key-%d" % n) for n in range(300)])
    there = kafka_b.topic(5, name=topic)
    kafka_b.write(topic, [Rec(b"foreign", partition=n % 5) for n in range(10)])
    config = f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'
    mirrored(kpipe, topic, topic, config)
    stood = {0: 40, 1: 10, 2: 77}
    commit(kafka, group, {(topic, number): offset for number, offset in stood.items()})
    done = kpipe(
        "admin", "reset-offsets", "-G", f"b:{group}", "--to", f"trace:a:{group}", *DO, config=config,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert f"undo: nothing was committed before, so: kpipe admin delete-group b:{group} --execute" in done.err
    unread = {rec.value for rec in kafka.read(topic) if rec.offset >= stood[rec.partition]}
    placed = {number: offset for (_, number), (offset, _) in stands(kafka_b, group).items()}
    later = [rec for rec in kafka_b.read(there) if rec.offset >= placed[rec.partition]]
    assert unread <= {rec.value for rec in later}
    repeats = len([rec for rec in later if rec.value not in unread and rec.value != b"foreign"])
    assert f"at most {repeats} records are repeated" in done.err.replace(",", "")
    assert "that are no copies" in done.err


def test_what_is_not_copied_yet_is_not_skipped(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    topic, group = kafka.topic(), name()
    kafka.write(topic, [b"%d" % n for n in range(5)])
    config = f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'
    mirrored(kpipe, topic, topic, config)
    kafka.write(topic, [b"later"])
    commit(kafka, group, {(topic, 0): 5})
    call = ("admin", "reset-offsets", "-G", f"b:{group}", "--to", f"trace:a:{group}", "--topic", topic, "--new-topics")
    assert kpipe(*call, *DO, config=config).code == 0
    assert stands(kafka_b, group)[topic, 0][0] == 5


def test_what_a_trace_repeats_counts_what_the_group_read_here(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    """Back on the first cluster, few records are copies: the sentence says what the table does, not 0."""
    topic, group = kafka.topic(), name()
    kafka.write(topic, [b"%d" % n for n in range(5)])
    kafka_b.topic(name=topic)
    kafka_b.write(topic, [b"after the failover"])
    config = f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'
    assert kpipe("forward", "-e", f"b:{topic}", f"a:{topic}", config=config).code == 0
    commit(kafka, group, {(topic, 0): 4})
    commit(kafka_b, group, {(topic, 0): 0})
    done = kpipe("admin", "reset-offsets", "-G", f"a:{group}", "--to", f"trace:b:{group}", "--json", config=config)
    (move,) = rows(done)
    assert (move["new"], move["repeated"]) == (0, 4)
    assert "at most 4 records are repeated" in done.err


def test_positions_of_a_file_need_no_topic_by_name(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    """The file names the topics; what was committed before comes back, and what was not is told."""
    topic, group, at = kafka.topic(2), name(), kpipe.at(kafka.bootstrap)
    kafka.write(topic, [Rec(b"x", partition=n % 2) for n in range(10)])
    commit(kafka, group, {(topic, 0): 1})
    file, undo = tmp_path / "to.csv", tmp_path / "undo"
    file.write_text(f"{topic},0,2\n{topic},1,3\n")
    call = ("admin", "reset-offsets", "-G", group, "--to", f"file:{file}", "--undo", undo)
    done = at(*call)
    assert (done.code, f"no committed offset in 1 partition, as {topic}[1]: left alone" in done.err) == (1, True)
    done = at(*call, "--new-topics", *DO)
    assert done.code == 0, done.err
    assert f"{group}: 2 partitions moved" in done.err
    assert "undo: that leaves 1 partition alone, which had no position before" in done.err
    assert at("admin", "reset-offsets", "-G", group, "--to", f"file:{undo}", *DO).code == 1
    assert {place: offset for place, (offset, _) in stands(kafka, group).items()} == {(topic, 0): 1, (topic, 1): 3}


def test_topics_are_made_like_others_changed_and_deleted(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    model, new = kafka.topic(4, retention_ms=12_345_678, cleanup_policy="compact"), name("t")
    config = f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'

    def admin(*words: str) -> Result:
        return kpipe("admin", *words, config=config)

    done = admin("create-topic", f"b:{new}", "--like", f"a:{model}", "--config", "max.message.bytes=4242")
    assert (done.code, "nothing was changed" in done.err) == (0, True)
    assert new not in kafka_b.topics()
    done = admin("create-topic", f"b:{new}", "--like", f"a:{model}", "--config", "max.message.bytes=4242", *DO)
    assert done.code == 0, done.err
    (row,) = looked(kpipe, "topics", f"b:{new}", config=config)
    assert (row["partitions"], row["config"]) == (
        4, {"cleanup.policy": "compact", "max.message.bytes": "4242", "retention.ms": "12345678"},
    )  # fmt: skip
    assert admin("create-topic", f"b:{new}", *DO).code == 1
    done = admin(
        "alter-topic",
        f"b:{new}",
        "--partitions",
        "8",
        "--config",
        "retention.ms",
        "--config",
        "max.message.bytes=5000",
        *DO,
    )
    assert done.code == 0, done.err
    assert "of keys go to another partition" in done.out.decode()
    (row,) = looked(kpipe, "topics", f"b:{new}", config=config)
    assert (row["partitions"], row["config"]) == (8, {"cleanup.policy": "compact", "max.message.bytes": "5000"})
    assert admin("alter-topic", f"b:{new}", "--partitions", "8").code == 2
    for words, told in (
        (("alter-topic", f"b:{new}", "--config", "retention.ms=soon"), "retention.ms"),
        (("create-topic", f"b:{name()}", "--replication", "3"), "eplication"),
    ):
        done = admin(*words)  # the broker is asked whether it would, before anything is promised
        assert (done.code, told in done.err, "add --execute" in done.err) == (1, True, False), done
    done = admin("alter-topic", f"b:{new}", "--config", "retention.msx=1")
    assert (done.code, "did you mean retention.ms?" in done.err) == (2, True)
    commit(kafka_b, reader := name(), {(new, 0): 0})
    done = admin("delete-topic", f"b:{new}")
    assert f"read by {reader}" in done.out.decode()
    assert new in kafka_b.topics()
    assert admin("delete-topic", f"b:{new}", *DO).code == 0
    assert new not in kafka_b.topics()
    assert admin("delete-topic", f"b:{new}", *DO).code == 1


def test_records_are_deleted_before_an_offset_or_a_time_and_losers_are_named(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group, at = kafka.topic(2), name(), kpipe.at(kafka.bootstrap)
    kafka.write(topic, [Rec(b"x", partition=n % 2, timestamp=T0 + n * 1000) for n in range(20)])
    commit(kafka, group, {(topic, 0): 3, (topic, 1): 9})
    (first, _) = rows(at("admin", "delete-records", topic, "--before", "3", "--json"))
    assert (first["deleted"], first["kept_ms"]) == (3, T0 + 6000)
    done = at("admin", "delete-records", topic, "--before", f"@{T0 + 12_000}ms")
    assert f"group {group} has not read 3 of these records in {topic}[0]" in done.err
    assert len(kafka.read(topic)) == 20
    assert at("admin", "delete-records", topic, "--before", f"@{T0 + 12_000}ms", *DO).code == 0
    until(lambda: len(kafka.read(topic)) == 8, "records deleted")
    assert at("admin", "delete-records", topic, "--before", "100", "-p", "1", *DO).code == 0
    until(lambda: len(kafka.read(topic)) == 4, "records deleted")
    compacted = kafka.topic(cleanup_policy="compact")
    kafka.write(compacted, [Rec(b"v", b"k")] * 3)
    done = at("admin", "delete-records", compacted, "--before", "2", *DO)
    assert (done.code, "olicy" in done.err) == (1, True)
    assert at("admin", "delete-records", topic, "--before", "soon").code == 2


def test_a_group_is_deleted_and_can_be_brought_back(kafka: Cluster, kpipe: Kpipe) -> None:
    """By the command that is printed, as a shell takes it, whatever is in the group's name."""
    topic, group, at = kafka.topic(), f"{name()} of 'mine' $HOME", kpipe.at(kafka.bootstrap)
    kafka.write(topic, [b"1", b"2", b"3"])
    commit(kafka, group, {(topic, 0): 2}, "text")
    done = at("admin", "delete-group", group, *DO, env={"XDG_STATE_HOME": str(kpipe.home / "state")})
    assert done.code == 0, done.err
    assert stands(kafka, group) == {}
    (undo,) = re.findall("undo: kpipe (.*)", done.err)
    done = kpipe(*shlex.split(undo), "--yes")
    assert done.code == 0, done.err
    assert stands(kafka, group) == {(topic, 0): (2, "text")}
    assert at("admin", "delete-group", name(), *DO).code == 1


def test_a_reader_without_membership_is_noticed(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group = kafka.topic(), name()
    kafka.write(topic, [b"1", b"2", b"3"])
    commit(kafka, group, {(topic, 0): 1})
    child = pexpect.spawn(
        str(COMMAND), ["admin", "reset-offsets", "-b", kafka.bootstrap, "-G", group, "--to", "end", "--execute"],
        env={**kpipe.environment(), "TERM": "dumb"}, timeout=60,
    )  # fmt: skip
    child.expect("to go on: ")
    alone = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False, "log_level": 0}
    )
    alone.assign([TopicPartition(topic, 0, 2)])
    alone.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
    alone.close()
    child.sendline(group)
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, b"somebody committed" in child.before) == (1, True)
    assert stands(kafka, group)[topic, 0][0] == 2

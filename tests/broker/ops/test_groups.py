"""`kpipe groups`: lags are those of Kafka's own tool, times those of the records, and unknown is never 0."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, ShareConsumer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.broker.lab.broker import Listener
from tests.broker.lab.cluster import Rec, until
from tests.broker.ops.scenes import commit, java_lags, looked, member, name, open_transaction

if TYPE_CHECKING:
    from tests.broker.conftest import NewKafka
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe


def test_lags_are_those_of_the_java_tool_for_every_kind_of_group(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(3)
    kafka.write(topic, [Rec(b"x", partition=n % 3) for n in range(30)])
    classic, newer, simple = name("classic"), name("newer"), name("simple")
    commit(kafka, simple, {(topic, 0): 4, (topic, 1): 10})
    with member(kafka, classic, topic) as one, member(kafka, newer, topic, "consumer") as two:
        one.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
        two.commit(offsets=[TopicPartition(topic, 2, 7)], asynchronous=False)
        found = {row["group"]: row for row in looked(kpipe.at(kafka.bootstrap), "groups", classic, newer, simple)}
        for group, row in found.items():
            ours = {
                (each["topic"], each["partition"]): (each["committed"], each["end"], each["lag"])
                for each in row["partitions"]
            }
            assert ours == java_lags(kafka, group), group
        assert {group: (row["state"], row["protocol"], row["members"]) for group, row in found.items()} == {
            classic: ("Stable", "classic", 1),
            newer: ("Stable", "consumer", 1),
            simple: ("Empty", "classic", 0),
        }
        listed = {row["group"]: row for row in looked(kpipe.at(kafka.bootstrap), "groups", "*")}
        assert (listed[simple]["kind"], listed[newer]["kind"], listed[classic]["kind"]) == (
            "simple",
            "consumer",
            "consumer",
        )
        (row,) = looked(kpipe.at(kafka.bootstrap), "groups", classic)
        never = row["partitions"][1]
        assert (never["committed"], never["lag"], never["behind_ms"], never["notes"]) == (
            None,
            None,
            None,
            ["no offset"],
        )
        assert row["partitions_without_offset"] == 2
        assert never["client"] == "a-member"
        text = kpipe.at(kafka.bootstrap)("groups", classic).out.decode()
        assert "no offset" in text
        assert " - " in text
        assert (one.committed([TopicPartition(topic, 1)])[0].offset, kafka.committed(classic, topic)) == (-1001, {0: 3})


def test_time_behind_is_that_of_the_first_unread_record(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, now = kafka.topic(4), int(time.time() * 1000)
    stamps = [now - 3_600_000, now - 60_000, now - 1_800_000]  # out of order: the one at the offset counts
    kafka.write(topic, [Rec(b"x", partition=0, timestamp=each) for each in stamps])
    kafka.write(topic, [Rec(b"x", partition=1, timestamp=now + 3_600_000)])  # from the future
    kafka.write(topic, [Rec(b"x", partition=2)], transaction="commit")
    group = name()
    commit(kafka, group, {(topic, 0): 1, (topic, 1): 0, (topic, 2): 1, (topic, 3): 0})
    (row,) = looked(kpipe.at(kafka.bootstrap), "groups", group)
    old, future, marker, empty = row["partitions"]
    assert 60_000 <= old["behind_ms"] < 120_000
    assert (future["lag"], future["behind_ms"]) == (1, 0)
    assert (marker["lag"], marker["behind_ms"], marker["only_markers"]) == (1, 0, True)
    assert (empty["lag"], empty["behind_ms"]) == (0, 0)
    assert row["behind_ms"] == old["behind_ms"]


def test_transactions_lost_records_and_offsets_beyond_the_end_are_told(kafka: Cluster, kpipe: Kpipe) -> None:
    aborted, opened, cut = kafka.topic(), kafka.topic(), kafka.topic()
    kafka.write(aborted, [b"1", b"2"], transaction="abort")
    kafka.write(aborted, [b"3"])
    kafka.write(opened, [b"1"])
    kafka.write(cut, [b"x"] * 10)
    first = TopicPartition(cut, 0, 6)
    kafka.admin.delete_records([first], request_timeout=20)[first].result(25)
    group = name()
    commit(kafka, group, {(aborted, 0): 0, (opened, 0): 1, (cut, 0): 2})
    beyond = name()
    commit(kafka, beyond, {(cut, 0): 99})
    with open_transaction(kafka, opened, [b"2", b"3"]):
        (row,) = looked(kpipe.at(kafka.bootstrap), "groups", group)
    found = {each["topic"]: each for each in row["partitions"]}
    assert (found[aborted]["lag"], found[aborted]["behind_ms"] > 0) == (4, True)
    assert (found[opened]["stable_end"], found[opened]["lag"], found[opened]["notes"]) == (1, 2, ["open transaction"])
    assert found[opened]["behind_ms"] is not None
    assert (found[cut]["lag"], found[cut]["lost"], found[cut]["notes"]) == (4, 4, ["data lost"])
    assert row["lost"] == 4
    (row,) = looked(kpipe.at(kafka.bootstrap), "groups", beyond)
    assert (row["partitions"][0]["lag"], row["partitions"][0]["notes"]) == (0, ["beyond the end"])


def test_looking_neither_commits_nor_joins_nor_creates(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group = kafka.topic(), name()
    kafka.write(topic, [b"1", b"2", b"3"])
    commit(kafka, group, {(topic, 0): 1}, "kept")
    before = kafka.topics()
    for words in (("groups",), ("groups", group), ("groups", group, "--all-partitions"), ("groups", "--topic", topic)):
        assert kpipe.at(kafka.bootstrap)(*words).code == 0
    missing = kpipe.at(kafka.bootstrap)("groups", f"{group}x")
    assert (missing.code, missing.out) == (1, b"")
    assert f"no such group; did you mean {group}?" in missing.err
    both = looked(kpipe.at(kafka.bootstrap), "groups", group, f"{group}x", code=1)
    assert [row["problems"][:1] != [] for row in both] == [False, True]
    assert "no such group" in both[1]["problems"][0]
    assert kafka.topics() == before
    assert kafka.committed(group, topic) == {0: 1}
    listed = {each.group_id for each in kafka.admin.list_consumer_groups(request_timeout=10).result(15).valid}
    assert f"{group}x" not in listed
    assert "kpipe-without-group" not in listed
    (row,) = looked(kpipe.at(kafka.bootstrap), "groups", group)
    assert (row["members"], row["partitions"][0]["metadata"]) == (0, "kept")


def test_topic_chooses_the_groups_that_read_it(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, other = kafka.topic(), kafka.topic()
    reader, both, stranger = name("reader"), name("both"), name("stranger")
    commit(kafka, reader, {(topic, 0): 0})
    commit(kafka, both, {(topic, 0): 0, (other, 0): 0})
    commit(kafka, stranger, {(other, 0): 0})
    found = looked(kpipe.at(kafka.bootstrap), "groups", "--topic", topic)
    assert {row["group"] for row in found} == {reader, both}
    assert {each["topic"] for row in found for each in row["partitions"]} == {topic}


def test_thresholds_end_with_5_and_what_is_not_known_with_1(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group, never = kafka.topic(2), name(), name()
    kafka.write(topic, [Rec(b"x", partition=0, timestamp=int(time.time() * 1000) - 60_000)] * 5)
    commit(kafka, group, {(topic, 0): 2})

    def code(*words: str) -> int:
        return kpipe.at(kafka.bootstrap)("groups", *words).code

    assert code(group, "--max-lag", "3") == 0
    assert code(group, "--max-lag", "2") == 5
    assert code(group, "--max-behind", "5m") == 0
    assert code(group, "--max-behind", "30s") == 5
    assert code(group, "--max-behind", "soon") == 2
    kafka.write(topic, [Rec(b"x", partition=1)])
    assert code(group, "--max-lag", "3") == 0
    done = kpipe.at(kafka.bootstrap)("groups", group, "--max-lag", "3", "--all-partitions")
    assert (done.code, "1 partition with records, without a committed offset" in done.err) == (1, True)
    assert code(never, "--max-lag", "3") == 1


def test_a_check_of_a_name_that_is_not_there_is_not_well(kafka: Cluster, kpipe: Kpipe) -> None:
    """Cron must not hear 0 from a check whose pattern was misspelt, or whose topic nobody reads."""
    at, topic = kpipe.at(kafka.bootstrap), kafka.topic()
    for words, code, told in (
        (("groups", "nobody-*", "--max-lag", "5"), 5, "nobody-*: no group matches"),
        (("groups", "--topic", topic, "--max-lag", "5"), 5, f"{topic}: no group reads it"),
        (("groups", "--topic", "nobody-has-it"), 1, "nobody-has-it: no such topic"),
        (("topics", "--health", "^nobody-"), 5, "^nobody-: no topic matches"),
        (("topics", "--at", "-1h", "nobody-*"), 5, "nobody-*: no topic matches"),
        (("tail", "--no-follow", "nobody-*"), 5, "nobody-*: no topic matches"),
        (("stat", "^nobody-"), 5, "^nobody-: no topic matches"),
        (("find", "nobody-*", "key"), 5, "nobody-*: no topic matches"),
        (("tail", "nobody-has-it"), 1, "nobody-has-it: no such topic"),
    ):
        done = at(*words)
        assert (done.code, told in done.err, done.out) == (code, True, b""), (words, done)
    for words in (("topics", "--health"), ("topics",), ("topics", "--at", "-1h")):
        done = at(*words, topic, "nobody-*")  # one of two: what is there is shown, and the other is told of
        assert (done.code, "nobody-*: no topic matches" in done.err) == (5, True), words


def test_watch_shows_rates_and_what_stands_still(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group = kafka.topic(), name()
    kafka.write(topic, [b"x"] * 100)
    commit(kafka, group, {(topic, 0): 10})
    running = kpipe.at(kafka.bootstrap).start("groups", group, "--watch", "0.5", "--json")
    running.wait_for(lambda: running.out.count(b"\n") >= 2)
    still = json.loads(running.out.splitlines()[-1])
    assert (still["stands_still"], still["out_per_s"]) == (True, 0)
    assert still["partitions"][0]["margin_ms"] > 6 * 86_400_000
    commit(kafka, group, {(topic, 0): 90})
    running.wait_for(lambda: b'"out_per_s":0.0' not in running.out.splitlines()[-1])
    moving = json.loads(running.out.splitlines()[-1])
    assert moving["out_per_s"] > 0
    assert moving["catch_up_s"] is not None


def test_share_groups_are_named_for_what_they_are(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group = kafka.topic(), name("share")
    consumer = ShareConsumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "log_level": 0})
    consumer.subscribe([topic])
    listed: list[str] = []

    def known() -> bool:
        consumer.poll(0.2)
        listed[:] = [row["group"] for row in looked(kpipe.at(kafka.bootstrap), "groups", f"{group}*")]
        return bool(listed)

    until(known, "the share group is listed", timeout=30)
    (row,) = looked(kpipe.at(kafka.bootstrap), "groups", f"{group}*")
    consumer.close()
    assert row["lag"] is None
    assert "no consumer group" in row["problems"][0]


def test_a_thousand_groups_at_as_many_places_of_a_topic_are_all_dated(kafka_b: Cluster, kpipe: Kpipe) -> None:
    """Each has another offset to look up; 100 of them, one after the other, did not come in time."""
    topic, prefix = kafka_b.topic(2), name("many")
    now = int(time.time() * 1000)
    kafka_b.write(topic, [Rec(b"x", partition=n % 2, timestamp=now - n * 1000) for n in range(1000)])
    with ThreadPoolExecutor(16) as pool:
        places = {(topic, 0), (topic, 1)}
        list(
            pool.map(
                lambda number: commit(kafka_b, f"{prefix}-{number:04}", dict.fromkeys(places, number % 500)),
                range(1000),
            )
        )
    found = looked(kpipe.at(kafka_b.bootstrap), "groups", f"{prefix}*", timeout=60)
    assert len(found) == 1000
    for row in found:
        first, second = row["partitions"]
        at = int(row["group"][-4:]) % 500
        assert first["behind_ms"] // 1000 in range(2 * at, 2 * at + 120), row
        assert first["behind_ms"] - second["behind_ms"] == -1000, row


def test_a_right_that_is_missing_is_marked_in_its_row(new_kafka: NewKafka, kpipe: Kpipe) -> None:
    locked = new_kafka(
        {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "listener.name.clear.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.clear.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule "
            'required user_alice="alice";',
        },
        listeners=[Listener("CLEAR", "SASL_PLAINTEXT")],
    )
    seen, hidden = locked.topic(name="seen"), locked.topic(name="hidden")
    for topic in (seen, hidden):
        locked.write(topic, [b"1", b"2"])
    commit(locked, "mine", {(seen, 0): 1, (hidden, 0): 1})
    commit(locked, "theirs", {(seen, 0): 1})

    def allow(kind: ResourceType, resource: str, operation: AclOperation) -> AclBinding:
        return AclBinding(
            kind, resource, ResourcePatternType.LITERAL, "User:alice", "*", operation, AclPermissionType.ALLOW
        )

    rules = [
        allow(ResourceType.TOPIC, seen, AclOperation.READ),
        allow(ResourceType.GROUP, "mine", AclOperation.DESCRIBE),
    ]
    for done in locked.admin.create_acls(rules, request_timeout=20).values():
        done.result(25)
    config = (
        f'[clusters.locked]\n"bootstrap.servers" = "{locked.broker.address("CLEAR")}"\n"security.protocol" = "SASL_PLAINTEXT"\n'
        '"sasl.mechanism" = "PLAIN"\n"sasl.username" = "alice"\n"sasl.password" = "alice"\n'
    )
    until(lambda: kpipe("groups", "locked:", config=config).out.count(b"mine"), "the rules hold", timeout=30)
    mine = kpipe("groups", "locked:mine", "locked:theirs", "--json", config=config)
    found = {row["group"]: row for row in map(json.loads, mine.out.splitlines())}
    assert mine.code == 1
    assert found["mine"]["lag"] == 1
    assert "no ACL allows DESCRIBE on group theirs" in found["theirs"]["problems"][0]
    assert "theirs" in mine.err
    topics = kpipe("topics", "locked:*", "--json", config=config)
    assert topics.code == 1  # the settings may not be asked for
    (row,) = map(json.loads, topics.out.splitlines())
    assert (row["topic"], row["records"], row["config"]) == (seen, 2, None)
    assert "no ACL allows DESCRIBE" in row["problems"][0]
    assert kpipe("topics", "locked:hidden", config=config).code == 1


def test_a_member_that_asks_for_nothing_is_shown(kafka: Cluster, kpipe: Kpipe) -> None:
    """Two members, one partition: the second has none, and the group still has two."""
    topic, group = kafka.topic(), name()
    with member(kafka, group, topic):
        second = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "log_level": 0})
        second.subscribe([topic])

        def both() -> bool:
            second.poll(0.1)
            return looked(kpipe.at(kafka.bootstrap), "groups", group)[0]["members"] == 2

        until(both, "two members", timeout=40)
        second.close()

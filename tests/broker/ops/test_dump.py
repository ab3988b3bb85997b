"""A topic as files, and a topic again: every byte, once, and nothing is sent of a dump that is not whole."""

from __future__ import annotations

import gzip
import json
import resource
import signal
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.formats.header_names import name_of
from tests.broker.lab.cluster import Rec, until
from tests.broker.ops.scenes import commit, member, name, open_transaction

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe, Result

HOUR = 3_600_000
NOW = 1_790_000_000_000
ODD = [
    Rec(b"plain", b"k", (("h", b"v"), ("h", None), ("h", b"")), NOW),
    Rec(None, b"tombstone", (), NOW + 1),
    Rec(b"", b"", (("", b"no name"),), NOW + 2),
    Rec(b"\xff\x00\xfe\n\r", b"\x80\n", ((name_of(b"caf\xe9"), b"\xff"), ("\x01", b"\n")), NOW - HOUR),
    Rec(b'{"a": 1.10}', None, (("source_topic", b"mine"), ("trace_hops", b"x")), 1),
    Rec("ünï\u2028".encode(), "ключ".encode(), (("ä\u2028", "ß".encode()),), 4_000_000_000_000),
    Rec(b"x" * 900_000, b"large", (), NOW),
]
LIMITS = {"retention_ms": -1, "message_timestamp_after_max_ms": 9_000_000_000_000_000_000}


def dumped(kpipe: Kpipe, topic: str, folder: Path, *words: str, code: int = 0) -> Result:
    done = kpipe("dump", *words, topic, folder)
    assert done.code == code, (done.code, done.err)
    assert done.out == b""
    return done


def loaded(kpipe: Kpipe, folder: Path, topic: str, *words: str, code: int = 0) -> Result:
    done = kpipe("load", *words, folder, topic)
    assert done.code == code, (done.code, done.err)
    assert done.out == b""
    return done


def manifest(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return read


def own(record: Rec) -> tuple[Any, ...]:
    """What a record is, without the trace of one hop, which stands behind its own headers."""
    headers = record.headers[: -[each for each, _ in record.headers[::-1]].index("source_topic") - 1]
    return record.partition, record.key, record.value, record.timestamp, headers


@pytest.mark.parametrize("codec", ["gzip", "none"])
def test_every_byte_survives(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, tmp_path: Path, codec: str) -> None:
    topic, folder, copy = kafka.topic(3, **LIMITS), tmp_path / "d", name("copy")
    written = kafka.write(
        topic, [Rec(r.value, r.key, r.headers, r.timestamp, partition=n % 3) for n, r in enumerate(ODD)]
    )
    dumped(kpipe.at(kafka.bootstrap), topic, folder, "--codec", codec)
    told = loaded(kpipe.at(kafka_b.bootstrap), folder, copy, "--create").err
    assert f"{len(ODD)} records are the same" in told
    there = kafka_b.read(copy)
    expected = {(r.partition, r.offset): (r.partition, r.key, r.value, r.timestamp, r.headers) for r in written}
    found = {(r.partition, r.offset): own(r) for r in there}
    renamed = {  # an application's own headers with such names become those of an origin, as at every hop
        place: (*rest, tuple((each.replace("source_topic", "origin_topic"), value) for each, value in headers))
        for place, (*rest, headers) in expected.items()
    }
    assert found == renamed
    last = dict(there[0].headers)
    assert last["source_topic"] == topic.encode()
    assert last["source_cluster"] == kafka.cluster_id.encode()


def test_the_time_0_is_told_and_everything_else_arrives(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    topic = kafka.topic(**LIMITS)
    kpipe = kpipe.at(kafka.bootstrap)
    kafka.write(topic, [Rec(b"a", b"k", (), 5)])
    dumped(kpipe, topic, tmp_path / "d", "--codec", "none")
    (segment,) = (tmp_path / "d").glob("0*.jsonl")
    text = segment.read_bytes().replace(b'"timestamp":5', b'"timestamp":0')
    segment.write_bytes(text)
    rewrite(tmp_path / "d", segment, text)
    copy = kafka.topic(**LIMITS)
    told = loaded(kpipe, tmp_path / "d", copy, code=1).err
    assert "time 0" in told
    assert "1 record is the same" in told
    assert [record.value for record in kafka.read(copy)] == [b"a"]


def rewrite(folder: Path, segment: Path, text: bytes) -> None:
    """The manifest of a dump whose segment was changed on purpose."""
    import hashlib

    fields = manifest(folder)
    (row,) = [each for each in fields["segments"] if each["file"] == segment.name]
    row |= {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
    (folder / "manifest.json").write_text(json.dumps(fields))


def test_a_second_load_adds_nothing_and_half_a_load_is_finished(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    kpipe = kpipe.at(kafka.bootstrap)
    topic, copy, folder = kafka.topic(2), kafka.topic(2), tmp_path / "d"
    written = kafka.write(topic, [Rec(b"%d" % n, b"k%d" % (n % 7), partition=n % 2) for n in range(3000)])
    dumped(kpipe, topic, folder)
    half = kpipe.start("load", "--rate", "500/s", folder, copy)
    half.wait_for(lambda: len(kafka.read(copy)) >= 300, what="some records")
    half.process.kill()
    half.wait()
    assert len(kafka.read(copy)) < 3000
    for there in ("", "3,000 records were there already"):
        told = loaded(kpipe, folder, copy).err
        assert there in told
        assert "3,000 records are the same" in told
        found = kafka.read(copy)
        assert [(r.partition, r.value) for r in found] == [
            (r.partition, r.value) for r in sorted(written, key=lambda r: (r.partition, r.offset))
        ]


def test_a_load_stopped_by_a_signal_keeps_its_balance(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    kpipe = kpipe.at(kafka.bootstrap)
    topic, copy, folder = kafka.topic(), kafka.topic(), tmp_path / "d"
    kafka.write(topic, [b"%d" % n for n in range(3000)])
    dumped(kpipe, topic, folder)
    running = kpipe.start("load", "--rate", "300/s", "--summary", tmp_path / "s", folder, copy)
    running.wait_for(lambda: len(kafka.read(copy)) >= 100, what="some records")
    running.signal(signal.SIGTERM)
    done = running.wait()
    assert done.code == -signal.SIGTERM, done.err
    balance = json.loads((tmp_path / "s").read_bytes())
    assert balance["read"] == balance["delivered"] == len(kafka.read(copy))
    loaded(kpipe, folder, copy)
    assert [r.value for r in kafka.read(copy)] == [b"%d" % n for n in range(3000)]


def test_a_dump_goes_on_behind_its_last_whole_segment(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    kpipe = kpipe.at(kafka.bootstrap)
    topic, folder = kafka.topic(), tmp_path / "d"
    kafka.write(topic, [b"%d" % n for n in range(1000)])
    dumped(kpipe, topic, folder, "--segment", "1K")
    first = manifest(folder)["segments"]
    kafka.write(topic, [b"%d" % n for n in range(1000, 1300)])
    # What kill -9 leaves: no manifest, a torn line, a segment that is not whole, and one that is in no journal.
    (folder / "manifest.json").unlink()
    with (folder / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"file":"00000-000')
    (folder / "00000-00000000000000001000.jsonl.gz.part").write_bytes(b"half")
    (folder / "00000-00000000000000001000.jsonl.gz").write_bytes(b"in no journal")
    refused = loaded(kpipe, folder, topic, code=2).err
    assert "not whole" in refused
    dumped(kpipe, topic, folder, "--segment", "1K")
    segments = manifest(folder)["segments"]
    assert segments[: len(first)] == first
    assert len(segments) > len(first)
    texts = [gzip.decompress((folder / each["file"]).read_bytes()) for each in segments]
    values = [json.loads(line)["value"] for text in texts for line in text.splitlines()]
    assert values == [str(n) for n in range(1300)]
    assert not list(folder.glob("*.part"))
    dumped(kpipe, topic, folder)
    assert manifest(folder)["segments"] == segments


def test_sigterm_keeps_what_is_whole(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    kpipe = kpipe.at(kafka.bootstrap)
    topic, folder = kafka.topic(2), tmp_path / "d"
    kafka.write(topic, [Rec(b"%d" % n, partition=n % 2) for n in range(60_000)])
    running = kpipe.start("dump", "--segment", "64K", topic, folder)
    running.wait_for(
        lambda: (folder / "journal.jsonl").exists() and len((folder / "journal.jsonl").read_bytes().splitlines()) > 4
    )
    running.signal(signal.SIGTERM)
    done = running.wait()
    assert done.code == -signal.SIGTERM, done.err
    assert "not whole yet" in done.err
    assert not (folder / "manifest.json").exists()
    assert not list(folder.glob("*.part"))
    kept = (folder / "journal.jsonl").read_bytes()
    dumped(kpipe, topic, folder)
    assert (folder / "journal.jsonl").read_bytes().startswith(kept)
    assert manifest(folder)["records"] == 60_000
    copy = kafka.topic(2)
    loaded(kpipe, folder, copy)
    assert sorted(int(r.value or b"") for r in kafka.read(copy)) == list(range(60_000))


def test_a_full_disk_costs_no_whole_segment(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    kpipe = kpipe.at(kafka.bootstrap)
    topic, folder = kafka.topic(2), tmp_path / "d"
    kafka.write(topic, [Rec(b"x" * 100, partition=0) for _ in range(10)])
    kafka.write(topic, [Rec(b"%d" % n * 30, partition=1) for n in range(5000)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        running = kpipe.start("dump", "--codec", "none", topic, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    done = running.wait()
    assert done.code == 1, done.err
    assert "cannot write: File too large; make room" in done.err
    assert [each.name for each in folder.glob("*.jsonl*") if each.name != "journal.jsonl"] == [
        "00000-00000000000000000000.jsonl"
    ]
    dumped(kpipe, topic, folder)
    assert manifest(folder)["records"] == 5010


@pytest.mark.parametrize(
    "damage", ["flipped", "cut", "missing", "row", "count", "partition", "torn", "empty", "version"]
)
def test_damage_is_found_before_anything_is_sent(kafka: Cluster, kpipe: Kpipe, tmp_path: Path, damage: str) -> None:
    kpipe = kpipe.at(kafka.bootstrap)
    topic, folder, copy = kafka.topic(2), tmp_path / "d", name("copy")
    kafka.write(topic, [Rec(b"%d" % n, partition=n % 2) for n in range(2000)])
    dumped(kpipe, topic, folder, "--segment", "1K")
    fields, path = manifest(folder), folder / "manifest.json"
    last = folder / fields["segments"][-1]["file"]
    if damage == "flipped":
        content = bytearray(last.read_bytes())
        content[len(content) // 2] ^= 1
        last.write_bytes(content)
    elif damage == "cut":
        last.write_bytes(last.read_bytes()[:-3])
    elif damage == "missing":
        last.unlink()
    elif damage == "row":
        del fields["segments"][1]
    elif damage == "count":
        fields["segments"][0]["records"] -= 1
    elif damage == "partition":
        fields["partitions"].pop(0)
    elif damage == "version":
        fields["version"] = 2
    path.write_text(json.dumps(fields))
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "empty":
        path.write_bytes(b"")
    for words in (("--create",), ("--create", "--dry-run")):
        told = loaded(kpipe, folder, copy, *words, code=2 if damage == "version" else 1).err
        assert len(told.splitlines()) == 1, told
        assert str(last if damage in ("flipped", "cut", "missing") else path) in told
    assert copy not in kafka.topics()


def test_what_a_load_refuses(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    at = kpipe.at(kafka.bootstrap)
    topic, folder = kafka.topic(2), tmp_path / "d"
    kafka.write(topic, [b"1", b"2"])
    dumped(at, topic, folder)
    assert "--create" in loaded(at, folder, name("none"), code=1).err
    assert "3 partitions, and the dump has 2" in loaded(at, folder, kafka.topic(3), code=1).err
    other = kafka.topic(2)
    kafka.write(other, [b"other"])
    assert "1 record that is not of this dump; --append" in loaded(at, folder, other, code=1).err
    assert len(kafka.read(other)) == 1
    loaded(at, folder, other, "--append")
    loaded(at, folder, other, "--append")
    assert sorted(r.value or b"" for r in kafka.read(other)) == [b"1", b"2", b"other"]
    closed = f'[clusters.prod]\n"bootstrap.servers" = "{kafka.bootstrap}"\nread_only = true\n'
    done = kpipe("load", "--create", folder, "prod:copy", config=closed)
    assert (done.code, "read_only" in done.err) == (2, True), done.err
    assert kpipe("dump", f"prod:{topic}", tmp_path / "again", config=closed).code == 0
    assert "no dump is there" in loaded(at, tmp_path, other, code=2).err
    assert "--on-error" in loaded(at, folder, other, "--on-error", "skip", code=2).err


def test_what_a_dump_refuses(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    at = kpipe.at(kafka.bootstrap)
    topic, folder = kafka.topic(), tmp_path / "d"
    kafka.write(topic, [b"1", b"2"])
    dumped(at, topic, folder)
    assert "name another folder" in dumped(at, kafka.topic(), folder, code=2).err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    assert "not empty" in dumped(at, topic, tmp_path / "mine", code=2).err
    assert [each.name for each in (tmp_path / "mine").iterdir()] == ["file"]
    assert "name it" in dumped(at, "t-*", tmp_path / "p", code=2).err
    assert "no such topic" in dumped(at, "nobody-has-it", tmp_path / "p", code=1).err
    assert not (tmp_path / "p").exists()
    kafka.admin.delete_topics([topic])[topic].result(20)
    until(lambda: topic not in kafka.topics(), "the topic is gone")
    kafka.topic(name=topic)
    kafka.write(topic, [b"anew"])
    before = (folder / "manifest.json").read_bytes()
    assert "made anew" in dumped(at, topic, folder, code=1).err
    assert (folder / "manifest.json").read_bytes() == before


def test_settings_and_groups_are_in_it_and_a_new_topic_has_the_settings(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path
) -> None:
    at = kpipe.at(kafka.bootstrap)
    topic, group, folder, copy = kafka.topic(2, retention_ms=777_000_000), name(), tmp_path / "d", name("copy")
    kafka.write(topic, [Rec(b"%d" % n, partition=0) for n in range(5)])
    commit(kafka, group, {(topic, 0): 3}, "mine")
    dumped(at, topic, folder)
    fields = manifest(folder)
    assert fields["config"]["retention.ms"] == "777000000"
    (row,) = [each for each in fields["groups"] if each["group"] == group]
    assert (row["partition"], row["offset"], row["metadata"].rstrip("\0")) == (0, 3, "mine")
    assert [each["end"] for each in fields["partitions"]] == [5, 0]
    preview = loaded(at, folder, copy, "--create", "--dry-run").err
    assert "2 partitions" in preview
    assert "retention.ms=777000000" in preview
    assert copy not in kafka.topics()
    loaded(at, folder, copy, "--create")
    assert len(kafka.admin.list_topics(timeout=10).topics[copy].partitions) == 2
    assert b"777000000" in at("topics", "--config", "--json", copy).out


def test_of_transactions_only_what_is_committed(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    at = kpipe.at(kafka.bootstrap)
    topic, copy, folder = kafka.topic(), kafka.topic(), tmp_path / "d"
    kafka.write(topic, [b"1", b"2"], transaction="commit")
    kafka.write(topic, [b"no"], transaction="abort")
    with open_transaction(kafka, topic, [b"open"]):
        dumped(at, topic, folder)
        loaded(at, folder, copy)
    assert [r.value for r in kafka.read(copy)] == [b"1", b"2"]
    kafka.write(topic, [b"3"])
    dumped(at, topic, folder)
    loaded(at, folder, copy)
    assert [r.value for r in kafka.read(copy)] == [b"1", b"2", b"3"]


def test_what_compaction_took_from_the_copy_is_not_sent_again(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    at = kpipe.at(kafka.bootstrap)
    topic, folder = kafka.topic(), tmp_path / "d"
    kafka.write(topic, [Rec(b"%d" % n, b"k") for n in range(50)])
    dumped(at, topic, folder)
    copy = kafka.topic(
        cleanup_policy="compact", segment_ms=100, min_cleanable_dirty_ratio=0.001, max_compaction_lag_ms=100
    )
    loaded(at, folder, copy)
    kafka.write(copy, [Rec(b"later", b"other")])

    def thinned() -> bool:
        kafka.write(copy, [Rec(b"later", b"other")])
        return len(kafka.read(copy)) < 50

    until(thinned, "the copy is compacted", timeout=60)
    before = [r for r in kafka.read(copy) if r.key == b"k"]
    told = loaded(at, folder, copy, "--append").err
    assert "are gone since" in told
    assert [r.value for r in kafka.read(copy) if r.key == b"k"][-1] == before[-1].value


def test_a_dump_goes_back_to_where_it_was_made(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    at = kpipe.at(kafka.bootstrap)
    topic, folder = kafka.topic(2), tmp_path / "d"
    kafka.write(topic, [b"1", b"2", b"3"])
    dumped(at, topic, folder)
    kafka.admin.delete_topics([topic])[topic].result(20)
    until(lambda: topic not in kafka.topics(), "the topic is gone")
    loaded(at, folder, topic, "--create")
    loaded(at, folder, topic)
    assert sorted(r.value or b"" for r in kafka.read(topic)) == [b"1", b"2", b"3"]


def stands(cluster: Cluster, group: str, topic: str) -> dict[int, tuple[int, str]]:
    from confluent_kafka import ConsumerGroupTopicPartitions

    asked = cluster.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=10)
    found = asked[group].result(15).topic_partitions or []
    return {e.partition: (e.offset, (e.metadata or "").rstrip("\0")) for e in found if e.topic == topic}


def test_groups_go_on_at_the_records_that_they_had_to_read_next(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, tmp_path: Path
) -> None:
    """Other offsets than they had: markers of transactions and deleted records have none in the copy."""
    a, b = kpipe.at(kafka.bootstrap), kpipe.at(kafka_b.bootstrap)
    topic, copy, folder, mine, kpipes = kafka.topic(3), name("copy"), tmp_path / "d", name("mine"), name("kpipes")
    for lap in range(3):
        kafka.write(topic, [Rec(b"%d.%d" % (lap, n), partition=n % 2) for n in range(10)], transaction="commit")
    assert a("admin", "delete-records", topic, "--before", "2", "-p", "0", "--execute", "--yes").code == 0
    commit(kafka, mine, {(topic, 0): 8, (topic, 1): 18}, "text")
    assert a("consume", "-G", kpipes, "-p", "0", "-c", "4", topic).code == 0
    assert stands(kafka, kpipes, topic)[0][1].startswith("topic-id=")
    dumped(a, topic, folder)
    call = ("load", "--groups", "--group", mine, "--group", kpipes)
    done = b(*call, "--create", folder, copy)
    assert done.code == 0, done.err
    assert "nothing of the dump that they have not read is skipped; at most 0 records are repeated" in done.err
    assert "no group was put elsewhere; add --execute" in done.err
    assert len(done.out.splitlines()) == 4, done.out
    assert stands(kafka_b, mine, copy) == {}
    done = b(*call, "--json", "--execute", "--yes", "--undo", tmp_path / "undo", folder, copy)
    assert done.code == 0, done.err
    plan = [json.loads(line) for line in done.out.splitlines()]
    assert {(row["group"], row["partition"]): (row["skipped"], row["repeated"]) for row in plan} == {
        (kpipes, 0): (0, 0), (mine, 0): (0, 0), (mine, 1): (0, 0),
    }  # fmt: skip
    for group in (mine, kpipes):
        stood, now = stands(kafka, group, topic), stands(kafka_b, group, copy)
        assert set(now) == set(stood)  # a partition that it never read has no position afterwards either
        assert {text for _, text in now.values()} == {"text" if group == mine else ""}
        for number, (offset, _) in stood.items():
            unread = [r.value for r in kafka.read(topic, number) if r.offset >= offset]
            assert [r.value for r in kafka_b.read(copy, number) if r.offset >= now[number][0]] == unread
    assert not (tmp_path / "undo").exists()  # nothing was committed before that it could bring back
    assert done.err.count("undo: nothing was committed before, so: kpipe admin delete-group") == 2


def test_groups_of_a_load_are_refused_before_anything_is_sent(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    at = kpipe.at(kafka.bootstrap)
    topic, copy, folder, group = kafka.topic(), name("copy"), tmp_path / "d", name()
    kafka.write(topic, [b"1", b"2"])
    dumped(at, topic, folder, "--codec", "none")
    if not manifest(folder)["groups"]:
        assert "has no positions of groups" in loaded(at, folder, copy, "--create", "--groups", code=2).err
    commit(kafka, group, {(topic, 0): 1})
    dumped(at, topic, folder)
    for words, code, told in (
        (("--group", "nobody"), 2, "no such group"),
        (("--groups", "--execute"), 2, "nothing was sent: no terminal to confirm on; add --yes"),
        (("--execute", "--yes"), 2, "--execute is about groups; add --groups"),
    ):
        assert told in loaded(at, folder, copy, "--create", *words, code=code).err
    with member(kafka, group, topic):
        done = loaded(at, folder, copy, "--create", "--group", group, "--execute", "--yes", code=1)
        assert "has members (a-member on" in done.err
    assert copy not in kafka.topics()
    preview = loaded(at, folder, copy, "--create", "--group", group, "--dry-run").err
    assert f"put group {group} at the records that it had to read next, in 1 partition" in preview


def test_records_that_the_target_would_delete_at_once_are_told_before(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path
) -> None:
    at = kpipe.at(kafka.bootstrap)
    topic, folder = kafka.topic(**LIMITS), tmp_path / "d"
    kafka.write(topic, [Rec(b"old", timestamp=NOW - 1000 * HOUR), Rec(b"new")])
    dumped(at, topic, folder, "--segment", "1K")
    told = "some of 2 records are older than it keeps them"
    assert told not in loaded(at, folder, name("copy"), "--create", "--dry-run").err  # the dump's own setting: for ever
    week = kafka.topic(retention_ms=7 * 24 * HOUR)
    for words in (("--dry-run",), ()):
        assert f"{week}: {told} (7d, retention.ms)" in loaded(at, folder, week, *words).err
    fields = manifest(folder)
    del fields["config"]["retention.ms"]
    (folder / "manifest.json").write_text(json.dumps(fields))
    assert told in loaded(at, folder, name("copy"), "--create", "--dry-run").err  # the brokers' default is a week
    for setting in ({"message_timestamp_type": "LogAppendTime"}, {"cleanup_policy": "compact"}):
        assert told not in loaded(at, folder, kafka.topic(**setting), "--dry-run").err

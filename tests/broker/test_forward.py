"""`kpipe forward` on two real clusters: bytes exact, trace exact, nothing lost, nothing in a circle."""

from __future__ import annotations

import json
import signal
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec, until
from tests.conftest import Result

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

BASE_MS = 1_700_000_000_000
QUIET = Result(0, b"", "")
TRACE = ("source_", "origin_", "trace_hops")
ODD = [
    Rec(b"v", b"k", (("h", b"1"), ("a", b"x"), ("h", None), ("h", b"1"), ("e", b"")), BASE_MS),
    Rec(None, b"tombstone", (), BASE_MS + 1),
    Rec(b"", b"", (("", b"no name"),), BASE_MS + 2),
    Rec(b"\x00\n\xff" * 5, b"\xfe\x00", (("bytes", b"\xff\x00"),), BASE_MS + 3),
    Rec(None, None, (), BASE_MS + 4),
    Rec(b"large" * 180_000, None, (("ü", b"\xc3"),), BASE_MS + 5),
]


@pytest.fixture
def config(kafka: Cluster, kafka_b: Cluster) -> str:
    return f"""
        [clusters.a]
        "bootstrap.servers" = "{kafka.bootstrap}"
        [clusters.b]
        "bootstrap.servers" = "{kafka_b.bootstrap}"
        [clusters.guarded]
        "bootstrap.servers" = "{kafka_b.bootstrap}"
        read_only = true
    """


def group() -> str:
    return f"g-{uuid.uuid4().hex[:10]}"


def own_headers(record: Rec) -> tuple[tuple[str, bytes | None], ...]:
    return tuple(header for header in record.headers if not header[0].startswith(TRACE))


def trace(record: Rec) -> dict[str, str]:
    found = [(name, (value or b"").decode()) for name, value in record.headers if name.startswith(TRACE)]
    assert len(dict(found)) == len(found), f"a trace header is there twice: {found}"
    return dict(found)


def log_bytes(cluster: Cluster, topic: str) -> int:
    return sum(path.stat().st_size for path in cluster.broker.home.glob(f"data/{topic}-*/*.log"))


def content(record: Rec) -> tuple[object, ...]:
    return (record.value, record.key, own_headers(record), record.timestamp, record.timestamp_type)


# --- what arrives ----------------------------------------------------------------------------------------------


def test_a_copy_is_compressed_unless_someone_says_otherwise(kafka: Cluster, kpipe: Kpipe) -> None:
    source = kafka.topic()
    kafka.write(source, [Rec(uuid.uuid4().bytes, None, (), BASE_MS + n) for n in range(5_000)])
    room = {}
    for given in ((), ("-z", "none"), ("-X", "target.compression.codec=none")):
        target = kafka.topic()
        assert kpipe.at(kafka.bootstrap)("forward", "-e", *given, source, target) == QUIET
        assert len(kafka.read(target)) == 5_000
        room[given] = log_bytes(kafka, target)
    packed, *plain = room.values()
    assert all(packed < each / 3 for each in plain), room


def test_records_arrive_on_the_other_cluster_as_they_were(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str
) -> None:
    source, target = kafka.topic(retention_ms=-1), kafka_b.topic(retention_ms=-1)
    kafka.write(source, ODD)

    result = kpipe("forward", "-e", f"a:{source}", f"b:{target}", config=config)

    assert result == QUIET
    read = kafka_b.read(target)
    assert [content(record) for record in read] == [content(record) for record in ODD]
    for offset, record in enumerate(read):
        assert trace(record) == {
            "source_topic": source, "source_partition": "0", "source_offset": str(offset),
            "source_cluster": kafka.cluster_id,
        }  # fmt: skip


def test_full_traces_tell_everything_at_every_hop(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str) -> None:
    first, second, third = kafka.topic(retention_ms=-1), kafka_b.topic(retention_ms=-1), kafka.topic(retention_ms=-1)
    kafka.write(first, [Rec(b"x", timestamp=BASE_MS)])
    run = ("forward", "-e", "--trace", "full")

    assert kpipe(*run, f"a:{first}", f"b:{second}", config=config) == QUIET
    assert kpipe(*run, f"b:{second}", f"a:{third}", config=config) == QUIET

    (between,), (record,) = kafka_b.read(second), kafka.read(third)
    origin = {
        "origin_topic": first, "origin_partition": "0", "origin_offset": "0", "origin_cluster": kafka.cluster_id,
        "origin_timestamp": str(BASE_MS),
    }  # fmt: skip
    assert trace(between) == {
        "source_topic": first, "source_partition": "0", "source_offset": "0", "source_cluster": kafka.cluster_id,
        "source_timestamp": str(BASE_MS), **origin, "trace_hops": "1",
    }  # fmt: skip
    assert trace(record) == {
        "source_topic": second, "source_partition": "0", "source_offset": "0", "source_cluster": kafka_b.cluster_id,
        "source_timestamp": str(BASE_MS), **origin, "trace_hops": "2",
    }  # fmt: skip


def test_headers_of_the_applications_own_stay_as_origin(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic()
    own = (("source_topic", b"app"), ("trace_hops", b"many"), ("source_topic", None), ("origin_cluster", b"x"))
    kafka.write(source, [Rec(b"v", headers=own)])
    run = kpipe.at(kafka.bootstrap)

    assert run("forward", "-e", source, target) == QUIET

    (record,) = kafka.read(target)
    assert record.headers == (
        ("origin_topic", b"app"), ("trace_hops", b"many"), ("origin_topic", None), ("origin_cluster", b"x"),
        ("source_topic", source.encode()), ("source_partition", b"0"), ("source_cluster", kafka.cluster_id.encode()),
        ("source_offset", b"0"), ("trace_hops", b"2"),
    )  # fmt: skip
    assert run("verify", source, target).code == 0
    kafka.write(target, [Rec(b"v", headers=record.headers[1:], timestamp=record.timestamp)])
    assert "1 duplicated, 1 altered" in run("verify", source, target).err


def test_a_second_hop_replaces_the_source_and_keeps_the_origin(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str
) -> None:
    first, second, third = (
        kafka.topic(3, retention_ms=-1),
        kafka_b.topic(2, retention_ms=-1),
        kafka.topic(retention_ms=-1),
    )
    kafka.write(first, [Rec(b"x", b"k", (("mine", b"1"),), BASE_MS, partition=2)])
    name = group()

    assert kpipe("forward", "-e", f"a:{first}", f"b:{second}", config=config) == QUIET
    assert kpipe("forward", "-e", "-G", name, f"b:{second}", f"a:{third}", config=config) == QUIET

    (between,), (record,) = kafka_b.read(second), kafka.read(third)
    assert own_headers(record) == (("mine", b"1"),)
    assert trace(record) == {
        "source_topic": second, "source_partition": str(between.partition), "source_offset": "0",
        "source_consumer_group": name, "source_cluster": kafka_b.cluster_id,
        "origin_topic": first, "origin_partition": "2", "origin_offset": "0",
        "origin_cluster": kafka.cluster_id, "trace_hops": "2",
    }  # fmt: skip


def test_trace_can_be_switched_off_and_renamed(kafka: Cluster, kpipe: Kpipe) -> None:
    source, none, prefixed = kafka.topic(), kafka.topic(), kafka.topic()
    kafka.write(source, [b"v"])
    run = kpipe.at(kafka.bootstrap)

    assert run("forward", "-e", "--trace", "none", source, none) == QUIET
    assert run("forward", "-e", "--trace-prefix", "x-", source, prefixed) == QUIET

    assert kafka.read(none)[0].headers == ()
    assert dict(kafka.read(prefixed)[0].headers)["x-source_topic"] == source.encode()


def test_timestamps_can_be_those_of_now(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(retention_ms=-1), kafka.topic()
    kafka.write(source, [Rec(b"v", timestamp=BASE_MS)])

    assert kpipe.at(kafka.bootstrap)("forward", "-e", "--timestamp", "now", source, target) == QUIET

    (record,) = kafka.read(target)
    assert record.timestamp > BASE_MS + 10**9
    assert trace(record)["source_timestamp"] == str(BASE_MS)


def test_a_time_from_the_value_is_not_the_time_at_the_source(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(retention_ms=-1), kafka.topic(retention_ms=-1)
    kafka.write(source, [Rec(b'{"at":%d}' % (BASE_MS + 7), timestamp=BASE_MS)])

    assert kpipe.at(kafka.bootstrap)("forward", "-e", "--timestamp-from", ".at", source, target) == QUIET

    (record,) = kafka.read(target)
    assert record.timestamp == BASE_MS + 7
    assert trace(record)["source_timestamp"] == str(BASE_MS)


def test_a_target_that_stamps_records_itself_leaves_the_time_in_the_trace(kafka: Cluster, kpipe: Kpipe) -> None:
    source, near = kafka.topic(retention_ms=-1), kafka.topic(retention_ms=-1)
    also = kafka.topic(message_timestamp_type="LogAppendTime")
    kafka.write(source, [Rec(b"1", timestamp=BASE_MS)])
    run = kpipe.at(kafka.bootstrap)

    assert run("forward", "-e", source, also) == QUIET
    assert run("forward", "-e", "--tee", also, source, near) == QUIET
    routed = ("--route", f'"{also}"', "--route-allow", also)
    assert run("forward", "-e", *routed, source, near) == QUIET
    envelope = run("consume", "-e", "-J", source).out
    assert run("produce", "--input", "json", also, stdin=envelope) == QUIET

    assert [trace(record)["source_timestamp"] for record in kafka.read(also)] == [str(BASE_MS)] * 4
    assert all(record.timestamp > BASE_MS + 10**9 for record in kafka.read(also))
    assert [trace(record)["source_timestamp"] for record in kafka.read(near)] == [str(BASE_MS)]


def test_a_time_is_told_when_it_may_not_be_kept_by_an_envelope(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(retention_ms=-1), kafka.topic(retention_ms=-1)
    kafka.write(source, [Rec(b"v", timestamp=BASE_MS)])
    run = kpipe.at(kafka.bootstrap)
    envelope = run("consume", "-e", "-J", source).out

    for timestamp in ("keep", "now", str(BASE_MS + 5)):
        assert run("produce", "--input", "json", "--timestamp", timestamp, target, stdin=envelope) == QUIET

    told = [trace(record).get("source_timestamp") for record in kafka.read(target)]
    assert told == [None, str(BASE_MS), str(BASE_MS)]


def test_a_target_that_is_deleted_ends_the_run_and_nothing_is_committed_past_it(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    kafka.write(source, [b"%d" % n for n in range(10)])
    run = kpipe.at(kafka.bootstrap).start("forward", "-G", name, source, target)
    run.wait_for(lambda: len(kafka.read(target)) == 10, what="all are there")
    kafka.admin.delete_topics([target])[target].result(20)
    kafka.write(source, [b"10"])
    ended = run.wait(25)
    assert ended.code == 1
    assert f"{source}[0]@10 -> " in ended.err
    # The client drops its broker with the topic when nothing else is left there, and then says only that.
    told = "the topic or partition is gone; create it again and run again", "Broker handle destroyed"
    assert any(words in ended.err for words in told), ended.err
    assert kafka.committed(name, source) == {0: 10}


@pytest.mark.parametrize("on_error", ["skip", "dlq"])
def test_what_a_drain_gives_up_is_no_bad_record(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, tmp_path: Path, on_error: str
) -> None:
    """`skip` took what was purged from the queue for refused, and committed it."""
    source, target, letters, name = kafka.topic(), kafka_b.topic(), kafka.topic(), group()
    kafka.write(source, [b"0"])
    config = (
        f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n'
        f'[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"'
    )
    policy = ("--on-error", "skip" if on_error == "skip" else f"dlq:a:{letters}")
    places, summary = (f"a:{source}", f"b:{target}"), tmp_path / "summary"
    run = kpipe.start(
        "forward", "-G", name, *policy, "--drain-timeout", "3", "--summary", summary, *places, config=config
    )
    run.wait_for(lambda: kafka.committed(name, source) == {0: 1}, 30, "the first record is acknowledged")
    kafka_b.broker.pause()
    try:
        kafka.write(source, [b"%d" % n for n in range(1, 51)])
        kafka_b.broker.kill()  # 4 s later it is told, once, how many wait
        run.wait_for_stderr("50 records wait for it", 30)
        run.signal(signal.SIGTERM)
        ended = run.wait(20)
    finally:
        kafka_b.broker.heal()
    told = json.loads(summary.read_text())
    assert ended.code == 1
    assert (told["read"], told["delivered"], told["dead_lettered"]) == (51, 1, 0), ended.err
    assert kafka.committed(name, source) == {0: 1}
    assert "skipped" not in ended.err
    assert kafka.read(letters) == []


# --- keys and partitions ---------------------------------------------------------------------------------------


def test_keyless_records_of_a_partition_stay_together_with_a_null_key(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(5), kafka.topic(3)
    kafka.write(source, [Rec(b"%d" % n, partition=n % 5) for n in range(2000)])

    assert kpipe.at(kafka.bootstrap)("forward", "-e", source, target) == QUIET

    read = kafka.read(target)
    assert len(read) == 2000
    assert {record.key for record in read} == {None}
    for number in range(5):
        own = [record for record in read if int(record.value or b"") % 5 == number]
        assert len({record.partition for record in own}) == 1
        assert [int(record.value or b"") for record in own] == list(range(number, 2000, 5))


def test_keyless_records_can_be_spread_or_given_the_partition_as_key(kafka: Cluster, kpipe: Kpipe) -> None:
    source, spread, keyed = kafka.topic(2), kafka.topic(4), kafka.topic(4)
    kafka.write(source, [Rec(b"%d" % n, key=b"own" if n >= 1900 else None, partition=n % 2) for n in range(2000)])
    run = kpipe.at(kafka.bootstrap)

    # Each batch of the client goes to one partition: many small ones are spread.
    small = ("-X", "target.batch.num.messages=20", "-X", "target.sticky.partitioning.linger.ms=0")
    assert run("forward", "-e", "--keyless", "spread", *small, source, spread) == QUIET
    assert run("forward", "-e", "--keyless", "key", source, keyed) == QUIET

    assert Counter(record.key for record in kafka.read(spread)) == {None: 1900, b"own": 100}
    assert len({record.partition for record in kafka.read(spread) if record.key is None}) == 4
    assert Counter(record.key for record in kafka.read(keyed)) == {b"0": 950, b"1": 950, b"own": 100}


def test_keys_go_where_java_clients_put_them(kafka: Cluster, kpipe: Kpipe) -> None:
    """The vectors are those of Kafka's own test of Utils.murmur2; kcat's partitioner is one flag away."""
    murmur2 = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    source, target, crc = kafka.topic(), kafka.topic(7), kafka.topic(7)
    kafka.write(source, [Rec(b"v", key=key) for key in murmur2])
    run = kpipe.at(kafka.bootstrap)

    assert run("forward", "-e", source, target) == QUIET
    assert run("forward", "-e", "--partitioner", "consistent_random", source, crc) == QUIET

    from zlib import crc32

    assert {r.key: r.partition for r in kafka.read(target)} == {key: (h & 0x7FFFFFFF) % 7 for key, h in murmur2.items()}
    assert {r.key: r.partition for r in kafka.read(crc)} == {key: crc32(key) % 7 for key in murmur2}


def test_the_same_partitions_or_a_refusal(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, fewer = kafka.topic(3), kafka.topic(5), kafka.topic(2)
    kafka.write(source, [Rec(b"%d" % n, key=b"k" if n % 2 else None, partition=n % 3) for n in range(30)])
    run = kpipe.at(kafka.bootstrap)

    assert run("forward", "-e", "--to-partition", "same", source, target) == QUIET
    refused = run("forward", "-e", "--to-partition", "same", source, fewer)
    fixed = run("forward", "-e", "--to-partition", "1", source, fewer)

    assert {(int(r.value or b"") % 3, r.partition) for r in kafka.read(target)} == {(0, 0), (1, 1), (2, 2)}
    assert refused.code == 2
    assert "has 2 partitions, the source has 3" in refused.err
    assert refused.err.count("\n") == 1
    assert fixed == QUIET
    assert Counter(r.partition for r in kafka.read(fewer)) == {1: 30}


# --- the target topic ------------------------------------------------------------------------------------------


def test_create_takes_the_partitions_of_the_source(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str) -> None:
    source, name = kafka.topic(4), f"new-{uuid.uuid4().hex[:8]}"
    kafka.write(source, [Rec(b"v", partition=3)])

    refused = kpipe("forward", "-e", f"a:{source}", f"b:{name}", config=config)
    assert (refused.code, name in kafka_b.topics()) == (1, False)
    made = kpipe("forward", "-e", "--create", f"a:{source}", f"b:{name}", config=config)
    assert made == Result(0, b"", f"kpipe: config: b:{name}: created, with 4 partitions\n")

    assert len(kafka_b.admin.list_topics(name, timeout=10).topics[name].partitions) == 4
    assert len(kafka_b.read(name)) == 1


def test_a_compacted_target_is_said_at_the_start_and_stops_at_the_record(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic(cleanup_policy="compact")
    kafka.write(source, [Rec(b"a", b"k"), Rec(b"b"), Rec(b"c", b"k")])
    run = kpipe.at(kafka.bootstrap)

    stopped = run("forward", "-e", source, target)
    skipped = run("forward", "-e", "--on-error", "skip", source, target)
    keyed = run("forward", "-e", "--keyless", "key", source, target)

    assert stopped.code == 1
    assert "compacted and takes no record without a key" in stopped.err.splitlines()[0]
    assert f"{source}[0]@1: has no key" in stopped.err.splitlines()[1]
    assert [(r.key, r.value) for r in kafka.read(target)][:1] == [(b"k", b"a")]
    assert (skipped.code, f"{source}[0]@1" in skipped.err) == (1, True)
    assert "3 read, 2 delivered, 1 failed" in skipped.err
    assert keyed == QUIET


def test_a_read_only_cluster_is_not_written_to(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str) -> None:
    source, target = kafka.topic(), kafka_b.topic()
    kafka.write(source, [b"v"])

    result = kpipe("forward", "-e", f"a:{source}", f"guarded:{target}", config=config)

    assert result.code == 2
    assert "cluster guarded is read_only" in result.err
    assert result.err.count("\n") == 1
    assert kafka_b.read(target) == []


# --- circles ---------------------------------------------------------------------------------------------------


def test_the_same_topic_is_refused(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, [b"v"])
    result = kpipe.at(kafka.bootstrap)("forward", "-e", topic, topic)
    assert result.code == 2
    assert "same topic" in result.err
    assert len(kafka.read(topic)) == 1


def test_the_way_back_is_refused(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str) -> None:
    topic_a, topic_b = kafka.topic(), kafka_b.topic()
    kafka.write(topic_a, [b"v"])

    assert kpipe("forward", "-e", f"a:{topic_a}", f"b:{topic_b}", config=config) == QUIET
    back = kpipe("forward", "-e", f"b:{topic_b}", f"a:{topic_a}", config=config)

    assert back.code == 1
    assert f"trace: b:{topic_b}[0]@0: would loop: {topic_a} is its origin" in back.err
    assert len(kafka.read(topic_a)) == 1


@pytest.mark.parametrize("grouped", [False, True])
def test_a_pattern_that_matches_its_target_leaves_it_out(kafka: Cluster, kpipe: Kpipe, grouped: bool) -> None:
    stem = f"loop{uuid.uuid4().hex[:8]}"
    source, target = kafka.topic(name=f"{stem}-in"), kafka.topic(name=f"{stem}-out")
    kafka.write(source, [b"v"])
    kafka.write(target, [b"already there"])

    member = ["-G", f"g-{stem}"] if grouped else []

    result = kpipe.at(kafka.bootstrap)("forward", "-e", *member, f"^{stem}-", target)

    assert result.code == 0, result.err
    told = f"{target}: the pattern matches it, too; it is not read, for this run writes to it\n"
    assert result.err == f"kpipe: read: {kafka.bootstrap}/{told}"
    assert [r.value for r in kafka.read(target)] == [b"already there", b"v"]


def test_hops_have_a_limit(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(
        source, [Rec(b"tired", headers=(("trace_hops", b"3"),)), Rec(b"fresh", headers=(("trace_hops", b"2"),))]
    )
    run = kpipe.at(kafka.bootstrap)

    refused = run("forward", "-e", "--max-hops", "3", "--on-error", "skip", source, target)

    assert refused.code == 1
    assert "made 3 hops already (--max-hops 3)" in refused.err
    assert [(r.value, trace(r)["trace_hops"]) for r in kafka.read(target)] == [(b"fresh", "3")]


# --- delivery --------------------------------------------------------------------------------------------------


def test_a_bounded_copy_stops_at_the_end_as_it_was(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(3), kafka.topic(3)
    kafka.write(source, [Rec(b"%d" % n, partition=n % 2) for n in range(5000)])
    kafka.write(source, [Rec(b"in a transaction", partition=0)], transaction="commit")
    kafka.write(source, [Rec(b"aborted", partition=1)], transaction="abort")
    run = kpipe.at(kafka.bootstrap)

    assert run("forward", "-e", source, target) == QUIET
    assert run("forward", "-e", "-o", "-1", "-p", "2", source, target) == QUIET

    values = Counter(r.value for r in kafka.read(target))
    assert values == Counter([*(b"%d" % n for n in range(5000)), b"in a transaction"])


def test_a_group_ends_with_exact_offsets_and_goes_on(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str
) -> None:
    source, target, name = kafka.topic(2), kafka_b.topic(), group()
    kafka.write(source, [Rec(b"%d" % n, partition=n % 2) for n in range(3000)])
    command = ("forward", "-G", name, f"a:{source}", f"b:{target}")

    assert kpipe(*command, "-c", "1000", config=config) == QUIET
    assert sum(kafka.committed(name, source).values()) == 1000
    assert kpipe(*command, "-e", config=config) == QUIET
    assert kafka.committed(name, source) == {0: 1500, 1: 1500}
    assert kpipe(*command, "-e", config=config) == QUIET

    assert Counter(r.value for r in kafka_b.read(target)) == Counter(b"%d" % n for n in range(3000))


def test_a_filter_settles_what_it_drops(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    kafka.write(source, [b"%d" % n for n in range(1000)])

    assert kpipe.at(kafka.bootstrap)("forward", "-e", "-G", name, "--grep", "00$", source, target) == QUIET

    assert [r.value for r in kafka.read(target)] == [b"%d" % n for n in range(100, 1000, 100)]
    assert kafka.committed(name, source) == {0: 1000}


def test_a_bad_record_stops_before_it_and_the_commit_stays_before_it(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    kafka.write(source, [b'{"id":1}', b'{"id":2}', b"{}", b'{"id":4}'])
    command = ("forward", "-e", "-G", name, "--key-field", ".id", source, target)
    run = kpipe.at(kafka.bootstrap)

    stopped = run(*command)

    assert stopped.code == 3
    assert f"{source}[0]@2" in stopped.err
    assert kafka.committed(name, source) == {0: 2}
    assert [r.key for r in kafka.read(target)] == [b"1", b"2"]
    assert run(*command).code == 3  # it does not slip by at the next start
    assert kafka.committed(name, source) == {0: 2}

    skipped = run(*command, "--on-error", "skip")
    assert skipped.code == 1
    assert kafka.committed(name, source) == {0: 4}
    assert [r.key for r in kafka.read(target)] == [b"1", b"2", b"4"]


def test_kill_9_loses_nothing(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str) -> None:
    """Killed three times in mid-stream; each start may deliver again what was in flight or not yet committed."""
    source, target, name, count = kafka.topic(3), kafka_b.topic(3), group(), 60_000
    kafka.write(source, [Rec(b"%d" % n, key=b"%d" % n) for n in range(count)])
    command = ("forward", "-G", name, "--buffer", "1M", "-X", "source.session.timeout.ms=1500", "-X",
               "source.heartbeat.interval.ms=300", f"a:{source}", f"b:{target}")  # fmt: skip

    for _ in range(3):
        before = _end_of(kafka_b, target)
        running = kpipe.start(*command, config=config, stdin=None)
        running.wait_for(lambda before=before: _end_of(kafka_b, target) >= min(before + 3000, count), 30, "progress")
        running.signal(signal.SIGKILL)
        running.wait()
    assert kpipe(*command, "-e", config=config).code == 0

    arrived = Counter(int(r.value or b"") for r in kafka_b.read(target))
    assert sorted(arrived) == list(range(count)), "lost records"
    assert sum(arrived.values()) - count <= 3 * count
    assert max(arrived.values()) <= 4
    assert sum(kafka.committed(name, source).values()) == count


def _end_of(cluster: Cluster, topic: str) -> int:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "peek", "log_level": 0})
    try:
        return sum(
            (consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10) or (0, 0))[1] for p in range(3)
        )
    finally:
        consumer.close()


def test_it_follows_until_it_is_told_to_stop(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    kafka.write(source, [b"1"])
    running = kpipe.at(kafka.bootstrap).start("forward", "-G", name, source, target, stdin=None)
    until(lambda: len(kafka.read(target)) == 1, "the first record")
    kafka.write(source, [b"2", b"3"])
    until(lambda: len(kafka.read(target)) == 3, "the followed records")

    running.signal(signal.SIGTERM)

    assert running.wait().code == -signal.SIGTERM
    assert kafka.committed(name, source) == {0: 3}

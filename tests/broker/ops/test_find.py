"""`kpipe find`: the right partition, the newest first, and an honest word about how much was searched."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from kpipe.kafka.hashing import java_partition, librdkafka_partition
from tests.broker.lab.cluster import Rec
from tests.broker.ops.scenes import rows

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe, Result

T0 = int(time.time() * 1000) - 3_600_000


def test_the_empty_key_is_a_key(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(2)
    kafka.write(topic, [Rec(b"null"), Rec(b"empty", b""), Rec(b"other", b"k")])
    done = kpipe.at(kafka.bootstrap)("find", "--all", "--json", "--key", "", topic)
    assert [row["value"] for row in rows(done)] == ["empty"], done.err
    told = kpipe.at(kafka.bootstrap)("find", "--where", ".a ==", topic)
    assert (told.code, "--where .a ==: not a jq program" in told.err) == (2, True)


def values(result: Result) -> list[str]:
    return [json.loads(line)["value"] for line in result.out.decode().splitlines()]


def test_a_key_is_found_where_java_puts_it_and_where_librdkafka_does(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(8)
    key = next(
        b"key-%d" % n for n in range(100) if java_partition(b"key-%d" % n, 8) != librdkafka_partition(b"key-%d" % n, 8)
    )
    java, crc = java_partition(key, 8), librdkafka_partition(key, 8)
    written = [Rec(b"%d" % n, b"other-%d" % n) for n in range(50)]
    written += [Rec(b"old", key, partition=crc, timestamp=T0), Rec(b"new", key, partition=java, timestamp=T0 + 5)]
    kafka.write(topic, written)
    at = kpipe.at(kafka.bootstrap)
    assert values(at("find", "-J", topic, key.decode())) == ["new"]
    assert values(at("find", "-J", "--first", topic, key.decode())) == ["old"]
    done = at("find", "-J", "--all", topic, key.decode())
    assert (values(done), done.code) == (["new", "old"], 0)
    assert "2 of 8" not in done.err
    assert f"partitions {min(java, crc)}, {max(java, crc)} of 8" in done.err
    assert "found 2" in done.err


def test_what_hashes_elsewhere_needs_everywhere(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic(8)
    homes = {java_partition(b"k", 8), librdkafka_partition(b"k", 8)}
    kafka.write(topic, [Rec(b"here", b"k", partition=next(n for n in range(8) if n not in homes))])
    done = kpipe.at(kafka.bootstrap)("find", topic, "k")
    assert (done.code, done.out) == (5, b""), done.err
    assert "--everywhere" in done.err
    done = kpipe.at(kafka.bootstrap)("find", topic, "k", "--everywhere", "-J")
    assert (done.code, values(done)) == (0, ["here"])
    assert "all 8 partitions" in done.err


def test_the_newest_is_by_time_across_partitions_whatever_the_windows(kafka: Cluster, kpipe: Kpipe) -> None:
    """The newest stands far from the end of its partition, an older one at the very end of another."""
    topic = kafka.topic(2)
    filler = [Rec(b"filler", partition=0, timestamp=T0 + 100) for _ in range(6000)]
    kafka.write(topic, [Rec(b"hit new", partition=0, timestamp=T0 + 99), *filler])
    kafka.write(topic, [Rec(b"hit old", partition=1, timestamp=T0 + 50)])
    at = kpipe.at(kafka.bootstrap)
    assert values(at("find", "-J", topic, "--grep", "^hit")) == ["hit new"]
    assert values(at("find", "-J", topic, "--grep", "^hit", "--all")) == ["hit old", "hit new"]
    assert values(at("find", "-J", topic, "--grep", "^hit", "--first")) == ["hit old"]
    done = at("find", "-J", topic, "--grep", "nowhere")
    assert (done.code, "searched all 2 partitions: 6,002 offsets; found 0" in done.err) == (5, True)


def test_windows_of_time_and_programs(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(
        topic, [Rec(b'{"n":%d}' % n, timestamp=T0 + n * 1000) for n in range(10)] + [Rec(b"no json", timestamp=T0)]
    )
    at = kpipe.at(kafka.bootstrap)
    done = at(
        "find", "-J", "--all", "--where", ".n >= 3", "--since", f"{T0 + 2000}ms", "--until", f"{T0 + 6000}ms", topic
    )
    assert values(done) == ['{"n":5}', '{"n":4}', '{"n":3}']
    assert "could not be judged" in at("find", "--where", ".n > 100", topic).err
    assert at("find", "--where", ".n >", topic).code == 2
    assert at("find", topic).code == 2
    assert at("find", topic, "--first", "--all", "k").code == 2


def test_one_record_by_its_place(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, [b"0", b"1"])
    kafka.write(topic, [b"2"], transaction="abort")
    (last,) = kafka.write(topic, [Rec(b"last", b"0@1")])
    marker = 7 - last.offset  # the marker of the abort may be written a moment later
    at = kpipe.at(kafka.bootstrap)
    assert values(at("find", "-J", topic, "0@1")) == ["1"]
    assert values(at("find", "-J", topic, "0@2")) == ["2"]  # an aborted one is there, too
    for place, words in (
        (f"0@{marker}", "marks a transaction"),
        ("0@9", "the partition holds 0 to 4"),
        ("1@0", "no partition 1"),
    ):
        done = at("find", topic, place)
        assert (done.code, done.out) == (1, b"")
        assert words in done.err
    assert values(at("find", "-J", topic, "--key", "0@1")) == ["last"]


def test_aborted_records_and_open_transactions_are_not_found(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, [Rec(b"gone", b"k")], transaction="abort")
    assert kpipe.at(kafka.bootstrap)("find", topic, "k").code == 5
    kafka.write(topic, [Rec(b"", b"k"), Rec(None, b"k")])
    assert values(kpipe.at(kafka.bootstrap)("find", "-J", "--all", topic, "k")) == [None, ""]


def test_it_changes_nothing(kafka: Cluster, kpipe: Kpipe) -> None:
    before = kafka.topics()
    done = kpipe.at(kafka.bootstrap)("find", "no-such-topic", "k", "-X", "allow.auto.create.topics=true")
    assert (done.code, "no such topic" in done.err) == (1, True)
    assert kafka.topics() == before

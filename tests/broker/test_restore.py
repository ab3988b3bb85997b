"""`--spill FILE` and `produce --restore FILE`: what could not be delivered is sent as it was, in order, once; real Kafka."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.conftest import NewKafka
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe


def envelopes(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_spill(path: Path, *values: str) -> None:
    path.write_text(
        "".join(json.dumps({"value": value, "headers": [["source_offset", "7"]]}) + "\n" for value in values)
    )


@pytest.mark.long
def test_a_spill_holds_what_the_target_would_have_got(
    kafka: Cluster, new_kafka: NewKafka, kpipe: Kpipe, tmp_path: Path
) -> None:
    far = new_kafka()
    source, letters = kafka.topic(partitions=2), kafka.topic()
    target, restored = far.topic(partitions=2), far.topic(partitions=2)
    spill = tmp_path / "spill"
    config = (
        f'[clusters.a]\nbootstrap.servers = "{kafka.bootstrap}"\n[clusters.b]\nbootstrap.servers = "{far.bootstrap}"\n'
    )
    kafka.write(source, [Rec(b"first", partition=0)])
    running = kpipe.start(
        "forward",
        "--add-header",
        "by=kpipe",
        "--drain-timeout",
        "1",
        "--on-error",
        f"dlq:a:{letters}",
        "--spill",
        spill,
        f"a:{source}",
        f"b:{target}",
        config=config,
    )
    running.wait_for(lambda: far.read(target), 20, "the first record")
    far.broker.pause()
    records = [
        Rec(b"v\xff", key=b"k", headers=(("h", None), ("h", b"\x00")), timestamp=1_700_000_000_123, partition=1),
        Rec(None, key=b"gone", partition=1),
        Rec(b"", partition=1),
    ]
    kafka.write(source, records)
    kafka.write(source, [Rec(b"worn out", headers=(("trace_hops", b"99"),), partition=1)])
    running.wait_for(lambda: kafka.read(letters), 60, "a dead letter, which tells that what is before it was read")
    running.signal(signal.SIGTERM)
    done = running.wait()
    assert done.code == 1, done.err
    far.broker.resume()
    spilled = envelopes(spill)
    assert len(spilled) == 3, f"{spilled}\n{kafka.read(letters)}\n{done.err}"
    for envelope in spilled:
        names = [name for name, _ in envelope["headers"]]  # type: ignore[attr-defined]
        assert names.count("source_offset") == names.count("by") == 1

    done = kpipe.at(far.bootstrap)("produce", "-v", "--input", "json", "--restore", spill, restored)

    assert done.code == 0, done.err
    found = far.read(restored)
    assert len(found) == len(spilled)
    by_offset = {
        (record.headers and dict(record.headers)["source_partition"], dict(record.headers)["source_offset"]): record
        for record in found
    }
    original = by_offset[b"1", b"0"]
    assert (original.value, original.key, original.timestamp) == (b"v\xff", b"k", 1_700_000_000_123)
    assert original.headers[:2] == (("h", None), ("h", b"\x00"))
    assert by_offset[b"1", b"1"].value is None
    assert by_offset[b"1", b"2"].value == b""
    order = [
        dict(record.headers)["source_offset"]
        for record in found
        if dict(record.headers)["source_partition"] == b"1" and record.key is None
    ]
    assert order == sorted(order)


def test_a_second_run_does_not_send_twice(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    target, spill = kafka.topic(), tmp_path / "spill"
    write_spill(spill, *(f"{n:04}" for n in range(1000)))
    here = kpipe.at(kafka.bootstrap)

    done = here("produce", "--restore", spill, target)

    assert done.code == 0, done.err
    assert [record.value for record in kafka.read(target)] == [b"%04d" % n for n in range(1000)]
    assert {record.headers for record in kafka.read(target)} == {(("source_offset", b"7"),)}
    assert not spill.exists()
    assert len(envelopes(tmp_path / "spill.restored")) == 1000
    again = here("produce", "--restore", spill, target)
    assert (again.code, "cannot open" in again.err) == (2, True)
    write_spill(spill, "more")
    assert here("produce", "--restore", spill, target).code == 0
    assert (tmp_path / "spill.restored.2").exists()
    assert len(kafka.read(target)) == 1001


def test_what_is_left_is_exactly_what_was_not_delivered(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    target, spill = kafka.topic(max_message_bytes=2000), tmp_path / "spill"
    write_spill(spill, "1", "x" * 5000, "2", "y" * 5000)

    done = kpipe.at(kafka.bootstrap)("produce", "--restore", spill, target)

    assert done.code == 1, done.err
    assert "2 records are left in it" in done.err
    assert [record.value for record in kafka.read(target)] == [b"1", b"2"]
    assert [envelope["value"] for envelope in envelopes(spill)] == ["x" * 5000, "y" * 5000]


def test_a_damaged_spill_sends_nothing(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    target, spill = kafka.topic(), tmp_path / "spill"
    write_spill(spill, "1", "2")
    spill.write_text(spill.read_text()[:-5])

    done = kpipe.at(kafka.bootstrap)("produce", "--restore", spill, target)

    assert (done.code, "nothing of it was sent" in done.err) == (3, True), done.err
    assert kafka.read(target) == []


def test_a_record_that_a_transform_refused_is_not_spilled(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    target, spill = kafka.topic(), tmp_path / "spill"

    done = kpipe.at(kafka.bootstrap)("produce", "--map", ".a", "--spill", spill, target, stdin=b"bad\n")

    assert done.code == 3
    assert not spill.exists()


def test_a_spill_is_sent_as_it_is(kpipe: Kpipe, tmp_path: Path) -> None:
    write_spill(tmp_path / "spill", "1")

    done = kpipe("produce", "-b", "127.0.0.1:1", "--restore", tmp_path / "spill", "-k", "key", "target")

    assert (done.code, "drop --key" in done.err) == (2, True), done.err

"""A broker refuses a batch for one record of it: the others arrive, in order, and one line names the culprit.

What a broker alone can know is had here by times a little beyond its limit: kpipe checks them too, but leaves a minute
for clocks that differ. Real Kafka.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.broker.lab import LabError
from tests.broker.lab.cluster import Rec

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

ANY_TIME = {"message_timestamp_after_max_ms": 9223372036854775807}
BATCH = 400


def soon() -> int:
    """A time that the broker refuses and kpipe cannot be sure of: half a minute past an hour ahead."""
    return int(time.time() * 1000) + 3_600_000 + 30_000


def alter(cluster: Cluster, topic: str, **configs: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in configs.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    cluster.admin.incremental_alter_configs([resource])[resource].result(20)


def mixed(culprits: set[int], count: int = BATCH) -> list[Rec]:
    """Records of 30 keys; those with these numbers have a time that is refused."""
    late = soon()
    return [
        Rec(b"%06d" % number, b"k%d" % (number % 30), (("h", b"1"),), late if number in culprits else -1)
        for number in range(count)
    ]


def lines(records: list[Rec]) -> bytes:
    rows = []
    for record in records:
        row: dict[str, object] = {"value": (record.value or b"").decode(), "headers": [["h", "1"]]}
        row |= {"key": (record.key or b"").decode()} if record.key is not None else {}
        row |= {"timestamp": record.timestamp} if record.timestamp >= 0 else {}
        rows.append(json.dumps(row))
    return "\n".join([*rows, ""]).encode()


def in_order(cluster: Cluster, topic: str, expected: list[Rec]) -> None:
    """Each once, and those of one key in the order given."""
    found = cluster.read(topic)
    assert sorted(record.value or b"" for record in found) == [record.value for record in expected]
    keys = {record.key for record in expected}
    for key in keys:
        values = [record.value for record in found if record.key == key]
        assert values == [record.value for record in expected if record.key == key], key


CULPRITS = [{200}, {0}, {BATCH - 1}, {3, 33, 34, 63, 390}]


@pytest.mark.parametrize("culprits", CULPRITS, ids=["middle", "first", "last", "many"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_produce_skips_the_culprit_only(kafka: Cluster, kpipe: Kpipe, culprits: set[int], size: str) -> None:
    """A small input goes by another producer (without a producer id) than one that is longer than a pipe holds."""
    target = kafka.topic(3)
    records = mixed(culprits, BATCH if size == "small" else 6000)

    done = kpipe.at(kafka.bootstrap)(
        "produce", "--input", "json", "--on-error", "skip", "-v", target, stdin=lines(records)
    )

    good = f"{len(records) - len(culprits):,}"
    assert f"{len(records):,} read, {good} delivered, {len(culprits)} failed" in done.err, done.err
    in_order(kafka, target, [record for number, record in enumerate(records) if number not in culprits])
    named = [line for line in done.err.splitlines() if "stdin:" in line]
    assert [line.partition("stdin:")[2].partition(" ")[0] for line in named] == [str(n + 1) for n in sorted(culprits)]
    assert done.code == 1


HESITATING = """
import time
import confluent_kafka

class Hesitating(confluent_kafka.Producer):
    given = 0

    def produce(self, *arguments, **named):
        self.given += 1
        if self.given == 200:
            time.sleep(0.1)
        super().produce(*arguments, **named)

confluent_kafka.Producer = Hesitating
"""
"""A client that takes a pause in the middle of an input, as on a busy machine."""


@pytest.mark.parametrize("policy", ["skip", "dlq"])
def test_a_small_input_is_one_batch_however_long_it_takes(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path, policy: str
) -> None:
    """What came 5 ms later was a batch of its own, and overtook those that were sent again for a culprit among them."""
    target, letters = kafka.topic(), kafka.topic(**ANY_TIME)
    records = mixed({0})
    (tmp_path / "sitecustomize.py").write_text(HESITATING)

    done = kpipe.at(kafka.bootstrap)(
        "produce", "--input", "json", "--on-error", "skip" if policy == "skip" else f"dlq:{letters}", target,
        stdin=lines(records), env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip

    assert done.code == (1 if policy == "skip" else 0), done.err
    assert [record.value for record in kafka.read(letters)] == ([] if policy == "skip" else [records[0].value])
    in_order(kafka, target, records[1:])


def test_produce_stops_at_the_culprit_and_names_it(kafka: Cluster, kpipe: Kpipe) -> None:
    target = kafka.topic(3)
    records = mixed({200})

    done = kpipe.at(kafka.bootstrap)("produce", "--input", "json", target, stdin=lines(records))

    assert done.code == 1
    assert done.err.startswith("kpipe: send: stdin:201 -> "), done.err
    found = {record.value for record in kafka.read(target)}
    assert {record.value for record in records[:200]} <= found
    behind = {record.value for record in records[200:] if record.key == records[200].key}
    assert found.isdisjoint(behind), "nothing overtakes the record in its partition"


def test_produce_sets_only_the_culprit_aside(kafka: Cluster, kpipe: Kpipe) -> None:
    target, letters = kafka.topic(3), kafka.topic(1)
    records = mixed({200, 201})

    done = kpipe.at(kafka.bootstrap)(
        "produce", "--input", "json", "--on-error", f"dlq:{letters}", target, stdin=lines(records)
    )

    assert done.code == 0, done.err
    in_order(kafka, target, [record for number, record in enumerate(records) if number not in (200, 201)])
    assert [record.value for record in kafka.read(letters)] == [b"000200", b"000201"]


@pytest.mark.parametrize("more", [(), ("--report",), ("--spill", "left.jsonl"), ("--through", "cat")], ids=str)
def test_lines_for_a_topic_that_becomes_compacted_in_mid_run(
    kafka: Cluster, kpipe: Kpipe, more: tuple[str, ...]
) -> None:
    """By the column, and one by one; a line without a key is the culprit, and the others of its block arrive."""
    target = kafka.topic(1)
    running = kpipe.at(kafka.bootstrap).start("produce", "-K", ":", "--on-error", "skip", "-v", *more, target)
    running.write(b"".join(b"k%d:%06d\n" % (n, n) for n in range(3000)))
    running.wait_for(lambda: len(kafka.read(target)) == 3000)
    alter(kafka, target, cleanup_policy="compact")

    def refuses() -> bool:
        try:
            kafka.write(target, [b"no key"])
        except LabError:
            return True
        return False

    running.wait_for(refuses)
    before = len(kafka.read(target))
    block = [b"k%d:%06d\n" % (n, n) for n in range(3000, 6000)]
    block[1500] = b"no key\n"
    running.write(b"".join(block))
    running.close_stdin()
    done = running.wait()

    assert done.code == 1, done.err
    (named,) = [line for line in done.err.splitlines() if "stdin:" in line and "skipped" in line]
    assert "stdin:4501 -> " in named
    found = [record.value for record in kafka.read(target)][before:]
    assert found == [b"%06d" % n for n in range(3000, 6000) if n != 4500]


WAYS = {
    "plain": (),
    "group": ("-G", "GROUP"),
    "exactly once": ("-G", "GROUP", "--exactly-once"),
    "resume": ("-G", "GROUP", "--resume-by-trace"),
    "through": ("--through", "cat"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("policy", ["skip", "dlq", "stop"])
def test_forward_finds_the_culprit_in_every_way(kafka: Cluster, kpipe: Kpipe, way: str, policy: str) -> None:
    source, target, letters = kafka.topic(3, **ANY_TIME), kafka.topic(3), kafka.topic(1)
    culprits = {200, 1215}
    records = mixed(culprits, 1500)
    kafka.write(source, records)
    words = [f"g-{source}" if word == "GROUP" else word for word in WAYS[way]]
    what = f"dlq:{letters}" if policy == "dlq" else policy

    done = kpipe.at(kafka.bootstrap)("forward", "-e", "-v", *words, "--on-error", what, source, target)

    good = [record for number, record in enumerate(records) if number not in culprits]
    found = {record.value for record in kafka.read(target)}
    assert found.isdisjoint({b"%06d" % number for number in culprits}), done.err
    if policy == "stop":
        assert (done.code, done.err.startswith(f"kpipe: send: {source}[")) == (1, True), done.err
        assert any(f"]@{at} -> " in done.err.splitlines()[0] for at in offsets(kafka, source, culprits)), done.err
        return
    assert done.code == (0 if policy == "dlq" else 1), done.err
    in_order(kafka, target, good)
    if policy == "dlq":
        assert sorted(record.value or b"" for record in kafka.read(letters)) == [b"%06d" % n for n in sorted(culprits)]
    else:
        assert len([line for line in done.err.splitlines() if "skipped" in line]) == len(culprits), done.err
    if "GROUP" in WAYS[way]:
        ends = {p: 1 + max(r.offset for r in kafka.read(source, p)) for p in range(3)}
        assert kafka.committed(f"g-{source}", source) == ends


def offsets(cluster: Cluster, topic: str, numbers: set[int]) -> list[int]:
    return [record.offset for record in cluster.read(topic) if int(record.value or b"") in numbers]


def test_also_and_route_blame_the_topic_that_refused(kafka: Cluster, kpipe: Kpipe) -> None:
    """The further topic refuses what the first one takes; records are on both, but for the culprit."""
    source, first, second = kafka.topic(1, **ANY_TIME), kafka.topic(1, **ANY_TIME), kafka.topic(1)
    records = mixed({200})
    kafka.write(source, records)

    done = kpipe.at(kafka.bootstrap)(
        "forward", "-e", "-G", f"g-{source}", "--on-error", "skip", "--also", second, source, first
    )

    assert f"]@200 -> {kafka.bootstrap}/{second}: " in done.err, done.err
    assert done.err.count("skipped") == 1
    in_order(kafka, second, [record for number, record in enumerate(records) if number != 200])
    in_order(kafka, first, records)

    routed = kafka.topic(1)
    rename = f"^.*$={routed}"
    done = kpipe.at(kafka.bootstrap)("forward", "-e", "--on-error", "skip", "--rename-topic", rename, source, first)
    assert f"]@200 -> {kafka.bootstrap}/{routed}: " in done.err, done.err
    in_order(kafka, routed, [record for number, record in enumerate(records) if number != 200])


def test_a_small_input_for_a_topic_that_takes_little(kafka: Cluster, kpipe: Kpipe) -> None:
    """A one-shot does not ask what the topic takes: the batch is too large, and none of its lines is."""
    target = kafka.topic(1, max_message_bytes=2000)

    done = kpipe.at(kafka.bootstrap)("produce", target, stdin=b"".join(b"%0100d\n" % n for n in range(100)))

    assert done.code == 0, done.err
    assert [int(record.value or b"") for record in kafka.read(target)] == list(range(100))


def test_copies_of_a_split_record_are_sent_again_each_once(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(1, **ANY_TIME), kafka.topic(3)
    late = soon()
    kafka.write(
        source,
        [
            Rec(json.dumps([f"{n}-{i}" for i in range(3)]).encode(), timestamp=late if n == 50 else -1)
            for n in range(100)
        ],
    )

    done = kpipe.at(kafka.bootstrap)("forward", "-e", "--on-error", "skip", "--split", ".[]", source, target)

    expected = {f'"{n}-{i}"'.encode() for n in range(100) if n != 50 for i in range(3)}
    values = [record.value for record in kafka.read(target)]
    assert (set(values), len(values)) == (expected, len(expected)), done.err
    assert done.err.count("skipped") == 1, done.err

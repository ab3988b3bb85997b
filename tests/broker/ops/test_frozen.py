"""The JSON of looking commands is a contract: fields, their order and kinds are those of shapes/*.txt.

KPIPE_REGEN=1 writes what came instead; a field that goes or changes its kind needs another `version`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.broker.lab.cluster import Rec
from tests.broker.ops.scenes import commit, looked, member, name, rows

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

OPEN = (".config", ".headers", ".json_paths")
"""Objects whose names are those of what was found."""
SHAPES = Path(__file__).with_name("shapes")


def shape(value: Any, path: str = "") -> list[str]:
    """A line a field: its path and kind; the values of a list are taken for those of its first."""
    if isinstance(value, dict) and path not in OPEN:
        return [line for field, inner in value.items() for line in shape(inner, f"{path}.{field}")]
    if isinstance(value, list) and value:
        return shape(value[0], f"{path}[]")
    return [f"{path} {'null' if value is None else type(value).__name__}"]


def frozen(command: str, row: dict[str, Any]) -> None:
    lines = "".join(f"{line}\n" for line in shape(row))
    file = SHAPES / f"{command}.txt"
    if os.environ.get("KPIPE_REGEN"):
        SHAPES.mkdir(exist_ok=True)
        file.write_text(lines)
    assert lines == file.read_text()


def test_the_json_is_frozen(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group = kafka.topic(retention_ms=100_000_000), name()
    kafka.write(topic, [Rec(b"x"), Rec(b"y")])
    commit(kafka, group, {(topic, 0): 1})
    kpipe = kpipe.at(kafka.bootstrap)
    (row,) = looked(kpipe, "topics", topic)
    frozen("topics", row)
    (row,) = looked(kpipe, "topics", topic, "--partitions")
    frozen("topics-partitions", row)
    (row,) = looked(kpipe, "topics", topic, "--at", "-1h")
    frozen("topics-at", row)
    with member(kafka, group, topic):
        (row,) = looked(kpipe, "groups", group)
    frozen("groups", row)


def test_the_json_of_trace_and_stat_is_frozen(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    topic, copy = kafka.topic(), kafka_b.topic()
    kafka.write(topic, [Rec(b'{"a":1}', b"k", (("h", b"v"),)), Rec(None, b"k")])
    config = "".join(
        f'[clusters.{cluster}]\n"bootstrap.servers" = "{each.bootstrap}"\n'
        for cluster, each in (("a", kafka), ("b", kafka_b))
    )
    assert kpipe("forward", "-e", "-G", name(), f"a:{topic}", f"b:{copy}", config=config).code == 0
    hops = looked(kpipe, "trace", f"b:{copy}", "0@0", config=config)
    assert len(hops) == 2
    frozen("trace-record", hops[0])
    frozen("trace-hop", hops[1])
    (row,) = looked(kpipe, "trace", "--onward", "--to", f"b:{copy}", f"a:{topic}", "0@0", config=config)
    frozen("trace-onward", row)
    (row,) = looked(kpipe, "stat", f"a:{topic}", config=config)
    frozen("stat", row)


def test_the_json_of_plans_is_frozen(kafka: Cluster, kpipe: Kpipe) -> None:
    kpipe = kpipe.at(kafka.bootstrap)
    topic, group, new = kafka.topic(), name(), name("new")
    kafka.write(topic, [Rec(b"x"), Rec(b"y")])
    commit(kafka, group, {(topic, 0): 1}, "mine")
    for verb, words in {
        "create-topic": ("create-topic", f"{new}:2", "--replication", "1", "--config", "retention.ms=1000"),
        "alter-topic": ("alter-topic", topic, "--config", "retention.ms=1000"),
        "add-partitions": ("alter-topic", topic, "--partitions", "2"),
        "delete-records": ("delete-records", topic, "--before", "1"),
        "delete-topic": ("delete-topic", topic),
        "delete-group": ("delete-group", group),
        "reset-offsets": ("reset-offsets", "-G", group, "--to", "beginning"),
    }.items():
        (row,) = admin(kpipe, *words)
        assert row["version"] == 1
        frozen(f"admin-{verb}", row)


def test_the_json_of_a_dump_and_a_load_is_frozen(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    kpipe = kpipe.at(kafka.bootstrap)
    topic, copy, group = kafka.topic(), kafka.topic(), name()
    kafka.write(topic, [Rec(b"x"), Rec(b"y")])
    commit(kafka, group, {(topic, 0): 1})
    assert kpipe("dump", "--summary", tmp_path / "summary", topic, tmp_path / "d").code == 0
    frozen("dump-summary", json.loads((tmp_path / "summary").read_bytes()))
    frozen("dump-manifest", json.loads((tmp_path / "d" / "manifest.json").read_bytes()) | {"config": {}})
    done = kpipe("load", "--groups", "--group", group, "--json", "--summary", tmp_path / "again", tmp_path / "d", copy)
    assert done.code == 0, done.err
    frozen("load-summary", json.loads((tmp_path / "again").read_bytes()))
    (row,) = rows(done)
    frozen("admin-reset-offsets", row | {"current": 1})


def admin(kpipe: Kpipe, verb: str, *words: str) -> list[dict[str, Any]]:
    result = kpipe("admin", verb, *words, "--json")
    assert result.code == 0, result.err
    return rows(result)

"""The JSON of looking commands is a contract: fields, their order and kinds are those of shapes/*.txt.

KPIPE_REGEN=1 writes what came instead; a field that goes or changes its kind needs another `version`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.broker.lab.cluster import Rec
from tests.broker.ops.scenes import commit, looked, member, name

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

SHAPES = Path(__file__).with_name("shapes")


def shape(value: Any, path: str = "") -> list[str]:
    """A line a field: its path and kind; the values of a list are taken for those of its first."""
    if isinstance(value, dict) and path != ".config":
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

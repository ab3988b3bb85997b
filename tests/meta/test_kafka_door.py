"""`kpipe/kafka/` is the one door to a cluster: who else asks it, or reads the names of its errors, is found here."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from kpipe.kafka.errors import KINDS
from tests.meta.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = ROOT / "kpipe"
FILES = sorted(PACKAGE.rglob("*.py"))
QUERIES = {
    "get_watermark_offsets",
    "list_topics",
    "offsets_for_times",
    "list_offsets",
    "list_consumer_groups",
    "list_consumer_group_offsets",
    "describe_topics",
    "describe_configs",
    "describe_consumer_groups",
    "describe_cluster",
}
"""What the client's consumers, producers and admin clients are asked with. `committed` is told by its `timeout`."""


def queries(text: str) -> list[str]:
    """Questions that a module asks the client itself."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = {keyword.arg for keyword in node.keywords}
            if node.func.attr in QUERIES or (node.func.attr == "committed" and "timeout" in named):
                found.append(ast.unparse(node.func))
    return found


def names_of_errors(text: str) -> Iterator[str]:
    """Where a module looks at the name or the number of a client's error: a kind or a cause that nobody else sees."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if (node.value in KINDS and "_" in node.value) or node.value in ("AUTHORIZATION", "AUTHENTICATION"):
                yield node.value
        elif isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                call = side.func if isinstance(side, ast.Call) else None
                if isinstance(call, ast.Attribute) and call.attr in ("name", "code") and not side.args:
                    yield ast.unparse(side)
                if isinstance(call, ast.Name) and call.id == "name_of":
                    yield ast.unparse(side)


def in_the_room(path: Path) -> bool:
    return path.parent == PACKAGE / "kafka"


def test_nobody_else_asks_a_cluster() -> None:
    found = {str(path.relative_to(PACKAGE)): queries(path.read_text()) for path in FILES if not in_the_room(path)}
    assert {path: names for path, names in found.items() if names} == {}


def test_nobody_else_compares_names_of_errors() -> None:
    """A name that is compared somewhere else is a kind that nobody sees."""
    home = PACKAGE / "kafka" / "errors.py"
    found = {str(path.relative_to(PACKAGE)): [*names_of_errors(path.read_text())] for path in FILES if path != home}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "self.consumer.list_topics(timeout=1)",
        "consumer.committed(asked, timeout=1)",
        "admin_of(cluster).list_offsets(wanted)",
    ],
)
def test_a_question_beside_the_door_is_seen(line: str) -> None:
    assert queries(line)
    assert not queries("hooks.committed(error, partitions); questions.committed(connection, names)")


@pytest.mark.parametrize("line", ["error.name() == x", "x in error.args[0].code()", "name_of(e) == y", "'_TRANSPORT'"])
def test_a_comparison_beside_the_table_is_seen(line: str) -> None:
    assert [*names_of_errors(line)]
    assert not [*names_of_errors("kind_of(error) is Kind.AWAY; str(error.name()); member.name == 'a'")]

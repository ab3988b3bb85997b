"""Which test files can run a module at all: those that import it, or import what imports it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parent.parent.parent


def test_files(modules: Iterable[str]) -> list[str]:
    """The files of unit tests that reach one of these modules (`kpipe/ledger.py`), relative to the repository."""
    wanted = set(modules)
    files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests/unit").rglob("test_*.py"))
    return [file for file in files if wanted & _reached(file)]


def _reached(file: str) -> set[str]:
    found, todo = {file}, [file]
    while todo:
        for other in _imported(todo.pop()):
            if other not in found:
                found.add(other)
                todo.append(other)
    return found


@cache
def _imported(file: str) -> frozenset[str]:
    """What a file imports anywhere but for types, as files of this repository."""
    found: set[str] = set()
    for name in _names(ast.parse((ROOT / file).read_text())):
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            base = "/".join(parts[:end])
            beside = Path(file).parent / base
            found.update(
                path for path in (f"{base}.py", f"{base}/__init__.py", f"{beside}.py") if (ROOT / path).is_file()
            )
    return frozenset(found)


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{each.name}" for each in node.names)
    for child in ast.iter_child_nodes(node):
        yield from _names(child)

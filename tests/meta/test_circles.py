"""No module needs itself: the imports of `kpipe` have no circle, not even inside a room, in a function or for types."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from tests.meta.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping


def modules() -> dict[str, str]:
    """The text of each module, by its name."""
    found = {}
    for path in sorted((ROOT / "kpipe").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def imports_of(text: str, names: Mapping[str, str]) -> set[str]:
    """The modules that a module imports, wherever in its text: in functions and for types as well."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{each.name}" for each in node.names}
            found |= {name if name in names else node.module for name in inside}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
    return found & names.keys()


def circle(texts: Mapping[str, str]) -> list[str]:
    """One circle of imports, from a module back to itself; empty when there is none."""
    try:
        TopologicalSorter({name: imports_of(text, texts) for name, text in texts.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_imports_run_in_a_circle() -> None:
    texts = modules()
    assert len(texts) > 200
    assert circle(texts) == []


def test_a_circle_is_found_wherever_it_is_closed() -> None:
    typed = "if TYPE_CHECKING:\n    from kpipe.a import A\n"
    hidden = "def f():\n    from kpipe import a\n"
    for back in (typed, hidden, "import kpipe.a\n"):
        texts = {"kpipe": "", "kpipe.a": "from kpipe.b import B\n", "kpipe.b": back}
        assert set(circle(texts)) == {"kpipe.a", "kpipe.b"}

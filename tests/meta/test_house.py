"""The house: rooms, sizes, what may be imported where, and how long a start may take."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kpipe.cli import manual_text
from tests.meta.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = ROOT / "kpipe"
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.stem for path in PACKAGE.iterdir() if (path.suffix == ".py" or (path / "__init__.py").exists()))
ROOMS = [room for room in ROOMS if not room.startswith("__")]
TABLES = {
    "cli/manual.py": "a page is many small pieces",
    "cli/messages.py": "the table of messages",
    "options.py": "the table of options",
    "transform/registry.py": "the table of transforms",
}
"""Files that may be longer than MAX_FILE, and why."""
CLIENT_WORDS = {
    "test_cluster_properties.py",
    "test_commit.py",
    "test_kafka_errors.py",
    "test_librdkafka.py",
    "test_lookups.py",
    "test_scale_growth.py",
    "test_topic_ids.py",
    "test_transaction.py",
    "test_troubles.py",
    "test_target_tail.py",
    "test_topic_sink.py",
}
"""Unit tests that need the client's own words: its properties, its errors and their names."""
FUNCTION, FILE = 60, 500
MEDIAN, P90 = 8, 25
PRIVATE = {"KPIPE_WORKER"}
"""Variables that kpipe sets for its own processes, and no person may."""
TYPER = {"typer", "uuid"}
"""What `import typer` itself loads."""


def body_lines(function: ast.FunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    first = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return function.end_lineno - first[0].lineno + 1 if first else 0


def functions() -> dict[str, int]:
    found = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                found[f"{path.relative_to(PACKAGE)}:{node.name}"] = body_lines(node)
    return found


def test_rooms_are_those_of_the_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(contract for contract in settings["contracts"] if contract["type"] == "layers")
    named = sorted(room.strip() for layer in layers["layers"] for room in layer.split("|"))
    assert named == ROOMS
    assert layers["exhaustive"]


def test_imports_keep_the_contract() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


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


def test_architecture_names_every_room_and_existing_files() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert len(text.splitlines()) <= 150
    assert [room for room in ROOMS if not re.search(rf"`(kpipe/)?{room}(/|\.py|`)", text)] == []
    missing = [
        path
        for path in re.findall(r"`((?:kpipe|tests|examples|bench|man|docs)/[\w/.-]+?)(?:::\w+)?`", text)
        if not (ROOT / path).exists()
    ]
    assert missing == []


def test_architecture_names_tests_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    guards = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(guards) >= 8
    assert [guard for guard in guards if f"def {guard[1]}(" not in (ROOT / guard[0]).read_text()] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_has_one_idea_and_says_which(path: Path) -> None:
    text = path.read_text()
    name = str(path.relative_to(PACKAGE))
    assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert path.stem not in ("utils", "helpers", "common", "base", "manager")
    assert len(text.splitlines()) <= FILE or name in TABLES


def test_a_name_of_a_class_means_one_thing() -> None:
    """What a file keeps to itself (`_Reader`) may be called as its neighbour's; all others are met by readers."""
    homes: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            alias = isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias"
            if isinstance(node, ast.ClassDef) or alias:
                name = node.name if isinstance(node, ast.ClassDef) else ast.unparse(node.target)
                homes.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    twice = {name for name, paths in homes.items() if len(paths) > 1 and not name.startswith("_")}
    assert twice == set()


def test_functions_are_small() -> None:
    sizes = functions()
    ordered = sorted(sizes.values())
    assert {name: size for name, size in sizes.items() if size > FUNCTION} == {}
    assert statistics.median(ordered) <= MEDIAN
    assert ordered[len(ordered) * 9 // 10] <= P90


def test_the_median_counts_bodies() -> None:
    source = 'def f(a,\n      b):\n    """Text.\n\n    More.\n    """\n    x = a\n    return x\n'
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert body_lines(function) == 2


def test_unit_tests_import_no_client() -> None:
    pattern = re.compile(r"^\s*(?:import|from)\s+(?:confluent_kafka|tests\.broker)", flags=re.MULTILINE)
    found = [path.name for path in (ROOT / "tests" / "unit").rglob("*.py") if pattern.search(path.read_text())]
    assert set(found) == CLIENT_WORDS


def test_every_variable_that_is_read_is_in_the_manual() -> None:
    named = {name for name, _ in manual_text.ENVIRONMENT}
    read = {
        name
        for path in FILES
        if path.name not in ("registry.py", "context.py")
        for name in re.findall(r"\"(KPIPE_[A-Z_]*[A-Z]|KAFKA_BOOTSTRAP_SERVERS|XDG_CONFIG_HOME)\"", path.read_text())
    }
    assert read - named == PRIVATE


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        ("from kpipe.__main__ import main; sys.argv[1:] = ['--version']; main()", set()),
        ("import kpipe.cli", TYPER),
        ("from kpipe.cli.tab import complete; complete([], 'pro')", TYPER),
        ("from kpipe.cli.tab import complete; complete(['produce', '--input'], '')", TYPER),
    ],
)
def test_a_start_imports_nothing_heavy(call: str, allowed: set[str]) -> None:
    heavy = ("typer", "rich", "confluent_kafka", "orjson", "jq", "asyncio", "uuid", "msgspec", "pydantic")
    program = f"import sys; {call}\nprint(*[name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stderr.split()) - allowed == set()

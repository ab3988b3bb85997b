"""Changes one thing at a time in the rooms of the promise, and shows which changes the unit tests let live.

    python -m tests.mutants [--sample 30] [--seed 1] [--least 90] [MODULE ...]        MODULE: kpipe/ledger.py

A mutant is a comparison turned or moved by one, an `and` for an `or`, a part of a condition left out, a constant changed,
a word taken out of a table, a statement deleted, a function that returns at once. Each runs in a process of its own,
with the unit tests that execute its line and no others; which these are is traced once. Nothing is written to kpipe/.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import importlib.abc
import importlib.util
import os
import pickle
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parent.parent
TESTS = ("tests/unit",)
MODULES = (
    "kpipe/ledger.py",
    "kpipe/run_state.py",
    "kpipe/trace.py",
    "kpipe/record.py",
    "kpipe/pipeline.py",
    "kpipe/delivery/commit.py",
    "kpipe/delivery/at_least_once.py",
    "kpipe/delivery/resume.py",
    "kpipe/delivery/tail.py",
    "kpipe/delivery/exactly_once.py",
    "kpipe/delivery/transaction.py",
    "kpipe/sinks/topic.py",
    "kpipe/sinks/dead_letters.py",
    "kpipe/sources/gaps.py",
    "kpipe/formats/envelope.py",
)
LIMIT = 20.0
"""Seconds for one mutant, beyond three times what its tests take: one that never ends is noticed, so it is dead."""
LIVED, DIED = 0, 1
Lines: TypeAlias = "dict[str, dict[int, set[str]]]"

TURNED: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
SIGNS: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv}
DELETED = (ast.Expr, ast.Assign, ast.AugAssign, ast.Delete, ast.Return, ast.Raise, ast.Break, ast.Continue)


@dataclass(slots=True)
class Mutant:
    """One change: `tree` is the whole module with it, `lines` are those of which a test must run one to see it."""

    line: int
    text: str
    tree: ast.Module
    lines: range
    everywhere: bool = False
    """Whether it stands outside of functions, where it runs when the module is imported."""
    tests: list[str] = field(default_factory=list)


# --- making them --------------------------------------------------------------------------------------------------


def mutants_of(source: str) -> Iterator[Callable[[], Mutant]]:
    """Every mutant of a module, made when it is wanted: a sample is drawn from them."""
    tree = ast.parse(source)
    for spot in _spots(tree):
        for change, text in _changes(spot.node):
            yield lambda spot=spot, change=change, text=text: spot.make(tree, change, text)  # type: ignore[misc]


@dataclass(slots=True)
class _Spot:
    """A node that may be changed; `path` leads to it from the module, `statement` is the one it stands in."""

    node: ast.AST
    path: tuple[tuple[str, int | None], ...]
    statement: ast.stmt
    everywhere: bool

    def make(self, tree: ast.Module, change: Callable[[Any], ast.AST], text: str) -> Mutant:
        mutated = copy.deepcopy(tree)
        parent: Any = mutated
        for name, place in self.path[:-1]:
            parent = getattr(parent, name) if place is None else getattr(parent, name)[place]
        name, place = self.path[-1]
        old = getattr(parent, name) if place is None else getattr(parent, name)[place]
        new = ast.copy_location(change(old), old)
        if place is None:
            setattr(parent, name, new)
        else:
            getattr(parent, name)[place] = new
        ast.fix_missing_locations(mutated)
        first = self.node.body[0] if isinstance(self.node, ast.FunctionDef) else self.node
        line: int = getattr(self.node, "lineno", self.statement.lineno)
        start, end = getattr(first, "lineno", line), getattr(first, "end_lineno", line)
        if isinstance(self.node, ast.FunctionDef):
            start, end = self.node.body[0].lineno, self.node.body[-1].end_lineno or line
        elif isinstance(self.statement, ast.If | ast.While | ast.For | ast.With | ast.Try):
            start, end = self.statement.lineno, max(line, end)
        else:
            start, end = self.statement.lineno, self.statement.end_lineno or end
        return Mutant(line, text, mutated, range(start, end + 1), self.everywhere)


def _spots(tree: ast.Module) -> Iterator[_Spot]:
    def walk(node: ast.AST, path: tuple[tuple[str, int | None], ...], statement: Any, inside: bool) -> Iterator[_Spot]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) in {"Protocol", "Enum"} for base in node.bases):
            return
        statement = node if isinstance(node, ast.stmt) else statement
        if path and not _is_text(node):
            yield _Spot(node, path, statement, not inside)
        inside = inside or isinstance(node, ast.FunctionDef)
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "bases", "names", "type_params"}:
                continue
            for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.AST):
                    yield from walk(child, (*path, (name, place)), statement, inside)

    yield from walk(tree, (), None, False)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changes(node: ast.AST) -> Iterator[tuple[Callable[[Any], ast.AST], str]]:
    """What may be done to a node, in words of Python."""
    yield from _changes_of_expression(node)
    if isinstance(node, ast.FunctionDef) and not all(_is_text(each) for each in node.body):
        nothing = ast.Return(ast.Constant(None))
        yield lambda old: _with(old, body=[nothing]), f"body of {node.name} -> return None"
    elif isinstance(node, DELETED):
        yield lambda _old: ast.Pass(), f"{_short(node)} -> pass"


def _changes_of_expression(node: ast.AST) -> Iterator[tuple[Callable[[Any], ast.AST], str]]:
    if isinstance(node, ast.Compare):
        for place, op in enumerate(node.ops):
            for turned in TURNED.get(type(op), ()):
                ops = [turned() if number == place else each for number, each in enumerate(node.ops)]
                yield _becomes(node, ast.Compare(node.left, ops, node.comparators))
    elif isinstance(node, ast.BoolOp):
        yield _becomes(node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
        for place in range(len(node.values)):
            rest = [each for number, each in enumerate(node.values) if number != place]
            yield _becomes(node, rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _becomes(node, node.operand)
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in SIGNS and not _joins_text(node):
        sign = SIGNS[type(node.op)]()
        yield lambda old: _with(old, op=sign), f"{_short(node)}: {type(node.op).__name__} -> {type(sign).__name__}"
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = not node.value if isinstance(node.value, bool) else node.value + 1
        yield _becomes(node, ast.Constant(value))
    elif isinstance(node, ast.Tuple | ast.Set | ast.List) and isinstance(getattr(node, "ctx", None), ast.Load | None):
        for place, word in enumerate(node.elts):
            if isinstance(word, ast.Constant) and isinstance(word.value, str) and len(node.elts) > 1:
                rest = [each for number, each in enumerate(node.elts) if number != place]
                yield lambda old, rest=rest: _with(old, elts=rest), f"{_short(node)} without {word.value!r}"  # type: ignore[misc]


def _joins_text(node: ast.BinOp | ast.AugAssign) -> bool:
    sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.value,)
    return any(isinstance(side, ast.JoinedStr) or isinstance(getattr(side, "value", None), str) for side in sides)


def _becomes(old: ast.expr, new: ast.expr) -> tuple[Callable[[Any], ast.AST], str]:
    return lambda _old: copy.deepcopy(new), f"{_short(old)} -> {_short(new)}"


def _with(node: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(node, name, copy.deepcopy(value))
    return node


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:87]}..."


# --- running them -------------------------------------------------------------------------------------------------


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module its mutant instead of its file."""

    def __init__(self, module: str, code: Any) -> None:
        self._name, self._code = module.removesuffix(".py").replace("/", "."), code

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        exec(self._code, module.__dict__)


class _Quick:
    """Property tests draw few examples, always the same."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: Any) -> None:
        from hypothesis import HealthCheck, settings

        settings.register_profile(
            "mutants",
            deadline=None,
            derandomize=True,
            max_examples=25,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutants")


class _Tracer(_Quick):
    """Which tests run which lines of the modules."""

    def __init__(self, files: dict[str, str]) -> None:
        self.lines: dict[str, dict[int, set[str]]] = {module: defaultdict(set) for module in files.values()}
        self.seconds: dict[str, float] = {}
        self._files, self._test = files, ""

    def _call(self, frame: Any, _event: str, _arg: Any) -> Any:
        module = self._files.get(frame.f_code.co_filename)
        if module is None:
            return None
        lines, test = self.lines[module], self._test

        def line(frame: Any, event: str, _arg: Any) -> Any:
            if event == "line":
                lines[frame.f_lineno].add(test)
            return line

        return line

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: Any) -> Any:
        self._test, began = item.nodeid, time.monotonic()
        threading.settrace(self._call)
        sys.settrace(self._call)
        yield
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        self.seconds[item.nodeid] = time.monotonic() - began


def in_child(what: Callable[[], int], limit: float = 0.0) -> int:
    """The exit code of `what` in a process of its own, silent; DIED when it takes longer than `limit` seconds."""
    child = os.fork()
    if child == 0:
        code = DIED
        try:
            os.setpgid(0, 0)
            with open(os.devnull, "r+b") as nothing:
                for number in (0, 1, 2):
                    os.dup2(nothing.fileno(), number)
            code = what()
        finally:
            os._exit(code)
    deadline = time.monotonic() + limit
    while limit and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            break
        time.sleep(0.01)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else DIED


def run_tests(tests: Sequence[str], plugin: object) -> int:
    """Run these tests here, until the first one fails."""
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests], plugins=[plugin]))


def lines_of(modules: Sequence[str], tests: Sequence[str]) -> tuple[Lines, dict[str, float]]:
    """module -> line -> the tests that run it, and how many seconds each test takes; traced in a process of its own."""
    with tempfile.TemporaryFile() as file:

        def trace() -> int:
            tracer = _Tracer({str(ROOT / module): module for module in modules})
            code = run_tests(tests, tracer)
            pickle.dump(({module: dict(lines) for module, lines in tracer.lines.items()}, tracer.seconds), file)
            file.flush()
            return code

        if in_child(trace):
            sys.exit("mutants: the unit tests fail as they are; mend them first: make unit")
        file.seek(0)
        return pickle.load(file)  # type: ignore[no-any-return]


def fate(module: str, mutant: Mutant, limit: float) -> str:
    """`killed`, `survived`, or `unrun`: no unit test runs the line."""
    if not mutant.tests:
        return "unrun"

    def run() -> int:
        try:
            code = compile(mutant.tree, str(ROOT / module), "exec")
        except (SyntaxError, ValueError):
            return DIED
        sys.meta_path.insert(0, _Mutated(module, code))
        return LIVED if run_tests(mutant.tests, _Quick()) == 0 else DIED

    return "killed" if in_child(run, limit) else "survived"


def main() -> int:
    """Print the table, and the survivors; 1 when a module is below --least."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=MODULES)
    parser.add_argument("--sample", type=int, default=30, help="mutants a module (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--least", type=int, default=0, help="per cent that must be killed in each module")
    parser.add_argument("--tests", nargs="+", default=TESTS)
    given = parser.parse_args()
    os.chdir(ROOT)
    os.nice(10)
    for heavy in ("confluent_kafka", "orjson"):
        importlib.import_module(heavy)  # once for all the processes to come
    lines, seconds = lines_of(given.modules, given.tests)
    short, survivors = 0, []
    print("| module | mutants | killed | survived | unrun | |\n|---|--:|--:|--:|--:|--:|", flush=True)
    for module in given.modules:
        made = list(mutants_of((ROOT / module).read_text()))
        picked = sorted(random.Random(given.seed).sample(range(len(made)), min(given.sample, len(made))))
        counts = dict.fromkeys(("killed", "survived", "unrun"), 0)
        for number in picked:
            mutant = made[number]()
            known = lines[module]
            wanted = known if mutant.everywhere else mutant.lines
            mutant.tests = sorted(set().union(*(known.get(line, set()) for line in wanted)))
            became = fate(module, mutant, LIMIT + 3 * sum(seconds.get(test, 0.0) for test in mutant.tests))
            counts[became] += 1
            if became != "killed":
                survivors.append(f"{module}:{mutant.line}: {mutant.text} ({became})")
        share = 100 * counts["killed"] // max(1, len(picked))
        short += share < given.least
        row = " | ".join(str(count) for count in (len(picked), *counts.values()))
        print(f"| {module} | {row} | {share} % |", flush=True)
    print("", *survivors, sep="\n")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())

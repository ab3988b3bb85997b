"""Runs the unit tests against one mutant after another, each in a process forked from one that has collected the tests.

In the fork the function that holds the change is given its new code, and the tests that run its lines run until one
fails. A change outside of functions needs the modules to be imported anew: `python -m tests.mutants.anew` does that.
Nothing is written to kpipe/.
"""

from __future__ import annotations

import ast
import copy
import gc
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from tests.mutants.making import mutants_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tests.mutants.making import Mutant

ROOT = Path(__file__).parent.parent.parent
LIVED, DIED = 0, 1
WALL, CPU, MEMORY = 20.0, 4, 2 << 30
"""Seconds and bytes for one mutant, beyond what its tests take: one that never ends is noticed, so it is dead."""
HIT = "__mutants_hit__"
OPTIONS = ("-x", "-qq", "-s", "--no-header", "--no-summary", "--timeout=15", "-p", "no:cacheprovider", "-p", "no:xdist")


class QuickProperties:
    """A plugin: property tests draw few examples, always the same."""

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


@dataclass(slots=True)
class Module:
    """A module of kpipe, and which tests run which of its lines."""

    name: str
    tree: ast.Module
    mutants: list[Mutant]
    tests: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    @property
    def path(self) -> str:
        return str(ROOT / self.name)

    def tests_of(self, mutant: Mutant) -> set[str]:
        """The tests that can notice: those that run its lines, or all of the module's for what runs at its import."""
        wanted: Iterable[int] = self.tests if mutant.function is None else mutant.lines
        return set().union(*(self.tests.get(line, ()) for line in wanted))


def module_of(name: str) -> Module:
    tree = ast.parse((ROOT / name).read_text())
    return Module(name, tree, list(mutants_of(tree)))


def run_session(tests: Iterable[str], work: Callable[[Bench], None]) -> None:
    """Collect these test files, then do `work` instead of running them."""
    failure: list[BaseException] = []

    class Plugin(QuickProperties):
        def pytest_runtestloop(self, session: Any) -> bool:
            try:
                work(Bench({item.nodeid: item for item in session.items}))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - pytest would make a long text of it
                failure.append(error)
            return True

    code = pytest.main([*OPTIONS, *tests], plugins=[Plugin()])
    if failure:
        raise failure[0]
    if code:
        sys.exit(f"mutants: the unit tests cannot be collected (pytest ended with {code})")


class Bench:
    """What can be done with tests that are collected: trace them, and run them in a fork."""

    def __init__(self, items: dict[str, Any]) -> None:
        self.items = items
        self.seconds: dict[str, float] = {}

    def trace(self, modules: Sequence[Module], jobs: int) -> None:
        """Find out which tests run which lines, and how long each takes."""
        files = sorted({name.partition("::")[0] for name in self.items})
        shares = [{name for name in self.items if name.partition("::")[0] in files[job::jobs]} for job in range(jobs)]
        with tempfile.TemporaryDirectory() as folder:
            notes = [Path(folder, str(job)) for job in range(jobs)]
            children = [
                Child(lambda share=share, note=note: self._trace_here(modules, share, note))  # type: ignore[misc]
                for share, note in zip(shares, notes, strict=True)
            ]
            for child in children:
                child.wait()
            for note in notes:
                if not note.exists():
                    sys.exit("mutants: the unit tests fail as they are; mend them first: make unit")
                lines, seconds = pickle.loads(note.read_bytes())
                self.seconds |= seconds
                for module in modules:
                    for line, tests in lines[module.name].items():
                        module.tests[line] |= tests

    def _trace_here(self, modules: Sequence[Module], share: set[str], note: Path) -> int:
        now: list[set[tuple[str, int]]] = [set()]
        for module in modules:
            code = compile(_with_hits(module.tree, module.name), module.path, "exec")
            _put_in(module.path, code, lambda _code: True, {HIT: lambda *place: now[0].add(place)})
        lines: dict[str, dict[int, set[str]]] = {module.name: defaultdict(set) for module in modules}
        seconds: dict[str, float] = {}

        def done(name: str, took: float) -> None:
            seconds[name] = took
            for module, line in now[0]:
                lines[module][line].add(name)
            now[0] = set()

        code = self.run([item for name, item in self.items.items() if name in share], done)
        if code == LIVED:
            note.write_bytes(pickle.dumps((lines, seconds)))
        return code

    def run(self, items: Sequence[Any], done: Callable[[str, float], None] = lambda _name, _took: None) -> int:
        """Run these here, until the first one fails."""
        reports = _Reports()
        if items:
            items[0].config.pluginmanager.register(reports)
        for item, after in zip(items, [*items[1:], None], strict=True):
            began = time.monotonic()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            done(item.nodeid, time.monotonic() - began)
            if reports.failed:
                return DIED
        return LIVED

    def start(self, module: Module, mutant: Mutant) -> Child | None:
        """Run the tests of a mutant in a process of its own; None when no unit test runs its lines."""
        names = sorted(module.tests_of(mutant), key=lambda name: (self.seconds.get(name, 0.0), name))
        if not names:
            return None
        took = sum(self.seconds.get(name, 0.0) for name in names)

        def run() -> int:
            function = mutant.function
            if function is not None:
                tree = mutant.apply(module.tree)
                try:
                    code = compile(tree, module.path, "exec")
                    lineno = min([function.lineno, *(each.lineno for each in function.decorator_list)])
                    if _put_in(module.path, code, lambda new: new.co_firstlineno == lineno, {}):
                        return self.run([self.items[name] for name in names])
                except (SyntaxError, ValueError):  # no such code, or its closure is another one
                    pass
            files = _files(names, Path(module.name).stem)
            number = str(module.mutants.index(mutant))
            os.execv(sys.executable, [sys.executable, "-m", "tests.mutants.anew", module.name, number, *files])
            return DIED  # never: the process is another one now

        return Child(run, took)


class _Reports:
    def __init__(self) -> None:
        self.failed = False

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.failed = self.failed or report.failed


def _files(names: Iterable[str], first: str) -> list[str]:
    """The files of these tests, those that are named after the module first: one of theirs will fail."""
    return sorted({name.partition("::")[0] for name in names}, key=lambda file: (first not in file, file))


class Child:
    """A forked process, silent and with limits; it ends with what `work` returns. `took`: seconds it should take."""

    def __init__(self, work: Callable[[], int], took: float | None = None) -> None:
        self.pid = os.fork()
        self._deadline = None if took is None else time.monotonic() + WALL + 4 * took
        if self.pid == 0:
            _run_silently(work, took)

    def ended(self) -> bool:
        """Whether it has ended; one that is over its time is killed."""
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        if self._deadline is not None and time.monotonic() > self._deadline:
            os.killpg(self.pid, signal.SIGKILL)
            return True
        return False

    def wait(self) -> int:
        """LIVED or DIED; what a signal ended has died."""
        return LIVED if os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == LIVED else DIED


def _run_silently(work: Callable[[], int], took: float | None) -> NoReturn:
    code = DIED
    try:
        os.setpgid(0, 0)
        with open(os.devnull, "r+b") as nothing:
            for number in (0, 1, 2):
                os.dup2(nothing.fileno(), number)
        if took is not None:
            seconds = CPU + round(3 * took)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        code = work()
    finally:
        os._exit(code)


def _put_in(path: str, module: CodeType, wanted: Callable[[CodeType], bool], names: dict[str, object]) -> int:
    """Give the functions of a file their code from `module`, and their globals these names; returns how many."""
    new = {(code.co_qualname, code.co_firstlineno): code for code in _codes(module) if wanted(code)}
    count = 0
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename == path:
            code = new.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
            if code is not None:
                function.__code__ = code
                function.__globals__.update(names)
                count += 1
    return count


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _with_hits(tree: ast.Module, name: str) -> ast.Module:
    """The module with a call in front of each statement of its functions that notes the line."""
    tree = copy.deepcopy(tree)
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        for node in list(ast.walk(function)):
            for part in ("body", "orelse", "finalbody"):
                body = getattr(node, part, None)
                if isinstance(body, list) and not isinstance(node, ast.ClassDef) and HIT not in ast.unparse(body[:1]):
                    setattr(node, part, [each for statement in body for each in (_hit(name, statement), statement)])
    return ast.fix_missing_locations(tree)


def _hit(name: str, statement: ast.stmt) -> ast.Expr:
    call = ast.Call(ast.Name(HIT, ast.Load()), [ast.Constant(name), ast.Constant(statement.lineno)], [])
    return ast.copy_location(ast.Expr(call), statement)

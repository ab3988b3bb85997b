"""Changes one thing at a time in the rooms of the promise, and shows which changes the unit tests let live.

    python -m tests.mutants [--sample 40] [--seed 1] [--least 90] [MODULE ...]        MODULE: kpipe/ledger.py

It keeps the table in tests/mutants/results.md, a row a module; rows of modules that were not tried stay as they were.
Ends with 1 when a module is below --least per cent. What changes nothing that anyone could see stands in
tests/mutants/equivalent.toml, each with its reason, and is not counted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
import time
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutants.reach import test_files
from tests.mutants.running import LIVED, ROOT, module_of, run_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.mutants.making import Mutant
    from tests.mutants.running import Bench, Child, Module

MODULES = (
    "kpipe/flight.py",
    "kpipe/ledger.py",
    "kpipe/run_state.py",
    "kpipe/trace.py",
    "kpipe/pipeline.py",
    "kpipe/delivery/commit.py",
    "kpipe/delivery/at_least_once.py",
    "kpipe/delivery/resume.py",
    "kpipe/delivery/resuming.py",
    "kpipe/delivery/tail.py",
    "kpipe/delivery/exactly_once.py",
    "kpipe/delivery/transaction.py",
    "kpipe/delivery/restore.py",
    "kpipe/sinks/dead_letters.py",
    "kpipe/sinks/bisect_batch.py",
    "kpipe/sinks/bisect_transaction.py",
    "kpipe/sources/gaps.py",
    "kpipe/sources/topic_watch.py",
    "kpipe/sources/client_events.py",
)
EQUIVALENT = Path(__file__).parent / "equivalent.toml"
RESULTS = Path(__file__).parent / "results.md"
HEAD = (
    "| module | mutants | equivalent | tried | killed | survived | unrun | |",
    "|---|--:|--:|--:|--:|--:|--:|--:|",
)
INTRODUCTION = """# What the unit tests of the promise notice

Written by `make mutants`: one thing at a time is changed in a module, and the unit tests that run the changed line are
run, without a broker. What changes nothing that anyone could see stands in `equivalent.toml` and is not tried; *unrun*
lines are run by no unit test, and count as survived.
"""
KILLED, SURVIVED, UNRUN = "killed", "survived", "unrun"


@dataclass(slots=True)
class Equivalents:
    """Mutants that nobody can tell from the code as it is, by module, function and change, with the reason."""

    known: dict[tuple[str, str, str], str]

    @classmethod
    def read(cls) -> Equivalents:
        entries = tomllib.loads(EQUIVALENT.read_text())["equivalent"]
        return cls(
            {(each["module"], each["in"], change): each["why"] for each in entries for change in each["changes"]}
        )

    def split(self, module: Module) -> tuple[list[Mutant], int]:
        """Those of the module that count, and how many do not."""
        count = [mutant for mutant in module.mutants if (module.name, mutant.where, mutant.text) not in self.known]
        return count, len(module.mutants) - len(count)

    def stale(self, modules: Sequence[Module]) -> list[str]:
        """Entries that stand for no mutant any more: the code has moved on."""
        there = {(module.name, mutant.where, mutant.text) for module in modules for mutant in module.mutants}
        names = {module.name for module in modules}
        return [": ".join(entry) for entry in self.known if entry[0] in names and entry not in there]


def fates(bench: Bench, module: Module, picked: Sequence[Mutant], jobs: int) -> Iterator[tuple[Mutant, str]]:
    """What becomes of each mutant, as soon as it is known."""
    running: dict[int, tuple[Mutant, Child]] = {}
    todo = list(picked)[::-1]
    while todo or running:
        while todo and len(running) < jobs:
            mutant = todo.pop()
            child = bench.start(module, mutant)
            if child is None:
                yield mutant, UNRUN
            else:
                running[child.pid] = (mutant, child)
        for pid, (mutant, child) in list(running.items()):
            if child.ended():
                del running[pid]
                yield mutant, SURVIVED if child.wait() == LIVED else KILLED
        time.sleep(0.002)


def kept_rows() -> dict[str, str]:
    """The rows of the table that is kept, by module."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {line.split("|")[1].strip(): line for line in lines if line.startswith("| kpipe/")}


def keep(rows: dict[str, str]) -> None:
    """Write the table with these rows in the places of those before."""
    rows = kept_rows() | rows
    table = [*HEAD, *(rows[name] for name in MODULES if name in rows)]
    RESULTS.write_text(f"{INTRODUCTION}\n" + "".join(f"{line}\n" for line in table))


def report(bench: Bench, modules: Sequence[Module], given: argparse.Namespace) -> int:
    """Print the table, and each survivor to stderr when it is found; returns how much is not as it is asked to be."""
    short, known = 0, Equivalents.read()
    bench.trace(modules, given.jobs)
    rows: dict[str, str] = {}
    print(*HEAD, sep="\n", flush=True)
    for module in modules:
        counted, equivalent = known.split(module)
        size = min(given.sample or len(counted), len(counted))
        picked = random.Random(f"{given.seed} {module.name}").sample(counted, size)
        counts: Counter[str] = Counter()
        for mutant, fate in fates(bench, module, sorted(picked, key=lambda each: each.line), given.jobs):
            counts[fate] += 1
            if fate != KILLED:
                print(
                    f"{module.name}:{mutant.line}: {mutant.where}: {mutant.text} ({fate})", file=sys.stderr, flush=True
                )
        share = 100 * counts[KILLED] // max(1, size)
        short += share < given.least
        row = (len(module.mutants), equivalent, size, counts[KILLED], counts[SURVIVED], counts[UNRUN])
        rows[module.name] = f"| {module.name} | {' | '.join(map(str, row))} | {share} % |"
        print(rows[module.name], flush=True)
    keep(rows)
    stale = known.stale(modules)
    for entry in stale:
        print(f"{entry}: stands in {EQUIVALENT.name}, but there is no such mutant any more", file=sys.stderr)
    return short + len(stale)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=MODULES)
    parser.add_argument("--sample", type=int, default=40, help="mutants a module (default 40); 0: all")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument(
        "--least", type=int, default=90, help="per cent that must be killed in each module (default 90)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    given = parser.parse_args()
    os.chdir(ROOT)
    os.nice(10)
    modules = [module_of(name) for name in given.modules]
    for module in modules:
        importlib.import_module(module.name.removesuffix(".py").replace("/", "."))
    short: list[int] = []
    run_session(test_files(given.modules), lambda bench: short.append(report(bench, modules, given)))
    return 1 if any(short) else 0


if __name__ == "__main__":
    sys.exit(main())

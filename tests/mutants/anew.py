"""Runs test files with a module's mutant imported instead of its file: `python -m tests.mutants.anew MODULE NUMBER FILE ...`.

NUMBER is that of the mutant in the order of `mutants_of`.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from typing import Any

import pytest

from tests.mutants.running import DIED, LIVED, OPTIONS, QuickProperties, module_of


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module its mutant."""

    def __init__(self, name: str, code: Any) -> None:
        self._name, self._code = name.removesuffix(".py").replace("/", "."), code

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        exec(self._code, module.__dict__)


def main() -> int:
    name, number, *files = sys.argv[1:]
    module = module_of(name)
    try:
        code = compile(module.mutants[int(number)].apply(module.tree), module.path, "exec")
    except (SyntaxError, ValueError):
        return DIED
    sys.meta_path.insert(0, _Mutated(name, code))
    return LIVED if pytest.main([*OPTIONS, *files], plugins=[QuickProperties()]) == 0 else DIED


if __name__ == "__main__":
    sys.exit(main())

"""The tool that looks for changes which the unit tests let live: what it changes, and that it looks at what is there."""

from __future__ import annotations

import ast

from tests.mutants.__main__ import MODULES, Equivalents, kept_rows
from tests.mutants.making import mutants_of
from tests.mutants.reach import test_files as files_that_reach
from tests.mutants.running import ROOT

CODE = '''
LIMIT = 3

def allowed(count: int, *, strict: bool = False) -> bool:
    """Text is no code."""
    if count < LIMIT or not strict:
        return True
    raise ValueError("too many")
'''


def test_each_change_is_one_and_says_what_it_is() -> None:
    tree = ast.parse(CODE)
    changes = {mutant.text: ast.unparse(mutant.apply(tree)) for mutant in mutants_of(tree)}
    assert set(changes) == {
        "LIMIT = 3 -> pass", "3 -> 4", "False -> True", "True -> False",
        "body of allowed -> return None", "return True -> pass", "raise ValueError('too many') -> pass",
        "count < LIMIT or not strict -> count < LIMIT and (not strict)",
        "count < LIMIT or not strict -> count < LIMIT", "count < LIMIT or not strict -> not strict",
        "count < LIMIT -> count <= LIMIT", "count < LIMIT -> count >= LIMIT", "not strict -> strict",
    }  # fmt: skip
    whole = ast.unparse(tree)
    assert all(changed != whole for changed in changes.values())
    assert changes["3 -> 4"] == whole.replace("LIMIT = 3", "LIMIT = 4")


def test_what_runs_at_import_is_told_from_what_runs_in_a_function() -> None:
    outside = {mutant.text for mutant in mutants_of(ast.parse(CODE)) if mutant.function is None}
    assert outside == {"LIMIT = 3 -> pass", "3 -> 4", "False -> True"}


def test_the_rooms_of_the_promise_are_where_it_looks() -> None:
    assert [name for name in MODULES if not (ROOT / name).is_file()] == []
    assert {module for module, _, _ in Equivalents.read().known} <= set(MODULES)
    assert "tests/unit/test_ledger.py" in files_that_reach(["kpipe/ledger.py"])
    assert "tests/unit/test_units.py" not in files_that_reach(["kpipe/ledger.py"])


def test_the_table_has_every_module_and_none_is_below_nine_of_ten() -> None:
    shares = {name: int(row.split("|")[-2].strip().removesuffix(" %")) for name, row in kept_rows().items()}
    assert tuple(shares) == MODULES
    assert min(shares.values()) >= 90

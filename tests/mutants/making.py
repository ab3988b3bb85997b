"""What may be changed in a module, one change at a time: its mutants, each with the lines that show it.

A mutant is a comparison turned or moved by one, an `and` for an `or`, a part of a condition left out, a constant changed,
a word taken out of a table, a statement deleted, a function that returns at once. Nothing is run here.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    """One change, not yet made. `statement` is the one it stands in, `path` leads to the node from the module."""

    where: str
    """The function or class around it, as Python names it; empty in the module itself."""
    line: int
    text: str
    function: ast.FunctionDef | None
    """The outermost function around it; None where it runs when the module is imported."""
    lines: range
    """A test that is to see it must run one of these."""
    path: tuple[tuple[str, int | None], ...]
    change: Callable[[Any], ast.AST]

    def apply(self, tree: ast.Module) -> ast.Module:
        """The whole module with the change in it."""
        mutated = copy.deepcopy(tree)
        parent: Any = mutated
        for name, place in self.path[:-1]:
            parent = getattr(parent, name) if place is None else getattr(parent, name)[place]
        name, place = self.path[-1]
        old = getattr(parent, name) if place is None else getattr(parent, name)[place]
        new = ast.copy_location(self.change(old), old)
        if place is None:
            setattr(parent, name, new)
        else:
            getattr(parent, name)[place] = new
        return ast.fix_missing_locations(mutated)


@dataclass(slots=True, frozen=True)
class _Around:
    """What stands around a node."""

    names: tuple[str, ...] = ()
    function: ast.FunctionDef | None = None
    statement: Any = None


def mutants_of(tree: ast.Module) -> Iterator[Mutant]:
    """Every mutant of a module, always in the same order."""
    for node, path, around in _nodes(tree, (), _Around()):
        for change, text in _changes(node):
            line: int = getattr(node, "lineno", around.statement.lineno)
            where = ".".join(around.names)
            yield Mutant(where, line, text, around.function, _lines(node, around.statement), path, change)


def _lines(node: Any, statement: Any) -> range:
    """The lines of a simple statement; of a compound one only those up to the change, which is in its head."""
    if isinstance(node, ast.FunctionDef):
        return range(node.body[0].lineno, (node.body[-1].end_lineno or node.lineno) + 1)
    end = getattr(node, "end_lineno", None) or statement.end_lineno
    if not isinstance(statement, ast.If | ast.While | ast.For | ast.With | ast.Try):
        end = statement.end_lineno
    return range(statement.lineno, end + 1)


def _nodes(
    node: ast.AST, path: tuple[tuple[str, int | None], ...], around: _Around
) -> Iterator[tuple[ast.AST, tuple[tuple[str, int | None], ...], _Around]]:
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return  # zip's own assertion that columns are of one length: what it checks does not happen
    if isinstance(node, ast.ClassDef) and any(ast.unparse(base) in {"Protocol", "Enum"} for base in node.bases):
        return
    if isinstance(node, ast.stmt):
        around = replace(around, statement=node)
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        around = replace(around, names=(*around.names, node.name))
    outside = around
    if isinstance(node, ast.FunctionDef) and around.function is None:
        around = replace(around, function=node)
    if path and not _is_text(node):
        yield node, path, around
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "bases", "names", "type_params"}:
            continue
        inner = outside if name == "args" else around  # defaults are evaluated where the function is defined
        for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield from _nodes(child, (*path, (name, place)), inner)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changes(node: ast.AST) -> Iterator[tuple[Callable[[Any], ast.AST], str]]:
    """What may be done to a node, in words of Python."""
    yield from _changes_of_expression(node)
    if isinstance(node, ast.FunctionDef):
        does = [each for each in node.body if not _is_text(each)]
        if does and ast.unparse(does[0]) not in {"return", "return None", "pass"}:
            nothing = ast.Return(ast.Constant(None))
            yield lambda old: _with(old, body=[nothing]), f"body of {node.name} -> return None"
    elif isinstance(node, DELETED) and not ast.unparse(node).startswith("__slots__ ="):  # only memory would tell
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

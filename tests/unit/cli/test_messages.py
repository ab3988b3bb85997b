"""Every sentence that kpipe says has an id, and every id a sentence: read off the code, not off a run."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kpipe.cli.messages import KINDS, MESSAGES, identify, pattern_of
from kpipe.errors import (
    BadRecord,
    DifferenceError,
    Interrupted,
    KpipeError,
    UndeliveredError,
    UnreachableError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGE = Path(__file__).parents[3] / "kpipe"
SAYERS = {"say", "_say", "tell", "_tell", "warn"}
"""What tells people: functions of one text."""
ROOTS = (UsageError, BadRecord, UnreachableError, UndeliveredError, DifferenceError, Interrupted)
FEW = 8
"""A sentence with fewer letters of its own is said by others in full."""
NOT_PEOPLE = {
    "kpipe/broker/mock.py": "tell() calls librdkafka",
    "kpipe/codecs/avro_text.py": "say() puts a value into words",
}


@cache
def trees() -> dict[str, ast.Module]:
    return {f"kpipe/{path.relative_to(PACKAGE)}": ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def error_classes() -> dict[str, str]:
    """Every class of errors, and which of the roots it is."""
    bases = {
        node.name: [getattr(base, "id", getattr(base, "attr", "")) for base in node.bases]
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    own = {root.__name__ for root in ROOTS}

    def root_of(name: str) -> str:
        if name in own or name == KpipeError.__name__:
            return name
        return next(filter(None, map(root_of, bases.get(name, []))), "")

    return {name: root for name in bases if (root := root_of(name))}


def assigned(node: ast.AST) -> dict[str, list[ast.expr]]:
    """What names are set to within a function or module."""
    found: dict[str, list[ast.expr]] = defaultdict(list)
    for each in ast.walk(node):
        if isinstance(each, ast.Assign) and len(each.targets) == 1:
            target, value = each.targets[0], each.value
            if isinstance(target, ast.Name):
                found[target.id].append(value)
            elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                for name, part in zip(target.elts, value.elts, strict=False):
                    if isinstance(name, ast.Name):
                        found[name.id].append(part)
    return found


def sentences(node: ast.expr, scope: Mapping[str, list[ast.expr]], deep: int = 0) -> set[str]:
    """What an expression may say; X stands for what only a run knows."""
    unknown = {"X"}
    if deep > 5 or isinstance(node, ast.Constant):
        return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else unknown
    match node:
        case ast.JoinedStr():
            parts = [
                {part.value} if isinstance(part, ast.Constant) else sentences(part.value, scope, deep + 1)
                for part in node.values
            ]
            parts = [part if len(part) < FEW else unknown for part in parts]
            return {"".join(chosen) for chosen in product(*parts)}
        case ast.IfExp():
            return sentences(node.body, scope, deep + 1) | sentences(node.orelse, scope, deep + 1)
        case ast.BoolOp():
            return set[str]().union(*(sentences(value, scope, deep + 1) for value in node.values))
        case ast.BinOp(op=ast.Add()):
            both = product(sentences(node.left, scope, deep + 1), sentences(node.right, scope, deep + 1))
            return {left + right for left, right in both}
        case ast.Call(func=ast.Name(id="counted"), args=[_, *nouns]):
            one, *many = [noun.value for noun in nouns if isinstance(noun, ast.Constant)]
            return {f"X {one}", f"X {many[0]}" if many else f"X {one}s"}
        case ast.Name() if node.id in scope:
            rest = {name: values for name, values in scope.items() if name != node.id}
            return set[str]().union(*(sentences(value, rest, deep + 1) for value in scope[node.id]))
        case _:
            return unknown


def said() -> Iterator[tuple[str, str, str]]:
    """(place, class of error or "", sentence) of all that the code says."""
    classes = error_classes()
    for path, tree in trees().items():
        if path in NOT_PEOPLE:
            continue
        top = assigned(ast.Module([node for node in tree.body if isinstance(node, ast.Assign)], []))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        scopes: list[tuple[ast.AST, dict[str, list[ast.expr]]]] = [(tree, {})]
        scopes += [(function, assigned(function)) for function in functions]
        inside = {id(node): names for owner, names in scopes for node in ast.walk(owner) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in classes or name in SAYERS:
                for sentence in sentences(node.args[0], {**top, **inside[id(node)]}):
                    yield f"{path}:{node.lineno}", classes.get(name, ""), sentence


@cache
def all_said() -> list[tuple[str, str, str]]:
    return sorted(set(said()))


def test_the_code_is_read() -> None:
    assert len(all_said()) > 600
    assert ("kpipe/pipeline.py", "", "X; skipped (--on-error skip)") in {
        (at.split(":")[0], kind, text) for at, kind, text in all_said()
    }


def test_every_message_has_an_id() -> None:
    """To say something new, give it a row of `kpipe/cli/messages.py`, or add its words to one, and run make gen.

    What is wrong with the command line or the configuration may stay under the id `usage`.
    """
    missing = [
        f"{at}: {text}"
        for at, kind, text in all_said()
        if kind != UsageError.__name__ and len(re.sub("[^a-z]", "", text)) >= FEW and not identify(text, "")
    ]
    assert missing == [], test_every_message_has_an_id.__doc__


def test_no_words_are_said_by_nobody() -> None:
    """Words of the table that the code does not say any more are taken out of it."""
    strings = [
        sentence
        for tree in [tree for path, tree in trees().items() if path != "kpipe/cli/messages.py"]
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr | ast.Constant)
        for sentence in (sentences(node, {}) if isinstance(node, ast.JoinedStr) else [str(node.value)])
    ]
    text = "\n".join(strings)
    dead = []
    for message in MESSAGES:
        for words in message.words:
            longest = max(re.split(r"…|: |; ", words.replace("(s)", "s")), key=len)
            if longest not in text and longest not in BY_TYPER:
                dead.append((message.id, words))
    assert dead == []


BY_TYPER = {"Got unexpected extra argument", "Invalid value for "}


def test_ids_are_words_and_stand_once() -> None:
    ids = [message.id for message in (*KINDS, *MESSAGES)]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", each) for each in ids)


@pytest.mark.parametrize("message", [*KINDS, *MESSAGES], ids=lambda message: message.id)
def test_an_id_is_explained(message: object) -> None:
    page = (PACKAGE.parent / "docs" / "errors.md").read_text()
    assert f"\n### {message.id}\n" in page  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("config: prod:ordesr: no such topic; did you mean orders?", "no-such-topic"),
        ("worker 2: read: prod:orders[3]: 5 offsets (1 to 6) were deleted before they were read; go on with --on-gap warn", "gap"),
        ("worker 2: died by SIGKILL; starting it again in 1 s", "worker"),
        ("transform: stdin:2: --map .id: the value is not JSON (x: y); use --on-error skip or dlq:TOPIC to go on without such records", "transform"),
        ("-G '' is empty; give it a value, or leave it out", "empty-value"),
        ("100 read, 99 delivered, 1 failed in 0.1 s (1k/s)", "balance"),
        ("what nobody has a row for", "note"),
    ],
)  # fmt: skip
def test_messages_are_known_by_their_words(text: str, found: str) -> None:
    assert identify(text) == found


def test_one_and_many_are_the_same_words() -> None:
    for text in ("1 partition moved, and read back", "12 partitions moved, and read back"):
        assert identify(f"dr:billing: {text}") == "changed"


def test_words_are_found_where_a_part_begins() -> None:
    assert re.search(pattern_of("no such topic"), "config: a:b: no such topic")
    assert not re.search(pattern_of("no such topic"), "a value with no such topic in it")

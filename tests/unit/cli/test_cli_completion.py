"""What TAB is answered with, without a shell: words, options, values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.cli.manual import load
from kpipe.cli.tab import Offer, _cut_of_bash, choices, complete, read_words, split_line


def offered(*words: str) -> list[str]:
    return [name for name, _ in complete(words[:-1], words[-1]).names]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kpipe ", ["kpipe", ""]),
        ("kpipe pro", ["kpipe", "pro"]),
        ("kpipe  produce\t-K : ", ["kpipe", "produce", "-K", ":", ""]),
        ("kpipe produce 'a b", ["kpipe", "produce", "a b"]),
        ('kpipe produce "a\\"b" c', ["kpipe", "produce", 'a"b', "c"]),
        ("kpipe produce a\\ b", ["kpipe", "produce", "a b"]),
        ("kpipe produce '' x", ["kpipe", "produce", "", "x"]),
        ("kpipe produce 'a\\", ["kpipe", "produce", "a\\"]),
        ("", [""]),
    ],
)
def test_a_line_is_split_as_a_shell_would(line: str, words: list[str]) -> None:
    assert split_line(line) == words


@given(st.text())
def test_any_line_can_be_split(line: str) -> None:
    assert split_line(line)


@pytest.mark.parametrize(
    ("word", "part", "kept"),
    [
        ("--trace=so", "so", 8),
        ("--trace=", "=", 8),
        ("prod:or", "or", 5),
        ("prod:", ":", 5),
        ("orders", "orders", 0),
        ("", "", 0),
    ],
)
def test_bash_completes_behind_the_last_break(word: str, part: str, kept: int) -> None:
    assert _cut_of_bash(word, part) == kept


def test_commands_and_their_help() -> None:
    assert complete([], "for").names == [
        ("forward", "Send records from topics to a topic, here or on another cluster.")
    ]
    assert offered("--ver") == ["--version"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("produce", "--input", "js"), ["json"]),
        (("produce", "--input=k"), ["--input=kcat", "--input=kcl", "--input=kaf"]),
        (("produce", "-z", "l"), ["lz4"]),
        (("consume", "-eJo", "e"), ["end"]),
        (("consume", "-o", "-5", "t", "--fail"), ["--fail-if-empty"]),
        (("forward", "--trace", "no"), ["none"]),
        (("produce", "--timestamp", "k"), ["keep"]),
        (("produce", "-p", ""), ["same"]),
        (("consume", "-X", "sasl.mech"), ["sasl.mechanism=", "sasl.mechanisms="]),
        (("consume", "-c", ""), []),
        (("consume", "--nonsense=x"), []),
        (("consume", "--exit=x"), []),
        (("nonsense", "x"), []),
    ],
)
def test_values_and_options(words: tuple[str, ...], names: list[str]) -> None:
    assert offered(*words) == names


@pytest.mark.parametrize(
    "words", [("produce", "t", ""), ("produce", "t", "a.txt", "b"), ("consume", "-F", ""), ("broker", "--", "sh", "")]
)
def test_files_are_for_the_shell_to_find(words: tuple[str, ...]) -> None:
    assert complete(words[:-1], words[-1]) == Offer(files=True)


@pytest.mark.parametrize(
    ("words", "values", "operands", "waiting"),
    [
        (["-b", "x:1", "t"], {"brokers": ["x:1"]}, ["t"], None),
        (["-bx:1", "--brokers=y:2", "-e"], {"brokers": ["x:1", "y:2"]}, [], None),
        (["-X", "a=1", "-Xb=2"], {"properties": ["a=1", "b=2"]}, [], None),
        (["-eJG"], {}, [], "group"),
        (["--", "-b", "-"], {}, ["-b", "-"], None),
        (["-", "-o", "-10"], {"offset": ["-10"]}, ["-"], None),
    ],
)
def test_what_stands_before_the_cursor(
    words: list[str], values: dict[str, list[str]], operands: list[str], waiting: str | None
) -> None:
    command: Any = load("consume")[0]
    typed = read_words(command, words)
    assert (typed.values, typed.operands) == (values, operands)
    assert (typed.waiting.name if typed.waiting else None) == waiting


def test_words_in_capitals_are_for_the_user_to_fill_in() -> None:
    assert choices("stop|skip|dlq:TOPIC") == ["stop", "skip", "dlq:"]
    assert choices("N|same") == ["same"]

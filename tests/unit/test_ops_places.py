"""Which names a looking command means."""

from __future__ import annotations

import pytest

from kpipe.errors import KpipeError
from kpipe.ops.places import choose, is_pattern, matches


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("orders", "orders", True),
        ("orders", "orders2", False),
        ("ord*", "orders", True),
        ("*", "__consumer_offsets", False),
        ("__*", "__consumer_offsets", True),
        ("__consumer_offsets", "__consumer_offsets", True),
        ("^ord", "orders", True),
        ("^er", "orders", False),
        ("^", "__consumer_offsets", False),
        ("o[a-s]ders", "orders", True),
    ],
)
def test_names_globs_and_patterns(pattern: str, name: str, meant: bool) -> None:
    assert matches(pattern, name) is meant


def test_a_plain_name_must_be_there_and_a_glob_need_not() -> None:
    assert choose(["x*"], ["a", "b"], "c", "topic") == []
    assert choose(["b", "*"], ["a", "b"], "c", "topic") == ["b", "a"]
    with pytest.raises(KpipeError, match="did you mean orders"):
        choose(["order"], ["orders"], "c", "topic")


def test_patterns_are_told_from_names() -> None:
    assert [is_pattern(text) for text in ("a", "a.b", "^a", "a*", "a?", "[ab]")] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]

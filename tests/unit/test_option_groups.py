"""An object of options holds only words that its options take, and nobody changes it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kpipe import options
from kpipe.errors import UsageError

GROUPS = [each for each in vars(options).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]
CHOICES = [
    (group, name, default, shown)
    for group in GROUPS
    for name, _, default, shown in options.declared(group)
    if shown.choices
]


@pytest.mark.parametrize(("group", "name", "default", "shown"), CHOICES, ids=lambda each: getattr(each, "__name__", ""))
def test_a_word_that_an_option_does_not_take_is_refused(group: Any, name: str, default: str, shown: Any) -> None:
    assert default in ("", *shown.choices)
    for word in shown.choices:
        assert getattr(group(**{name: word}), name) == word
    with pytest.raises(UsageError, match=f"{shown.names[0]} 'no-such-word': it takes {shown.choices[0]}"):
        group(**{name: "no-such-word"})


def test_the_nearest_word_is_named() -> None:
    with pytest.raises(UsageError, match="--input 'kcta': did you mean kcat"):
        options.InputOptions(input="kcta")


@pytest.mark.parametrize("group", GROUPS)
def test_every_field_is_an_option_with_a_default_and_stays_as_it_was_given(group: Any) -> None:
    built = group()
    for name, _, default, shown in options.declared(group):
        assert getattr(built, name) == default
        assert shown.panel in options.PANELS
        assert all(one.startswith("-") for one in shown.names)
        with pytest.raises(AttributeError):
            setattr(built, name, default)


def test_what_may_hold_a_secret_is_not_shown_by_repr() -> None:
    assert "hunter2" not in repr(options.ConnectionOptions(properties=("sasl.password=hunter2",)))

from __future__ import annotations

import pytest

from kpipe.errors import UsageError
from kpipe.transform.chain import Step
from kpipe.transform.file import load_file


def test_tables_in_order():
    text = """
[[transform]]
set-key = "{header[id]}"
drop-header = ["a", "b-*"]

[[transform]]
drop-key = true
"""
    assert load_file(text, "t.toml") == [
        Step("set-key", "{header[id]}", "t.toml: transform 1"),
        Step("drop-header", "a", "t.toml: transform 1"),
        Step("drop-header", "b-*", "t.toml: transform 1"),
        Step("drop-key", None, "t.toml: transform 2"),
    ]


def test_an_empty_file_is_no_transforms():
    assert load_file("# nothing yet\n", "t.toml") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[transform]\n", "t.toml: not TOML ("),
        ("transforms = 1", "t.toml: unknown key transforms; write tables"),
        ("transform = 1", "t.toml: transform is not an array of tables"),
        ("[[transform]]\n", "t.toml: transform 1: it is empty"),
        (
            "[[transform]]\ndrop-key=true\n[[transform]]\nset_key='x'",
            "t.toml: transform 2: no transform is called set_key; did you mean set-key?",
        ),
        ("[[transform]]\ndrop-key = false", "t.toml: transform 1: drop-key is a switch; write drop-key = true"),
        ("[[transform]]\nset-key = true", 't.toml: transform 1: set-key takes TEMPLATE; write set-key = "TEMPLATE"'),
        ("[[transform]]\nset-key = []", "set-key takes TEMPLATE"),
        ("[[transform]]\nset-key = {a = 1}", "set-key takes TEMPLATE"),
    ],
)
def test_errors_name_the_file_and_the_entry(text, message):
    with pytest.raises(UsageError) as caught:
        load_file(text, "t.toml")
    assert message in str(caught.value)

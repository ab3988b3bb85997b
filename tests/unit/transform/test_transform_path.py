from __future__ import annotations

import json

import jq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.transform.path import EACH, PathError, getter, parse, parse_jq


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (".", ()),
        (".a", ("a",)),
        ("a.b", ("a", "b")),
        (".a.b[0]", ("a", "b", 0)),
        ('."odd name"', ("odd name",)),
        ('"odd name".x', ("odd name", "x")),
        ('["odd"]', ("odd",)),
        ('.["o.d]d"][-1]', ("o.d]d", -1)),
        (".[0].a", (0, "a")),
        ("[2]", (2,)),
        (r'."q\"\u00e9"', ('q"é',)),
        ("user-id.größe", ("user-id", "größe")),
    ],
)
def test_forms(text, path):
    assert parse(text) == path


@pytest.mark.parametrize("text", ["", "..a", ".a.", ".a b", "a[", "a[x]", ".a..b", '."open', "a[0]b", '."\\x"', '"a"b'])
def test_refused(text):
    with pytest.raises(ValueError, match=r"write|escape"):
        parse(text)


def test_jsonpath_gets_the_right_form():
    with pytest.raises(ValueError, match=r"write \.a\.b"):
        parse("$.a.b")


def test_each_only_where_many_are_allowed():
    assert parse(".cards[].no", each=True) == ("cards", EACH, "no")
    with pytest.raises(ValueError, match="an index like"):
        parse(".cards[].no")


@pytest.mark.parametrize(
    "program", [".a | .b", ".a-b", "..", ".a?", ".[]", "$meta.key", ". + 1", '."a\\(1)"', "", "a", ".a[1:2]"]
)
def test_more_than_a_path_is_left_to_jq(program):
    assert parse_jq(program) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c d"]), inner, max_size=3),
    max_leaves=8,
)
jq_steps = st.lists(
    st.sampled_from(["a", "b", "c d"]).flatmap(
        lambda name: st.sampled_from([f'["{name}"]', f'."{name}"'] + ([f".{name}"] if " " not in name else []))
    )
    | st.integers(-3, 3).map(lambda index: f"[{index}]"),
    min_size=1,
    max_size=3,
)


@given(json_values, jq_steps)
def test_agrees_with_jq(document, steps):
    program = "".join(steps)
    program = program if program.startswith(".") else f".{program}"
    path = parse_jq(program)
    assert path is not None
    try:
        expected = jq.compile(program).input_text(json.dumps(document)).first()
    except ValueError:
        with pytest.raises(PathError):
            getter(path)(document)
    else:
        assert getter(path)(document) == expected

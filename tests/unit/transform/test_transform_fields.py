from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transforming import run_steps

from kpipe.errors import UsageError
from kpipe.record import Batch
from kpipe.transform.chain import Step, build

SALT = Step("hash-salt", "env:SALT")
ENV = {"SALT": "pepper"}


def change(value, *steps, **outside):
    """The one value after `steps`, or the message when it was bad."""
    batch = run_steps(Batch([value]), *steps, **outside)
    return batch.values[0] if len(batch) else batch.bad[0].error.what


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (Step("mask", ".a"), b'{"a":"secret","b":1.10}', b'{"a":"***","b":1.10}'),
        (Step("mask", ".a"), b'{"a":12.50,"b":1.10}', b'{"a":0,"b":1.10}'),
        (Step("mask", ".a"), b'{"a":true}', b'{"a":false}'),
        (Step("mask", ".a"), b'{"a":null}', b'{"a":null}'),
        (Step("mask", ".a"), b'{"a":{"b":1}}', b'{"a":{}}'),
        (Step("mask", ".a"), b'{"a":[1]}', b'{"a":[]}'),
        (
            Step("mask", ".a[].b"),
            b'{"a":[{"b":"x"},7,{"b":"y","c":1e400}]}',
            b'{"a":[{"b":"***"},7,{"b":"***","c":1e400}]}',
        ),
        (Step("mask", ".a[-1]"), b'{"a":["x","y"]}', b'{"a":["x","***"]}'),
        (Step("mask", "[][0]"), b'[["x","y"],[],{"0":1}]', b'[["***","y"],[],{"0":1}]'),
        (Step("drop-field", ".a"), b'{"a":1,"b":1.0}', b'{"b":1.0}'),
        (Step("drop-field", ".a.b"), b'{"a":{"b":1}}', b'{"a":{}}'),
        (Step("drop-field", ".a[]"), b'{"a":[1,2,3]}', b'{"a":[]}'),
        (Step("drop-field", ".[1]"), b"[1,2,3]", b"[1,3]"),
        (Step("rename-field", ".b=z"), b'{"a":1,"b":2.0,"c":3}', b'{"a":1,"z":2.0,"c":3}'),
        (Step("rename-field", '.x."a=b"="c.d"'), b'{"x":{"a=b":1}}', b'{"x":{"c.d":1}}'),
        (Step("rename-field", ".[].a=b"), b'[{"a":1},{"a":2}]', b'[{"b":1},{"b":2}]'),
        (Step("rename-field", ".a=a"), b'{ "a":1}', b'{ "a":1}'),
        (Step("flatten"), b'{"a":{"b":{"c":1.10},"d":[{"e":1}]},"f":{}}', b'{"a.b.c":1.10,"a.d":[{"e":1}],"f":{}}'),
        (Step("flatten", "_"), b'{"a":{"b":1}}', b'{"a_b":1}'),
        (Step("flatten", ""), b'{"a":{"b":1}}', b'{"ab":1}'),
        (Step("flatten"), b'{ "a":{}}', b'{ "a":{}}'),
    ],
)
def test_changes(step, before, after):
    assert change(before, step) == after


@pytest.mark.parametrize(
    "step",
    [
        Step("mask", ".q.r"),
        Step("drop-field", ".q"),
        Step("rename-field", ".q=z"),
        Step("cast", ".q=int"),
        Step("hash", ".q"),
    ],
)
def test_values_without_the_field_stay_byte_for_byte(step):
    for value in (b'{ "a" : 1.10, "\\u0062":1e5 }', b"[ 1 ]", b' "x" ', None):
        assert change(value, step, SALT, environ=ENV) == value


@pytest.mark.parametrize(
    ("step", "value", "reason"),
    [
        (Step("mask", ".a"), b"{", "the value is not JSON"),
        (Step("rename-field", ".a=b"), b'{"a":1,"b":2}', "has a field b already"),
        (Step("flatten"), b"[1]", "not an object (array)"),
        (Step("flatten"), b'{"a":{"b":1},"a.b":2}', "two fields would be called a.b"),
        (Step("cast", ".a=int"), b'{"a":[1]}', ".a cannot become int (array)"),
        (Step("cast", ".a=int"), b'{"a":"1.5"}', ".a cannot become int without a loss"),
    ],
)
def test_bad(step, value, reason):
    what = change(value, step)
    assert what.startswith(f"{step.title}: ")
    assert reason in what


def test_neighbours_are_one_stage_and_name_the_one_that_failed():
    steps = [Step("mask", ".a"), Step("rename-field", ".b=c"), Step("drop-field", ".d")]
    assert len(build(steps)) == 1
    assert change(b'{"a":"x","b":1.10,"d":2}', *steps) == b'{"a":"***","c":1.10}'
    assert change(b'{"a":"x","b":1,"c":2}', *steps).startswith("--rename-field .b=c: ")


def test_readers_see_the_changed_value():
    batch = run_steps(
        Batch([b'{"a":"x"}']), Step("key-field", "a"), Step("mask", ".a"), Step("set-header", "h={json[a]}")
    )
    assert batch.keys == [b"x"]
    assert batch.headers == [[("h", b"***")]]


def test_a_bad_record_in_the_middle_leaves_the_others_in_line():
    batch = run_steps(
        Batch([b'{"a":1}', b"no", None, b'{"a":2}'], keys=[b"1", b"2", b"3", b"4"]), Step("drop-field", ".a")
    )
    assert batch.values == [b"{}", None, b"{}"]
    assert batch.keys == [b"1", b"3", b"4"]


@pytest.mark.parametrize(
    ("value", "wanted", "after"),
    [
        ('"12"', "int", "12"),
        ('"' + "9" * 30 + '"', "int", "9" * 30),
        ("1.0", "int", "1"),
        ("-3.000", "int", "-3"),
        ("1e3", "int", "1000"),
        ("true", "int", "1"),
        ("null", "int", "null"),
        ("1.5", "int", None),
        ("1e400", "int", None),
        ("1e17", "int", None),
        ('" 1"', "int", None),
        ('"01"', "int", None),
        ('"1_0"', "int", None),
        ('"1.10"', "float", "1.10"),
        ("7", "float", "7.0"),
        ("1e5", "float", "1e5"),
        ("false", "float", "0.0"),
        ('"NaN"', "float", None),
        ('"inf"', "float", None),
        ("1.10", "string", '"1.10"'),
        ("true", "string", '"true"'),
        ('"x"', "string", '"x"'),
        ('"true"', "bool", "true"),
        ("0", "bool", "false"),
        ('"1"', "bool", "true"),
        ("false", "bool", "false"),
        ("2", "bool", None),
        ('"yes"', "bool", None),
    ],
)
def test_cast(value, wanted, after):
    result = change(f'{{"v":{value},"x":1.10}}'.encode(), Step("cast", f".v={wanted}"))
    if after is None:
        assert f".v cannot become {wanted} without a loss" in result
    else:
        assert result == f'{{"v":{after},"x":1.10}}'.encode()


def test_hash():
    def digest(text):
        return hmac.new(b"pepper", text, hashlib.sha256).hexdigest()

    value = b'{"s":"\xc3\xa9","n":1.10,"o":{"a": 1},"z":null}'
    steps = [Step("hash", f".{name}") for name in "snoz"]
    assert json.loads(change(value, *steps, SALT, environ=ENV)) == {
        "s": digest("é".encode()),
        "n": digest(b"1.10"),
        "o": digest(b'{"a":1}'),
        "z": None,
    }


def test_the_salt_comes_from_a_file():
    asked = []

    def read_file(path):
        asked.append(path)
        return b"pepper\n"

    by_file = change(b'{"a":"x"}', Step("hash", ".a"), Step("hash-salt", "file:/run/salt"), read_file=read_file)
    assert asked == ["/run/salt"]
    assert by_file == change(b'{"a":"x"}', Step("hash", ".a"), SALT, environ=ENV)


@pytest.mark.parametrize(
    ("salt", "advice"),
    [
        (None, "add --hash-salt env:NAME or --hash-salt file:PATH"),
        ("env:NOT_THERE", "env:NOT_THERE is empty or not set"),
        ("env:EMPTY", "env:EMPTY is empty or not set"),
        ("file:missing", r"missing cannot be read \(No such file"),
        ("hunter2", "write env:NAME or file:PATH"),
        ("hunter2:x", "write env:NAME or file:PATH"),
        ("env:", "write env:NAME or file:PATH"),
    ],
)
def test_a_salt_is_a_reference_and_never_told(salt, advice):
    steps = [Step("hash", ".a")] + ([] if salt is None else [Step("hash-salt", salt)])
    with pytest.raises(UsageError, match=advice) as caught:
        build(steps, environ={"EMPTY": ""})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("step", "advice"),
    [
        (Step("mask", "."), r"\. is the whole value"),
        (Step("mask", ".a..b"), "write one like"),
        (Step("drop-field", ""), "the path is empty"),
        (Step("rename-field", ".a"), "write PATH=NAME"),
        (Step("rename-field", ".a=.b.c"), "a name, not a path"),
        (Step("rename-field", ".a[0]=b"), "does not end in the name of a field"),
        (Step("rename-field", ".=b"), "does not end in the name of a field"),
        (Step("cast", ".a"), "TYPE one of int, float, string, bool"),
        (Step("cast", ".a=integer"), "TYPE one of int, float, string, bool"),
        (Step("cast", "=int"), "the path is empty"),
    ],
)
def test_arguments(step, advice):
    with pytest.raises(UsageError, match=advice) as caught:
        build([step])
    assert str(caught.value).startswith(f"--{step.name} ")


numbers = st.sampled_from(["0", "-0", "1.10", "1e400", "7", "-2.50", "1E5", "9" * 30, "9007199254740993", "0.1e-7"])
texts = st.recursive(
    numbers | st.sampled_from(["null", "true", '"x"', '"é"']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3).map(
            lambda items: "{" + ",".join(f'"{name}":{item}' for name, item in items.items()) + "}"
        )
    ),
    max_leaves=8,
)


@given(texts, texts, numbers)
def test_what_is_left_alone_keeps_its_text(left, right, dropped):
    value = f'{{"l":{left},"gone":{dropped},"r":{right}}}'.encode()
    assert change(value, Step("drop-field", "gone")) == f'{{"l":{left},"r":{right}}}'.encode()
    assert change(value, Step("mask", "gone")) == f'{{"l":{left},"gone":0,"r":{right}}}'.encode()
    assert change(value, Step("rename-field", "gone=n")) == f'{{"l":{left},"n":{dropped},"r":{right}}}'.encode()
    assert change(value, Step("cast", "gone=string")) == f'{{"l":{left},"gone":"{dropped}","r":{right}}}'.encode()


@given(st.dictionaries(st.sampled_from(["a", "b"]), texts, min_size=1))
def test_flatten_loses_no_leaf(items):
    value = ("{" + ",".join(f'"{name}":{item}' for name, item in items.items()) + "}").encode()
    flat = json.loads(change(value, Step("flatten", "/")), parse_float=str, parse_int=str)

    def leaves(node, path):
        if isinstance(node, dict) and node:
            return {key: leaf for name, inner in node.items() for key, leaf in leaves(inner, [*path, name]).items()}
        return {"/".join(path): node}

    assert flat == leaves(json.loads(value, parse_float=str, parse_int=str), [])

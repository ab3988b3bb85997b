from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transforming import run_steps

from kpipe.errors import Stage, UsageError
from kpipe.record import Batch
from kpipe.transform.document import Documents
from kpipe.transform.step import Step
from kpipe.transform.template import Template


def render(text, batch):
    return Template(Step("set-key", text), text, Documents()).render(batch)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", b""),
        ("plain 100%", b"plain 100%"),
        ("{key}", b"k\xff"),
        ("<{value}>", b'<{"id": 7, "user": {"name": "Ann"}}>'),
        ("{topic}/{partition}/{offset}@{timestamp}", b"orders/3/42@1763884800000"),
        ("{header[a]}{header[b]}", b"32"),
        ("{json[.user.name]}-{json[id]}", b"Ann-7"),
        ("{json[user]}", b'{"name":"Ann"}'),
        ("{{key}} {{{key}}}", b"{key} {k\xff}"),
        ("é%b%", "é%b%".encode()),
    ],
)
def test_fields(full, text, expected):
    full.keep([True, False])
    assert render(text, full) == ([expected], {})


def test_brackets_inside_a_path():
    batch = Batch([b'{"a":[5],"odd]}name":6}'])
    assert render('{json[.a[0]]}{json["odd]}name"]}', batch) == ([b"56"], {})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{key}", "key is null"),
        ("{value}", "value is null"),
        ("x{timestamp}", "no timestamp"),
        ("{header[a]}", "no header a"),
        ("{header[zz]}", "no header zz"),
        ("{json[id]}", "value is null"),
    ],
)
def test_a_missing_field_is_told(full, text, reason):
    results, missing = render(text, full)
    assert results[1] is None
    assert reason in missing[1]


@pytest.mark.parametrize("text", ["{key}", "{topic}", "{partition}", "{offset}", "{timestamp}", "{header[a]}"])
def test_lines_have_no_coordinates(text):
    assert list(render(text, Batch([b"x"]))[1]) == [0]


def test_json_reasons_tell_where_it_went_wrong():
    batch = Batch([b"[1", b'{"a":"text"}', b'{"a":null}', b'{"a":{"b":1}}'])
    results, missing = render("{json[.a.b]}", batch)
    assert results == [None, None, None, b"1"]
    assert "not JSON" in missing[0]
    assert '"b" needs an object and finds a string' in missing[1]
    assert "has no .a.b, or it is null" in missing[2]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("{", "{{ is a brace"),
        ("}", "write }}"),
        ("{key", "write {key}"),
        ("{keys}", "did you mean {key}"),
        ("{headers}", r"did you mean {header\[NAME\]}"),
        ("{json.user.id}", r"unknown field {json\.user\.id}; did you mean {json\[\.user\.id\]}\?"),
        ("{value.id}", r"did you mean {json\[\.id\]}\?"),
        ("{header.h}", r"did you mean {header\[h\]}\?"),
        ("{key.id}", r"unknown field {key\.id}; fields are {key} "),
        ("{json", r"{json is not closed; write {json\[path\]}"),
        ("{xyzzy}", r"write {json\[xyzzy\]}"),
        ("{key[a]}", "takes no brackets"),
        ("{header[]}", r"write {header\[NAME\]}"),
        ("{header[a}", r"write {header\[NAME\]}"),
        ("{json[.a}", r"write {json\[.a.b\]}"),
        ("{json[.a..b]}", "not part of a path"),
    ],
)
def test_wrong_templates_are_refused_with_the_right_form(text, advice):
    with pytest.raises(UsageError, match=advice) as caught:
        render(text, Batch([]))
    assert str(caught.value).startswith("--set-key ")


@given(st.binary(), st.text())
def test_any_bytes_and_any_literal_come_through(key, literal):
    escaped = literal.replace("{", "{{").replace("}", "}}")
    assert render(escaped + "{key}" + escaped, Batch([b""], keys=[key])) == (
        [literal.encode() + key + literal.encode()],
        {},
    )


def test_bad_records_name_the_transform_and_the_position(full):
    run_steps(full, Step("set-key", "{key}!"))
    assert full.keys == [b"k\xff!"]
    (bad,) = full.bad
    assert bad.index == 1
    assert bad.error.stage is Stage.TRANSFORM
    assert str(bad.error) == (
        "transform: prod:orders[4]@43: --set-key {key}!: its key is null; "
        "use --on-error skip or dlq:TOPIC to go on without such records"
    )

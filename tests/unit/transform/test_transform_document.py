from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.record import Batch
from kpipe.transform.document import (
    Documents,
    NotJson,
    dump,
    field_text,
    parse,
    parse_exact,
    parse_faithful,
    why_not_json,
)
from kpipe.transform.path import getter

NUMBERS = ["1.10", "1e400", "-0", "-0.0", "0", "1E5", "1" * 30, "9007199254740993", "18446744073709551616", "1e-400"]


@pytest.mark.parametrize("number", NUMBERS)
def test_number_text_survives(number):
    value = f'{{"a":[{number},"x"],"b":{number}}}'.encode()
    assert dump(parse_exact(value)) == value
    assert dump(parse_faithful(value)) == value
    assert field_text(getter(("b",))(parse(value)), value, ("b",)) == number.encode()
    assert field_text(getter(("a",))(parse(value)), value, ("a",)) == f'[{number},"x"]'.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'"x\\u00e9"', "xé".encode()),
        (b"null", None),
        (b"true", b"true"),
        (b"false", b"false"),
        (b'{"a": 1}', b'{"a":1}'),
    ],
)
def test_field_text(value, text):
    assert field_text(parse(value), value, ()) == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the value is null"),
        (b'{"a":\xff}', r"not UTF-8 text \(byte 6 of 7\)"),
        (b"", "not JSON"),
        (b"{} {}", r"not JSON \(.*line 1 column 4\)"),
        (b'{\n"a":}', r"line 2 column 5"),
        (b"NaN", "not JSON"),
        (b'"\\ud800"', "not JSON"),
        (b'[1e400, "\\ud800"]', "not JSON"),
        (b"[1e400, NaN]", "not JSON"),
        (b"[" * 2000 + b"]" * 2000, "nests deeper than 254 levels"),
    ],
)
def test_what_is_not_json_says_where(value, reason):
    batch = Batch([value])
    (document,) = Documents().column(batch)
    assert isinstance(document, NotJson)
    assert document.reason == why_not_json(value)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(document.reason)


def test_documents_are_parsed_once_and_follow_what_is_removed():
    documents = Documents()
    batch = Batch([b'{"a":1}', b"no", b'{"a":3}'])
    first = documents.column(batch)
    assert documents.column(batch) is first
    batch.keep([True, False, True])
    again = documents.column(batch)
    assert again[0] is first[0]
    assert again[1] is first[2]
    batch.values = [batch.values[0], b'{"a":4}']
    changed = documents.column(batch)
    assert changed[0] is first[0]
    assert changed[1] == {"a": 4}


def test_documents_of_another_batch_are_its_own():
    documents = Documents()
    assert documents.column(Batch([b"1"])) == [1]
    assert documents.column(Batch([b"2"])) == [2]


scalars = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([1.5, -0.0, 1e22, 1e-7])
documents_ = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


@given(documents_)
def test_dump_of_faithful_keeps_every_number(document):
    value = json.dumps(document, ensure_ascii=False).encode()
    written = dump(parse_faithful(value))
    assert json.loads(written, parse_float=Decimal) == json.loads(value, parse_float=Decimal)
    assert json.loads(written, parse_float=str) == json.loads(value, parse_float=str)

from __future__ import annotations

import pytest

from kpipe.errors import UsageError
from kpipe.record import Batch
from kpipe.transform.chain import Step, build


def test_set_key(run):
    batch = run(Batch([b"v", b"w"]), Step("set-key", "<{value}>"))
    assert batch.keys == [b"<v>", b"<w>"]
    assert not batch.bad


def test_an_empty_template_is_an_empty_key_not_null(run):
    assert run(Batch([b"v"]), Step("set-key", "")).keys == [b""]


def test_key_field(run):
    values = [b'{"a":{"b":"raw \\u00e9"}}', b'{"a":{"b":12}}', b'{"a":{"b":[1.10, {"x": 1}]}}', b'{"a":{"b":false}}']
    batch = run(Batch(list(values)), Step("key-field", ".a.b"))
    assert batch.keys == ["raw é".encode(), b"12", b'[1.10,{"x":1}]', b"false"]
    assert batch.values == values


def test_key_field_absent_null_or_not_json_is_bad(run):
    batch = run(
        Batch(
            [b'{"a":1}', b"{}", b'{"a":null}', b"x", None, b"[]"],
            keys=[b"old"] * 6,
            file="in",
            lines=[1, 2, 3, 4, 5, 6],
        ),
        Step("key-field", "a"),
    )
    assert batch.keys == [b"1"]
    assert [bad.error.where for bad in batch.bad] == ["in:2", "in:3", "in:4", "in:5", "in:6"]
    whats = [bad.error.what for bad in batch.bad]
    assert all(what.startswith("--key-field a: ") for what in whats)
    assert "has no a" in whats[0]
    assert "not JSON" in whats[2]
    assert "is null" in whats[3]
    assert "needs an object and finds an array" in whats[4]


def test_key_field_wants_a_path():
    with pytest.raises(UsageError, match=r"--key-field a\.\.b: .*write one like"):
        build([Step("key-field", "a..b")])


def test_drop_key(run):
    assert run(Batch([b"v"], keys=[b"k"]), Step("drop-key")).keys is None


def test_steps_see_what_earlier_steps_made(run):
    batch = run(
        Batch([b'{"id":1}']),
        Step("key-field", "id"),
        Step("set-header", "k={key}"),
        Step("set-key", "{header[k]}{key}"),
    )
    assert batch.keys == [b"11"]
    assert batch.headers == [[("k", b"1")]]


def test_documents_follow_records_that_left(run):
    batch = run(
        Batch([b'{"id":1,"g":"a"}', b'{"id":2,"g":"b"}', b'{"id":3,"g":"a"}']),
        Step("key-field", "g"),
        Step("grep-not", "key:b"),
        Step("key-field", "id"),
    )
    assert batch.keys == [b"1", b"3"]
    assert batch.index == [0, 2]

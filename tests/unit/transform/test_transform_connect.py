from __future__ import annotations

import shlex

import pytest
from transforming import run_steps

from kpipe.record import TIMESTAMP_CREATE, Batch
from kpipe.transform.chain import Step
from kpipe.transform.connect import EQUIVALENTS

VALUE = b'{"id":7,"amount":"150","tenant":"a","card":"4111","at":1763884800000,"user":{"name":"Ann","mail":"ann@x"}}'


def record(value=VALUE):
    return Batch(
        [value],
        keys=[b'{"id":1}'],
        headers=[[("trace-id", b"t")]],
        timestamps=[(TIMESTAMP_CREATE, 1763884800000)],
        topics=["orders"],
        partitions=[0],
        offsets=[42],
    )


def seen(batch):
    return {"values": batch.values, "keys": batch.keys, "headers": batch.headers, "targets": batch.targets}


TRACE = ("trace-id", b"t")
EXPECTED = {
    "Cast": {"values": [VALUE.replace(b'"150"', b"150")]},
    "DropHeaders": {"headers": [None]},
    "ExtractField$Value": {"values": [b'"Ann"']},
    "ExtractField$Key": {"keys": [b"1"]},
    "Filter": {},
    "Flatten": {
        "values": [VALUE.replace(b'"user":{"name"', b'"user_name"').replace(b'"mail":"ann@x"}', b'"user_mail":"ann@x"')]
    },
    "HeaderFrom (copy)": {"headers": [[TRACE, ("tenant", b"a")]]},
    "HeaderFrom (move)": {"headers": [[TRACE, ("tenant", b"a")]], "values": [VALUE.replace(b'"tenant":"a",', b"")]},
    "HoistField": {"values": [b'{"line":%b}' % VALUE]},
    "InsertField": {"values": [VALUE[:-1] + b',"source":"orders","offset":42,"site":"berlin"}']},
    "InsertHeader": {"headers": [[TRACE, ("site", b"berlin")]]},
    "MaskField": {"values": [VALUE.replace(b"4111", b"***")]},
    "RegexRouter": {"targets": ["copy.orders"]},
    "ReplaceField (exclude)": {"values": [VALUE.replace(b',"mail":"ann@x"', b"")]},
    "ReplaceField (include)": {"values": [b'{"id":7,"amount":"150"}']},
    "ReplaceField (renames)": {"values": [VALUE.replace(b'"mail"', b'"email"')]},
    "TimestampConverter": {"values": [VALUE.replace(b"1763884800000", b'"2025-11-23T08:00:00Z"')]},
    "TimestampRouter": {"targets": ["orders-20251123"]},
    "ValueToKey": {"keys": [b'{"id":7}']},
    "HasHeaderKey": {},
    "TopicNameMatches": {},
}


def steps_of(options):
    words = shlex.split(options)
    assert all(option.startswith("--") for option in words[::2])
    return [Step(option[2:], argument) for option, argument in zip(words[::2], words[1::2], strict=True)]


@pytest.mark.parametrize("name", EXPECTED)
def test_each_does_what_connect_does(name):
    (row,) = [row for row in EQUIVALENTS if row.name == name]
    before = seen(record())
    batch = run_steps(record(), *steps_of(row.options))
    assert not batch.bad
    assert seen(batch) == before | EXPECTED[name]


def test_the_tombstone_predicate():
    (row,) = [row for row in EQUIVALENTS if row.name == "RecordIsTombstone"]
    assert len(run_steps(record(), *steps_of(row.options))) == 0
    assert len(run_steps(record(None), *steps_of(row.options))) == 1


def test_every_row_is_run_or_says_why_not():
    assert {row.name for row in EQUIVALENTS} == {*EXPECTED, "RecordIsTombstone", "SetSchemaMetadata"}
    assert all(row.options or row.note for row in EQUIVALENTS)

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transforming import run_steps

from kpipe.errors import UsageError
from kpipe.record import Batch
from kpipe.transform.chain import Step, build

HEADERS = [("a", b"1"), ("b", None), ("a", b"2"), ("x-1", b"3")]


def batch_of(*headers):
    return Batch([b"v"] * len(headers), headers=list(headers))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step("set-header", "a=N"), [("a", b"N"), ("b", None), ("x-1", b"3")]),
        (Step("set-header", "b="), [("a", b"1"), ("b", b""), ("a", b"2"), ("x-1", b"3")]),
        (Step("set-header", "n=x=y"), [*HEADERS, ("n", b"x=y")]),
        (Step("add-header", "a=N"), [*HEADERS, ("a", b"N")]),
        (Step("drop-header", "a"), [("b", None), ("x-1", b"3")]),
        (Step("drop-header", "x-*"), HEADERS[:3]),
        (Step("drop-header", "[ab]"), [("x-1", b"3")]),
        (Step("drop-header", "A"), HEADERS),
        (Step("drop-header", "*"), None),
        (Step("rename-header", "a=z"), [("z", b"1"), ("b", None), ("z", b"2"), ("x-1", b"3")]),
        (Step("rename-header", "q=z"), HEADERS),
    ],
)
def test_one_list(run, step, expected):
    shared = list(HEADERS)
    batch = run(batch_of(shared), step)
    assert batch.headers == [expected]
    assert shared == HEADERS


@pytest.mark.parametrize("name", ["drop-header", "rename-header", "strip-trace"])
def test_no_headers_stay_no_headers(run, name):
    step = {"drop-header": Step(name, "a"), "rename-header": Step(name, "a=b"), "strip-trace": Step(name)}[name]
    assert run(Batch([b"v"]), step).headers is None
    assert run(batch_of(None), step).headers == [None]


def test_set_header_on_records_without_any(run):
    assert run(Batch([b"v"]), Step("set-header", "a={value}")).headers == [[("a", b"v")]]
    assert run(batch_of(None, []), Step("add-header", "a={value}")).headers == [[("a", b"v")], [("a", b"v")]]


def test_a_missing_field_keeps_the_others_in_line(run):
    batch = run(Batch([b"v", b"w"], keys=[None, b"k"]), Step("set-header", "a={key}"))
    assert batch.values == [b"w"]
    assert batch.headers == [[("a", b"k")]]
    assert batch.bad[0].index == 0


@pytest.mark.parametrize(
    ("step", "advice"),
    [
        (Step("set-header", "a"), 'no "="; write NAME=TEMPLATE, for example --set-header'),
        (Step("set-header", "=a"), 'no name before "="'),
        (Step("rename-header", "a"), "write OLD=NEW"),
        (Step("rename-header", "a="), 'no name behind "="'),
        (Step("drop-header", ""), "no name"),
    ],
)
def test_arguments(step, advice):
    with pytest.raises(UsageError, match=advice) as caught:
        build([step])
    assert str(caught.value).startswith(f"--{step.name} ")


def test_strip_trace_leaves_what_is_not_ours(run):
    ours = ["source_topic", "source_consumer_group", "origin_offset", "trace_hops", "error_code", "source_attempts"]
    theirs = ["source", "source_of_truth", "error", "origin_country", "trace_hops_2"]
    batch = run(batch_of([(name, b"1") for name in [*ours, *theirs]]), Step("strip-trace"))
    assert [name for name, _ in batch.headers[0]] == theirs


names = st.sampled_from(["a", "b", "c"])
header_lists = st.lists(st.tuples(names, st.none() | st.binary(max_size=2)), max_size=6)


@given(header_lists, names)
def test_set_header_leaves_one_and_the_rest_in_order(headers, name):
    before = deepcopy(headers)
    (after,) = run_steps(batch_of(headers), Step("set-header", f"{name}=NEW")).headers
    assert [header for header in after if header[0] == name] == [(name, b"NEW")]
    assert [header for header in after if header[0] != name] == [header for header in before if header[0] != name]
    first = next((at for at, header in enumerate(before) if header[0] == name), None)
    at = after.index((name, b"NEW"))
    assert after[:at] == (before[:first] if first is not None else before)
    assert headers == before


@given(header_lists, names)
def test_drop_header_drops_only_that_name(headers, name):
    (after,) = run_steps(batch_of(headers), Step("drop-header", name)).headers
    assert (after or []) == [header for header in headers if header[0] != name]

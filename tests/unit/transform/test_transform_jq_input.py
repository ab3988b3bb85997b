"""Which programs look at the value: the others work on values that are not JSON."""

from __future__ import annotations

import jq
import pytest
from transforming import run_steps

from kpipe.record import Batch
from kpipe.transform.chain import Step
from kpipe.transform.connect import EQUIVALENTS
from kpipe.transform.jq_input import looks_at_input
from kpipe.transform.program import says_nothing

BLIND = [
    '$meta.key == "bob"',
    '$meta.header | has("trace-id")',
    '$meta.headers | map(.[0]) | index("x") != null',
    '"const"',
    "true",
    "-1",
    '$meta.header["a b"] // "none"',
    '$meta."key"',
    '$meta.key | test("^a")',
    'if $meta.tombstone then "d" elif $meta.key then 1 else $meta.topic end',
    '"\\($meta.topic)-\\($meta.partition)"',
    '{a: $meta.key, "b": [1, 2], ($meta.topic): null, $meta, c: $meta.key | length}',
    '$meta.key as $k | $k + "x"',
    'any($meta.headers[]; .[0] == "a")',
    'try error("x") catch .',
    '@base64 "x\\($meta.key)"',
    "$meta.offset % 10 == 0 and ($meta.key | length) > 3",
    "$meta.headers[1:][0]?",
    "$meta.timestamp > (now - 3600) * 1000 # nothing of .a",
]
LOOKING = [
    ".",
    ".a",
    "..",
    "$meta.header[.x]",
    "$meta.headers[.n:]",
    "select($meta.key)",
    "$meta.key == .id",
    "$meta.key // .",
    "$meta.key, .",
    "length",
    "not",
    "first",
    "error",
    "@base64",
    "if $meta.tombstone then 1 end",
    "{a}",
    '{"a"}',
    "{(.a): 1}",
    "{a: .b}",
    '"\\(.a)"',
    '@json "\\(.)"',
    "$meta.key as $k | .a",
    "any($meta.tombstone)",
    "any(.[]; true)",
    "try .a catch 1",
    "[.[]]",
    "1 as $x | length",
    ".a = $meta.key",
    "reduce .[] as $x (0; . + $x)",
    "def f: .; $meta",
    "$meta)",
    "(" * 5000,
]


@pytest.mark.parametrize("text", BLIND)
def test_a_program_that_does_not_look_gives_the_same_on_every_input(text: str) -> None:
    assert not looks_at_input(text)
    meta = '{"key":"bob","topic":"t","headers":[["a","1"]],"header":{},"offset":3,"partition":0,"timestamp":1}'
    program = jq.compile(f"{meta} as $meta |\n{text}\n")
    texts = ("null", "7", '"x"', "[1]", '{"a":2}')
    assert len({repr(program.input_text(each).all()) for each in texts}) == 1


@pytest.mark.parametrize("text", LOOKING)
def test_a_program_that_may_look_is_said_to(text: str) -> None:
    assert looks_at_input(text)


ODD = [b"not json", b"", None, b"\xff", b"[" * 2000]


def odd() -> Batch:
    return Batch(list(ODD), keys=[b"k"] * len(ODD), topics=["orders"] * len(ODD), partitions=[0] * len(ODD),
                 offsets=list(range(len(ODD))), headers=[[("trace-id", b"1")]] * len(ODD))  # fmt: skip


@pytest.mark.parametrize(
    "steps",
    [
        [Step("filter", '$meta.key == "k"')],
        [Step("map-key", '$meta.key + "2"')],
        [Step("map-header", "h=$meta.topic")],
        [Step("route", '"\\($meta.topic)-2"'), Step("route-allow", "*")],
        [Step("filter", "$meta.offset >= 0"), Step("map-key", "$meta.topic")],
        [Step("dedupe", "$meta.offset")],
    ],
)
def test_programs_of_meta_alone_work_on_values_that_are_not_json(steps: list[Step]) -> None:
    batch = run_steps(odd(), *steps)
    assert (batch.bad, batch.values) == ([], ODD)


def test_a_map_of_meta_alone_replaces_any_value() -> None:
    assert run_steps(odd(), Step("map", "$meta.offset")).values == [b"0", b"1", None, b"3", b"4"]


@pytest.mark.parametrize("name", ["HasHeaderKey", "TopicNameMatches"])
def test_rows_of_the_connect_table_that_name_no_value_take_any(name: str) -> None:
    (row,) = [row for row in EQUIVALENTS if row.name == name]
    option, _, program = row.options.partition(" ")
    batch = run_steps(odd(), Step(option[2:], program.strip("'")))
    assert (batch.bad, batch.values) == ([], ODD)


def test_what_a_filter_on_meta_lets_through_must_be_json_for_the_next_that_looks() -> None:
    batch = run_steps(odd(), Step("filter", "$meta.offset < 1"), Step("map", "{a}"))
    assert [bad.index for bad in batch.bad] == [0]
    assert batch.bad[0].error.what.startswith("--map {a}: the value is not JSON")


def test_a_filter_that_looks_keeps_its_verdict_on_values_that_are_not_json() -> None:
    batch = run_steps(Batch([b"not json"], keys=[b"k"]), Step("filter", '.a? == 1 or $meta.key == "k"'))
    assert [bad.index for bad in batch.bad] == [0]


@pytest.mark.parametrize(
    ("program", "word"),
    [
        ("debug", "debug"),
        (".a | debug | .b", "debug"),
        ('.a|debug("x")', "debug"),
        ("[.[]|stderr]", "stderr"),
        ('select(.level == "debug")', ""),
        (".debug", ""),
        ("{debug: 1, stderr: .stderr}", ""),
        ('.a == "\\" debug"', ""),
        ("$debug", ""),
        ("def debug: .; debug", ""),
        ("debugging", ""),
    ],
)
def test_a_word_that_would_write_on_stderr_is_found_where_it_is_one(program: str, word: str) -> None:
    assert says_nothing(program) == word

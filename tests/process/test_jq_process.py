"""A jq program that may never end, in a process of its own: the same answers, an end for each, and none left over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from kpipe.errors import UndeliveredError
from kpipe.record import Batch
from kpipe.through import jq_process
from kpipe.through.jq_process import NOT_TRIED, TOO_SLOW, JqProcess
from kpipe.transform.chain import build
from kpipe.transform.patterns import Patience
from kpipe.transform.program import answer, may_loop
from kpipe.transform.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def start() -> Iterator[Callable[..., JqProcess]]:
    """Give programs that end with the test."""
    started: list[JqProcess] = []

    def begin(source: str, patience: Patience | None = None, **limit: float) -> JqProcess:
        started.append(JqProcess(source, patience or Patience(), **limit))
        return started[-1]

    yield begin
    for each in started:
        each.end()


LOOPS = "if . == 1 then until(false; .) else [tojson] end"


def test_the_answers_are_those_of_jq_here(start: Callable[..., JqProcess]) -> None:
    import jq

    source = 'def twice: . + .; if type == "number" then [twice | tojson] else error("0 no number") end'
    texts = [b"1", b'"x"', b"2.5", b"[", b"\xff", b"null", b'{"a":\n1}'] * 100
    run = jq.compile(source).input_text
    assert start(source)(texts) == [answer(run, text) for text in texts]


def test_a_text_on_which_it_never_ends_is_bad_and_its_neighbours_are_not(start: Callable[..., JqProcess]) -> None:
    texts = [b"0", b"1", b"2", b"1", b"3"]
    assert start(LOOPS, limit=0.3)(texts) == [["0"], TOO_SLOW, ["2"], TOO_SLOW, ["3"]]


def test_what_stands_behind_the_first_bad_one_is_not_tried_when_that_ends_the_run(
    start: Callable[..., JqProcess],
) -> None:
    patience = Patience()
    patience.first_bad_ends = True
    assert start(LOOPS, patience, limit=0.3)([b"0", b"1", b"1", b"2"]) == [["0"], TOO_SLOW, NOT_TRIED, NOT_TRIED]


def test_a_run_that_must_end_waits_for_nothing(start: Callable[..., JqProcess]) -> None:
    patience, began = Patience(), time.monotonic()
    patience.go_on = lambda: time.monotonic() < began + 1
    running = start(LOOPS, patience)
    with pytest.raises(UndeliveredError, match="the run ended while jq was at work"):
        running([b"1"])
    assert time.monotonic() < began + 3
    assert running._child is None


def test_more_answers_than_pipes_hold_are_no_deadlock(start: Callable[..., JqProcess]) -> None:
    texts = [b'"%b"' % (b"x" * 100_000)] * 50
    assert len(start("[., .]")(texts)) == 50


def test_only_programs_that_can_loop_go_apart(start: Callable[..., JqProcess]) -> None:
    asked: list[str] = []

    def run_apart(source: str, patience: Patience) -> JqProcess:
        asked.append(source)
        return start(source, patience)

    batch = Batch([b'{"a":2}', None])
    for text in (".a + 1 | {a: .}", "def inc: . + 1; .a | inc | {a: .}"):
        for stage in build([Step("map", text)], run_apart=run_apart):
            stage(batch)
    assert (batch.values, len(asked) > 0) == ([b'{"a":4}', None], True)
    assert all("def inc" in source for source in asked)


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        (".a.b", False), ("[recurse] | length", False), ("map(.x) | add", False), ("[limit(3; repeat(1))]", True),
        ("recurse(.+1)", True), ("[range(1e12)]", True), ("while(true; .)", True), ("def f: f; f", True),
    ],
)  # fmt: skip
def test_words_that_can_loop_are_known(text: str, *, loops: bool) -> None:
    assert may_loop(text) is loops


def test_the_limit_is_said_as_it_is() -> None:
    assert f"{jq_process.LIMIT:g} s" in TOO_SLOW

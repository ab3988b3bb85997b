"""Patterns that backtrack: the record is bad within its limit, its neighbours are not, and the run can end."""

from __future__ import annotations

import time

import pytest

from kpipe.errors import UndeliveredError
from kpipe.record import Batch
from kpipe.transform.patterns import LIMIT, TOO_SLOW, Patience, TookTooLong, compile_pattern, find_matches, run_within
from kpipe.transform.step import Step
from tests.unit.transform.transforming import run_steps

SLOW = b"a" * 60 + b"!"
TRANSFORMS = [
    Step("grep", "(a+)+$"),
    Step("grep-not", "(a+)+$"),
    Step("tombstone-if", r"(\w+\s?)*$"),
    Step("regex-replace", "s/(a|aa)+$/x/"),
    Step("regex-replace", "s/(?:a*)*b/x/g"),
]


@pytest.mark.parametrize("step", TRANSFORMS, ids=lambda step: step.name)
def test_a_record_on_which_a_pattern_backtracks_is_bad_and_its_neighbours_pass(step: Step) -> None:
    batch = run_steps(Batch([b"b", SLOW, b"c!"]), step)
    assert [bad.index for bad in batch.bad] == [1]
    assert TOO_SLOW in str(batch.bad[0].error)
    kept = set(batch.index if batch.index is not None else range(3))
    assert kept <= {0, 2}
    if step.name != "grep":
        assert kept == {0, 2}


@pytest.mark.parametrize("prefix", ["key:", "header[h]:"])
@pytest.mark.parametrize("name", ["grep", "tombstone-if", "regex-replace"])
def test_keys_and_headers_as_well(prefix: str, name: str) -> None:
    columns = {"keys": [b"k", SLOW], "headers": [[("h", b"k")], [("h", SLOW)]]}
    pattern = "s/(a+)+$/x/" if name == "regex-replace" else "(a+)+$"
    batch = run_steps(Batch([b"1", b"2"], **columns), Step(name, prefix + pattern))
    assert [bad.index for bad in batch.bad] == [1]


def test_the_name_of_a_topic_as_well() -> None:
    batch = run_steps(Batch([b"1", b"2"], topics=["orders", "a" * 100 + "-"]), Step("rename-topic", "(a+)+$=x"))
    assert [bad.index for bad in batch.bad] == [1]


def test_a_slow_record_first_in_line_under_stop_spares_those_behind_it_the_trial() -> None:
    patience = Patience()
    patience.first_bad_ends = True
    began = time.process_time()
    batch = run_steps(Batch([SLOW] * 50), Step("grep", "(a+)+$"), patience=patience)
    assert time.process_time() - began < 5 * LIMIT
    first = min(batch.bad, key=lambda bad: bad.index)
    assert (first.index, TOO_SLOW in str(first.error)) == (0, True)


def test_a_run_that_must_end_does_not_try_the_rest() -> None:
    patience = Patience()
    asked: list[int] = []
    patience.go_on = lambda: bool(asked.append(1)) or len(asked) < 2
    with pytest.raises(UndeliveredError, match="the run ended while it was matched"):
        run_steps(Batch([SLOW] * 50), Step("grep", "(a+)+$"), patience=patience)
    assert len(asked) == 2


def test_a_match_under_way_ends_with_the_run_and_says_nothing_of_the_record() -> None:
    """On a crowded machine its half second of CPU time would last for many."""
    patience, began = Patience(), time.process_time()
    patience.is_over = lambda: time.process_time() > began + 0.15
    batch = Batch([SLOW])
    with pytest.raises(UndeliveredError, match="the run ended while it was matched"):
        run_steps(batch, Step("grep", "(a+)+$"), patience=patience)
    assert time.process_time() < began + LIMIT
    assert batch.bad == []


def test_many_values_that_take_long_together_are_all_matched() -> None:
    """The limit is one record's: a batch of large values may take longer."""
    value = b"a" * 19 + b"!"  # some 50 ms of backtracking
    batch = run_steps(Batch([value] * 20), Step("grep-not", "(a+)+$"))
    assert (len(batch), batch.bad) == (20, [])


def test_names_are_matched_within_the_limit() -> None:
    assert find_matches("^or.*s$", ["orders", "other"]) == ["orders"]
    with pytest.raises(ValueError, match="backtracks"):
        find_matches("^(a+)+$", ["a" * 100 + "-"])


@pytest.mark.parametrize("text", ["(", "a{99999999999}", "[[:alpha:]]"])
def test_what_is_no_pattern_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        compile_pattern(text)


def test_the_limit_is_over_with_the_match() -> None:
    """A timer that rang later would break into whatever runs then."""
    assert run_within(0.05, lambda: 7) == 7
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    with pytest.raises(TookTooLong):
        run_within(0.05, find_slowly)


def find_slowly() -> None:
    compile_pattern("(a+)+$").search("a" * 60 + "!")

"""What options mean together, row by row: each is refused with its sentence, and its option alone is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kpipe.errors import UsageError
from kpipe.plan.rules import (
    CONSUME,
    EXCLUDES,
    FORWARD,
    NEEDS,
    PRODUCE,
    Rule,
    check,
    check_consume,
    check_forward,
    check_produce,
    first_step,
)

ROWS = [(table, rule) for table in (FORWARD, CONSUME, PRODUCE) for rule in table]
NAMES = [f"{rule.option} {rule.verb} {rule.other}" for _, rule in ROWS]


def needed(table: tuple[Rule, ...], option: str) -> dict[str, object]:
    return {rule.other: True for rule in table if rule.option == option and rule.verb == NEEDS}


@pytest.mark.parametrize(("table", "rule"), ROWS, ids=NAMES)
def test_a_row_refuses_with_its_sentence(table: tuple[Rule, ...], rule: Rule) -> None:
    given: dict[str, object] = {rule.option: True, **needed(table, rule.option)}
    check((rule,), {rule.option: True, rule.other: rule.verb == NEEDS})
    given[rule.other] = rule.verb == EXCLUDES
    with pytest.raises(UsageError) as caught:
        check((rule,), given)
    assert caught.value.what == rule.sentence.format(option=rule.option, other=rule.other)


@pytest.mark.parametrize(("table", "rule"), ROWS, ids=NAMES)
def test_what_was_not_typed_needs_and_excludes_nothing(table: tuple[Rule, ...], rule: Rule) -> None:
    check((rule,), {rule.option: False, rule.other: rule.verb == EXCLUDES})


def test_a_sentence_names_the_transform_that_was_typed() -> None:
    steps: Any = [SimpleNamespace(name="age"), SimpleNamespace(name="through-json")]
    rule = Rule("--exactly-once", EXCLUDES, "a filter")
    with pytest.raises(UsageError) as caught:
        check((rule,), {"--exactly-once": True, "a filter": first_step(steps, ("through", "through-json"))})
    assert caught.value.what == "--exactly-once and --through-json do not go together; drop one"
    assert first_step(steps, ("split",)) == ""


# --- from the options ---------------------------------------------------------------------------------------------


def forward(*steps: str, **typed: Any) -> None:
    options: dict[str, Any] = {
        "exactly_once": False, "resume_by_trace": False, "to_origin": False, "to_partition": "", "also": [], "tee": [],
        "dry_run": False, "rate": [], "spill": "", "group": "g", "partitions": [], "trace": "on",
    }  # fmt: skip
    all_of = SimpleNamespace(**{**options, **typed})
    check_forward(all_of, all_of, all_of, all_of, [SimpleNamespace(name=name) for name in steps])  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("steps", "typed", "word"),
    [
        ((), {"exactly_once": True, "also": ["t"]}, "--also"),
        ((), {"exactly_once": True, "tee": ["t"]}, "--also"),
        ((), {"exactly_once": True, "dry_run": True}, "--dry-run"),
        (("through",), {"exactly_once": True}, "--through"),
        ((), {"exactly_once": True, "rate": ["1/s"]}, "--rate"),
        ((), {"exactly_once": True, "group": ""}, "-G GROUP"),
        ((), {"exactly_once": True, "partitions": ["0"]}, "drop -p"),
        ((), {"exactly_once": True, "spill": "f"}, "--spill"),
        ((), {"exactly_once": True, "resume_by_trace": True}, "--resume-by-trace"),
        ((), {"resume_by_trace": True, "trace": "none"}, "--trace none"),
        ((), {"resume_by_trace": True, "to_origin": True}, "--to-origin"),
        (("split",), {"resume_by_trace": True}, "--split"),
        (("rename-topic",), {"resume_by_trace": True}, "--rename-topic"),
        (("route",), {"to_origin": True}, "--route"),
        ((), {"to_origin": True, "to_partition": "3"}, "--to-partition"),
    ],
)
def test_forward_refuses(steps: tuple[str, ...], typed: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError) as caught:
        forward(*steps, **typed)
    assert word in caught.value.what


def test_forward_takes_what_goes_together() -> None:
    forward("through", "split", "route", also=["t"], rate=["1/s"], spill="f", partitions=["0"], trace="none")
    forward("age", exactly_once=True, partitions=["same"])
    forward("age", resume_by_trace=True, group="", spill="f")
    forward("through", to_origin=True)


def consume(*steps: str, **typed: Any) -> None:
    options: dict[str, Any] = {
        "commit_acked": "", "acks": "in-order", "trust_end": False, "group": "", "partitions": [], "json": False,
        "json_value": False, "output": "lines",
    }  # fmt: skip
    all_of = SimpleNamespace(**{**options, **typed})
    check_consume(all_of, all_of, [SimpleNamespace(name=name) for name in steps])  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("steps", "typed", "word"),
    [
        ((), {"acks": "each"}, "--commit-acked PATH"),
        ((), {"trust_end": True}, "--commit-acked PATH"),
        ((), {"commit_acked": "p", "json": True}, "-G GROUP"),
        ((), {"commit_acked": "p", "group": "g"}, "add -J"),
        (("through",), {"commit_acked": "p", "group": "g", "output": "json"}, "--through"),
        (("route",), {}, "--route: consume has no target"),
        ((), {"partitions": ["same"]}, "-p same"),
    ],
)
def test_consume_refuses(steps: tuple[str, ...], typed: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError) as caught:
        consume(*steps, **typed)
    assert word in caught.value.what


def test_consume_takes_what_goes_together() -> None:
    consume("through", partitions=["0"])
    consume(commit_acked="p", group="g", json_value=True, acks="each", trust_end=True)


def produce(paths: tuple[str, ...] = ("-",), **typed: Any) -> None:
    options: dict[str, Any] = {
        "tee": False, "report": False, "ack": "", "restore": "", "dry_run": False, "input": "lines",
    }  # fmt: skip
    all_of = SimpleNamespace(**{**options, **typed})
    check_produce(all_of, all_of, all_of, paths)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("paths", "typed", "word"),
    [
        (("-",), {"tee": True, "report": True}, "both print to stdout"),
        (("-",), {"ack": "p"}, "--input json"),
        (("f",), {"ack": "p", "input": "json"}, "--input json"),
        (("-",), {"ack": "p", "input": "json", "restore": "f"}, "--input json"),
        (("-",), {"dry_run": True, "tee": True}, "--tee"),
        (("-",), {"dry_run": True, "report": True}, "--report"),
        (("-",), {"dry_run": True, "ack": "p", "input": "json"}, "--ack"),
        (("-",), {"dry_run": True, "restore": "f"}, "--restore"),
    ],
)
def test_produce_refuses(paths: tuple[str, ...], typed: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError) as caught:
        produce(paths, **typed)
    assert word in caught.value.what


def test_produce_takes_what_goes_together() -> None:
    produce(tee=True)
    produce(ack="p", input="json")
    produce(("f",), restore="f")

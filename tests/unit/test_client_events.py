"""What the client says between the records: what ends a run, in a person's words, and what passes by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kpipe.errors import KpipeError, UnreachableError
from kpipe.sources.client_events import Events
from kpipe.sources.selection import BEGINNING, Selection


def event(name: str, text: str = "the client's words", topic: str | None = "t", **kind: bool) -> Any:
    error = SimpleNamespace(
        name=lambda: name,
        str=lambda: text,
        retriable=lambda: kind.get("retriable", False),
        fatal=lambda: kind.get("fatal", False),
    )
    partition = None if topic is None else 3
    return SimpleNamespace(error=lambda: error, topic=lambda: topic, partition=lambda: partition)


def explain(message: Any, *topics: str, group: str | None = "g") -> tuple[KpipeError | None, list[str]]:
    said: list[str] = []
    selection = Selection(topics or ("t",), BEGINNING, cluster="prod", group=group)
    return Events(selection, said.append).explain(message), said


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (event("TOPIC_AUTHORIZATION_FAILED"), "prod:t[3]: not authorised: no ACL allows READ on topic t"),
        (event("GROUP_AUTHORIZATION_FAILED", topic=None), "prod: not authorised: no ACL allows READ on group g"),
        (
            event("_FATAL", "Fatal: Group authorization failed", topic=None),
            "prod: not authorised: no ACL allows READ on group g",
        ),
        (event("SASL_AUTHENTICATION_FAILED", topic=None), "the client's words; check the login"),
        (event("UNKNOWN_TOPIC_OR_PART"), "prod:t[3]: the topic or partition is gone"),
        (event("_UNKNOWN_PARTITION"), "prod:t[3]: the topic or partition is gone"),
        (event("GROUP_ID_NOT_FOUND", topic=None), "prod: group g: it has classic members"),
        (event("_FATAL", "Fatal: The group id does not exist"), "prod: group g: it has classic members"),
        (event("INCONSISTENT_GROUP_PROTOCOL"), "prod: group g: its members use another assignor"),
        (event("_TRANSPORT", retriable=True, fatal=True), "prod:t[3]: the client's words"),
        (event("_FATAL", "something else"), "prod:t[3]: something else"),
        (event("INVALID_REQUEST"), "prod:t[3]: the client's words"),
    ],
    ids=lambda each: each if isinstance(each, str) else each.error().name(),
)
def test_what_ends_a_run_is_told_with_its_place(message: Any, told: str) -> None:
    found, said = explain(message)
    assert told in str(found)
    assert said == []


def test_what_a_person_can_mend_elsewhere_is_no_fault_of_the_data() -> None:
    for name in ("TOPIC_AUTHORIZATION_FAILED", "_AUTHENTICATION"):
        assert isinstance(explain(event(name))[0], UnreachableError)
    assert not isinstance(explain(event("UNKNOWN_TOPIC_OR_PART"))[0], UnreachableError)


def test_what_the_client_tries_again_passes() -> None:
    assert explain(event("_TRANSPORT", retriable=True)) == (None, [])


def test_without_a_group_nobody_needs_a_right_to_one() -> None:
    """The client looks for its group's coordinator all the same."""
    assert explain(event("GROUP_AUTHORIZATION_FAILED", topic=None), group=None) == (None, [])


def test_a_member_that_polled_too_late_joins_again_and_says_so() -> None:
    found, said = explain(event("_MAX_POLL_EXCEEDED", "maximum poll interval exceeded", topic=None))
    assert found is None
    assert said == ["read: prod: maximum poll interval exceeded; joining the group again"]


def test_a_topic_that_only_a_pattern_meant_may_go() -> None:
    assert explain(event("UNKNOWN_TOPIC_OR_PART"), "^t") == (None, [])
    assert explain(event("UNKNOWN_TOPIC_OR_PART"), "^t", "t")[0] is not None

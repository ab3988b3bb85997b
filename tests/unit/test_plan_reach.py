"""A broker that cannot be reached at the address its cluster gave is told of once, after a few seconds."""

from __future__ import annotations

import pytest

from kpipe.plan.reach import Reach

REFUSED = "10.0.0.1:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)"
SILENT = "b:9092/2: Connection setup timed out in state CONNECT (after 10037ms in state CONNECT)"
BOOTSTRAP = (
    "10.0.0.1:9092/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)"
)
DOWN = "1/1 brokers are down"


def told(*complaints: tuple[float, str]) -> list[str]:
    """What is said of complaints, each with its time."""
    now = 0.0
    said: list[str] = []
    reach = Reach("prod", said.append, lambda: now)
    for now, text in complaints:  # noqa: B007 - the clock reads it
        reach.hear("_TRANSPORT", text)
    return said


def test_it_is_told_once_and_with_what_to_do() -> None:
    assert told(*((second, REFUSED) for second in (0.1, 1, 3, 5, 7, 9, 40))) == [
        "send: prod: broker 1 sends clients to 10.0.0.1:9092: Connect to ipv4#10.0.0.1:9092 failed: Connection refused; "
        "make that address reachable, or correct advertised.listeners; still trying"
    ]


def test_a_broker_that_says_nothing_is_told_of_with_its_first_complaint() -> None:
    (line,) = told((30.1, SILENT), (61, SILENT))
    assert line.startswith(
        "send: prod: broker 2 sends clients to b:9092: Connection setup timed out in state CONNECT; "
    )


@pytest.mark.parametrize(
    "complaints",
    [
        [(0.1, REFUSED), (1, REFUSED), (3, REFUSED)],
        [(second, REFUSED) for second in (0.1, 60, 61, 3600)],
        [(0.1, REFUSED), (5, REFUSED.replace("/1:", "/2:").replace("10.0.0.1", "10.0.0.2"))],
        [(0.1, BOOTSTRAP), (9, BOOTSTRAP)],
        [(0.1, DOWN), (9, DOWN)],
    ],
    ids=["a short while", "now and then", "two brokers", "what was typed", "a summary"],
)
def test_what_is_no_reason_to_speak(complaints: list[tuple[float, str]]) -> None:
    assert told(*complaints) == []

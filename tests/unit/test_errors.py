"""What is said of a fault, and to whom."""

from __future__ import annotations

import pytest

from kpipe.errors import GO_ON, without_policy


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"the value is not JSON; {GO_ON}", "the value is not JSON"),
        ("larger (1,000 bytes); raise it or use --on-error dlq:TOPIC", "larger (1,000 bytes); raise it"),
        (
            "larger; raise it or use --on-error dlq:TOPIC (its trace is 9 of it)",
            "larger; raise it (its trace is 9 of it)",
        ),
        ("has no key; use --keyless key, --key-field or --on-error skip", "has no key; use --keyless key, --key-field"),
        ("the topic is gone; create it again", "the topic is gone; create it again"),
    ],
)
def test_who_uses_on_error_is_not_told_to(text: str, left: str) -> None:
    """A record that was too large, and was skipped, still advised --on-error dlq."""
    assert without_policy(text) == left

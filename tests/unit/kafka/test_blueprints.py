"""What `--create=…` and `--config` say of a topic."""

from __future__ import annotations

import pytest

from kpipe.errors import UsageError
from kpipe.kafka.blueprints import Blueprint, parse_blueprint, parse_settings


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("6", Blueprint(6, {})),
        ("6,retention.ms=1000", Blueprint(6, {"retention.ms": "1000"})),
        ("retention.ms=1000", Blueprint(-1, {"retention.ms": "1000"})),
        (
            "6,cleanup.policy=compact,delete,retention.ms=-1",
            Blueprint(6, {"cleanup.policy": "compact,delete", "retention.ms": "-1"}),
        ),
        ("3,a=b=c", Blueprint(3, {"a": "b=c"})),
    ],
)
def test_partitions_then_settings(text: str, meant: Blueprint) -> None:
    assert parse_blueprint(text) == meant


@pytest.mark.parametrize("text", ["", "0", "-3", "six", "6,x", "6,,"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--create="):
        parse_blueprint(text)


def test_a_setting_may_be_empty_or_taken_back() -> None:
    assert parse_settings(["a=1", "b=", "c"]) == {"a": "1", "b": "", "c": None}
    with pytest.raises(UsageError):
        parse_settings(["=1"])

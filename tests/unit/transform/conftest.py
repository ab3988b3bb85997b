"""A batch in, the columns out: what every test of a transform needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from transforming import run_steps

from kpipe.record import TIMESTAMP_CREATE, Batch

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def run() -> Callable[..., Batch]:
    return run_steps


@pytest.fixture
def full() -> Batch:
    """Two records with everything; the second has null key, null value, and a null header."""
    return Batch(
        [b'{"id": 7, "user": {"name": "Ann"}}', None],
        keys=[b"k\xff", None],
        headers=[[("a", b"1"), ("b", b"2"), ("a", b"3")], [("a", None)]],
        timestamps=[(TIMESTAMP_CREATE, 1763884800000), (0, -1)],
        topics=["orders", "orders"],
        partitions=[3, 4],
        offsets=[42, 43],
        cluster="prod",
    )

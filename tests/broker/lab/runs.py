"""What tests of runs share: the name of a group, and a summary whose outcomes add up to what was read."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Running

WATCHED = ("--metrics", "0")
"""The option of a run that `ask` can ask."""
OUTCOMES = ("delivered", "filtered", "dead_lettered", "failed", "unknown")


def group() -> str:
    """The name of a group that nobody has used."""
    return f"g-{uuid.uuid4().hex[:10]}"


def balance(path: Path) -> dict[str, Any]:
    """Read a summary; a failed assertion when a record became nothing, or two things."""
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["read"] == sum(found[name] for name in OUTCOMES), found
    return found


def address(run: Running) -> str:
    """Where a run that is `WATCHED` answers, as `http://host:port`."""
    run.wait_for_stderr("metrics: http://")
    return re.search(r"metrics: (http://[^/]+)/metrics", run.err)[1]  # type: ignore[index]


def ask(run: Running, path: str) -> tuple[int, str]:
    """Ask a run that is `WATCHED`, and give the code and the text of its answer."""
    try:
        with urllib.request.urlopen(address(run) + path, timeout=15) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_until_delivered(run: Running, count: int) -> None:
    """Wait until a run that is `WATCHED` knows that so many records were delivered.

    A test that takes the broker away must wait for this: who reads the topic sees a record before the run that wrote
    it has its acknowledgement, which dies with the broker.
    """
    run.wait_for(lambda: json.loads(ask(run, "/status")[1])["delivered"] == count, what=f"{count} delivered")


def close_pipe(ends: tuple[int, int], inode: int) -> None:
    """Close what is still open of a pipe that a test may have closed in part.

    By then the number may be another's: of a client in this process, say, whose connection would be closed.
    """
    for end in ends:
        with suppress(OSError):
            if os.fstat(end).st_ino == inode:
                os.close(end)

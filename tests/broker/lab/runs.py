"""What tests of runs share: the name of a group, and a summary whose outcomes add up to what was read."""

from __future__ import annotations

import json
import os
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

OUTCOMES = ("delivered", "filtered", "dead_lettered", "failed", "unknown")


def group() -> str:
    """The name of a group that nobody has used."""
    return f"g-{uuid.uuid4().hex[:10]}"


def balance(path: Path) -> dict[str, Any]:
    """Read a summary; a failed assertion when a record became nothing, or two things."""
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["read"] == sum(found[name] for name in OUTCOMES), found
    return found


def close_pipe(ends: tuple[int, int], inode: int) -> None:
    """Close what is still open of a pipe that a test may have closed in part.

    By then the number may be another's: of a client in this process, say, whose connection would be closed.
    """
    for end in ends:
        with suppress(OSError):
            if os.fstat(end).st_ino == inode:
                os.close(end)

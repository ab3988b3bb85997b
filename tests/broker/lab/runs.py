"""What tests of runs share: the name of a group, and a summary whose outcomes add up to what was read."""

from __future__ import annotations

import json
import uuid
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

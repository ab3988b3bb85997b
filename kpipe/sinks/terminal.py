"""What stands behind a stream: a terminal with a width and colours, or a pipe that wants neither.

It writes nothing.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def wants_color(word: str, environ: Mapping[str, str], *, is_terminal: bool) -> bool:
    """`--color` wins over NO_COLOR, that over FORCE_COLOR and CLICOLOR_FORCE; else a terminal has colours."""
    if word != "auto":
        return word == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR") or environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return is_terminal and environ.get("TERM") != "dumb"


def width_of(stream: Any) -> int | None:
    """The terminal's columns; None for anything else."""
    return shutil.get_terminal_size().columns if stream.isatty() else None

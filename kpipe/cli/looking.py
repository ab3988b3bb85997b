"""What all looking commands share: how an answer is shown, and what it ends with.

A table for people, or JSON lines for programs: each an object with `version`, null for what is not known.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kpipe.ops.options import LookingOptions
    from kpipe.ops.table import Look

VERSION = 1
"""Of the JSON: a field may be added without a new one, never removed or given another meaning."""


def look_of(options: LookingOptions, stream: Any = None) -> Look:
    """The terminal's width and colours, or none in a pipe."""
    from kpipe.ops.table import Look

    stream = stream or sys.stdout
    return Look(
        width=shutil.get_terminal_size().columns if stream.isatty() else None,
        color=wants_color(options.color, stream.isatty(), os.environ),
        header=not options.no_header,
    )


def wants_color(word: str, is_terminal: bool, environ: Any) -> bool:
    """`--color` wins over NO_COLOR, that over FORCE_COLOR and CLICOLOR_FORCE; else a terminal has colours."""
    if word != "auto":
        return word == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR") or environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return is_terminal and environ.get("TERM") != "dumb"


def json_line(fields: dict[str, Any]) -> str:
    """One object as a line."""
    import orjson

    return orjson.dumps({"version": VERSION, **fields}).decode() + "\n"


def write(text: str) -> None:
    """Print at once: whoever reads may act on each row. What the terminal's encoding lacks becomes `?`."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(sys.stdout.encoding or "utf-8", "replace"))
    sys.stdout.buffer.flush()


def conclude(problems: Iterable[str], *, broken: bool = False) -> int:
    """Tell what could not be asked; exit code 1 for that, 5 for a threshold that is broken, 0 else."""
    told = list(dict.fromkeys(problems))
    for problem in told:
        tell(problem)
    return 1 if told else 5 if broken else 0

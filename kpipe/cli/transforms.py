"""`kpipe transforms`: the table of transforms, for people."""

from __future__ import annotations

import sys

from kpipe.cli.command import build_command
from kpipe.transform.registry import CATEGORIES, TRANSFORMS, Transform

HELP = (
    "List the transforms, each with an example. They are options of produce, consume and forward, and run in the order "
    "given."
)
EXAMPLES = (("which transforms change the key", "kpipe transforms | grep key"),)


def transforms() -> int:
    """Print the table."""
    lines: list[str] = []
    for category in CATEGORIES:
        rows = [row for row in TRANSFORMS if row.category == category]
        if rows:
            lines.append(f"{category}:")
            lines += [_line(row) for row in rows]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _line(row: Transform) -> str:
    usage = f"--{row.name}" + (f" {row.metavar}" if row.metavar else "")
    example = f"--{row.name} {row.example}".strip()
    return f"  {usage}\n      {row.help}\n      e.g. {example}"


app = build_command(
    transforms, name="transforms", help=HELP, examples=EXAMPLES, arguments={}, groups=(), transforms=False
)

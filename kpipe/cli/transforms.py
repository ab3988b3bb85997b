"""`kpipe transforms`: the table of transforms, for people."""

from __future__ import annotations

import textwrap

from kpipe.cli.command import build_command
from kpipe.cli.pager import show
from kpipe.transform.registry import CATEGORIES, TRANSFORMS, Transform

HELP = (
    "List the transforms, each with an example. They are options of produce, consume and forward, and run in the order "
    "given."
)
EXAMPLES = (("which transforms change the key", "kpipe transforms | grep key"),)


WIDTH = 80


def transforms() -> int:
    """Print the table."""
    lines: list[str] = []
    for category in CATEGORIES:
        rows = [row for row in TRANSFORMS if row.category == category]
        if rows:
            lines.append(f"{category}:")
            lines += [_line(row) for row in rows]
    show("\n".join(lines) + "\n")
    return 0


def _line(row: Transform) -> str:
    usage = f"--{row.name}" + (f" {row.metavar}" if row.metavar else "")
    example = f"--{row.name} {row.example}".strip()
    text = textwrap.wrap(row.help, WIDTH - 6, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"  {usage}", *(f"      {line}" for line in text), f"      e.g. {example}"])


app = build_command(
    transforms, name="transforms", help=HELP, examples=EXAMPLES, arguments={}, groups=(), transforms=False
)

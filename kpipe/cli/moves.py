"""How plans for positions of groups are shown, and how far their making has got."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kpipe.cli.looking import json_line, look_of, write
from kpipe.ops.options import LookingOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kpipe.ops.options import ChangeOptions
    from kpipe.ops.reset import Reset

PAUSE = 0.2
"""Seconds between two looks at a number that grows."""


@contextmanager
def progress(text: str) -> Iterator[Callable[[int], None]]:
    """A line on a terminal that says how much was done, and goes when it is done."""
    shown, terminal = time.monotonic(), sys.stderr.isatty()

    def tick(count: int) -> None:
        nonlocal shown
        if terminal and time.monotonic() - shown > PAUSE:
            shown = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{text.format(count)}")

    try:
        yield tick
    finally:
        if terminal:
            sys.stderr.write("\r\x1b[K")


def show_moves(plans: Sequence[Reset], change: ChangeOptions, *, named: bool = False) -> None:
    """A row a partition, for people or programs; `named`: the table says whose it is, too."""
    from kpipe.ops.table import Table, moment, number, rfc3339

    if change.json:
        for reset in plans:
            for move in reset.moves:
                write(
                    json_line(
                        {
                            "group": reset.group,
                            "topic": move.topic,
                            "partition": move.partition,
                            "current": move.current,
                            "new": move.new,
                            "skipped": move.skipped,
                            "repeated": move.repeated,
                            "next_ms": move.next_ms,
                            "next_time": rfc3339(move.next_ms),
                            "notes": move.notes,
                            "execute": change.execute,
                        }
                    )
                )
        return
    columns = (
        "TOPIC",
        ">PARTITION|PART",
        ">CURRENT",
        ">NEW",
        ">SKIPPED",
        ">REPEATED",
        "NEXT RECORD OF|NEXT OF",
        "NOTE?",
    )
    table = Table(("GROUP?", *columns))
    for reset in plans:
        for move in reset.moves:
            table.add(
                reset.group if named else "",
                move.topic,
                move.partition,
                number(move.current),
                number(move.new),
                number(move.skipped),
                number(move.repeated),
                moment(move.next_ms),
                ", ".join(move.notes),
                styles={5: "bad" if move.skipped else "", 6: "warn" if move.repeated else ""},
            )
    write(table.text(look_of(LookingOptions())))

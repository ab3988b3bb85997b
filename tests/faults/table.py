"""Writes what the suite did to kpipe as a page of the docs: one table per command, failures included."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from kpipe import __version__
from tests.broker.lab.jvm import KAFKA

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMANDS = ("forward", "forward --exactly-once", "produce", "consume")


@dataclass(frozen=True)
class Row:
    """One fault: how often, what happened, and what the documentation promises."""

    command: str
    fault: str
    runs: int
    happened: str
    promise: str
    records: int = 0

    @property
    def place(self) -> int:
        """Where its command stands among the others."""
        return COMMANDS.index(self.command) if self.command in COMMANDS else len(COMMANDS)


def render(rows: Iterable[Row], seed: int, seconds: float) -> str:
    """The page; rows keep their order within a command."""
    from confluent_kafka import libversion

    ordered = sorted(rows, key=lambda row: row.place)
    records, runs = sum(row.records for row in ordered), sum(row.runs for row in ordered)
    made = f"kpipe {__version__}, Kafka {KAFKA}, librdkafka {libversion()[0]}"
    head = [
        "# What the fault suite did to kpipe",
        "",
        f"Written by `make faults` on {time.strftime('%Y-%m-%d')}: {made}, FAULT_SEED={seed}.",
        f"{len(ordered)} faults, {runs:,} runs, {records:,} records, {seconds / 60:.0f} minutes.",
        "",
        "After each fault the suite's own oracle and `kpipe verify` judge the target, and must agree: lost, twice, out of",
        "order (within a source partition and within a key), altered (key, value, headers, timestamp).",
        "What comes twice is what was delivered and not yet committed when the fault came.",
    ]
    for command, group in groupby(ordered, key=lambda row: row.command):
        head += ["", f"## {command}", "", "| fault | runs | what happened | what is promised |", "|---|--:|---|---|"]
        head += [f"| {row.fault} | {row.runs} | {row.happened} | {row.promise} |" for row in group]
    return "\n".join(head) + "\n"

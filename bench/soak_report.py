"""The soak's samples, the rule by which they are flat, and docs/soak.md with its plot."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import NamedTuple

from tests.faults.memory import resident_mib

TICKS = os.sysconf("SC_CLK_TCK")
IDLE_CPU = 5.0
"""Percent of a core that a forward without work may take."""
PLOTTED = (
    ("memory", "memory, MiB", "#2b6cb0"),
    ("files", "open files", "#2f855a"),
    ("threads", "threads", "#b7791f"),
    ("cpu", "CPU, % of a core", "#c53030"),
    ("lag", "records not committed", "#6b46c1"),
)
WITHOUT_WORK = ("CPU without work, % of a core", "#4a5568")
WIDTH, HEIGHT, LEFT = 640, 90, 90


class Sample(NamedTuple):
    """The process at a moment: seconds since the start, MiB, files, threads, CPU in percent since the sample before,
    and records that are not committed yet."""

    at: float
    memory: float
    files: int
    threads: int
    cpu: float
    lag: int


class Meter:
    """Samples one process."""

    def __init__(self, pid: int) -> None:
        self._pid, self._before = pid, (0.0, 0.0)

    def sample(self, at: float, lag: int) -> Sample:
        """OSError or StopIteration when it has just ended."""
        folder = Path(f"/proc/{self._pid}")
        files, threads = len(os.listdir(folder / "fd")), len(os.listdir(folder / "task"))
        used, (then, before) = self.cpu_s(), self._before
        self._before = (at, used)
        percent = 100 * (used - before) / (at - then) if then and at > then else 0.0
        return Sample(at, resident_mib(self._pid), files, threads, percent, lag)

    def cpu_s(self) -> float:
        """Seconds of CPU so far: fields 14 and 15 of proc(5)'s stat, behind a name that may hold anything."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


class Rule(NamedTuple):
    """How much more of something the last quarter may have than the first one: a factor, and that much on top."""

    what: str
    factor: float
    more: float


RULES = (Rule("memory", 1.10, 0.0), Rule("files", 1.0, 8.0), Rule("threads", 1.0, 2.0))
"""Files: connections that are being made anew. Threads: librdkafka has one a broker, and makes one before it ends one."""


def quarters(samples: list[Sample], minutes: float) -> tuple[list[Sample], list[Sample]]:
    """The first and the last quarter, after a fifth of the time (two minutes at most) to warm up."""
    warm = [each for each in samples if each.at > min(120.0, minutes * 12)]
    quarter = len(warm) // 4
    return (warm[:quarter], warm[-quarter:]) if quarter >= 2 else ([], [])


def growth(samples: list[Sample], minutes: float) -> list[str]:
    """What grew by more than its rule allows, by medians."""
    first, last = quarters(samples, minutes)
    if not first:
        return ["too few samples to see growth"]
    found = []
    for rule in RULES:
        before, after = (statistics.median(getattr(each, rule.what) for each in part) for part in (first, last))
        if after > before * rule.factor + rule.more:
            found.append(f"{rule.what} grew from {before:.0f} to {after:.0f}")
    return found


def table(samples: list[Sample], idle: list[tuple[float, float]], minutes: float) -> list[str]:
    """Medians of the quarters, and the most there was; without work, the first and the last rest."""
    first, last = quarters(samples, minutes)
    lines = ["| | first quarter | last quarter | at most | flat when |", "| --- | --- | --- | --- | --- |"]
    rules = {rule.what: rule for rule in RULES}
    for name, title, _ in PLOTTED:
        values = [getattr(each, name) for each in samples]
        parts = [
            f"{statistics.median(getattr(each, name) for each in part):,.0f}" if part else "" for part in (first, last)
        ]
        rule = rules.get(name)
        flat = (f"≤ {rule.factor:g} × the first" + f" + {rule.more:g}" * bool(rule.more)) if rule else ""
        lines.append(f"| {title} | {' | '.join(parts)} | {max(values):,.0f} | {flat} |")
    rests = [f"{cpu:.1f}" for _, cpu in idle] or ["", ""]
    most = max((cpu for _, cpu in idle), default=0.0)
    return [*lines, f"| {WITHOUT_WORK[0]} | {rests[0]} | {rests[-1]} | {most:.1f} | ≤ {IDLE_CPU:g} |"]


def write(
    folder: Path, told: list[str], samples: list[Sample], idle: list[tuple[float, float]], minutes: float, command: str
) -> None:
    """docs/soak.md and the plot beside it; `idle`: seconds since the start, and percent of a core, of each rest."""
    text = [
        "# How it runs for long",
        "",
        '`make soak ARGS="--minutes 60"` forwards through a real broker at a steady rate, while connections break, answers stay',
        "out, the broker freezes and is killed, and a second member of the group comes, leaves and is killed. Then every",
        "record of the target is judged, and the process that was there all the time is looked at: memory, open files,",
        "threads, and, in pauses, what it takes without work. With `--report` it writes this page. The last run that did:",
        "",
        f'    $ make soak ARGS="{command}"',
        *(f"    soak: {line}" for line in told),
        "",
        *table(samples, idle, minutes),
        "",
        "![Memory, files, threads, CPU, lag, and CPU without work over time](soak.svg)",
    ]
    (folder / "soak.md").write_text("\n".join(text) + "\n")
    (folder / "soak.svg").write_text(plot(samples, idle))


def plot(samples: list[Sample], idle: list[tuple[float, float]]) -> str:
    """One curve under another, each from zero to its own most; the last one is measured in the pauses."""
    curves = [(title, colour, [(each.at, getattr(each, name)) for each in samples]) for name, title, colour in PLOTTED]
    curves += [(*WITHOUT_WORK, idle)] if idle else []
    end, rows = max(at for _, _, points in curves for at, _ in points), []
    for number, (title, colour, curve) in enumerate(curves):
        top = 24 + number * (HEIGHT + 34)
        most = max(value for _, value in curve) or 1.0
        points = " ".join(
            f"{LEFT + WIDTH * at / end:.1f},{top + HEIGHT - HEIGHT * value / most:.1f}" for at, value in curve
        )
        rows += [
            f'<text x="{LEFT}" y="{top - 6}">{title}</text>',
            f'<path d="M{LEFT} {top}V{top + HEIGHT}H{LEFT + WIDTH}" fill="none" stroke="#a0aec0"/>',
            f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{most:,.{0 if most >= 10 else 1}f}</text>',
            f'<text x="{LEFT - 6}" y="{top + HEIGHT}" text-anchor="end">0</text>',
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
        ]
    bottom = 24 + len(curves) * (HEIGHT + 34)
    rows.append(f'<text x="{LEFT + WIDTH}" y="{bottom - 14}" text-anchor="end">{end / 60:.1f} minutes</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 20}" height="{bottom}" '
        'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(rows)
        + "\n</svg>\n"
    )

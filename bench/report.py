"""Shows what was measured: a table on the terminal, the same as a page of the documentation, and bars in an SVG file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.cases import WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


WAITING = ("waiting", "CPU, % of a core", "wake-ups/s")
FORWARD = """
What is left in forward is the price of a record that passes through Python: the client makes an object of each message and
of each of its headers, takes them apart again to send them, and calls back for each delivery. `librdkafka in C` does the same
work on the same library with none of that; `bare loop` is the least that a Python program can do, with commits gated but without
the trace's loop guard, the balance, `--on-error`, and batches that are kept until they are acknowledged. MirrorMaker 2's time
holds the start of its JVM; it never ends by itself. kcat's pipe carries values only; in the pipe of envelopes `bare loop` carries
the same as kpipe, with orjson and without any of its checks.
"""
COLUMNS = ("case", "tool", "wall s", "CPU s", "µs CPU/record", "peak MiB", "kpipe wall ×", "kpipe CPU ×")
STARTS = ("version", "help", "one line to delivered", "first record consumed", "tail to first record")
PASSING = (
    " of 100 B in",
    " of 300 B out",
    " envelopes out",
    " | ",
    "forward, trace, gated commits",
    "Avro values decoded",
)
"""Parts of the names of cases in the two pictures; the table has all."""
READING = "Medians; a ratio below 1 means that kpipe costs less than the tool of that row."


def show(results: dict[str, Any]) -> None:
    """The table, and what a second worker costs."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{_title(results)}, medians")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("case", "tool") else "right")
    for case in results["cases"]:
        for row in _rows(case):
            table.add_row(*row)
        table.add_section()
    console = Console(width=150)
    console.print(table)
    for row in results["waiting"]:
        console.print(" ".join(_waiting_row(row)))
    for line in _scaling(results):
        console.print(line)


def write_page(results: dict[str, Any], path: Path) -> None:
    """The table in Markdown, and its pictures beside it."""
    write_plots(results, path.parent)
    lines = [
        "# How fast it is, beside other tools",
        "",
        f"Written by `make bench` on {results['date']}: {_title(results)} of each command (3 where it takes long), interleaved,",
        f"on one real broker that has the same cores. {READING}",
        "`librdkafka in C` is [bench/floor.c](../bench/floor.c): what no program on this library can go below by much.",
        "",
        "## Records a second",
        "",
        "![Bars: records a second of kpipe and other tools, case by case](speed.svg)",
        "",
        "## Starting, and the first record",
        "",
        "![Bars: milliseconds that kpipe and other tools take to start](speed-start.svg)",
        "",
        "## All figures",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|" + "--:|" * (len(COLUMNS) - 2),
        *(f"| {' | '.join(_cell(text) for text in row)} |" for case in results["cases"] for row in _rows(case)),
        "",
        *_scaling(results),
        FORWARD,
        "## Waiting",
        "",
        "What a program costs while nothing comes: over 20 s, all its threads and processes; all of them side by side.",
        "",
        f"| {' | '.join(WAITING)} |",
        "|---|" + "--:|" * (len(WAITING) - 1),
        *(f"| {' | '.join(_waiting_row(row))} |" for row in results["waiting"]),
    ]
    path.write_text("\n".join(lines) + "\n")


def _waiting_row(row: dict[str, Any]) -> tuple[str, ...]:
    if "error" in row:
        return (row["tool"], row["error"], "")
    return (row["tool"], f"{row['core_percent']:.2f}", f"{row['wakes_per_s']:.1f}")


def _title(results: dict[str, Any]) -> str:
    return f"{results['machine']}, {results['runs']} runs"


def _rows(case: dict[str, Any]) -> list[tuple[str, ...]]:
    kpipe, rows = case["tools"].get("kpipe"), []
    if kpipe is None:
        return [(case["name"], "kpipe", "failed", "", "", "", "", "")]
    for tool, cost in case["tools"].items():
        each = f"{cost['cpu'] / case['records'] * 1e6:.2f}" if case["records"] else ""
        same = tool == "kpipe"
        wall = "" if same else f"{kpipe['wall'] / cost['wall']:.2f}"
        cpu = "" if same else f"{kpipe['cpu'] / cost['cpu']:.2f}"
        costs = (f"{cost['wall']:.3f}", f"{cost['cpu']:.3f}", each, f"{cost['peak_mib']:.0f}", wall, cpu)
        rows.append((case["name"] if same else "", tool, *costs))
    rows += [("", tool, "failed", "", "", "", "", "") for tool in case["failed"]]
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _scaling(results: dict[str, Any]) -> list[str]:
    """What a second worker costs, by CPU: here all of them share two cores with the broker, so wall time cannot tell."""
    lines = []
    for case in results["cases"]:
        if case["name"] == WORKERS:
            cpu = {tool: cost["cpu"] for tool, cost in case["tools"].items()}
            if len(cpu) < 4:
                continue
            two = (cpu["kpipe"] - cpu["two, of nothing"]) / case["records"] * 1e6
            one = (cpu["one"] - cpu["one, of nothing"]) / case["records"] * 1e6
            each = f"CPU a record, start-up taken off: {one:.2f} µs with one worker, {two:.2f} µs with two"
            lines.append(f"{each}; on cores of their own two do {2 * one / two:.2f} times as much as one.")
    return lines


def write_plots(results: dict[str, Any], folder: Path) -> None:
    """Bars in SVG files: how long a start takes, and how many records a second pass."""
    starts = [case for case in results["cases"] if case["name"] in STARTS]
    passing = [case for case in results["cases"] if any(part in case["name"] for part in PASSING)]
    (folder / "speed-start.svg").write_text(_bars(starts, lambda _case, wall: (wall, f"{wall * 1000:,.0f} ms")))
    (folder / "speed.svg").write_text(
        _bars(passing, lambda case, wall: (case["records"] / wall, f"{case['records'] / wall / 1000:,.0f} k/s"))
    )


def _bars(cases: list[dict[str, Any]], length: Callable[[dict[str, Any], float], tuple[float, str]]) -> str:
    """A group a case, scaled to its longest bar; `length` gives a bar's from a case and the seconds of one of its tools."""
    rows, y = [], 10
    for case in cases:
        y += 20
        rows.append(f'<text x="10" y="{y}" font-weight="bold">{_escape(case["name"])}</text>')
        bars = {tool: length(case, cost["wall"]) for tool, cost in case["tools"].items()}
        longest = max((value for value, _ in bars.values()), default=1.0)
        for tool, (value, label) in bars.items():
            y += 18
            width = 400 * value / longest
            colour = "#2b6cb0" if tool.startswith("kpipe") else "#a0aec0"
            rows.append(f'<text x="20" y="{y}">{_escape(tool)}</text>')
            rows.append(f'<rect x="230" y="{y - 11}" width="{width:.0f}" height="13" fill="{colour}"/>')
            rows.append(f'<text x="{235 + width:.0f}" y="{y}">{label}</text>')
        y += 10
    body = "\n".join(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{y + 5}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")

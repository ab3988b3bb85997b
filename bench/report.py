"""Shows what was measured: a table on the terminal, and bars in an SVG file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def show(results: dict[str, Any]) -> None:
    """Medians and ratios; a ratio below 1 means that kpipe costs less."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{results['machine']}, {results['runs']} runs, medians")
    for column in ("case", "tool", "wall s", "CPU s", "µs CPU/record", "peak MiB", "kpipe wall ×", "kpipe CPU ×"):
        table.add_column(column, justify="left" if column in ("case", "tool") else "right")
    for case in results["cases"]:
        kpipe = case["tools"]["kpipe"]
        for tool, cost in case["tools"].items():
            each = f"{cost['cpu'] / case['records'] * 1e6:.2f}" if case["records"] else ""
            same = tool == "kpipe"
            wall = "" if same else f"{kpipe['wall'] / cost['wall']:.2f}"
            cpu = "" if same else f"{kpipe['cpu'] / cost['cpu']:.2f}"
            name = case["name"] if same else ""
            row = (f"{cost['wall']:.3f}", f"{cost['cpu']:.3f}", each, f"{cost['peak_mib']:.0f}", wall, cpu)
            table.add_row(name, tool, *row)
        table.add_section()
    Console(width=150).print(table)


def write_plot(results: dict[str, Any], path: Path) -> None:
    """Bars of wall time, one group per case, each group scaled to its slowest tool."""
    rows, y = [], 30
    for case in results["cases"]:
        rows.append(f'<text x="10" y="{y}" font-weight="bold">{_escape(case["name"])}</text>')
        slowest = max(cost["wall"] for cost in case["tools"].values())
        for tool, cost in case["tools"].items():
            y += 18
            width = 400 * cost["wall"] / slowest
            colour = "#2b6cb0" if tool.startswith("kpipe") else "#a0aec0"
            rows.append(f'<text x="20" y="{y}">{_escape(tool)}</text>')
            rows.append(f'<rect x="230" y="{y - 11}" width="{width:.0f}" height="13" fill="{colour}"/>')
            rows.append(f'<text x="{235 + width:.0f}" y="{y}">{cost["wall"]:.3f} s</text>')
        y += 30
    body = "\n".join(rows)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{y}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")

"""Writes what can be read off the options' declarations: man pages, completion scripts, blocks of README and docs.

`python -m kpipe.cli.manual` writes, `--check` names the files that are not fresh and exits 1. No command of the tool
needs it, and nothing here reads a clock: the same declarations always give the same bytes.
"""

from __future__ import annotations

import importlib
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.main import get_command

from kpipe import __version__
from kpipe.cli import app, manual_text
from kpipe.cli.commands import COMMANDS, SUMMARY
from kpipe.cli.shells import FILE_NAMES, SCRIPTS
from kpipe.errors import EXIT_MEANING
from kpipe.options import PANELS
from kpipe.transform.connect import EQUIVALENTS
from kpipe.transform.registry import CATEGORIES, TRANSFORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

DATE = "2026-11-23"
"""Of the manual's last release: a page without a date is a fault to mandoc, and a clock would make it stale daily."""

ASCII = str.maketrans({"…": "...", "→": "->"})
ROFF = str.maketrans({"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"})


def main(arguments: Sequence[str]) -> int:
    """Write or check every generated file of the tree that this package stands in."""
    root = Path(__file__).parents[2]
    stale = [path for path, text in generate(root).items() if text is None or _read(path) != text]
    if "--check" in arguments:
        for path in stale:
            sys.stdout.write(f"not fresh: {path.relative_to(root)}; run make gen\n")
        return int(bool(stale))
    for path, text in generate(root).items():
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    for path in stale:
        sys.stdout.write(f"wrote {path.relative_to(root)}\n")
    return 0


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def generate(root: Path) -> dict[Path, str | None]:
    """Every generated file and its text; None for one that must go."""
    files: dict[Path, str | None] = dict.fromkeys((root / "man").glob("*.1"))
    files[root / "man" / "kpipe.1"] = overview_page()
    for name in COMMANDS:
        files[root / "man" / f"kpipe-{name}.1"] = command_page(name)
    for shell, script in SCRIPTS.items():
        files[root / "completions" / FILE_NAMES[shell]] = script
    for page in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        files[page] = fill_blocks(page.read_text())
    return files


def load(name: str) -> tuple[Any, Any]:
    """A command as typer built it, and the module that declares it."""
    return get_command(app).get_command(None, name), importlib.import_module(f"kpipe.cli.{name}")  # type: ignore[attr-defined]


# Man pages


def overview_page() -> str:
    """kpipe.1: what is common to all commands."""
    commands = [(f"kpipe\\-{name}(1)", text) for name, text in COMMANDS.items()]
    root = get_command(app)
    return _page(
        "kpipe",
        SUMMARY,
        [
            ("SYNOPSIS", [".B kpipe", r"[\fIOPTION\fR] \fICOMMAND\fR ..."]),
            ("DESCRIPTION", _paragraphs(manual_text.DESCRIPTION)),
            ("COMMANDS", [line for name, text in commands for line in _entry(rf"\fB{name}\fR", text)]),
            ("OPTIONS", _options(root)),
            ("EXIT STATUS", _exit_status()),
            ("SIGNALS", _paragraphs(manual_text.SIGNALS)),
            ("ENVIRONMENT", _rows(manual_text.ENVIRONMENT)),
            ("FILES", _rows(manual_text.FILES)),
            ("EXAMPLES", [line for name in COMMANDS for line in _examples(load(name)[1].EXAMPLES)]),
            ("SEE ALSO", _see_also(f"kpipe-{name}" for name in COMMANDS)),
        ],
    )


def command_page(name: str) -> str:
    """kpipe-NAME.1, from the command's declarations."""
    command, module = load(name)
    sections = [
        ("SYNOPSIS", _synopsis(f"kpipe {name}", command)),
        ("DESCRIPTION", _paragraphs([module.HELP, *getattr(module, "NOTES", ())])),
        ("OPTIONS", _options(command)),
    ]
    if hasattr(command, "list_commands"):
        subs = {sub: command.get_command(None, sub) for sub in command.list_commands(None)}
        sections[0] = ("SYNOPSIS", _broken(_synopsis(f"kpipe {name} {sub}", one) for sub, one in subs.items()))
        sections[2] = ("COMMANDS", [line for sub, one in subs.items() for line in _subcommand(f"{name} {sub}", one)])
    return _page(
        f"kpipe-{name}",
        COMMANDS[name],
        [
            *sections,
            ("EXIT STATUS", _exit_status()),
            ("EXAMPLES", _examples(module.EXAMPLES)),
            ("SEE ALSO", _see_also(["kpipe", *(f"kpipe-{other}" for other in COMMANDS if other != name)])),
        ],
    )


def _page(name: str, summary: str, sections: Iterable[tuple[str, list[str]]]) -> str:
    lines = [
        '.\\" Generated by `make gen` from the declarations in kpipe/cli; change those.',
        f'.TH {name.upper()} 1 {DATE} "kpipe {__version__}" "User Commands"',
        ".SH NAME",
        *wrapped(f"{name} - {summary.rstrip('.')}"),
    ]
    for heading, body in sections:
        if body:
            lines += [f".SH {heading}" if " " not in heading else f'.SH "{heading}"', *body]
    return "\n".join(lines) + "\n"


def _synopsis(name: str, command: Any) -> list[str]:
    operands = [roff(metavar(parameter)) for parameter in command.params if parameter.param_type_name == "argument"]
    return [f".B {roff(name)}", " ".join([r"[\fIOPTION\fR]...", *operands])]


def _broken(synopses: Iterable[list[str]]) -> list[str]:
    lines: list[str] = []
    for synopsis in synopses:
        lines += [*([".br"] if lines else []), *synopsis]
    return lines


def _subcommand(name: str, command: Any) -> list[str]:
    heading = f'.SS "kpipe {roff(name)}"'
    return [heading, *_paragraphs([command.help or ""]), *_entries(command.params, command)]


def _options(command: Any) -> list[str]:
    """Arguments first, then a subsection per panel."""
    panels: dict[str, list[Any]] = {}
    for parameter in command.get_params(_context(command)):
        panel = getattr(parameter, "rich_help_panel", None) or "Other"
        panels.setdefault("Arguments" if parameter.param_type_name == "argument" else panel, []).append(parameter)
    order = [panel for panel in ("Arguments", *PANELS, *panels) if panel in panels]
    lines: list[str] = []
    for panel in dict.fromkeys(order):
        lines += [f'.SS "{roff(panel)}"', *_entries(panels[panel], command)]
    return lines if len(panels) > 1 else _entries(next(iter(panels.values()), []), command)


def _entries(parameters: Iterable[Any], command: Any) -> list[str]:
    lines = []
    for parameter in parameters:
        if not getattr(parameter, "hidden", False):
            record = parameter.get_help_record(_context(command))
            lines += _entry(_label(parameter), record[1] if record else parameter.help or "")
    return lines


def _context(command: Any) -> Any:
    return command.context_class(command, info_name=command.name, resilient_parsing=True)


def _label(parameter: Any) -> str:
    """The bold names and the italic metavar."""
    value = rf"\fI{roff(metavar(parameter))}\fR"
    if parameter.param_type_name == "argument":
        return value
    names = ", ".join(rf"\fB{roff(name)}\fR" for name in sorted(names_of(parameter), key=len))
    return names if parameter.is_flag or parameter.count else f"{names} {value}"


def metavar(parameter: Any) -> str:
    """What stands for the value."""
    return str(parameter.metavar or parameter.type.name.upper())


def names_of(parameter: Any) -> list[str]:
    """All names of an option."""
    return [*parameter.opts, *parameter.secondary_opts]


def _entry(label: str, text: str) -> list[str]:
    return [".TP", label, *wrapped(text)]


def _rows(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [line for name, text in rows for line in _entry(rf"\fB{roff(name)}\fR", text)]


def _paragraphs(texts: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for text in texts:
        lines += [*([".PP"] if lines else []), *wrapped(text)]
    return lines


def _exit_status() -> list[str]:
    return _rows((str(int(code)), f"{meaning}.") for code, meaning in EXIT_MEANING.items())


def _examples(examples: Iterable[tuple[str, str]]) -> list[str]:
    lines = []
    for text, line in examples:
        lines += [".TP", roff(text[:1].upper() + text[1:]), ".EX", *(roff(part) for part in line.split("\n")), ".EE"]
    return lines


def _see_also(names: Iterable[str]) -> list[str]:
    *some, last = names
    return [*(f".BR {roff(name)} (1)," for name in some), f".BR {roff(last)} (1)"]


def roff(text: str) -> str:
    """Text as roff sets it literally: no line of it is a request, every dash can be copied."""
    set_text = text.translate(ASCII).translate(ROFF)
    return f"\\&{set_text}" if set_text.startswith((".", "\\(aq")) else set_text


def wrapped(text: str) -> list[str]:
    """Text in lines short enough for a page's source (mandoc asks for 80 bytes)."""
    return [roff(line) for line in textwrap.wrap(text, 70, break_long_words=False, break_on_hyphens=False)]


# README and docs


def fill_blocks(text: str) -> str:
    """A Markdown page with the text between `<!-- generated: NAME -->` and `<!-- end -->` made anew."""

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}\n{BLOCKS[match[2]]()}\n{match[3]}"

    return re.sub(r"(<!-- generated: ([a-z-]+) -->)\n.*?(<!-- end -->)", fill, text, flags=re.DOTALL)


def exit_code_table() -> str:
    """The exit codes, as Markdown."""
    return _table(("code", "meaning"), [(str(int(code)), meaning) for code, meaning in EXIT_MEANING.items()])


def transform_table() -> str:
    """The transforms by category, as Markdown."""
    rows = []
    for category in CATEGORIES:
        for row in TRANSFORMS:
            if row.category == category:
                usage = f"--{row.name} {row.metavar or ''}".strip()
                example = f"`--{row.name} {row.example}`" if row.example else ""
                rows.append((f"`{usage}`", row.help, example))
    return _table(("transform", "does", "example"), rows)


def connect_table() -> str:
    """What stands for the transforms of Kafka Connect, as Markdown."""
    rows = [(f"`{row.name}`", f"`{row.options}`" if row.options else "", row.note) for row in EQUIVALENTS]
    return _table(("Kafka Connect", "kpipe", ""), rows)


def environment_table() -> str:
    """The variables, as Markdown."""
    return _table(("variable", "means"), [(f"`{name}`", text) for name, text in manual_text.ENVIRONMENT])


def command_table() -> str:
    """The commands, as Markdown."""
    return _table(("command", ""), [(f"`kpipe {name}`", text) for name, text in COMMANDS.items()])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


BLOCKS: dict[str, Callable[[], str]] = {
    "commands": command_table,
    "connect": connect_table,
    "environment": environment_table,
    "exit-codes": exit_code_table,
    "transforms": transform_table,
}

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""The generated parts of README and docs, as Markdown: tables of what is declared, and the reference of all options.

It writes no file; `kpipe.cli.manual` does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kpipe.cli import manual_text
from kpipe.cli.built import described, load, metavar, names_of, panels, subcommands
from kpipe.cli.commands import COMMANDS
from kpipe.cli.messages import KINDS, MESSAGES, Explanation
from kpipe.errors import EXIT_MEANING
from kpipe.transform.connect import EQUIVALENTS
from kpipe.transform.registry import CATEGORIES, TRANSFORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

TRANSFORM_PANEL = "Transforms: "


OWNER = re.compile(r"(?:(?<=ghcr\.io/)|(?<=--repo )|(?<=brew install ))[\w.-]+(?=/(?:kpipe|tap/))")
"""Where a page names the owner of the repository."""


def fill_blocks(text: str, owner: str) -> str:
    """A Markdown page with the text between `<!-- generated: NAME -->` and `<!-- end -->` made anew.

    `owner` is the repository's, who is named in addresses of images, taps and attestations.
    """

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}\n{BLOCKS[match[2]]()}\n{match[3]}"

    text = OWNER.sub(owner, text)
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


def reference() -> str:
    """Every command with its options, as Markdown."""
    lines: list[str] = []
    for name in COMMANDS:
        command, module = load(name)
        lines += [f"## kpipe {name}", "", module.HELP, *(f"{note}" for note in getattr(module, "NOTES", ())), ""]
        subs = subcommands(command)
        for sub, one in subs.items():
            lines += [f"### kpipe {name} {sub}", "", one.help or "", "", *_usage(f"{name} {sub}", one), *_tables(one)]
        lines += [] if subs else [*_usage(name, command), *_tables(command)]
        lines += [
            "```sh",
            *(f"{line}    # {text}" if "\n" not in line else line for text, line in module.EXAMPLES),
            "```",
            "",
        ]
    return "\n".join(lines).rstrip()


def messages() -> str:
    """Every message by its id, as Markdown."""
    return "\n".join(line for message in sorted(MESSAGES) for line in _message(message)).rstrip()


def message_kinds() -> str:
    """The ids of what has no words of its own, as Markdown."""
    return "\n".join(line for message in KINDS for line in _message(message)).rstrip()


def _message(message: Explanation) -> list[str]:
    words = [f"- `{each}`" for each in message.words]
    do = ["", f"*What to do*: {message.do}"] if message.do else []
    return [f"### {message.id}", "", *words, *([""] if words else []), message.means, *do, ""]


def _usage(name: str, command: Any) -> list[str]:
    operands = [metavar(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    return [f"`kpipe {' '.join([name, '[OPTION]…', *operands])}`", ""]


def _tables(command: Any) -> Iterator[str]:
    """A table a panel; the transforms stand on a page of their own."""
    found = panels(command)
    if any(panel.startswith(TRANSFORM_PANEL) for panel in found):
        yield from ("And the [transforms](transforms.md), in the order in which they are written.", "")
    for panel, parameters in found.items():
        rows = [(_label(parameter), text) for parameter, text in described(command, parameters)]
        if rows and not panel.startswith(TRANSFORM_PANEL):
            yield from (_table((panel, ""), rows), "")


def _label(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{metavar(parameter)}`"
    names = ", ".join(f"`{name}`" for name in sorted(names_of(parameter), key=len))
    return names if parameter.is_flag or parameter.count else f"{names} `{metavar(parameter)}`"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


BLOCKS: dict[str, Callable[[], str]] = {
    "commands": command_table,
    "connect": connect_table,
    "environment": environment_table,
    "exit-codes": exit_code_table,
    "message-kinds": message_kinds,
    "messages": messages,
    "reference": reference,
    "transforms": transform_table,
}

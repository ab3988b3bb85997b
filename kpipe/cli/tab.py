"""Answers TAB in bash, zsh and fish: commands, options, their words, files, and the names of clusters and topics.

Never gives a shell anything to evaluate: an answer is lines of plain names, and a name with any other character stays
out, because a broker or a file of the current directory may have chosen it.

The shells' scripts (`kpipe/cli/shells.py`) ask
`_KPIPE_COMPLETE=SHELL kpipe WORD…`: the first line answered is `files` or `words`, each other one `NAME TAB HELP`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kpipe.cli import app
from kpipe.cli.commands import COMMANDS
from kpipe.options import CLUSTER, FILE, GROUP, OFFSET, PLACE, PROPERTY, SUBJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kpipe.options import Operand, Option

HARMLESS = re.compile(r"[A-Za-z0-9._:=,@+-]+")
VARIABLE = "_KPIPE_COMPLETE"
WIDTH = 72
_BREAKS = re.compile(r"[:=]+")


@dataclass(slots=True)
class Offer:
    """What may stand at the cursor: (name, help) pairs, and whether a file may."""

    names: list[tuple[str, str]] = field(default_factory=list)
    files: bool = False


@dataclass(slots=True)
class Typed:
    """What stands before the cursor: values by parameter, operands, and the option that waits for its value."""

    values: dict[str, list[str]] = field(default_factory=dict)
    operands: list[str] = field(default_factory=list)
    waiting: Any = None
    options_over: bool = False


def answer(environ: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Print what the shell may offer; a failure of any kind offers nothing."""
    shell = environ[VARIABLE]
    try:
        words = split_line(environ.get("COMP_LINE", "")) if shell == "bash" else ["kpipe", *arguments]
        found = complete(words[1:-1], words[-1] if len(words) > 1 else "")
        cut = _cut_of_bash(words[-1], environ.get("COMP_WORD", "")) if shell == "bash" else 0
        lines = [f"{name[cut:]}\t{text}" for name, text in found.names if HARMLESS.fullmatch(name)]
        sys.stdout.write("\n".join(["files" if found.files else "words", *lines]) + "\n")
    except Exception:  # noqa: BLE001 - TAB never shows a traceback
        return


def split_line(line: str) -> list[str]:
    """The words of a command line up to the cursor, unquoted; the last one is "" after a blank."""
    words, word, quote, blank = [], "", "", True
    letters = iter(line)
    for letter in letters:
        if letter == "\\" and quote != "'":
            word, blank = word + next(letters, ""), False
        elif quote:
            quote, word = ("", word) if letter == quote else (quote, word + letter)
        elif letter in "'\"":
            quote, blank = letter, False
        elif not letter.isspace():
            word, blank = word + letter, False
        elif not blank:
            words.append(word)
            word, blank = "", True
    return [*words, word]


def _cut_of_bash(word: str, part: str) -> int:
    """How many characters bash keeps: it completes what stands behind the last `:` or `=` only (COMP_WORDBREAKS)."""
    part = part.lstrip("'\"")
    if _BREAKS.fullmatch(part):
        return len(word)
    return len(word) - len(part) if part and word.endswith(part) else 0


def complete(words: Sequence[str], incomplete: str) -> Offer:
    """What may follow `kpipe WORDS…` and starts with `incomplete`."""
    if not words and not incomplete.startswith("-"):
        return Offer(_starting(COMMANDS.items(), incomplete))
    from typer.main import get_command

    command: Any = get_command(app)
    rest = list(words)
    while rest and hasattr(command, "get_command"):
        command = command.get_command(None, rest.pop(0))
    if command is None:
        return Offer()
    if hasattr(command, "list_commands") and not incomplete.startswith("-"):
        subs = [(name, command.get_command(None, name).get_short_help_str()) for name in command.list_commands(None)]
        return Offer(_starting(subs, incomplete))
    return _complete_command(command, read_words(command, rest), incomplete)


def read_words(command: Any, words: Iterable[str]) -> Typed:
    """Sort the words before the cursor as the parser would; what it would refuse counts as an operand."""
    options = {name: parameter for parameter in command.params for name in _names(parameter)}
    typed = Typed()
    for word in words:
        if typed.waiting is not None:
            typed.values.setdefault(typed.waiting.name, []).append(word)
            typed.waiting = None
        elif typed.options_over or not word.startswith("-") or word == "-":
            typed.operands.append(word)
        elif word == "--":
            typed.options_over = True
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            _take(typed, options.get(name), value if equals else None)
        else:
            _read_short(typed, options, word)
    return typed


def _read_short(typed: Typed, options: Mapping[str, Any], word: str) -> None:
    """`-eJ`, `-Gnightly`, `-G`."""
    for place, letter in enumerate(word[1:], 2):
        parameter = options.get(f"-{letter}")
        if parameter is not None and _takes_value(parameter):
            _take(typed, parameter, word[place:] or None)
            return


def _take(typed: Typed, parameter: Any, value: str | None) -> None:
    if parameter is None or not _takes_value(parameter):
        return
    if value is None:
        typed.waiting = parameter
    else:
        typed.values.setdefault(parameter.name, []).append(value)


def _complete_command(command: Any, typed: Typed, incomplete: str) -> Offer:
    if typed.waiting is not None:
        return _complete_value(command, typed.waiting, typed, incomplete)
    if not typed.options_over and incomplete.startswith("--") and "=" in incomplete:
        name, _, start = incomplete.partition("=")
        parameter = next((one for one in command.params if name in _names(one)), None)
        if parameter is None or not _takes_value(parameter):
            return Offer()
        found = _complete_value(command, parameter, typed, start)
        return Offer([(f"{name}={value}", text) for value, text in found.names])
    if not typed.options_over and incomplete.startswith("-"):
        return Offer(_starting(_option_names(command, incomplete), incomplete))
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    for place, argument in enumerate(arguments):
        if argument.nargs == -1 or place == len(typed.operands):
            return _complete_value(command, argument, typed, incomplete)
    return Offer()


def _option_names(command: Any, incomplete: str) -> list[tuple[str, str]]:
    """Long options; `-` alone shows those that have one letter, too."""
    rows = []
    for parameter in command.get_params(_context(command)):
        if parameter.param_type_name == "option" and not parameter.hidden:
            names = [name for name in _names(parameter) if name.startswith("--") or incomplete == "-"]
            rows += [(name, _first_sentence(parameter.help or "")) for name in names]
    return rows


def _context(command: Any) -> Any:
    return command.context_class(command, info_name=command.name, resilient_parsing=True)


def _first_sentence(text: str) -> str:
    sentence = re.split(r"(?<=[.;]) ", text, maxsplit=1)[0].rstrip(".;")
    return sentence if len(sentence) <= WIDTH else sentence[: WIDTH - 1].rstrip() + "…"


def _complete_value(command: Any, parameter: Any, typed: Typed, incomplete: str) -> Offer:
    """By what the option's or the operand's declaration says of its value."""
    shown = getattr(command, "described", {}).get(parameter.name)
    kind = shown.completion if shown is not None else ""
    words = words_of(shown) if shown is not None else choices(parameter.metavar or "")
    if words and kind not in (FILE, SUBJECT):  # `FILE|SUBJECT|id:N`: id: is the least of them
        return Offer(_starting([(word, "") for word in words], incomplete))
    if kind == FILE:
        return Offer(files=True)
    from kpipe.cli import names

    if kind == PROPERTY:
        return Offer(_starting([(f"{name}=", "") for name in names.properties()], incomplete))
    if kind == GROUP:
        return Offer(_starting([(group, "") for group in names.groups(incomplete, typed.values)], incomplete))
    if kind == SUBJECT:
        return Offer(_starting([(subject, "") for subject in names.subjects(incomplete, typed.values)], incomplete))
    if kind == CLUSTER:
        return Offer(_starting([(name, "") for name in names.clusters(typed.values)], incomplete))
    if kind == PLACE:
        return Offer(_starting([(place, "") for place in names.places(incomplete, typed.values)], incomplete))
    return Offer()


def words_of(shown: Option | Operand) -> Sequence[str]:
    """The words that a value may be or start with."""
    if shown.completion == OFFSET:
        return ("beginning", "end", "stored")
    return choices("|".join(getattr(shown, "choices", ()))) or choices(shown.metavar)


def choices(metavar: str) -> list[str]:
    """`stop|skip|dlq:TOPIC` → stop, skip, dlq: - what is written in capitals is for the user to fill in."""
    words = (re.sub(r"[A-Z].*", "", word) for word in metavar.split("|")) if "|" in metavar else ()
    return [word for word in words if word]


def _names(parameter: Any) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []


def _takes_value(parameter: Any) -> bool:
    return not (parameter.is_flag or parameter.count)


def _starting(rows: Iterable[tuple[str, str]], start: str) -> list[tuple[str, str]]:
    return [row for row in rows if row[0].startswith(start)]

"""Every option is declared once, and is explained wherever a person may look."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kpipe.cli import app
from kpipe.cli.commands import COMMANDS
from kpipe.cli.manual import ROFF, generate, load, main, names_of, roff
from kpipe.errors import EXIT_MEANING
from tests.meta.conftest import ROOT, all_commands

OPTIONS = {
    (name, parameter.name): parameter for name, command in all_commands().items() for parameter in command.params
}
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
TRANSFORMS = re.sub(r"`(--[a-z-]+) [^`]*`", r"`\1`", (ROOT / "docs" / "transforms.md").read_text())


def command_named(name: str) -> Any:
    return all_commands()[name]


def page(name: str) -> str:
    return (ROOT / "man" / f"{name}.1").read_text()


@pytest.mark.parametrize(("command", "parameter"), OPTIONS)
def test_an_option_has_help_and_a_line_in_its_page(command: str, parameter: str) -> None:
    declared = OPTIONS[command, parameter]
    assert len(declared.help or "") > 5
    if declared.param_type_name == "option":
        for name in names_of(declared):
            assert rf"\fB{roff(name)}\fR" in page(f"kpipe-{command.split(maxsplit=1)[0]}")
            assert f"`{name}`" in REFERENCE + TRANSFORMS
    assert declared.metavar or declared.param_type_name == "argument" or declared.is_flag or declared.count


def test_no_name_means_two_things_in_a_command() -> None:
    for name, command in all_commands().items():
        options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
        taken = [option for parameter in options for option in names_of(parameter)]
        assert len(taken) == len(set(taken)), name


def test_a_letter_means_the_same_in_every_command() -> None:
    meanings: dict[str, set[str]] = {}
    for command in all_commands().values():
        for parameter in command.params:
            names = names_of(parameter) if parameter.param_type_name == "option" else []
            for letter in (name for name in names if len(name) == 2):
                meanings.setdefault(letter, set()).add(next(name for name in names if len(name) > 2))
    twice = {letter: names for letter, names in meanings.items() if len(names) > 1}
    assert twice == {"-n": {"--dry-run", "--lines"}}  # `tail -n` is what fingers know


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_examples_and_is_in_the_readme_and_the_reference(command: str) -> None:
    _, module = load(command)
    assert module.EXAMPLES
    assert all(line.startswith(("kpipe ", "echo ", "find ", "printf ", "seq ")) for _, line in module.EXAMPLES)
    assert f"| `kpipe {command}` |" in (ROOT / "README.md").read_text()
    assert f"\n## kpipe {command}\n" in (ROOT / "docs" / "reference.md").read_text()


def test_an_option_is_declared_once() -> None:
    """Every option of every command comes from a group of `kpipe.options` or the transforms' table, with its words."""
    own = {"completion", "help", "version"}
    for (command, name), parameter in OPTIONS.items():
        if name not in own:
            declared = command_named(command).described[name]
            assert list(parameter.opts) == list(declared.names if parameter.param_type_name == "option" else [name])
            assert parameter.help == declared.help


def test_generated_files_are_fresh() -> None:
    stale = [str(path) for path, text in generate(ROOT).items() if text is None or path.read_text() != text]
    assert stale == [], "run make gen"


def test_check_names_what_is_not_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_exit_codes_are_the_same_everywhere() -> None:
    readme = (ROOT / "README.md").read_text()
    help_text = re.sub(r"\s+", " ", app_help())
    for code, meaning in EXIT_MEANING.items():
        assert f"| {int(code)} | {meaning} |" in readme
        assert f"{int(code)} {meaning}" in help_text
        for name in ("kpipe", *(f"kpipe-{command}" for command in COMMANDS)):
            assert f".TP\n\\fB{int(code)}\\fR\n{roff(meaning).split()[0]}" in page(name)
            flat = re.sub(r"\s+", " ", page(name))
            assert f"{meaning.translate(ROFF)}." in flat


def app_help() -> str:
    from typer.main import get_command

    command: Any = get_command(app)
    return str(command.get_help(command.context_class(command, info_name="kpipe")))

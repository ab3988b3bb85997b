"""Help: one page of what people use, the rest on demand, and nothing wider than a terminal."""

from __future__ import annotations

import pytest

from kpipe.cli import run_line
from kpipe.cli.commands import COMMANDS
from kpipe.transform.registry import CATEGORIES, TRANSFORMS

LONG = ("produce", "consume", "forward")


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run_line(words) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_help_is_a_page_with_the_way_to_more(command: str, asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, command, asked)
    assert text.startswith(f"Usage: kpipe {command}")
    assert len(text.splitlines()) <= 75
    assert [line for line in text.splitlines() if len(line) > 80 and not line.startswith("  kpipe ")] == []
    assert "--help all" in text or command not in LONG


@pytest.mark.parametrize("command", LONG)
def test_all_of_help_names_every_option_and_the_first_page_about_twenty(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from kpipe.cli.manual import load, names_of

    names = [names_of(each) for each in load(command)[0].params if each.param_type_name == "option"]
    everything, page = shown(capsys, command, "--help", "all"), shown(capsys, command, "--help")
    assert [name for name in names if name[0] not in everything] == []
    assert 15 <= sum(f" {name[0]} " in page or f" {name[0]}, " in page for name in names) <= 25
    for name in ("--brokers", "--cluster", "--on-error", "--quiet"):
        assert name in page


@pytest.mark.parametrize("command", LONG)
def test_help_on_transforms_has_them_in_groups(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, command, "--help", "transforms")
    assert [name for row in TRANSFORMS if (name := f"--{row.name}") not in text] == []
    assert [text.index(f"Transforms: {category}:") for category in CATEGORIES] == sorted(
        text.index(f"Transforms: {category}:") for category in CATEGORIES
    )
    assert "--brokers" not in text


def test_help_on_a_panel(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "consume", "--help", "selection")
    assert "--on-gap" in text
    assert "--json" not in text


def test_a_word_behind_help_that_is_no_part_is_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "consume", "orders", "--help", "-e") == shown(capsys, "consume", "--help")


def test_the_list_of_transforms_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert max(map(len, shown(capsys, "transforms").splitlines())) <= 80

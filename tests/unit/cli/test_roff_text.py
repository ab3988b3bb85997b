"""Manual pages as plain text: what a system without man shows."""

from __future__ import annotations

import re

import pytest

from kpipe.cli import run_line
from kpipe.cli.commands import COMMANDS
from kpipe.cli.manual import command_page, overview_page, roff
from kpipe.cli.roff_text import WIDTH, plain


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_a_page_is_text_without_requests_that_fits(name: str) -> None:
    text = plain(command_page(name) if name else overview_page())
    assert text.startswith("NAME\n    kpipe")
    assert not re.search(r"^\s*\.[A-Z]|\\f[BIR]|\\\(|\\-", text, flags=re.MULTILINE)
    examples = text.partition("\nEXAMPLES\n")[2]
    for line in text.removesuffix(examples).splitlines():
        assert len(line) <= WIDTH or len(line.split()) <= 3, line  # a list of choices has no place to break


def test_nothing_of_a_page_is_lost() -> None:
    page, text = command_page("forward"), plain(command_page("forward"))
    options = re.findall(r"\\fB(\\-\\-[^\\]+(?:\\-[^\\]+)*)\\fR", page)
    assert len(options) > 50
    assert [name for option in options if (name := option.replace("\\-", "-")) not in text] == []
    assert "        kpipe forward -e --to-partition same a:orders b:orders\n" in text


@pytest.mark.parametrize("odd", ["it's ~/`a`^b \\1 -x", ".hidden", "'quoted'"])
def test_what_roff_must_have_escaped_is_itself_again(odd: str) -> None:
    assert plain(f".SH X\n{roff(odd)}\n") == f"X\n    {odd}\n"


def test_without_man_the_page_is_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert run_line(["man", "trace"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (plain(command_page("trace")), "")

"""What the README shows is what happens: its sessions are run, its and the docs' command lines read by the real parser."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kpipe.cli.commands import COMMANDS
from kpipe.cli.manual import load
from tests.meta.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Kpipe

README = (ROOT / "README.md").read_text()
DOCS = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
BLOCKS = BLOCK.findall(README)
MARK = "--- next ---"
REDIRECTION = re.compile(r"(?:\s[12]?>+|\s<)\s(?=(?:[^']*'[^']*')*[^']*$)")
"""Outside of quotes."""


def session() -> list[tuple[str, str]]:
    """(command line, what it prints) of all console blocks, in their order."""
    pairs = []
    for kind, text in BLOCKS:
        if kind == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                line, _, printed = part.partition("\n")
                pairs.append((line, printed))
    return pairs


def opening() -> list[str]:
    """The command line that opens the shell in which the sessions are to be typed."""
    line = next(line for line in README.splitlines() if line.startswith("kpipe broker") and line.endswith("-- sh"))
    return shlex.split(line)[1:-1]


JQ = """#!{python}
import sys, jq
program, *files = [word for word in sys.argv[1:] if word != "-c"]
text = "".join(open(file).read() for file in files) if files else sys.stdin.read()
print(*jq.compile(program).input_text(text).text().splitlines(), sep="\\n")
"""
"""Stands in for the jq command where there is none: our own dependency holds the same jq."""


@pytest.fixture
def path(tmp_path: Path, kpipe: Kpipe) -> str:
    """PATH with a jq on it."""
    own = tmp_path / "bin"
    own.mkdir()
    if shutil.which("jq") is None:
        (own / "jq").write_text(JQ.format(python=sys.executable))
        (own / "jq").chmod(0o755)
    return f"{own}:{kpipe.environment()['PATH']}"


def test_sessions_print_what_they_show(kpipe: Kpipe, tmp_path: Path, path: str) -> None:
    script = tmp_path / "session.sh"
    script.write_text("".join(f"{line}\necho '{MARK}'\n" for line, _ in session()))
    result = kpipe(*opening(), "sh", "-c", f"exec 2>&1; . {script}", env={"PATH": path}, timeout=120)
    assert (result.code, result.err) == (0, "")
    printed = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", result.out.decode()).split(f"{MARK}\n")[:-1]
    assert list(zip([line for line, _ in session()], printed, strict=True)) == session()


def shown_calls() -> list[str]:
    """Every call of kpipe in shell blocks and examples, without pipes and redirections."""
    in_docs = [block for page in DOCS for block in BLOCK.findall(page.read_text())]
    texts = [text for kind, text in [*BLOCKS, *in_docs] if kind in ("sh", "console")]
    texts += [(ROOT / "examples" / name).read_text() for name in ("crontab", "kpipe-forward.service")]
    calls = []
    for line in "\n".join(texts).splitlines():
        if line.lstrip().startswith("#"):
            continue
        for part in re.split(r"[|;] |&& ", line.split("  #")[0]):
            found = re.search(rf"(?:^|[\s/=$])kpipe ((?:{'|'.join(COMMANDS)}) .*)", part)
            if found is not None and part.count("'") % 2 == 0:
                calls.append(REDIRECTION.split(found[1])[0])
    return calls


@pytest.mark.parametrize("call", shown_calls())
def test_shown_calls_are_read_by_the_parser(call: str) -> None:
    parse(shlex.split(call))


def parse(words: list[str]) -> Any:
    """The parsed options; typer's own exception for what it refuses."""
    command, _ = load(words[0])
    if hasattr(command, "list_commands"):
        command, words = command.get_command(None, words[1]), words[1:]
    return command.make_context(words[0], words[1:]).params


def test_shown_calls_are_found() -> None:
    assert len(shown_calls()) > 45


def anchors(text: str) -> set[str]:
    """The names of a page's headings, as its readers link to them."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        there = page.parent / target if target else page
        assert there.exists()
        assert not anchor or anchor in anchors(there.read_text())


def test_no_console_session_in_the_docs() -> None:
    """They would not be run; two are: 3am.md by tests/broker/ops/test_3am.py, schemas.md by tests/registry/test_docs.py."""
    shown = {page.name for page in DOCS for kind, _ in BLOCK.findall(page.read_text()) if kind == "console"}
    assert shown == {"3am.md", "schemas.md"}


def test_no_secret_on_a_shown_command_line() -> None:
    assert not [call for call in shown_calls() if re.search("password|secret", call)]


def test_the_demo_of_the_first_minute_ends_well(kpipe: Kpipe) -> None:
    """`make demo` is what a newcomer runs first."""
    done = subprocess.run(
        ["sh", ROOT / "examples" / "demo.sh"],
        env=kpipe.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, "Done." in done.stdout) == (0, True), done.stdout + done.stderr

"""What the README and the docs show is what happens: sessions are run, command lines are read by the real parser."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kpipe import api
from kpipe.cli.commands import COMMANDS
from kpipe.cli.manual import load
from tests.meta.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Kpipe

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
MARK = "--- next ---"
REDIRECTION = re.compile(r"(?:\s[12]?>+|\s<)\s(?=(?:[^']*'[^']*')*[^']*$)")
"""Outside of quotes."""
ELSEWHERE = {"3am.md", "schemas.md"}
"""Pages whose sessions need more than an embedded broker: tests/broker/ops/test_3am.py, tests/registry/test_docs.py."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """(kind, text) of a page's fenced blocks."""
    return BLOCK.findall(page.read_text())


def session(page: Path) -> list[tuple[str, str]]:
    """(command line, what it prints) of all console blocks of a page, in their order."""
    pairs = []
    for kind, text in blocks(page):
        if kind == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                line, _, printed = part.partition("\n")
                pairs.append((line, printed))
    return pairs


SESSIONS = [page for page in (README, *DOCS) if session(page) and page.name not in ELSEWHERE]


def opening(page: Path) -> list[str]:
    """The command line that opens the shell in which a page's sessions are to be typed."""
    lines = [line for kind, text in blocks(page) if kind == "sh" for line in text.splitlines()]
    line = next(line for line in lines if line.startswith("kpipe broker") and line.endswith("-- sh"))
    return shlex.split(line)[1:-1]


JQ = """#!{python}
import json, sys, jq
flags = [word for word in sys.argv[1:] if word in ("-c", "-r")]
program, *files = [word for word in sys.argv[1:] if word not in flags]
text = "".join(open(file).read() for file in files) if files else sys.stdin.read()
for result in jq.compile(program).input_text(text).all():
    raw = "-r" in flags and isinstance(result, str)
    print(result if raw else json.dumps(result, separators=(",", ":"), ensure_ascii=False))
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


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.stem)
def test_sessions_print_what_they_show(kpipe: Kpipe, tmp_path: Path, path: str, page: Path) -> None:
    shown = session(page)
    script = tmp_path / "session.sh"
    script.write_text("".join(f"{line}\necho '{MARK}'\n" for line, _ in shown))
    result = kpipe(*opening(page), "sh", "-c", f"exec 2>&1; . {script}", env={"PATH": path}, timeout=120)
    assert (result.code, result.err) == (0, "")
    printed = plain(result.out.decode()).split(f"{MARK}\n")[:-1]
    assert list(zip([line for line, _ in shown], printed, strict=True)) == [(line, plain(text)) for line, text in shown]


def plain(text: str) -> str:
    """Without what differs from run to run: the broker's port, and how fast it was."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    return re.sub(r"in \d+\.\d s \([\d.,]+k?/s\)", "in TIME", text)


def test_no_page_with_sessions_is_forgotten() -> None:
    assert {page.stem for page in SESSIONS} >= {"README", "recipes", "tutorial"}
    assert {page.name for page in DOCS} >= ELSEWHERE


def shown_calls() -> list[str]:
    """Every call of kpipe in shell blocks and examples, without pipes and redirections, and in the cells of tables."""
    pages = [README, *(page for page in DOCS if page.name != "reference.md")]  # its examples are those of the commands
    texts = [text for page in pages for kind, text in blocks(page) if kind in ("sh", "console")]
    texts += [(ROOT / "examples" / name).read_text() for name in ("crontab", "kpipe-forward.service")]
    calls = []
    for line in "\n".join(texts).splitlines():
        if line.lstrip().startswith("#"):
            continue
        for part in re.split(r"[|;] |&& ", line.split("  #")[0]):
            found = re.search(rf"(?:^|[\s/=$])kpipe ((?:{'|'.join(COMMANDS)}) .*)", part)
            if found is not None and part.count("'") % 2 == 0:
                calls.append(REDIRECTION.split(found[1])[0])
    return calls + [call for page in pages for call in calls_in_tables(page)]


def calls_in_tables(page: Path) -> list[str]:
    """The command lines in the cells of a page's tables, but for those that leave something out."""
    rows = "\n".join(re.findall(r"^\|.*$", page.read_text(), flags=re.MULTILINE)).replace(r"\|", "|")
    calls = re.findall(rf"`kpipe ((?:{'|'.join(COMMANDS)}) [^`]*)`", rows)
    return [REDIRECTION.split(call.split(" | ")[0])[0] for call in calls if not re.search(r"…|[A-Z]+\]|\[[A-Z]", call)]


@pytest.mark.parametrize("call", shown_calls())
def test_shown_calls_are_read_by_the_parser(call: str) -> None:
    parse(shlex.split(call))


def parse(words: list[str]) -> Any:
    """The parsed options; typer's own exception for what it refuses."""
    command, _ = load(words[0])
    if hasattr(command, "list_commands"):
        command, words = command.get_command(None, words[1]), words[1:]
    return command.make_context(words[0], words[1:]).params


def shown_python() -> list[str]:
    """The Python blocks of all pages."""
    return [text for page in (README, *DOCS) for kind, text in blocks(page) if kind == "python"]


@pytest.mark.parametrize("text", shown_python())
def test_shown_python_is_python_and_names_what_there_is(text: str) -> None:
    tree = compile(text, "docs", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    owners = {"api": api, "events": api.Producer}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in owners:
            assert hasattr(owners[node.value.id], node.attr)
        if isinstance(node, ast.ImportFrom) and node.module == "kpipe.api":
            assert {each.name for each in node.names} <= set(api.__all__)


def test_shown_calls_are_found() -> None:
    assert len(shown_calls()) > 150


def anchors(text: str) -> set[str]:
    """The names of a page's headings, as its readers link to them."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [README, *DOCS], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        there = page.parent / target if target else page
        assert there.exists()
        assert not anchor or anchor in anchors(there.read_text())


def test_the_readme_is_read_in_three_minutes() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    assert "package called `kpipe`" in " ".join(text.split())


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_a_page_is_found_from_the_first_one(page: Path) -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    assert page.name == "index.md" or f"]({page.name})" in index
    assert page.read_text().startswith("# ")


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

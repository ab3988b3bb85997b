"""Start-up is part of speed: what a command does not need is not imported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kpipe as package

if TYPE_CHECKING:
    from tests.conftest import Kpipe

pytestmark = pytest.mark.cold

SHOW_MODULES = """
import json, os, sys
sys.argv[0] = "kpipe"
def show(code):
    os.write(2, json.dumps(sorted(sys.modules)).encode())
    leave(code)
leave, os._exit = os._exit, show
from kpipe.__main__ import main
main()
show(0)
"""
CLIENT = {"confluent_kafka", "orjson", "jq", "msgspec", "asyncio", "uuid"}


def imported(kpipe: Kpipe, *args: str) -> set[str]:
    """Give the modules that are loaded when the command ends."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW_MODULES, *args],
        capture_output=True, env=kpipe.environment(), timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_imports_nothing_heavy(kpipe: Kpipe, option: str) -> None:
    assert kpipe(option).out.decode() == f"kpipe {package.__version__}\n"
    loaded = imported(kpipe, option)
    assert not loaded & {*CLIENT, "typer", "rich", "kpipe.cli", "logging", "json.decoder", "re"} - imported_anyway()


def imported_anyway() -> set[str]:
    """Give what an interpreter of this environment has loaded before our first line (site, .pth files)."""
    code = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))


@pytest.mark.parametrize(
    "args",
    [("--help",), ("produce", "--help"), ("consume", "--help"), ("forward", "--help"), ("broker", "--help")],
    ids=" ".join,
)
def test_help_imports_no_client(kpipe: Kpipe, args: tuple[str, ...]) -> None:
    assert kpipe(*args).code == 0
    assert not imported(kpipe, *args) & {"confluent_kafka", "rich", "jq", "orjson", "asyncio.events"}


def test_answers_go_to_stdout_and_complaints_to_stderr(kpipe: Kpipe) -> None:
    asked = kpipe("--help")
    assert (asked.code, asked.err) == (0, "")
    assert asked.out.startswith(b"Usage: kpipe")
    wrong = kpipe("--no-such-option")
    assert (wrong.code, wrong.out) == (2, b"")
    assert wrong.err.startswith("kpipe: kpipe has no --no-such-option; see kpipe --help")
    assert wrong.err.count("\n") == 1


def test_no_command_at_all_is_answered_with_the_help_and_is_an_error(kpipe: Kpipe) -> None:
    bare = kpipe()
    assert (bare.code, bare.out) == (2, b"")
    assert bare.err == kpipe("--help").out.decode()


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["consume", "--help"]], ids=" ".join)
def test_an_answer_that_cannot_be_written_is_one_line_and_exit_1(kpipe: Kpipe, args: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = kpipe.start(*args, stdout=full).wait(10)
    assert (ended.code, ended.err) == (1, "kpipe: send: stdout: cannot write: No space left on device\n")


@pytest.mark.parametrize("args", [["--help"], ["consume", "--help"]], ids=" ".join)
def test_a_reader_that_does_not_want_the_answer_ends_it_silently(kpipe: Kpipe, args: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = kpipe.start(*args, stdout=writer).wait(10)
    os.close(writer)
    assert (ended.code, ended.err) == (-signal.SIGPIPE, "")


INTERRUPTED = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv[0] = "kpipe"
from kpipe.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["kpipe.shutdown", "typer", "kpipe.cli.consume"])
def test_an_interrupt_during_the_imports_is_silent(kpipe: Kpipe, module: str) -> None:
    """Python's own handler prints a traceback of whatever was being imported."""
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "consume", "--help"],
        capture_output=True, env=kpipe.environment({"AT": module}), timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", b"")

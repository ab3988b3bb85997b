"""TAB in real shells: bash, zsh and fish on a pseudo-terminal, with the scripts as they are installed."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest

from kpipe.broker import EmbeddedBroker
from tests.registry.conftest import fake_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Kpipe

pytestmark = pytest.mark.cold

__all__ = ["fake_registry"]

SCRIPTS = Path(__file__).parents[2] / "completions"
PROMPT = "READY>"
TAB, CONTROL_Y = "\t", "\x19"

OFFERED = (
    ("kpipe prod", "kpipe produce "),
    ("kpipe produce --inp", "kpipe produce --input "),
    ("kpipe produce --input js", "kpipe produce --input json "),
    ("kpipe produce --trace=fu", "kpipe produce --trace=full "),
    ("kpipe consume -o beg", "kpipe consume -o beginning "),
    ("kpipe forward --on-error sk", "kpipe forward --on-error skip "),
    ("kpipe consume --cluster stag", "kpipe consume --cluster staging "),
    ("kpipe consume stag", "kpipe consume staging:"),
    ("kpipe produce orders mond", "kpipe produce orders monday.txt "),
    ("kpipe consume -X bootstrap.s", "kpipe consume -X bootstrap.servers="),
)
CONFIG = '[clusters.staging]\nbootstrap.servers = "127.0.0.1:1"\n'


class Shell:
    """A shell with kpipe's completion loaded the way its users load it."""

    def __init__(self, name: str, home: Path, environment: dict[str, str]) -> None:
        self.child = pexpect.spawn(
            *self._start(name, home),
            env={**environment, "TERM": "xterm", "PS1": PROMPT},
            cwd=str(home),
            encoding="utf-8",
            timeout=20,
            dimensions=(40, 200),
        )
        self.child.delaybeforesend = None
        self.name = name
        self.log = home / "line"
        if name == "zsh":
            self._tell(f"line() {{ print -r -- $BUFFER > {self.log}; zle kill-whole-line }}")
            self._tell("zle -N line; bindkey '^Y' line")
        elif name == "bash":
            self._tell(
                f"line() {{ printf '%s' \"$READLINE_LINE\" > {self.log}; READLINE_LINE=; }}; bind -x '\"\\C-y\": line'"
            )
        else:
            self._tell(f"bind \\cy 'commandline > {self.log}; commandline \"\"'")
        self._tell("echo LOA''DED")
        self.child.expect("LOADED")

    def _start(self, name: str, home: Path) -> tuple[str, list[str]]:
        program = shutil.which(name)
        if program is None:
            pytest.skip(f"{name} is not installed; .ci/run installs it")
        if name == "bash":
            (home / "rc").write_text(f". {SCRIPTS / 'kpipe.bash'}\n")
            return program, ["--noprofile", "--rcfile", str(home / "rc"), "-i"]
        if name == "zsh":
            (home / ".zshrc").write_text(
                f"fpath=({SCRIPTS} $fpath)\nautoload -Uz compinit\ncompinit -u\nPS1='{PROMPT}'\n"
            )
            return program, ["-i"]
        where = home / "config" / "fish" / "completions"
        where.mkdir(parents=True)
        shutil.copy(SCRIPTS / "kpipe.fish", where)
        return program, ["-i", "--init-command", "set fish_greeting"]

    def _tell(self, line: str) -> None:
        self.child.send(line + "\r")

    def press_tab(self, typed: str) -> str:
        """The command line after TAB, which Ctrl-Y writes to a file and takes away."""
        deadline = time.monotonic() + 20
        self.log.unlink(missing_ok=True)
        self.child.send(typed + TAB + CONTROL_Y)
        while not (self.log.exists() and (line := self.log.read_text()).strip()):
            assert time.monotonic() < deadline, f"{self.name}: no line after {typed!r}: {self.child.before!r}"
            with suppress(pexpect.TIMEOUT):
                self.child.read_nonblocking(4096, timeout=0.05)
        return line.rstrip("\n")


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest, kpipe: Kpipe) -> Iterator[Shell]:
    (kpipe.home / "monday.txt").touch()
    started = Shell(request.param, kpipe.home, kpipe.environment(config=CONFIG))
    yield started
    started.child.close(force=True)


def test_tab_completes(shell: Shell) -> None:
    assert [(typed, shell.press_tab(typed).rstrip()) for typed, _ in OFFERED] == [
        (typed, line.rstrip()) for typed, line in OFFERED
    ]


def ask(kpipe: Kpipe, *words: str, **environment: str) -> list[str]:
    """The names offered for the last of the words, by the protocol between the scripts and kpipe."""
    result = kpipe(*words, env={"_KPIPE_COMPLETE": "zsh", **environment})
    assert (result.code, result.err) == (0, "")
    return [line.split("\t")[0] for line in result.out.decode().splitlines()[1:]]


def test_topics_of_the_cluster_are_offered_and_hostile_names_are_not(kpipe: Kpipe) -> None:
    hostile = {"$(touch pwned)": 1, "`id`": 1, "a b": 1, "a'b": 1, 'a"b': 1, "a\nb": 1, "\\$(id)": 1}
    with EmbeddedBroker(topics={"orders": 1, "audit.log-1": 1, **hostile}) as broker:
        assert ask(kpipe, "consume", "-b", broker.bootstrap, "") == ["audit.log-1", "orders"]
        assert ask(kpipe, "forward", "x", "o", KPIPE_BROKERS=broker.bootstrap) == ["orders"]
        named = f'[clusters.here]\nbootstrap.servers = "{broker.bootstrap}"\n'
        config = kpipe.environment(config=named)["KPIPE_CONFIG"]
        assert ask(kpipe, "consume", "here:or", KPIPE_CONFIG=config) == ["here:orders"]
        assert ask(kpipe, "consume", "he", KPIPE_CONFIG=config) == ["here:"]


def test_a_dead_cluster_costs_less_than_its_patience_and_offers_nothing(kpipe: Kpipe) -> None:
    start = time.monotonic()
    assert ask(kpipe, "consume", "-b", "127.0.0.1:1", "o") == []
    assert time.monotonic() - start < 5


def test_tab_never_runs_a_password_command(kpipe: Kpipe) -> None:
    ran = kpipe.home / "ran"
    config = f'[clusters.prod]\nbootstrap.servers = "127.0.0.1:1"\npassword_command = ["touch", "{ran}"]\n'
    path = kpipe.environment(config=config)["KPIPE_CONFIG"]
    assert ask(kpipe, "consume", "prod:", KPIPE_CONFIG=path) == []
    assert not ran.exists()


def test_tab_never_connects_where_a_project_file_says(kpipe: Kpipe) -> None:
    with EmbeddedBroker(topics={"orders": 1}) as broker:
        (kpipe.home / "kpipe.toml").write_text(f'[clusters.here]\nbootstrap.servers = "{broker.bootstrap}"\n')
        assert ask(kpipe, "consume", "here:") == []
        assert ask(kpipe, "consume", "he") == ["here:"]


def test_subjects_of_the_registry_are_offered_and_no_secret_is_fetched(kpipe: Kpipe, fake_registry) -> None:
    fake = fake_registry()
    for subject in ("orders-value", "orders-key", "$(touch pwned)"):
        fake.add(subject, '"int"')
    here = f'[clusters.here]\nbootstrap.servers = "127.0.0.1:1"\nschema.registry.url = "{fake.url}"\n'
    path = kpipe.environment(config=f'default = "here"\n{here}')["KPIPE_CONFIG"]
    assert ask(kpipe, "schema", "show", "ord", KPIPE_CONFIG=path) == ["orders-key", "orders-value"]
    assert ask(kpipe, "schema", "list", "here:orders-v", KPIPE_CONFIG=path) == ["here:orders-value"]
    assert ask(kpipe, "schema", "diff", "x", "orders-v", KPIPE_CONFIG=path) == []  # a file, or any name
    ran, asked = kpipe.home / "ran", len(fake.asked)
    secret = f'{here}"schema.registry.username" = "me"\nregistry_password_command = ["touch", "{ran}"]\n'
    path = kpipe.environment(config=secret)["KPIPE_CONFIG"]
    assert ask(kpipe, "schema", "show", "here:o", KPIPE_CONFIG=path) == []
    (kpipe.home / "kpipe.toml").write_text(here)
    assert ask(kpipe, "schema", "show", "here:o") == []
    assert (ran.exists(), len(fake.asked)) == (False, asked)


@pytest.mark.parametrize(
    "words", [("nonsense", ""), ("produce", "--nonsense="), ("consume", "a:b:c"), ("produce", "-X")]
)
def test_nonsense_offers_nothing_and_says_nothing(kpipe: Kpipe, words: tuple[str, ...]) -> None:
    assert ask(kpipe, *words) in ([], ["-X"])


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_the_scripts_are_printed_as_they_are_installed(kpipe: Kpipe, shell_name: str) -> None:
    names = {"bash": "kpipe.bash", "zsh": "_kpipe", "fish": "kpipe.fish"}
    assert kpipe("--completion", shell_name).out == (SCRIPTS / names[shell_name]).read_bytes()

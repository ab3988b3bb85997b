"""A value that says nothing (`-G "$GROUP"`, and no GROUP) is refused, by one rule for every option of every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kpipe.cli import app
from kpipe.options import EMPTY, Operand, Option
from tests.conftest import Kpipe

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands() -> Iterator[tuple[list[str], object]]:
    """Every command that has options: its words, and itself."""
    import typer

    root = typer.main.get_command(app)
    for name in root.list_commands(None):  # type: ignore[attr-defined]
        command = root.get_command(None, name)  # type: ignore[attr-defined]
        if hasattr(command, "list_commands"):
            for inner in command.list_commands(None):
                yield [name, inner], command.get_command(None, inner)
        else:
            yield [name], command


def described() -> list[tuple[list[str], Option | Operand]]:
    return [(words, each) for words, command in commands() for each in getattr(command, "described", {}).values()]


TAKING = [
    (words, option)
    for words, option in described()
    if isinstance(option, Option) and option.metavar and option.may_be != EMPTY
]


def refused(words: list[str], *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said, in this process: a run that were not refused would end with another code."""
    from kpipe.cli import run_line

    assert run_line([*words, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


def test_all_commands_are_looked_at() -> None:
    assert {words[0] for words, _ in described()} >= {"produce", "consume", "forward", "verify", "check", "config"}
    assert len(TAKING) > 120


@pytest.mark.parametrize("nothing", ["", " ", "\t\n"])
def test_no_option_takes_nothing(nothing: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words, option in TAKING:
        if nothing and option.may_be:
            continue
        said = refused(words, f"{option.names[0]}={nothing}", *["t"] * 2, capsys=capsys)
        assert option.names[0] in said, said


def test_no_operand_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for words, operand in described():
        if isinstance(operand, Operand):
            for nothing in ("", " "):
                refused(words, nothing, nothing, capsys=capsys)


def test_what_may_be_empty_or_blank_still_is(kpipe: Kpipe) -> None:
    words = "seq 1 | kpipe produce -k '' -Z '' -K ' ' t; kpipe consume -e -Z '' -D ' ' --grep ' ' --set-key '' t"
    done = kpipe("broker", "--topics", "t:1", "--", "sh", "-c", words)
    assert (done.code, done.err) == (0, "")


def test_a_transform_of_a_file_takes_no_nothing_either(kpipe: Kpipe) -> None:
    (kpipe.home / "t.toml").write_text('[[transform]]\nkey-field = ""\n')
    done = kpipe("consume", "--transforms", "t.toml", "t")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "t.toml: transform 1: --key-field '' is empty" in done.err


@pytest.mark.parametrize("name", ["KPIPE_BROKERS", "KPIPE_CLUSTER", "KAFKA_BOOTSTRAP_SERVERS", "KPIPE_SASL_PASSWORD"])
def test_a_variable_that_is_set_to_nothing_chooses_nothing(kpipe: Kpipe, name: str) -> None:
    done = kpipe("consume", "-e", "t", env={name: ""})
    assert (done.code, done.err) == (2, f"kpipe: environment {name}: is set, but empty; give it a value, or unset it\n")


NAMES = [b"\xff", b"a\nb", b" a", b"a ", b"\x01", "a\u202eb".encode(), b"x" * 40_000]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize(
    "words", [["consume", "-e", "t"], ["forward", "-e", "t", "u"], ["check", "--group", "g"]], ids=str
)
def test_a_name_of_a_group_that_would_end_the_process_is_refused(kpipe: Kpipe, words: list[str], name: bytes) -> None:
    import os

    done = kpipe(*words, "-b", "127.0.0.1:1", "-G", os.fsdecode(name))
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert len(done.err) < 400


@pytest.mark.parametrize(
    "option", [["--instance", "\udcff"], ["--instance", "a b"], ["-X", "client.id=\udcff"]], ids=str
)
def test_other_names_that_are_no_text_are_refused_too(kpipe: Kpipe, option: list[str]) -> None:
    done = kpipe("consume", "-e", "-b", "127.0.0.1:1", "-G", "g", *option, "t")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err


@pytest.mark.parametrize(
    "line",
    [
        "reset-offsets --to end -G prod:",
        "delete-group prod:",
        "delete-topic prod:",
        "alter-topic --config a=b prod:",
        "delete-records --before 1 prod:",
    ],
)
def test_no_change_takes_a_cluster_for_all_that_it_has(line: str, kpipe: Kpipe) -> None:
    """`-G "prod:$GROUP"`, and no GROUP: where commands look at things, that is everything."""
    told = kpipe("admin", *line.split(), config='[clusters.prod]\n"bootstrap.servers" = "127.0.0.1:1"\n')
    assert (told.code, told.out) == (2, b""), told.err
    assert "the name is empty" in told.err
    assert told.err.count("\n") == 1

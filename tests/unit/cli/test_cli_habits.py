"""What a hand types out of habit is answered with the line to type."""

from __future__ import annotations

import pytest

from kpipe.cli import run_line

LINES = [
    ("consume -t orders", "type: kpipe consume orders"),
    ("consume -torders -C", "type: kpipe consume orders"),
    ("consume --topic orders --from-beginning", "type: kpipe consume orders"),
    ("consume --topic=orders --max-messages 5", "type: kpipe consume orders -c 5"),
    ("consume --bootstrap-servers h:9 orders", "type: kpipe consume -b h:9 orders"),
    ("consume --from-beginning orders", "that is what happens without it; type: kpipe consume orders"),
    ("consume -g grp orders", "type: kpipe consume -G grp orders"),
    ("produce --broker-list h:9 --topic orders f", "type: kpipe produce orders -b h:9 f"),
    ("forward --from a --to b", "type: kpipe forward a b"),
    ("check -t x", "type: kpipe check --topic x"),
    ("-C -b h:9092 -t orders -o -10 -e -J", "type: kpipe consume orders -b h:9092 -o -10 -e -J"),
    ("-P -b h:1 -t T -K : file", "type: kpipe produce T -b h:1 -K : file"),
    ("-b x:1 consume T", "options come behind the command; type: kpipe consume -b x:1 T"),
    ("-X a=b -b x:1 produce T", "type: kpipe produce -X a=b -b x:1 T"),
    ("-b x:1 -t T", "type: kpipe consume T -b x:1"),
    ("-b x:1", "type: kpipe consume -b x:1 TOPIC"),
    ("-Q -b x:1 -t T:0:123", "type: kpipe topics -b x:1 --at TIME TOPIC"),
    ("consume orders --property print.key=true", "print.key is none; -J prints keys"),
    ("consume orders --property=print.headers=true", "print.headers is none; -J prints headers"),
    ("produce orders --property parse.key=true", "parse.key is none; -K TEXT reads a key"),
    ("help", "type: kpipe --help"),
    ("help consume", "type: kpipe consume --help"),
    ("version", "type: kpipe --version"),
    ("cat orders", "did you mean kpipe consume orders?"),
    ("mirror a b", "did you mean kpipe forward a b?"),
    ("doctor", "did you mean kpipe check?"),
    ("prduce t", "did you mean kpipe produce t?"),
    ("consume --grup g t", "consume has no --grup; did you mean --group?"),
    ("config show --jsno", "config show has no --jsno; did you mean --json?"),
    ("consume --xyzzy t", "consume has no --xyzzy; see kpipe consume --help"),
    ("groups --reset-offsets", "type: kpipe admin reset-offsets -G GROUP --to POSITION"),
    ("groups g --describe", "type: kpipe groups GROUP"),
    ("topics --create", "type: kpipe admin create-topic NAME:PARTITIONS"),
    ("topics --list", "topics has no --list; type: kpipe topics"),
    ("xyzzy", "no command 'xyzzy'; see kpipe --help"),
]


@pytest.mark.parametrize(("typed", "told"), LINES, ids=[typed for typed, _ in LINES])
def test_a_habit_is_answered_with_the_line_to_type(typed: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_line(typed.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("kpipe: ")
    assert shown.err.count("\n") == 1
    assert told in shown.err


@pytest.mark.parametrize("typed", ["-L", "-L -b x:1", "lag"])
def test_what_another_command_answers_is_named(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_line(typed.split()) == 2
    assert capsys.readouterr().err.startswith("kpipe: ")


def test_a_line_can_be_pasted_into_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    run_line(["consume", "-t", "a b", "-X", "x=$(y)"])
    assert capsys.readouterr().err.rstrip().endswith("type: kpipe consume 'a b' -X 'x=$(y)'")

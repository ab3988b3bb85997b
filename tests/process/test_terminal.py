"""What a person sees: a live line on a terminal only, gone at the end, and nothing that a record could draw with."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest

from kpipe.broker import EmbeddedBroker
from tests.conftest import COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Kpipe

pytestmark = pytest.mark.cold

LIVE = rb"kpipe: [\d,]+ read, [^\r\n]*/s, [\d,]+ in flight"
SUMMARY = rb"kpipe: 2 read, 2 (?:delivered|written), 0 failed in [\d.]+ s \([\d.]+[kM]?/s\)\r\n"
CURSOR_AND_COLOUR = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedBroker(topics={"t": 1, "u": 1}) as started:
        yield started.bootstrap


def spawn(
    kpipe: Kpipe,
    broker: str,
    *args: str,
    shell: str = 'exec "$0" "$@"',
    program: str = "sh",
    job: str = "-c",
    **env: str,
) -> pexpect.spawn:
    """Start kpipe on a terminal of 80 columns, through a shell that may redirect some of its streams."""
    command = [job, shell, str(COMMAND), args[0], "-b", broker, *args[1:]]
    environment = kpipe.environment({"TERM": "xterm-256color", **env})
    return pexpect.spawn(program, command, env=environment, dimensions=(24, 80), timeout=20)


def screen(output: bytes) -> list[bytes]:
    """Play what a terminal got: carriage returns, line feeds, cursor up and erase line; give the lines left on it."""
    rows, row, column = [bytearray()], 0, 0
    for token in re.findall(rb"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", output):
        if token == b"\r":
            column = 0
        elif token == b"\n":
            row += 1
            rows += [bytearray()] * (row == len(rows))
            rows[row] = bytearray(rows[row])
        elif token.endswith(b"A"):
            row = max(0, row - int(token[2:-1] or b"1"))
        elif token == b"\x1b[2K":
            rows[row] = bytearray()
        elif not token.startswith(b"\x1b"):
            rows[row][column : column + len(token)] = token
            column += len(token)
    return [bytes(line).rstrip() for line in rows if line.strip()]


FED = 'exec "$0" "$@" <"$HOME/input"'
"""The input comes from a FIFO that the test writes: nobody types."""


@pytest.fixture
def feed(kpipe: Kpipe) -> Iterator[Callable[[bytes], object]]:
    """Writes to the FIFO that FED reads."""
    path = Path(kpipe.environment()["HOME"]) / "input"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)
    yield lambda data: os.write(fd, data) if data else os.close(fd)
    path.unlink()


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}], ids=str)
def test_a_live_line_comes_and_goes_and_the_summary_stays(
    kpipe: Kpipe, broker: str, env: dict[str, str], feed: Callable[[bytes], object]
) -> None:
    child = spawn(kpipe, broker, "produce", "t", shell=FED, **env)
    feed(b"one\n")
    child.expect(LIVE)
    live = child.before + child.after
    feed(b"two\n")
    child.expect(rb"2 read")
    live += child.before + child.after
    feed(b"")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    left = screen(live + child.before)
    assert re.fullmatch(SUMMARY.replace(rb"\r\n", b""), left[-1])
    assert not [line for line in left if b"in flight" in line]
    assert not COLOUR.search(live + child.before)


def test_a_dumb_terminal_gets_no_live_line(kpipe: Kpipe, broker: str, feed: Callable[[bytes], object]) -> None:
    child = spawn(kpipe, broker, "produce", "t", shell=FED, TERM="dumb")
    feed(b"one\ntwo\n")
    with pytest.raises(pexpect.TIMEOUT):
        child.expect(LIVE, timeout=1)
    feed(b"")
    child.expect(SUMMARY)
    child.expect(pexpect.EOF)
    assert not CURSOR_AND_COLOUR.search(child.before)


@pytest.mark.parametrize("command", [("produce", "t"), ("produce", "--dry-run", "t"), ("produce", "--tee", "t")])
def test_what_is_typed_stays_and_nothing_is_drawn_over_it(kpipe: Kpipe, broker: str, command: tuple[str, ...]) -> None:
    child = spawn(kpipe, broker, *command)
    child.expect_exact(b"kpipe: read: stdin: reading what you type; Ctrl-D ends\r\n")
    child.send("half a line")
    with pytest.raises(pexpect.TIMEOUT):
        child.expect(LIVE, timeout=1)
    shown = child.before
    child.send(" and its end\n")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert b"half a line" in shown
    assert not CURSOR_AND_COLOUR.search(shown)
    assert b"half a line and its end" in screen(child.before)


@pytest.mark.parametrize("behind", ["| grep --line-buffered o", "| cat", "> >(cat)"])
def test_what_a_filter_prints_is_not_mixed_with_a_live_line(kpipe: Kpipe, broker: str, behind: str) -> None:
    assert kpipe.at(broker)("produce", "u", stdin=b"one\ntwo\n").code == 0
    child = spawn(kpipe, broker, "consume", "-c", "10000", "u", shell=f'"$0" "$@" {behind}', program="bash")
    child.expect_exact(b"one\r\n")
    with pytest.raises(pexpect.TIMEOUT):
        child.expect(rb"/s", timeout=1)
    assert not CURSOR_AND_COLOUR.search(child.before)
    child.sendintr()
    child.expect(pexpect.EOF)


def test_a_message_takes_the_live_line_away_first(kpipe: Kpipe, broker: str, feed: Callable[[bytes], object]) -> None:
    child = spawn(kpipe, broker, "produce", "--input", "json", "--on-error", "skip", "t", shell=FED)
    feed(b'{"value":"one"}\n')
    child.expect(LIVE)
    seen = child.before + child.after
    feed(b"no envelope\n")
    child.expect(rb"skipped[^\r\n]*\r\n")
    seen += child.before + child.after
    told = screen(seen)
    assert [line for line in told if b"in flight" in line] == []
    assert told[-1].startswith(b"kpipe: decode: stdin:2: ")
    feed(b"")
    child.expect(pexpect.EOF)


def test_nothing_is_drawn_from_the_background(kpipe: Kpipe, broker: str) -> None:
    """A job in the background shares its terminal with the shell's prompt and what is typed there."""
    child = spawn(
        kpipe, broker, "forward", "t", "u", shell='"$0" "$@" & sleep 2; kill %1; wait', program="bash", job="-mc"
    )
    child.expect(pexpect.EOF)
    assert b"in flight" not in child.before
    assert not CURSOR_AND_COLOUR.search(child.before)


def test_quiet_prints_nothing_on_a_terminal(kpipe: Kpipe, broker: str) -> None:
    child = spawn(kpipe, broker, "produce", "-q", "t", shell='printf "a\\nb\\n" | exec "$0" "$@"')
    assert child.read() == b""


def test_a_terminal_that_gets_the_records_gets_no_live_line_between_them(kpipe: Kpipe, broker: str) -> None:
    assert kpipe.at(broker)("produce", "u", stdin=b"one\ntwo\n").code == 0
    child = spawn(kpipe, broker, "consume", "-c", "2", "u")
    shown = child.read()
    assert re.fullmatch(rb"one\r\ntwo\r\n" + SUMMARY, shown)


def test_nothing_but_records_goes_to_stdout(kpipe: Kpipe, broker: str) -> None:
    """Whatever the environment says: a live line and colours belong to a terminal on stderr."""
    kpipe.at(broker)("produce", "u", stdin=b"one\ntwo\n")
    child = spawn(kpipe, broker, "consume", "-c", "2", "u", shell='exec "$0" "$@" >"$HOME/records"', FORCE_COLOR="1")
    child.expect(SUMMARY)
    child.expect(pexpect.EOF)
    forced = subprocess.run(
        [COMMAND, "consume", "-b", broker, "-c", "2", "-v", "u"],
        capture_output=True, env=kpipe.environment({"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}), timeout=20, check=False,
    )  # fmt: skip
    assert forced.stdout == b"one\ntwo\n"
    assert b"\x1b" not in forced.stderr
    assert forced.stderr.count(b"\n") == 1


def test_control_characters_never_reach_the_terminal_through_a_message(kpipe: Kpipe, broker: str) -> None:
    bad = b'{"value":"a","\\u001b]0;owned\\u0007\\u009b2J":1}\n'
    ended = kpipe.at(broker)("produce", "--input", "json", "t", stdin=bad)
    assert ended.code == 3
    assert "owned" in ended.err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", ended.err)
    named = kpipe.at(broker)("consume", "-e", "evil\x1b[2J\x07")
    assert named.code in (1, 2)
    assert "evil" in named.err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", named.err)


def test_ctrl_c_on_a_terminal_drains_and_dies_by_the_signal(kpipe: Kpipe, broker: str) -> None:
    child = spawn(kpipe, broker, "produce", "--report", "t")
    child.setecho(False)
    child.sendline("one")
    child.expect(rb'"offset"')
    child.sendintr()
    child.expect(rb"kpipe: 1 read, 1 delivered, 0 failed")
    child.expect(pexpect.EOF)
    child.close()
    assert child.signalstatus == 2


def test_a_shell_loop_ends_with_the_command_in_it(kpipe: Kpipe, broker: str) -> None:
    """A shell goes on with its loop when a child exits with 130, and ends it when the child died by SIGINT."""
    loop = 'for n in 1 2 3; do echo "turn $n"; "$0" "$@"; done; echo "went on"'
    child = pexpect.spawn(
        "bash",
        ["-c", loop, str(COMMAND), "produce", "-b", broker, "-q", "t"],
        env=kpipe.environment(),
        timeout=20,
    )
    child.setecho(False)
    child.expect(rb"turn 1")
    child.sendline("one")
    follower = kpipe.at(broker).start("consume", "-o", "-1", "t")
    follower.wait_for_stdout(b"one\n")
    child.sendintr()
    shown = child.read()
    assert b"turn 2" not in shown
    assert b"went on" not in shown


HOSTILE = b'{"key":"k\\u001b[2J","value":"a\\u001b[31m\\nb\\u009b1m\\u202ec\\td","headers":[["h\\u0007","x\\u001b]0;t\\u0007"]]}\n'
SAFE = rb"a\x1b[31m\nb\x9b1m\u202ec" + b"\td"


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    """A broker with one record that would drive a terminal, in `s`."""
    with EmbeddedBroker(topics={"s": 1, "sink": 1}) as started:
        yield started.bootstrap


@pytest.fixture
def written(kpipe: Kpipe, hostile: str) -> str:
    if not kpipe.at(hostile)("consume", "-e", "s").out:
        assert kpipe.at(hostile)("produce", "--input", "json", "--trace", "none", "s", stdin=HOSTILE).code == 0
    return hostile


def unsafe(output: bytes) -> list[bytes]:
    """What would drive a terminal, but for the line ends and colours that kpipe itself writes."""
    return re.findall(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]", output)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], SAFE),
        (["-K", "|"], rb"k\x1b[2J|" + SAFE),
        (["-f", "%k %s %S %h\\n"], rb"k\x1b[2J " + SAFE + rb" 18 h\x07=x\x1b]0;t\x07"),
        (["-D", "!\\n"], SAFE + b"!"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_record_does_not_drive_the_terminal(kpipe: Kpipe, written: str, options: list[str], line: bytes) -> None:
    shown = spawn(kpipe, written, "consume", "-eq", *options, "s").read()
    assert shown.rstrip(b"\r\n") == line
    assert unsafe(shown) == []


def test_binary_records_do_not_drive_the_terminal(kpipe: Kpipe, written: str) -> None:
    shown = spawn(kpipe, written, "consume", "-eq", "--output", "binary", "s").read()
    assert shown.startswith(rb"\xffkp\x02\x00\x00\x00")
    assert [part in shown for part in (rb"k\x1b[2J", SAFE, rb"h\x07", rb"x\x1b]0;t\x07")] == [True] * 4
    assert unsafe(shown) == []


@pytest.mark.parametrize("option", ["-J", "--json-value"])
def test_envelopes_on_a_terminal_are_json_without_a_control_character(kpipe: Kpipe, written: str, option: str) -> None:
    shown = spawn(kpipe, written, "consume", "-eq", option, "s").read()
    assert unsafe(shown) == []
    assert json.loads(shown)["value"] == json.loads(HOSTILE)["value"]


def test_a_pipe_and_raw_get_the_bytes_as_they_are(kpipe: Kpipe, written: str) -> None:
    value = json.loads(HOSTILE)["value"].encode()
    assert kpipe.at(written)("consume", "-e", "s").out == value + b"\n"
    raw = spawn(kpipe, written, "consume", "-eq", "--raw", "s").read()
    assert raw.replace(b"\r\n", b"\n") == value + b"\n"


@pytest.mark.parametrize("raw", [False, True])
def test_tee_on_a_terminal_shows_the_input_safely(kpipe: Kpipe, hostile: str, raw: bool) -> None:
    (kpipe.home / "in").write_bytes("a\x1b[31m \u00e9\nb\n".encode() + b"c\xc3")
    options = ["--tee", "-q", *["--raw"] * raw]
    shown = spawn(kpipe, hostile, "produce", *options, "sink", str(kpipe.home / "in")).read()
    if raw:
        assert b"a\x1b[31m" in shown
    else:
        assert shown == rb"a\x1b[31m " + "\u00e9\r\nb\r\n".encode() + rb"c\xc3"


def test_a_message_shows_no_control_or_invisible_character(kpipe: Kpipe, hostile: str) -> None:
    for text in ("t\x1b[2J", "t\u202ee", "t\u3164", "t\x9b", "t\ufe0f", "--\x1b[2J\nx"):
        done = kpipe.at(hostile)("consume", "-e", text)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert unsafe(done.err.encode()) == []
        assert done.err.isascii()
    bad = kpipe.at(hostile)("produce", "--input", "json", "sink", stdin='{"\x1b[2J\u202e":1}\n'.encode())
    assert bad.code == 3
    assert unsafe(bad.err.encode()) == []

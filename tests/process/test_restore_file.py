"""What `--restore` does to the file it is given, and that it does nothing to any other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kpipe.delivery.restore import SpillRest
from kpipe.errors import KpipeError, UsageError
from kpipe.formats.envelope import EnvelopeDecoder
from kpipe.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

LINES = [b'{"value":"a"}\n', b"\n", b'{"value":"b"}\n', b'{"value":"c"}']


def opened(path: Path, content: bytes = b"".join(LINES)) -> SpillRest:
    path.write_bytes(content)
    rest = SpillRest(str(path))
    assert rest.check(EnvelopeDecoder("f")) == 3
    return rest


def read_all(rest: SpillRest) -> bytes:
    with os.fdopen(rest.reopen(), "rb") as file:
        return file.read()


def finish(rest: SpillRest, read: int = 3, lost: Iterable[int] = ()) -> str:
    rest._lost.update(lost)  # as `write` does, by the number of the line
    rest.finish(Ledger(read=read), 1.0)
    return rest.note


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_that_was_delivered_whole_is_renamed(tmp_path: Path) -> None:
    assert finish(opened(tmp_path / "s")).endswith("all was delivered; it is s.restored now")
    assert files(tmp_path) == {"s.restored": b"".join(LINES)}
    assert finish(opened(tmp_path / "s")).endswith("it is s.restored.2 now")


def test_what_was_lost_or_not_read_stays_in_order(tmp_path: Path) -> None:
    assert "2 records are left" in finish(opened(tmp_path / "s"), read=2, lost=[1])
    assert files(tmp_path) == {"s": b'{"value":"a"}\n{"value":"c"}\n'}


def test_what_is_read_is_what_was_checked(tmp_path: Path) -> None:
    rest = opened(tmp_path / "s")
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "other").rename(tmp_path / "s")
    assert read_all(rest) == b"".join(LINES)


@pytest.mark.parametrize(("read", "left"), [(3, []), (1, LINES[2:])])
def test_another_file_under_the_name_is_left_as_it_is(tmp_path: Path, read: int, left: list[bytes]) -> None:
    rest = opened(tmp_path / "s")
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "new").rename(tmp_path / "s")
    assert "another file has its name now" in finish(rest, read)
    expected = {"s": b"new"} | ({"s.rest": b"".join(left) + b"\n"} if left else {})
    assert files(tmp_path) == expected


@pytest.mark.parametrize("read", [1, 3])
def test_a_file_that_is_gone_is_not_made_again_and_what_is_left_is_kept(tmp_path: Path, read: int) -> None:
    rest = opened(tmp_path / "s")
    (tmp_path / "s").unlink()
    finish(rest, read)
    assert list(files(tmp_path)) == (["s.rest"] if read == 1 else [])


def test_a_link_under_the_name_is_left_as_it_is(tmp_path: Path) -> None:
    rest = opened(tmp_path / "s")
    (tmp_path / "s").rename(tmp_path / "target")
    (tmp_path / "s").symlink_to("target")
    finish(rest)
    assert (tmp_path / "s").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"".join(LINES)


def test_what_was_appended_meanwhile_is_kept(tmp_path: Path) -> None:
    rest = opened(tmp_path / "s", b"".join(LINES) + b"\n")
    with (tmp_path / "s").open("ab") as file:
        file.write(b'{"value":"d"}\n')
    assert "1 record is left" in finish(rest)
    assert files(tmp_path) == {"s": b'{"value":"d"}\n'}


@pytest.mark.parametrize("content", [b"", b'{"value":"x"}\n' * 9, b"".join(LINES)[:-3]])
def test_what_was_rewritten_meanwhile_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    rest = opened(tmp_path / "s")
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(KpipeError, match="was changed while it was sent, and is left as it is"):
        finish(rest)
    assert files(tmp_path) == {"s": content}


def test_only_a_plain_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(LINES[0])
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    before = sorted(os.listdir(tmp_path))
    for name in ("link", "dangling", "fifo", "socket", "/dev/null", "/dev/stdin", "/proc/self/fd/0", str(tmp_path)):
        with pytest.raises(UsageError, match=r"is a symbolic link|is no plain file"):
            SpillRest(str(tmp_path / name))
    with pytest.raises(UsageError, match="cannot open: No such file"):
        SpillRest(str(tmp_path / "missing"))
    assert sorted(os.listdir(tmp_path)) == before


def test_two_runs_do_not_send_one_file(tmp_path: Path) -> None:
    rest = opened(tmp_path / "s")
    with pytest.raises(UsageError, match="is being restored by another process"):
        SpillRest(str(tmp_path / "s"))
    finish(rest)


def test_a_pipe_swallows_no_signal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    command = [sys.executable, "-m", "kpipe", "produce", "--restore", str(tmp_path / "fifo"), "t"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            _, said = process.communicate(timeout=30)
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == 2
    assert b"is no plain file" in said

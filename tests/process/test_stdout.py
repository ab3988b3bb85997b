"""Streams that fail or wait, on the embedded broker: FIFOs, directories, missing files, inputs that others share."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from kpipe.broker import EmbeddedBroker
from kpipe.flight import Flight
from kpipe.record import Batch
from kpipe.sinks.stdout import ReaderGone, Stdout, StdoutSink, WriteError
from kpipe.sources.stdin import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Kpipe

pytestmark = pytest.mark.cold


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedBroker(topics={"t": 1}) as started:
        yield started.bootstrap


def test_a_fifo_without_a_writer_does_not_hold_a_signal_up(kpipe: Kpipe, broker: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    running = kpipe.at(broker).start("produce", "-v", "t", tmp_path / "fifo", "--trace", "none")
    writer = -1

    def opened() -> bool:
        nonlocal writer
        try:
            writer = os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK)  # ENXIO until the reader is there
        except OSError:
            return False
        return True

    running.wait_for(opened)
    os.close(writer)
    assert running.wait(10).code == 0
    waiting = kpipe.at(broker).start("produce", "t", tmp_path / "fifo")
    waiting.wait_for(lambda: fifo_is_open(waiting.pid))
    waiting.signal(signal.SIGTERM)
    assert waiting.wait(3).code == -signal.SIGTERM


def fifo_is_open(pid: int) -> bool:
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(f"/proc/{pid}/fd/{fd}").endswith("/fifo"):
                return True
    return False


def test_what_comes_through_a_fifo_is_sent(kpipe: Kpipe, broker: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    running = kpipe.at(broker).start("produce", "-v", "t", tmp_path / "fifo")
    running.wait_for(lambda: fifo_is_open(running.pid))
    (tmp_path / "fifo").write_bytes(b"a\nb\nunterminated")
    ended = running.wait(10)
    assert ended.code == 0
    assert "3 read, 3 delivered" in ended.err


def test_inputs_that_cannot_be_read_are_found_before_anything_is_sent(
    kpipe: Kpipe, broker: str, tmp_path: Path
) -> None:
    good = tmp_path / "good"
    good.write_bytes(b"a\n")
    for path, reason in ((tmp_path / "missing", "No such file or directory"), (tmp_path, "is a directory")):
        ended = kpipe.at(broker)("produce", "-v", "t", good, path)
        assert (ended.code, ended.out) == (2, b"")
        assert ended.err.count("\n") == 1
        assert f"{path}: " in ended.err
        assert reason in ended.err


def test_an_input_that_another_process_emptied_is_not_at_its_end() -> None:
    """A pipe in non-blocking mode may be ready and then hold nothing: EAGAIN is not the end of the input."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    source = FileSource([], lambda _name: None, wakeup=reader)
    source._fd = reader
    assert source._read_block() is None
    os.write(writer, b"a")
    assert source._read_block() == b"a"
    os.close(writer)
    assert source._read_block() == b""
    os.close(reader)


def test_writing_stops_where_the_reader_stopped() -> None:
    reader, writer = os.pipe()
    asked: list[int] = []

    def give_up() -> bool:
        asked.append(1)
        return len(asked) < 3

    written = Stdout(writer).write(b"x" * 200_000, give_up)
    assert 0 < written < 200_000
    assert len(os.read(reader, 200_000)) == written
    assert os.get_blocking(writer)  # others share it
    os.close(reader)
    with pytest.raises(ReaderGone) as gone:
        Stdout(writer).write(b"x", give_up)
    assert gone.value.written == 0
    os.close(writer)


def test_a_full_pipe_is_widened_once_where_nothing_is_lost_with_it() -> None:
    """64 KiB between two ends of a pipe make them wait for each other all the time."""
    reader, writer = os.pipe()
    sink = StdoutSink(lambda _batch: b"x" * 200_000, writer)
    sink.send(Batch([b""]), Flight(), lambda: False)
    assert len(os.read(reader, 1 << 20)) == fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ) < 200_000
    sink.hold_more()
    sink.send(Batch([b""]), Flight(), lambda: False)
    assert len(os.read(reader, 1 << 20)) == 200_000
    os.close(reader)
    os.close(writer)


def test_a_full_device_is_an_error_with_advice() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(WriteError, match="No space left on device; free space"):
        Stdout(fd).write(b"x", lambda: True)
    os.close(fd)


def test_a_socket_gets_every_byte() -> None:
    """It cannot be opened once more without blocking: small writes after a poll take its place."""
    import socket
    import threading

    ours, theirs = socket.socketpair()
    found = bytearray()

    def read() -> None:
        while block := theirs.recv(1 << 16):
            found.extend(block)

    reading = threading.Thread(target=read)
    reading.start()
    block = os.urandom(1_000_000)
    assert Stdout(ours.fileno()).write(block, lambda: True) == len(block)
    ours.close()
    reading.join(10)
    theirs.close()
    assert found == block


def unread(fd: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0])


def test_a_run_whose_words_nobody_reads_ends_when_it_is_told_to(kpipe: Kpipe, broker: str, tmp_path: Path) -> None:
    """Each bad record is told; the pipe behind stderr is full and stays so."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 8192)  # of which the last page counts as full with the first line in it
    lines = tmp_path / "lines"
    lines.write_bytes(b"no JSON\n" * 5000)
    words = ("produce", "--map", ".", "--on-error", "skip", "--drain-timeout", "2", "t", lines)
    running = kpipe.at(broker).start(*words, stderr=write)
    os.close(write)
    running.wait_for(lambda: unread(read) > 3_500, what="its words")
    running.signal(signal.SIGTERM)
    assert running.wait(8).code == 1
    os.close(read)


PLUGIN = """
import atexit
file = open("kept", "w")
def transform(record):
    file.write("one\\n")
    print("two")
    return record
atexit.register(lambda: file.write("three\\n"))
"""


@pytest.mark.parametrize("ending", ["end of input", "signal", "bad record"])
def test_what_a_function_of_the_user_holds_back_is_written_at_the_end(
    kpipe: Kpipe, broker: str, tmp_path: Path, ending: str
) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    words = ("produce", "--plugin", tmp_path / "plugin.py", *(["--map", "."] if ending == "bad record" else []), "t")
    running = kpipe.at(broker).start(*words, cwd=tmp_path)
    running.write(b"1\n")
    running.wait_for(lambda: running.out == b"two\n", what="its print")
    if ending == "signal":
        running.signal(signal.SIGTERM)
    elif ending == "bad record":
        running.write(b"no JSON\n")
    else:
        running.close_stdin()
    assert running.wait(10).code == {"end of input": 0, "signal": -signal.SIGTERM, "bad record": 3}[ending]
    assert (tmp_path / "kept").read_text() == "one\n" * (2 if ending == "bad record" else 1) + "three\n"

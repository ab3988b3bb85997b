"""Standard streams as whoever started us left them."""

from __future__ import annotations

import fcntl
import io
import os
import threading
import time

import pytest

from kpipe.cli.find import SearchProgress
from kpipe.cli.streams import PatientFile, _patient
from kpipe.ops.find import Search
from kpipe.shutdown import Stop


def test_what_is_written_to_a_stream_that_somebody_made_non_blocking_is_not_lost() -> None:
    read, write = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(write, False)
    got: list[bytes] = []

    def take() -> None:
        while block := os.read(read, 1000):
            got.append(block)
            time.sleep(0)  # the writer finds the pipe full now and then

    reader = threading.Thread(target=take)
    stream = _patient(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), write)
    lines = [f"kpipe: line {number:06}: ä\n" for number in range(8000)]
    reader.start()
    for line in lines[:4000]:
        stream.write(line)
    stream.write("".join(lines[4000:]))
    os.close(write)
    reader.join()
    os.close(read)
    assert b"".join(got).decode() == "".join(lines)


def test_a_line_is_out_before_anything_else_happens() -> None:
    read, write = os.pipe()
    stream = _patient(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), write)
    print("a function of the user's", file=stream)
    assert os.read(read, 100) == b"a function of the user's\n"
    os.close(read)
    os.close(write)


def test_what_nobody_reads_does_not_hold_the_end_of_a_run_up() -> None:
    read, write = os.pipe()
    waits: list[float] = []

    def may_wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) < 3

    stream = io.BufferedWriter(PatientFile(write, may_wait))
    for _ in range(40):
        stream.write(b"x" * 4096)  # a pipe holds 64 KiB
    stream.flush()
    assert waits[:3] == sorted(waits[:3])
    assert len(waits) > 3  # who did not read for so long is not waited for at the next word
    held = len(os.read(read, 1 << 20))
    stream.write(b"read again")
    stream.flush()
    assert held < 40 * 4096
    assert os.read(read, 100) == b"read again"
    os.close(read)
    os.close(write)


def test_a_search_looks_for_its_reader() -> None:
    class Gone(Exception):
        pass

    def watch() -> None:
        raise Gone

    with pytest.raises(Gone):
        SearchProgress(Stop(), watch, quiet=True)(Search())

"""Standard streams as whoever started us left them."""

from __future__ import annotations

import fcntl
import io
import os
import threading
import time

import pytest

from kpipe.cli.find import SearchProgress
from kpipe.cli.streams import _patient
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


def test_a_search_looks_for_its_reader() -> None:
    class Gone(Exception):
        pass

    def watch() -> None:
        raise Gone

    with pytest.raises(Gone):
        SearchProgress(Stop(), watch, quiet=True)(Search())

"""Files and pipes become batches: block by block, in order, one decoder per file, and no wait that a signal cannot end."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from kpipe.errors import UsageError
from kpipe.formats.lines import LineDecoder
from kpipe.shutdown import Stop
from kpipe.sources.stdin import BLOCK, FileSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kpipe.record import Batch


@contextmanager
def stdin_is(fd: int) -> Iterator[None]:
    """Put `fd` in the place of file descriptor 0 for a while."""
    saved = os.dup(0)
    os.dup2(fd, 0)
    try:
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)


def source(paths: list[str], tee: Callable[[bytes], None] | None = None) -> FileSource:
    return FileSource(paths, LineDecoder, Stop().fd, tee=tee)


def drain(reader: FileSource) -> list[Batch]:
    batches = []
    while not reader.finished:
        batch = reader.read()
        if batch is not None:
            batches.append(batch)
    reader.leave()
    reader.close(1)
    return batches


def values(batches: list[Batch]) -> list[bytes | None]:
    return [value for batch in batches for value in batch.values]


def test_files_come_in_order_each_with_its_own_lines(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1\nunterminated")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"2\n3\n")

    batches = drain(source([str(tmp_path / name) for name in ("a", "empty", "b")]))

    assert values(batches) == [b"1", b"unterminated", b"2", b"3"]
    places = [batch.where(place) for batch in batches for place in range(len(batch))]
    assert places == [f"{tmp_path}/a:1", f"{tmp_path}/a:2", f"{tmp_path}/b:1", f"{tmp_path}/b:2"]


def test_a_file_larger_than_a_block_comes_whole(tmp_path: Path) -> None:
    lines = [b"%06d" % number * 20 for number in range(3 * BLOCK // 120)]
    (tmp_path / "large").write_bytes(b"\n".join(lines))
    reader = source([str(tmp_path / "large")])

    batches = drain(reader)

    assert values(batches) == lines
    assert len(batches) > 3
    assert reader.total_bytes == reader.read_bytes == os.path.getsize(tmp_path / "large")


def test_a_pipe_is_read_as_it_fills() -> None:
    out, into = os.pipe()
    seen: list[bytes] = []
    with stdin_is(out):
        reader = source(["-"], tee=seen.append)
        assert reader.total_bytes is None
        assert reader.read() is None, "nothing there yet: it must come back"
        os.write(into, b"one\ntw")
        first = reader.read()
        os.write(into, b"o\n")
        second = reader.read()
        os.write(into, b"frag")
        os.close(into)
        rest = drain(reader)
        reader.close(1)
    os.close(out)

    assert first is not None
    assert second is not None
    assert (first.values, second.values, values(rest)) == ([b"one"], [b"two"], [b"frag"])
    assert second.where(0) == "stdin:2"
    assert seen == [b"one\ntw", b"o\n", b"frag", b""], "and the end of the file"


def test_the_copy_of_a_block_waits_until_its_records_are_on_their_way() -> None:
    """A reader that slept until the deadline of a drain left no time for what was read, and not sent yet."""
    out, into = os.pipe()
    seen: list[bytes] = []
    with stdin_is(out):
        reader = source(["-"], tee=seen.append)
        os.write(into, b"one\n")
        assert reader.read() is not None
        assert seen == []
        assert reader.read() is None
        assert seen == [b"one\n"]
        os.write(into, b"two\n")
        assert reader.read() is not None
        reader.leave()
        assert seen == [b"one\n"], "leaving comes before the flush"
        reader.close(1)
        assert seen == [b"one\n", b"two\n"]
    os.close(out)
    os.close(into)


def test_what_a_signal_cuts_off_is_a_fragment_and_not_a_record() -> None:
    out, into = os.pipe()
    with stdin_is(out):
        reader = source(["-"])
        os.write(into, b"whole\nfragment")
        batch = reader.read()
        reader.leave()
    os.close(out)
    os.close(into)

    assert batch is not None
    assert batch.values == [b"whole"]
    assert reader.fragment == len(b"fragment")


def test_a_signal_ends_the_wait_for_input() -> None:
    out, into = os.pipe()
    stop = Stop()
    with stdin_is(out):
        reader = FileSource(["-"], LineDecoder, stop.fd)
        assert reader.read() is None
        os.write(stop._wakeup, b"\x0f")
        assert reader.read() is None
    os.close(out)
    os.close(into)


@pytest.mark.parametrize(
    ("name", "what"),
    [("missing", "cannot open: No such file or directory"), (".", "is a directory, not a file")],
)
def test_bad_files_are_found_before_anything_is_read(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "good").write_bytes(b"1\n")
    with pytest.raises(UsageError) as caught:
        source([str(tmp_path / "good"), str(tmp_path / name)])
    assert str(caught.value) == f"{tmp_path / name if name != '.' else tmp_path}: {what}"


def test_a_file_that_goes_away_while_others_are_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"1\n")
    reader = source([str(tmp_path / "a"), str(tmp_path / "b")])
    (tmp_path / "b").unlink()

    with pytest.raises(UsageError, match="cannot open: No such file or directory"):
        drain(reader)

"""Files that are written at the end of a run are looked at before it reads anything."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Kpipe

WORDS = {
    "produce": ["produce", "-b", "127.0.0.1:1", "t"],
    "forward": ["forward", "-b", "127.0.0.1:1", "s", "t"],
    "workers": ["forward", "-b", "127.0.0.1:1", "-G", "g", "--workers", "2", "s", "t"],
}


def make(place: Path) -> dict[str, str]:
    """Paths where nothing can be written, and what is said of each."""
    (place / "folder").mkdir()
    (place / "file").write_text("")
    os.mkfifo(place / "pipe")
    (place / "dangling").symlink_to(place / "no" / "x")
    return {
        str(place / "no" / "x"): "there is no directory",
        str(place / "folder"): "it is a directory",
        str(place / "folder") + "/": "it is a directory",
        str(place / "new") + "/": "it names no file",
        str(place / "file" / "x"): "Not a directory",
        str(place / "pipe"): "nobody reads this pipe",
        str(place / "dangling"): "there is no directory",
        str(place / ("x" * 300)): "File name too long",
    }


@pytest.mark.parametrize("option", ["--summary", "--spill"])
@pytest.mark.parametrize("command", WORDS)
def test_what_cannot_be_written_is_told_at_the_start(kpipe: Kpipe, tmp_path: Path, command: str, option: str) -> None:
    for path, says in make(tmp_path).items():
        done = kpipe(*WORDS[command], option, path)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert done.err.startswith(f"kpipe: {option} {path}")
        assert says in done.err, done.err
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_told_at_the_start(kpipe: Kpipe, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = kpipe(*WORDS["produce"], "--spill", tmp_path / "x")
    assert (done.code, "Permission denied" in done.err) == (2, True), done.err


def test_one_file_for_both_is_refused_and_left_as_it_is(kpipe: Kpipe, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text('{"value":"from an earlier run"}\n')
    done = kpipe(*WORDS["produce"], "--spill", kept, "--summary", tmp_path / "." / "kept")
    assert (done.code, "--spill writes there, too" in done.err) == (2, True), done.err
    assert "earlier" in kept.read_text()


def test_a_look_changes_nothing(kpipe: Kpipe, tmp_path: Path) -> None:
    spill, summary = tmp_path / "spill", tmp_path / "summary"
    done = kpipe(
        "broker", "--topics", "t:1", "--", "sh", "-c", f"seq 2 | kpipe produce --spill {spill} --summary {summary} t"
    )
    assert done.code == 0, done.err
    assert not spill.exists()
    assert json.loads(summary.read_text())["delivered"] == 2


def test_a_summary_replaces_no_link_and_no_stream(kpipe: Kpipe, tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    stream = tmp_path / "stream"
    stream.symlink_to("/proc/self/fd/2")
    words = f"seq 2 | kpipe produce --summary {link} t; seq 3 | kpipe produce -v --summary {stream} t 2> {tmp_path}/err"
    done = kpipe("broker", "--topics", "t:1", "--", "sh", "-c", words)
    assert done.code == 0, done.err
    assert link.is_symlink()
    assert json.loads(real.read_text())["delivered"] == 2
    assert stream.is_symlink()
    balance, line = (tmp_path / "err").read_text().splitlines()
    assert json.loads(balance)["delivered"] == 3
    assert line.startswith("kpipe: 3 read, 3 delivered")


@pytest.mark.parametrize("option", ["--report", "--tee"])
def test_a_closed_stdout_is_told_before_anything_is_sent(kpipe: Kpipe, option: str) -> None:
    words = f"seq 2 | kpipe produce {option} t >&-; echo $?; kpipe consume -e t"
    done = kpipe("broker", "--topics", "t:1", "--", "sh", "-c", words)
    assert done.out == b"2\n"
    assert "stdout is closed" in done.err

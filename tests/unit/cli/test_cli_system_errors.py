"""What the porch makes of an error of the operating system that nobody has caught."""

from __future__ import annotations

import errno
import resource
import tempfile
from typing import TYPE_CHECKING

import pytest

from kpipe.cli import _report_bug, _report_system
from kpipe.clusters.project import current_folder, read_project
from kpipe.errors import Exit
from kpipe.sinks.outputs import check_outputs

if TYPE_CHECKING:
    from pathlib import Path


def no_folder() -> OSError:
    """As tempfile raises it where nothing can be written."""
    return FileNotFoundError(errno.ENOENT, f"No usable temporary directory found in {tempfile.gettempdir()!r}")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (no_folder(), Exit.USAGE, "config: no folder for temporary files can be written to; mount one at /tmp or name"),
        (OSError(errno.ENOSPC, "No space left on device"), Exit.UNDELIVERED, "send: stdout: cannot write: No space"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), Exit.UNDELIVERED, "internal error (FileNotFoundError"),
        (OSError(errno.EMFILE, "Too many open files", "x.py"), Exit.UNDELIVERED, "config: more files and connections"),
    ],
)
def test_each_is_one_line(error: OSError, code: Exit, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _report_system(error) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith(f"kpipe: {said}")


def test_a_library_that_could_open_no_file_is_not_blamed(capsys: pytest.CaptureFixture[str]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        code = _report_bug(ImportError("Module not found when looking up confluent_kafka.admin.ClusterMetadata"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert code == Exit.UNDELIVERED
    assert capsys.readouterr().err.startswith("kpipe: config: more files and connections are needed than may be open")


def test_a_current_directory_that_was_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What needs none goes on; a relative path is told for what it is."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert read_project(current_folder(), None, ()) == (None, [])
    with pytest.raises(FileNotFoundError) as caught:
        check_outputs("summary", "")
    assert _report_system(caught.value) == Exit.USAGE
    assert capsys.readouterr().err.startswith("kpipe: config: the current directory is gone")

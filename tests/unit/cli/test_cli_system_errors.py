"""What the porch makes of an error of the operating system that nobody has caught."""

from __future__ import annotations

import errno
import tempfile

import pytest

from kpipe.cli import _report_system
from kpipe.errors import Exit


def no_folder() -> OSError:
    """As tempfile raises it where nothing can be written."""
    return FileNotFoundError(errno.ENOENT, f"No usable temporary directory found in {tempfile.gettempdir()!r}")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (no_folder(), Exit.USAGE, "config: no folder for temporary files can be written to; mount one at /tmp or name"),
        (OSError(errno.ENOSPC, "No space left on device"), Exit.UNDELIVERED, "send: stdout: cannot write: No space"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), Exit.UNDELIVERED, "internal error (FileNotFoundError"),
    ],
)
def test_each_is_one_line(error: OSError, code: Exit, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _report_system(error) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith(f"kpipe: {said}")

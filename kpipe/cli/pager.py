"""Long answers, shown as man shows a page: through a pager when stdout is a terminal that they do not fit on.

It writes answers to stdout, never records.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

DEFAULTS = ("less", "more")


def show(text: str) -> None:
    """Print text; `MANPAGER` or `PAGER` names the pager, as for man, and cat or nothing there means none."""
    command = _pager(text)
    if not command:
        sys.stdout.write(text)
        return
    environment = {"LESS": "FRX", **os.environ}  # as git: a page that fits stays, colours pass
    try:
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)  # noqa: S603 - what the user named
    except OSError:
        sys.stdout.write(text)
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pager's
    try:
        with suppress(BrokenPipeError):
            pager.communicate(text.encode())
    finally:
        signal.signal(signal.SIGINT, before)


def _pager(text: str) -> list[str]:
    if not sys.stdout.isatty() or text.count("\n") < shutil.get_terminal_size().lines:
        return []
    named = os.environ.get("MANPAGER", os.environ.get("PAGER"))
    if named is not None:
        words = shlex.split(named)
        return [] if words[:1] == ["cat"] else words
    found = next((path for name in DEFAULTS if (path := shutil.which(name))), "")
    return [found] if found and os.environ.get("TERM", "dumb") != "dumb" else []

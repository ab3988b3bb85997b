"""A line for crontab(5): one run at a time, mail only when something went wrong."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from kpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.deploy.commandline import CommandLine

NIGHTLY = "15 3 * * *"
_FIELDS = re.compile(
    r"(@(reboot|yearly|annually|monthly|weekly|daily|midnight|hourly)|[\d*/,a-zA-Z-]+( [\d*/,a-zA-Z-]+){4})"
)


def crontab(line: CommandLine, command: Sequence[str], version: str, schedule: str) -> str:
    """The line, with what must stand before it. A % ends a command in a crontab unless it is escaped."""
    if not line.bounded:
        raise UsageError("the command line does not end by itself; add -e, or use kpipe unit systemd")
    when = check_schedule(schedule or NIGHTLY)
    words = shlex.join([*command, *line.arguments]).replace("%", "\\%")
    if "\n" in words:
        raise UsageError("a line of a crontab cannot hold a line break; put the transforms into a file (--transforms)")
    return (
        f"# kpipe {version}: a success prints nothing, so cron mails trouble only.\n"
        f"# -n: a run that is still going on is left alone.\n"
        f"{when}  flock -n /tmp/{line.name}.lock {words}\n"
    )


def check_schedule(text: str) -> str:
    """Five fields, or a word such as @daily; UsageError otherwise."""
    if not _FIELDS.fullmatch(text):
        raise UsageError(f"--schedule {text!r}: write five fields as in {NIGHTLY!r}, or a word such as @daily")
    return text

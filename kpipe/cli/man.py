"""`kpipe man [PAGE]`: the manual, however kpipe was installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.cli.commands import COMMANDS
from kpipe.errors import Exit, KpipeError, Stage, UsageError
from kpipe.options import ManOptions, Operand
from kpipe.shutdown import die_by

HELP = "Show the manual page of kpipe or of one of its commands, or with --install put all pages where man finds them."
EXAMPLES = (("the page of forward", "kpipe man forward"),)
ARGUMENTS = {"page": Operand("[PAGE]", "A command. Default: kpipe's own page.", required=False)}

VIEWERS = (("mandoc", "-a"), ("man", "-l", "-"))
"""What shows a page that comes through a pipe: a read-only system has no place for a file. A Mac's man takes none."""


def man(page: str, options: ManOptions) -> int:
    """Show or install."""
    name = page.removeprefix("kpipe-") if page != "kpipe" else ""
    if name and name not in COMMANDS:
        raise UsageError(f"no manual page {page!r}; there is kpipe, {', '.join(COMMANDS)}")
    return _install() if options.install else _show(name)


def _show(name: str) -> int:
    from kpipe.cli.manual import command_page, overview_page

    text = command_page(name) if name else overview_page()
    viewer = next((words for words in VIEWERS if shutil.which(words[0])), None)
    if viewer is None:
        from kpipe.cli import pager
        from kpipe.cli.roff_text import plain

        pager.show(plain(text))
        return 0
    ended = subprocess.run(viewer, input=text.encode(), check=False).returncode  # noqa: S603 - one of two fixed commands
    if ended < 0:
        die_by(signal.Signals(-ended))
    return int(Exit.UNDELIVERED if ended else Exit.OK)


def _install() -> int:
    from kpipe.cli.manual import command_page, overview_page

    home = os.environ.get("HOME")
    if not home:
        raise UsageError("HOME is not set, so there is nowhere to install to")
    folder = os.path.join(os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share", "man", "man1")
    try:
        os.makedirs(folder, exist_ok=True)
        for name in ("", *COMMANDS):
            with open(os.path.join(folder, f"kpipe-{name}.1" if name else "kpipe.1"), "w", encoding="utf-8") as file:
                file.write(command_page(name) if name else overview_page())
    except OSError as error:
        raise KpipeError(
            f"cannot be written: {error.strerror}; check the folder's rights", where=folder, stage=Stage.CONFIG
        ) from None
    tell(f"wrote {len(COMMANDS) + 1} pages to {folder}")
    return 0


app = build_command(
    man, name="man", help=HELP, examples=EXAMPLES, arguments=ARGUMENTS, groups=(ManOptions,), transforms=False
)

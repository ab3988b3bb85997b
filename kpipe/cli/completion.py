"""`kpipe completion SHELL`: the script that a shell needs, printed or put where the shell looks for it."""

from __future__ import annotations

import os
import sys

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.options import CompletionOptions, Operand

HELP = "Print the completion script of SHELL (bash, zsh or fish), or with --install put it where the shell finds it."
EXAMPLES = (("for this user", "kpipe completion bash --install"),)
ARGUMENTS = {"shell": Operand("SHELL", "bash, zsh or fish. Default: the one of $SHELL.", required=False)}


def completion(shell: str, options: CompletionOptions) -> int:
    """Print or install."""
    from kpipe.cli.shells import SCRIPTS

    shell = shell or os.path.basename(os.environ.get("SHELL", ""))
    if not shell:
        raise UsageError("kpipe completion: SHELL is not set, so name the shell: kpipe completion bash, zsh or fish")
    if shell not in SCRIPTS:
        raise UsageError(f"kpipe completion {shell!r}: it takes {', '.join(SCRIPTS)}")
    if not options.install:
        sys.stdout.write(SCRIPTS[shell])
        return 0
    path, advice = place_of(shell, os.environ)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(SCRIPTS[shell])
    except OSError as error:
        raise KpipeError(
            f"cannot be written: {error.strerror}; check the folder's rights", where=path, stage=Stage.CONFIG
        ) from None
    tell(f"wrote {path}; {advice}")
    return 0


def place_of(shell: str, environ: os._Environ[str] | dict[str, str]) -> tuple[str, str]:
    """Where a user's own completion goes, and what is left to do."""
    home = environ.get("HOME", "")
    if not home:
        raise UsageError("HOME is not set, so there is nowhere to install to; print the script instead")
    data = environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    match shell:
        case "bash":
            return f"{data}/bash-completion/completions/kpipe", "new shells have it (with the package bash-completion)"
        case "fish":
            return f"{config}/fish/completions/kpipe.fish", "new shells have it"
    return (
        f"{data}/zsh/site-functions/_kpipe",
        f"put fpath=({data}/zsh/site-functions $fpath) before compinit in ~/.zshrc",
    )


app = build_command(
    completion,
    name="completion",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(CompletionOptions,),
    transforms=False,
)

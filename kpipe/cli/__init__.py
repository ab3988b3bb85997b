"""The porch: the only place that knows typer, turns an error into one line and a run into an exit code.

It moves no record; commands are imported when they are called, because start-up is part of speed.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer._click.exceptions import NoSuchOption
from typer.core import TyperGroup
from typer.exceptions import TyperException

from kpipe import __version__
from kpipe.cli.commands import COMMANDS, SUMMARY
from kpipe.cli.startup import put_off
from kpipe.cli.streams import keep_standard_streams
from kpipe.clusters.environment import PASSWORD, VOICE, WORKER, hide
from kpipe.errors import EXIT_MEANING, Exit, KpipeError, Stage, UsageError, visible
from kpipe.shutdown import die_by, end_foreign_code

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


FILES_USED_UP = (errno.EMFILE, errno.ENFILE)


class LazyGroup(TyperGroup):
    """Commands by name, imported on use: `--help` of one command must not pay for the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands, in the order of a first reading."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command, built now."""
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(importlib.import_module(f"kpipe.cli.{cmd_name}").app)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command to run; UsageError naming the nearest one for a word that is none."""
        if args and args[0] not in COMMANDS:
            from kpipe.cli.habits import instead_of_word

            raise UsageError(instead_of_word(args))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in EXIT_MEANING.items()])


app = typer.Typer(
    cls=LazyGroup,
    help=SUMMARY,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"kpipe {__version__}\n")
        raise typer.Exit


def _print_completion(shell: str) -> None:
    if not shell:
        return
    from kpipe.cli.shells import SCRIPTS

    if shell not in SCRIPTS:
        raise UsageError(f"--completion {shell!r}: it takes {', '.join(SCRIPTS)}")
    sys.stdout.write(SCRIPTS[shell])
    raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", "-V", callback=_print_version, is_eager=True, help="Print the version."
    ),
    completion: str = typer.Option(
        "",
        "--completion",
        metavar="bash|zsh|fish",
        callback=_print_completion,
        is_eager=True,
        show_default=False,
        help="Print the completion script of a shell.",
    ),
) -> None:
    pass


def main(arguments: Sequence[str]) -> NoReturn:
    """Run a command and end the process: the one place that decides the exit code."""
    keep_standard_streams()
    hide([PASSWORD])
    put_off("asyncio")
    leave(run_line(arguments))


def run_line(arguments: Sequence[str]) -> int:
    """Run a command; whatever goes wrong becomes one line on stderr and an exit code."""
    log_format[0] = _log_format(arguments)
    try:
        _check_environment()
        _translate(arguments)
        code = app(args=list(arguments), prog_name="kpipe", standalone_mode=False)
    except TyperException as error:
        return _refuse(error, arguments)
    except KpipeError as error:
        tell((isinstance(error, UsageError) and _console_property(arguments)) or str(error), error.id)
        return int(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        die_by(signal.SIGPIPE)
    except SystemExit as end:  # what typer makes of EPIPE, even when it is asked not to exit
        if isinstance(end.__context__, BrokenPipeError):
            die_by(signal.SIGPIPE)
        raise
    except OSError as error:
        return _report_system(error)
    except Exception as error:  # noqa: BLE001 - the one boundary: a fault of ours is told in one line, too
        return _report_bug(error)
    return code if isinstance(code, int) else 0


def _translate(arguments: Sequence[str]) -> None:
    """UsageError with our word for what another tool calls otherwise."""
    if arguments and arguments[0] in ("-L", "--list"):
        raise UsageError("-L is kcat's word for kpipe topics, or kpipe topics --partitions NAME")


def _report_system(error: OSError) -> int:
    """What nobody has caught: a write to stdout, a search for a folder, no room for a file, or a fault of ours."""
    if error.errno in FILES_USED_UP:
        return _report_open_files()
    if error.filename is not None:
        return _report_bug(error)
    if isinstance(error, FileNotFoundError) and not _is_somewhere():
        tell("config: the current directory is gone; go to one that is there")
        return int(Exit.USAGE)
    if isinstance(error, FileNotFoundError):
        tell("config: no folder for temporary files can be written to; mount one at /tmp or name one with TMPDIR")
        return int(Exit.USAGE)
    tell(f"send: stdout: cannot write: {error.strerror}")
    return int(Exit.UNDELIVERED)


def _is_somewhere() -> bool:
    """Whether the directory that we were started in is still there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _report_open_files() -> int:
    limit = os.sysconf("SC_OPEN_MAX")  # the module `resource` is a file, which cannot be opened either
    tell(f"config: more files and connections are needed than may be open, which is {limit:,}; raise it: ulimit -n")
    return int(Exit.UNDELIVERED)


def _may_open() -> bool:
    """Whether a file can be opened: a library does not say that this was what it failed at."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in FILES_USED_UP
    return True


def _report_bug(error: Exception) -> int:
    if not _may_open():
        return _report_open_files()
    if os.environ.get("KPIPE_DEBUG"):
        raise error
    kind = type(error).__name__
    tell(f"internal error ({kind}: {error}); please report it, with the output of KPIPE_DEBUG=1")
    return int(Exit.UNDELIVERED)


def _console_property(arguments: Sequence[str]) -> str:
    """What to say of `--property print.key=true`, which Kafka's console tools take."""
    if not any(word.startswith("--property") for word in arguments):
        return ""
    from kpipe.cli.habits import instead_of_property

    return instead_of_property(arguments[0], arguments[1:])


def _no_such_option(error: Any, arguments: Sequence[str]) -> str:
    """The option's name, and the line to type instead."""
    from kpipe.cli.habits import instead_of_option, instead_of_options

    def known(command: Any) -> list[str]:
        return [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]

    root: Any = typer.main.get_command(app)
    if not arguments or arguments[0] not in COMMANDS:
        return instead_of_options(arguments, lambda name: known(root.get_command(None, name)))
    words, command = [arguments[0]], root.get_command(None, arguments[0])
    while hasattr(command, "get_command") and len(arguments) > len(words):
        found = command.get_command(None, arguments[len(words)])
        if found is None:  # an option before the verb
            break
        words.append(arguments[len(words)])
        command = found
    return instead_of_option(" ".join(words), arguments[len(words) :], error.option_name, known(command))


def _refuse(error: Any, arguments: Sequence[str]) -> int:
    """The command line cannot be understood; a bare command shows its help."""
    if isinstance(error, NoSuchOption):
        tell(_no_such_option(error, arguments), UsageError.id)
        return int(Exit.USAGE)
    text = _in_words(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{text}\n")
    else:
        tell(f"{text.strip().rstrip('.')}; see --help", UsageError.id)
    return int(Exit.USAGE)


def _in_words(error: Any) -> str:
    """What the parser refuses, as people say it."""
    import re

    if type(error).__name__ == "MissingParameter" and error.param is not None and error.ctx is not None:
        examples = [line for _, line in getattr(error.ctx.command, "examples", ()) if "\n" not in line]
        shown = f", as in: {examples[0]}" if examples else ""
        return f"{error.ctx.command_path.removeprefix('kpipe ')} needs {error.param.metavar}{shown}"
    return re.sub(r"(?<= is not a )valid (int|float)( range)?", "number", str(error.format_message()))


def _log_format(arguments: Sequence[str]) -> str:
    """How to speak, known before the command line is understood, for what is wrong with that is told, too.

    A worker's words are its supervisor's to write.
    """
    if WORKER in os.environ:
        return "worker"
    chosen = os.environ.get("KPIPE_LOG_FORMAT", "text")
    for place, word in enumerate(arguments):
        if word == "--":
            break
        name, sign, value = word.partition("=")
        if name == "--log-format":
            chosen = value if sign else "".join(arguments[place + 1 : place + 2])
    return chosen


def _check_environment() -> None:
    """UsageError for what a variable of all commands cannot mean; empty is not set, as for typer."""
    name = "KPIPE_LOG_FORMAT"
    if chosen := os.environ.get(name):
        from kpipe.options import LOG_FORMATS, check_choice

        check_choice(name, chosen, LOG_FORMATS)


def as_json(text: str, now: float, kind: str) -> str:
    """A message as one object: when, who, its id, and the message; worker and stage, with which it may begin, apart."""
    import datetime as dt
    import json
    import re

    from kpipe.cli.messages import identify

    found = identify(text, kind)
    worker = re.match(r"worker (\d+): (?!died by |ended by )", text)
    text = text[worker.end() :] if worker else text
    first, sign, rest = text.partition(": ")
    stage = first if sign and first in [each.value for each in Stage] else None
    time = dt.datetime.fromtimestamp(now, dt.UTC).isoformat(timespec="milliseconds")
    entry = {"time": time, "program": "kpipe", "pid": os.getpid(), "id": found, "stage": stage}
    entry |= {"worker": int(worker[1]) if worker else None, "message": rest if stage else text}
    return json.dumps({name: value for name, value in entry.items() if value is not None}, ensure_ascii=False)


log_format = ["text"]
"""How kpipe's own messages are written; set once, at the start."""
before_telling: list[Callable[[], None]] = []
"""What takes away that which stands on the terminal and is no line of its own."""


def tell(text: str, kind: str = "note") -> None:
    """One line for people on stderr; control characters are made visible, so that no record can drive a terminal.

    `kind` is the id for programs, where the words have none of their own.
    """
    for wipe in before_telling:
        wipe()
    try:
        if log_format[0] == "json":
            line = as_json(visible(text), time.time(), kind)
        else:
            line = f"{VOICE if log_format[0] == 'worker' else ''}kpipe: {visible(text)}"
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # nobody is left to tell


def leave(code: int) -> NoReturn:
    """End at once: client threads of a frozen cluster must not hold the interpreter's shutdown up."""
    end_foreign_code()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        die_by(signal.SIGPIPE)
    except (OSError, ValueError) as error:
        if not code:
            tell(f"send: stdout: cannot write: {getattr(error, 'strerror', None) or error}")
            code = int(Exit.UNDELIVERED)
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)

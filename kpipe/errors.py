"""What can go wrong with a record or a run, by whose fault it is; each class knows its exit code.

    KpipeError                1  another runtime failure
    |-- UsageError            2  the command line or the configuration is wrong
    |-- BadRecord             3  one record is bad: input data, or a transform that failed on it
    |-- UnreachableError      4  cluster unreachable, authentication, authorisation
    |-- UndeliveredError      1  records were not delivered (failed, refused, unknown)
    `-- DifferenceError       5  a check found a difference, or nothing was found

Nothing here prints or exits: the porch (`kpipe.cli`) turns an error into one line on stderr and the exit code.
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum


class Exit(IntEnum):
    """Exit codes: a contract with scripts (README, man page and --help are generated from the docstrings below)."""

    OK = 0
    UNDELIVERED = 1
    USAGE = 2
    BAD_INPUT = 3
    UNREACHABLE = 4
    DIFFERENCE = 5


EXIT_MEANING: dict[Exit, str] = {
    Exit.OK: "all done, nothing lost",
    Exit.UNDELIVERED: "some records were not delivered (failed, refused or unknown), or another runtime failure",
    Exit.USAGE: "usage or configuration error",
    Exit.BAD_INPUT: "bad input data, or a transform that failed on a record (under --on-error stop)",
    Exit.UNREACHABLE: "cluster unreachable, authentication or authorisation failed",
    Exit.DIFFERENCE: "a check found a difference, or nothing was found (verify, --max-lag, find, a pattern)",
}


class Stage(StrEnum):
    """The steps of a record's way; the same words in messages, in `error_stage` headers and in the docs."""

    CONFIG = "config"
    CONNECT = "connect"
    READ = "read"
    DECODE = "decode"
    TRANSFORM = "transform"
    TRACE = "trace"
    ENCODE = "encode"
    SEND = "send"
    SETTLE = "settle"
    COMMIT = "commit"


_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""Characters that count as printable and show nothing (of Unicode: default ignorable; and empty Braille)."""


def visible(text: str) -> str:
    """Text for people with control and invisible characters escaped: no name, value or file may drive a terminal.

    What turns the direction of writing is not printable either; a byte that was no UTF-8 (a surrogate) shows as itself.
    """
    return "".join(map(_visible, text)) if not text.isascii() or not text.isprintable() else text


def _visible(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character.isprintable() and character not in _INVISIBLE:
        return character
    return character.encode("unicode_escape").decode()


class KpipeError(Exception):
    """A failure told to people as one line: `STAGE: WHERE: WHAT; WHAT TO DO`.

    `where` is a position (`prod:orders[3]@42`, `stdin:17`), a file or a cluster; it may be empty.
    """

    exit_code: Exit = Exit.UNDELIVERED
    stage: Stage = Stage.READ
    id: str = "failure"
    """The id of its message for programs, where its words have none of their own (`docs/errors.md`)."""
    code: str = "ERROR"
    """One word for programs, in the `error_code` header of a dead letter; a broker's refusal has the broker's word."""

    def __init__(self, what: str, *, where: str = "", stage: Stage | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        if stage is not None:
            self.stage = stage

    def __str__(self) -> str:
        # To settle is our own word for what is behind the delivery: the place and the fault say more without it.
        stage = "" if self.stage is Stage.SETTLE else self.stage.value
        return ": ".join(part for part in (stage, self.where, self.what) if part)


class UsageError(KpipeError):
    """The command line or the configuration is wrong; nothing was read."""

    exit_code = Exit.USAGE
    stage = Stage.CONFIG
    id = "usage"

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.what) if part)


class BadRecord(KpipeError):
    """One record cannot be decoded, transformed, traced or encoded; `--on-error` decides what becomes of it."""

    exit_code = Exit.BAD_INPUT
    stage = Stage.DECODE
    id = "bad-record"
    code = "BAD_RECORD"
    raw: bytes | None = None
    """The bytes that could not be decoded, where the decoder still has them."""


GO_ON = "use --on-error skip or dlq:TOPIC to go on without such records"
"""What to do about a bad record; who does so already need not be told."""
_POLICY = re.compile(r"(?:; | or )(?:use )?--on-error (?:skip or dlq:TOPIC to go on [a-z ]+|skip|dlq:TOPIC)")


def without_policy(text: str) -> str:
    """A message without its advice to use --on-error: for a run that does, and for what a dead letter says."""
    return _POLICY.sub("", text)


class UnreachableError(KpipeError):
    """The cluster cannot be reached, or it does not let us in."""

    exit_code = Exit.UNREACHABLE
    id = "unreachable"


class UndeliveredError(KpipeError):
    """Records were refused by the target, or what became of them is unknown."""

    exit_code = Exit.UNDELIVERED
    stage = Stage.SEND
    id = "undelivered"
    code = "NOT_DELIVERED"


class InternalError(KpipeError):
    """A fault of ours, or of a library below us: it ends the run as any other error does."""


def in_words(error: Exception) -> KpipeError:
    """Any exception as one line for people: the client's own, the system's, or a fault of ours."""
    if isinstance(error, KpipeError):
        return error
    told = getattr(error.args[0] if error.args else None, "str", None)
    if callable(told):
        known: KpipeError = UndeliveredError(f"the client says: {told()}; run again")
    elif isinstance(error, OSError) and error.strerror:
        known = KpipeError(error.strerror, where=str(error.filename or ""))
    else:
        kind = type(error).__name__
        known = InternalError(f"internal error ({kind}: {error}); please report it, with the output of KPIPE_DEBUG=1")
    known.__cause__ = error
    return known


class Interrupted(KpipeError):
    """A signal arrived while the run was still being prepared; the process dies by it."""

    id = "interrupted"


class DifferenceError(KpipeError):
    """A check that the user asked for found a difference."""

    exit_code = Exit.DIFFERENCE
    id = "difference"

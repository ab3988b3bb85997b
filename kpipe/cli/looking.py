"""What all looking commands share: how an answer is shown, and what it ends with.

A table for people, or JSON lines for programs: each an object with `version`, null for what is not known.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.errors import DifferenceError, Exit, Stage, UsageError
from kpipe.shutdown import die_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kpipe.codecs.stages import Decode
    from kpipe.kafka.connection import Connection
    from kpipe.ops.options import LookingOptions
    from kpipe.ops.places import Asked
    from kpipe.ops.table import Look
    from kpipe.options import SchemaOptions
    from kpipe.record import Batch

VERSION = 1
"""Of the JSON: a field may be added without a new one, never removed or given another meaning."""


def look_of(options: LookingOptions, stream: Any = None) -> Look:
    """The terminal's width and colours, or none in a pipe."""
    from kpipe.ops.table import Look
    from kpipe.sinks.terminal import wants_color, width_of

    stream = stream or sys.stdout
    return Look(
        width=width_of(stream),
        color=wants_color(options.color, os.environ, is_terminal=stream.isatty()),
        header=not options.no_header,
        year=time.localtime().tm_year,
    )


def refuse_verb(names: Sequence[str], known: Iterable[str], command: str) -> None:
    """UsageError for `kpipe topics list`, as other tools have it, where nothing is called so."""
    if names and names[0] in ("list", "ls", "describe", "show") and names[0] not in known:
        raise UsageError(f"{names[0]!r} is no word here: kpipe {command} lists all, kpipe {command} NAME shows one")


def json_line(fields: dict[str, Any]) -> str:
    """One object as a line."""
    import orjson

    return orjson.dumps({"version": VERSION, **fields}).decode() + "\n"


def write(text: str) -> None:
    """Print at once: whoever reads may act on each row. What the terminal's encoding lacks becomes `?`."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(sys.stdout.encoding or "utf-8", "replace"))
    sys.stdout.buffer.flush()


def reads_internal(decode: str, looking: LookingOptions) -> bool:
    """Whether Kafka's own topics are decoded: for people unless they do not want it, for programs when they ask."""
    return decode == "internal" or (decode != "none" and not looking.json)


class SchemaDecoding:
    """Decodes by the schemas of each cluster's registry; nothing, where --decode does not ask for it.

    What cannot be decoded is left as it is (`left` says what becomes of it), told once for each reason unless `quiet`,
    and counted.
    """

    def __init__(
        self,
        options: SchemaOptions,
        clusters: Iterable[Connection],
        stopped: Callable[[], bool],
        *,
        quiet: bool = False,
        left: str = "shown",
    ) -> None:
        from kpipe.plan.decoding import decoding, keys_with
        from kpipe.plan.rules import check_decode

        check_decode(options, ())
        self._stages: dict[str, Decode] = {}
        if options.decode == "internal":
            return
        say: Callable[[str], None] = (lambda _line: None) if quiet else tell
        for each in clusters:
            stage = decoding(
                options, each.cluster, stopped, say, lambda: None, keys=keys_with(options), refuses=False, left=left
            )
            if stage is not None:
                self._stages[each.name] = stage

    def __call__(self, batch: Batch) -> None:
        """Put JSON in the place of what can be decoded."""
        stage = self._stages.get(batch.cluster)
        if stage is not None:
            stage(batch)

    def conclude(self) -> int:
        """Tell how much could not be decoded; exit code 1 for that."""
        notes = [note for stage in self._stages.values() for note in stage.notes()]
        for note in notes:
            tell(note)
        return 1 if notes else 0


def reader_watch() -> Callable[[], None]:
    """To be called while there is nothing to write: when nobody reads stdout any more, the process dies by SIGPIPE."""
    from kpipe.sinks.stdout import ReaderGone, ReaderWatch

    watch = ReaderWatch()

    def look() -> None:
        try:
            watch()
        except ReaderGone:
            die_by(signal.SIGPIPE)

    return look


def pause(seconds: float) -> None:
    """Wait between two answers, as long as anybody reads them."""
    from kpipe.sinks.stdout import LOOK

    watch, end = reader_watch(), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        watch()
        time.sleep(min(LOOK, left))


def writer(
    looking: LookingOptions,
    *,
    expand: bool,
    internal: bool = False,
    decode: Callable[[Batch], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Callable[[Batch], None]:
    """Writes a batch whole, as envelopes or for people, and waits for its reader; `decode` is applied before.

    Once `stopped` says so it waits no longer.
    """
    from kpipe import formats
    from kpipe.sinks.stdout import ReaderGone, Stdout

    encode: Any
    if looking.json:
        encode = formats.make_encoder("json")
    else:
        look = look_of(looking)
        encode = formats.make_encoder("pretty", width=look.width, color=look.color, expand=expand)

    def write(batch: Batch) -> None:
        if internal:
            from kpipe.formats.internal import decode as decode_internal

            decode_internal(batch)
        if decode is not None:
            decode(batch)
        sys.stdout.flush()
        try:
            stdout.write(encode(batch), lambda: not stopped())
        except ReaderGone:
            die_by(signal.SIGPIPE)

    stdout = Stdout()
    return write


def tell_none(asked: Iterable[tuple[Asked, Iterable[str]]], what: str) -> int:
    """Patterns that match none of the names there: exit code 5, for a check must not take a misspelt name for well.

    A cluster that was asked for all it has, and has nothing, is told of, and well.
    """
    from kpipe.ops.places import ALL, unmatched

    code = 0
    for entry, known in asked:
        none = unmatched(entry.patterns, known)
        if named := [entry.connection.where(pattern) for pattern in none if pattern != ALL]:
            tell(f"read: {' '.join(named)}: no {what} matches")
            code = int(Exit.DIFFERENCE)
        elif none:
            tell(f"read: {entry.connection.label}: it has no {what}s")
    return code


def matching(entry: Asked) -> list[str]:
    """The topics of a cluster that are meant; DifferenceError (exit 5) where patterns match none.

    A name without a pattern that is not there is KpipeError (exit 1), as everywhere.
    """
    from kpipe.ops.places import choose, unmatched

    cluster = entry.connection
    known = cluster.metadata().topics
    topics = choose(entry.patterns, known, cluster.label, "topic")
    if none := unmatched(entry.patterns, known):
        raise DifferenceError("no topic matches", where=cluster.where(" ".join(none)), stage=Stage.READ)
    return topics


def conclude(problems: Iterable[str], *, broken: bool = False) -> int:
    """Tell what could not be asked; exit code 1 for that, 5 for a threshold that is broken, 0 else."""
    told = list(dict.fromkeys(problems))
    for problem in told:
        tell(problem)
    return 1 if told else 5 if broken else 0

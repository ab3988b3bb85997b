"""`kpipe find SOURCE [KEY]`."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from typing import TYPE_CHECKING

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.cli.looking import SchemaDecoding, matching, reader_watch, reads_internal, writer
from kpipe.errors import Exit, Interrupted, UsageError
from kpipe.ops.options import DecodeOptions, FindOptions, LookingOptions
from kpipe.options import PLACE, ConnectionOptions, Operand
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kpipe.ops.find import Finder, Search, Wanted
    from kpipe.ops.places import Asked
    from kpipe.record import Batch
    from kpipe.shutdown import Stop

HELP = (
    "Find records of SOURCE: by KEY, only in the partition that the key hashes to (as Java's clients do it, and as "
    "librdkafka's do), by a jq program or a regular expression; without one of --all and --first, the newest one. "
    "PARTITION@OFFSET in place of KEY is one record. With --decode-key KEY is what keys say by their schema, in any "
    "partition. At the end stderr says how much was searched: all of it, or where it stopped. No group is joined, "
    "nothing is committed. Exit code 5: nothing was found."
)
EXAMPLES = (
    ("the latest value of a key", "kpipe find orders user-42"),
    ("all records of a key, newest first, as envelopes", "kpipe find --all -J orders user-42"),
    ("by what is in the value, since a time", "kpipe find --all --where '.amount > 900' --since -2h orders"),
    ("one record", "kpipe find orders 3@42"),
)
ARGUMENTS = {
    "source": Operand("SOURCE", "Topics: [CLUSTER:]NAME, GLOB or ^regex.", completion=PLACE),
    "given": Operand("[KEY]", "The key, or PARTITION@OFFSET.", required=False),
}
PLACE_FORM = re.compile(r"(\d+)@(\d+)")


def find(
    source: str,
    given: str,
    connection: ConnectionOptions,
    options: FindOptions,
    schemas: DecodeOptions,
    looking: LookingOptions,
) -> int:
    """Search, print what is found, and say how far it went."""
    from kpipe.ops.places import Clusters

    place = PLACE_FORM.fullmatch(given) if options.key is None else None
    if options.key is not None and given:
        raise UsageError(f"KEY {given!r} and --key {options.key!r} are two keys; give one")
    if not (given or options.key is not None or options.where or options.grep):
        raise UsageError("find what? Give a KEY, PARTITION@OFFSET, --where JQ or --grep RE")
    if options.all and options.first:
        raise UsageError("--all and --first contradict each other; give one")
    (entry,) = Clusters(connection, tell).asked([source])
    topics = matching(entry)
    from kpipe.shutdown import Stop

    stop = Stop()
    internal = reads_internal(schemas.decode, looking)
    decode = SchemaDecoding(schemas, [entry.connection], lambda: stop.requested)
    write = writer(looking, expand=options.expand, internal=internal, decode=decode, stopped=lambda: stop.requested)
    if place is not None:
        return _one(entry, topics, int(place[1]), int(place[2]), write) or decode.conclude()
    before = [SchemaDecoding(schemas, [entry.connection], lambda: stop.requested, quiet=True)]
    decodes_keys = schemas.decode_key not in ("", "none")
    key = given if options.key is None else options.key
    wanted = _wanted(options, key, before, internal=internal, decodes_keys=decodes_keys)
    return _search(entry, topics, wanted, options, write, stop) or decode.conclude()


def _one(entry: Asked, topics: Sequence[str], partition: int, offset: int, write: Callable[[Batch], None]) -> int:
    from kpipe.kafka.ranges import to_batch
    from kpipe.ops.find import at

    if len(topics) > 1:
        raise UsageError(f"{partition}@{offset} is a place in one topic; name it", where=" ".join(topics))
    write(to_batch([at(entry.connection, topics[0], partition, offset)], entry.connection.name))
    return 0


def _with_key(key: bytes) -> Callable[[Batch], None]:
    """Keeps records whose key says this, decoded: as text, or as JSON."""
    import orjson

    def parsed(text: bytes) -> object:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return None

    wanted, words = parsed(key), key.decode(errors="surrogateescape")

    def keep(batch: Batch) -> None:
        mask = []
        for place, own in enumerate(batch.keys or [None] * len(batch)):
            shown = batch.shown_keys[place] if batch.shown_keys is not None else None
            if own is None or shown is None or shown.text is None:
                mask.append(own == key)
            else:
                said = parsed(own)
                mask.append(said == words or (wanted is not None and said == wanted))
        batch.keep(mask)

    return keep


def _wanted(
    options: FindOptions,
    key: str,
    before: Sequence[Callable[[Batch], None]],
    *,
    internal: bool,
    decodes_keys: bool,
) -> Wanted:
    from kpipe.formats.internal import decode
    from kpipe.ops.find import Wanted
    from kpipe.plan.stages import build_stages
    from kpipe.transform.patterns import Patience
    from kpipe.transform.step import Step
    from kpipe.units import parse_time

    steps = [Step("filter", program) for program in options.where] + [Step("grep", regex) for regex in options.grep]
    now = int(time.time() * 1000)

    def moment(text: str, name: str) -> int | None:
        return parse_time(text.removeprefix("@"), now, name=name) if text else None

    by_key = bool(key) or options.key is not None
    try:
        tests = build_stages(steps, Patience())
    except UsageError as error:  # --where is a filter
        raise UsageError(error.what.replace("--filter ", "--where ", 1), where=error.where) from None
    if by_key and decodes_keys:  # no hash tells where such a key is: its bytes are not known
        tests = [_with_key(os.fsencode(key)), *tests]
    return Wanted(
        key=os.fsencode(key) if by_key and not decodes_keys else None,
        tests=[*([decode] if internal else []), *before, *tests] if tests else [],
        since_ms=moment(options.since, "--since"),
        until_ms=moment(options.until, "--until"),
    )


def _search(
    entry: Asked,
    topics: Sequence[str],
    wanted: Wanted,
    options: FindOptions,
    write: Callable[[Batch], None],
    stop: Stop,
) -> int:
    from kpipe.clusters.address import parse_partitions
    from kpipe.kafka.ranges import to_batch
    from kpipe.ops import find as finding
    from kpipe.shutdown import die_by

    progress = SearchProgress(stop, reader_watch(), quiet=options.quiet)
    finder = finding.Finder(entry.connection, topics, wanted, progress)
    numbers = frozenset(parse_partitions(options.partitions)) if options.partitions else None
    places = finder.places(numbers, everywhere=options.everywhere)
    mode = finding.FIRST if options.first else finding.ALL if options.all else finding.LATEST
    stop.install()
    try:
        for messages in finder.run(places, mode):
            progress.clear()
            write(to_batch(messages, entry.connection.name))
    except Interrupted:
        _say(finder, options)
        die_by(stop.signal or signal.SIGINT)
    progress.clear()
    _say(finder, options, hint=_hint(finder, wanted, options, numbers is not None))
    for (topic, number), failure in sorted(finder.search.failed.items()):
        tell(f"not searched: {entry.connection.where(topic, number)}: {failure.text}")
    if finder.search.failed:
        return int(Exit.UNDELIVERED)
    return int(Exit.OK if finder.search.found else Exit.DIFFERENCE)


def _say(finder: Finder, options: FindOptions, hint: str = "") -> None:
    """How much was searched; it is part of the answer."""
    if options.quiet:
        return
    search = finder.search
    numbers = sorted({number for _, number in search.where})
    if len(search.where) == search.partitions:
        where = f"all {search.partitions} partitions" if search.partitions > 1 else "its partition"
    else:
        where = f"partition{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))} of {search.partitions}"
    if search.complete:
        read = "" if search.scanned == search.total else f", {counted(search.records, 'record')} read"
        tell(f"searched {where}: {counted(search.total, 'offset')}{read}; found {search.found:,}{hint}")
    else:
        done = f"{search.scanned:,} of {counted(search.total, 'offset')}"
        tell(f"stopped: searched {done} in {where}; found {search.found:,}")
    if search.unjudged:
        tell(f"{counted(search.unjudged, 'record')} could not be judged: --where wants JSON values")


def _hint(finder: Finder, wanted: Wanted, options: FindOptions, chosen: bool) -> str:
    if finder.search.found or not wanted.key or options.everywhere or chosen:
        return ""
    if len(finder.search.where) == finder.search.partitions:
        return ""
    return "; it hashes there now, but partitions may have been added, or its writer may choose otherwise: --everywhere"


class SearchProgress:
    """A line on a terminal that says how far a search is; elsewhere only the stop, and the reader, it looks for."""

    def __init__(self, stop: Stop, watch: Callable[[], None], *, quiet: bool) -> None:
        self._stop, self._watch = stop, watch
        self._shown = 0.0 if sys.stderr.isatty() and not quiet else None
        self._drawn = False

    def __call__(self, search: Search) -> None:
        """One step; Interrupted when a signal came."""
        if self._stop.requested:
            self.clear()
            raise Interrupted("stopped")
        self._watch()
        now = time.monotonic()
        if self._shown is None or now - self._shown < 0.2:
            return
        self._shown, self._drawn = now, True
        left = "" if search.left_s is None else f", {search.left_s:.0f} s left"
        sys.stderr.write(
            f"\r\x1b[Kscanned {search.scanned:,} of {search.total:,} ({search.rate:,.0f}/s{left}), "
            f"found {search.found:,}"
        )
        sys.stderr.flush()

    def clear(self) -> None:
        """Make room for what is printed."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False


app = build_command(
    find,
    name="find",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, FindOptions, DecodeOptions, LookingOptions),
    transforms=False,
)

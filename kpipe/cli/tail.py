"""`kpipe tail SOURCE…`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.cli.looking import SchemaDecoding, matching, reader_watch, reads_internal, writer
from kpipe.ops.options import DecodeOptions, LookingOptions, TailOptions
from kpipe.options import PLACE, ConnectionOptions, Operand

if TYPE_CHECKING:
    from kpipe.flight import TopicPartition
    from kpipe.ops.tail import Followed

HELP = (
    "Show the last records of each partition of SOURCE…, then what comes, for people: time, place, key, headers and "
    "value. Topics and clusters are merged by time. On a terminal JSON is coloured and folded to the width, the trace "
    "is one word, and bytes that are no text are shown in hexadecimal; in a pipe each record is one whole, plain line. "
    "No group is joined, nothing is committed, and no record is left out. Exit code 5: no topic matches a pattern."
)
EXAMPLES = (
    ("the last ten records of each partition, and what comes", "kpipe tail orders"),
    ("two clusters side by side", "kpipe tail prod:orders dr:orders"),
    ("the last one, JSON indented, then stop", "kpipe tail -n 1 --no-follow --expand orders"),
    ("since a time", "kpipe tail --since 03:10 '^orders'"),
)
ARGUMENTS = {"sources": Operand("SOURCE…", "Topics: [CLUSTER:]NAME, GLOB or ^regex.", many=True, completion=PLACE)}


def tail(
    sources: list[str],
    connection: ConnectionOptions,
    options: TailOptions,
    schemas: DecodeOptions,
    looking: LookingOptions,
) -> int:
    """Show what is there, then follow."""
    from kpipe.clusters.address import parse_partitions
    from kpipe.ops.places import Clusters
    from kpipe.ops.tail import Followed, check_partitions, follow, last_records, merged, records_from

    partitions = frozenset(parse_partitions(options.partitions)) if options.partitions else None
    everything = []
    for entry in Clusters(connection, tell).asked(sources):
        cluster = entry.connection
        topics = matching(entry)
        everything.append(Followed(cluster, topics, partitions))
        check_partitions(everything[-1])
    decode = SchemaDecoding(schemas, [each.connection for each in everything], lambda: False)
    internal = reads_internal(schemas.decode, looking)
    write = writer(looking, expand=options.expand, internal=internal, decode=decode)
    past = []
    for followed in everything:
        starts = _since(followed, options)
        if starts is None:
            past += last_records(followed, options.lines)
        else:
            for batch in records_from(followed, starts):
                write(batch)
    for batch in merged(past):
        write(batch)
    if not options.no_follow:
        for batch in follow(everything, reader_watch()):
            write(batch)
    return decode.conclude()


def _since(followed: Followed, options: TailOptions) -> dict[TopicPartition, int] | None:
    """Where `--since` starts; a partition whose records are all older starts at its end."""
    if not options.since:
        return None
    from kpipe.kafka.questions import Failure, at_time
    from kpipe.units import parse_time

    ms = parse_time(options.since.removeprefix("@"), int(time.time() * 1000), name="--since")
    found = at_time(followed.connection, followed.places(), ms)
    for (topic, partition), answer in found.items():
        if isinstance(answer, Failure):
            raise answer.error(followed.connection.where(topic, partition))
    return {
        place: answer.offset
        for place, answer in found.items()
        if not isinstance(answer, Failure) and answer.offset >= 0
    }


app = build_command(
    tail,
    name="tail",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, TailOptions, DecodeOptions, LookingOptions),
    transforms=False,
)

"""`kpipe stat SOURCE`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.cli.looking import SchemaDecoding, conclude, json_line, look_of, matching, write
from kpipe.errors import visible
from kpipe.ops.options import LookingOptions, StatOptions
from kpipe.options import PLACE, ConnectionOptions, Operand, ViewOptions
from kpipe.units import counted

if TYPE_CHECKING:
    from kpipe.flight import TopicPartition
    from kpipe.ops.statistics import Sizes, Statistics

HELP = (
    "Say what the records of SOURCE are like: rate, sizes, keys (how many, which come most), headers, paths of JSON "
    "values and how often they are absent, tombstones, times as a histogram. The newest records of each partition "
    "are read, and it says so; --all reads everything. Sizes are those without compression. With --decode paths are "
    "those of what a schema makes of the values, and the schemas are counted. Nothing is changed. Exit code 5: no "
    "topic matches."
)
EXAMPLES = (
    ("the newest 10,000 records", "kpipe stat orders"),
    ("all of them, for a program", "kpipe stat --all --json prod:orders"),
    ("which fields and schemas are in Avro values", "kpipe stat --decode auto orders"),
)
ARGUMENTS = {"source": Operand("SOURCE", "Topics: [CLUSTER:]NAME, GLOB or ^regex.", completion=PLACE)}
COLUMNS = 60
MEASURED = 1000
"""Milliseconds between the first record and the last from which on a rate says something: 22 records of one batch are
not 22,000 a second."""


def stat(
    source: str, connection: ConnectionOptions, options: StatOptions, schemas: ViewOptions, looking: LookingOptions
) -> int:
    """Read a sample, or everything, and tell."""
    from kpipe.kafka import questions
    from kpipe.kafka.questions import Failure
    from kpipe.kafka.ranges import RangeReader, to_batch
    from kpipe.ops.places import Clusters
    from kpipe.ops.statistics import Statistics

    (entry,) = Clusters(connection, tell).asked([source])
    cluster = entry.connection
    metadata = cluster.metadata()
    topics = matching(entry)
    places = [(topic, number) for topic in topics for number in sorted(metadata.topics[topic].partitions)]
    failed: dict[TopicPartition, Failure] = {}
    ranges, total = {}, 0
    share = -(-options.sample // len(places))
    for place, extent in questions.extents(cluster, places).items():
        if isinstance(extent, Failure):
            failed[place] = extent
            continue
        total += extent.stable - extent.start
        ranges[place] = (extent.start if options.all else max(extent.start, extent.stable - share), extent.stable)
    found = Statistics()
    decode = SchemaDecoding(schemas, [cluster], lambda: False, left="counted")
    reader, shown = RangeReader(cluster), time.monotonic()
    for messages in reader.records(ranges, failed):
        batch = to_batch(messages, cluster.name)
        decode(batch)
        found.add(batch)
        if sys.stderr.isatty() and time.monotonic() - shown > 0.2:
            shown = time.monotonic()
            sys.stderr.write(f"\r\x1b[Kread {counted(found.records, 'record')}")
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    reader.close()
    read = sum(end - start for start, end in ranges.values())
    name = cluster.where(" ".join(topics))
    problems = [f"{cluster.where(*place)}: {failure.text}" for place, failure in sorted(failed.items())]
    if looking.json:
        told = {**_as_json(found, total, sampled=read < total), "problems": problems}
        write(json_line({"cluster": cluster.label, "topics": topics, **told}))
    else:
        write(_as_text(found, name, total, looking, sampled=read < total or bool(failed)))
    return max(decode.conclude(), conclude([f"read: {problem}" for problem in problems]))


def _as_text(found: Statistics, name: str, total: int, looking: LookingOptions, *, sampled: bool) -> str:
    from kpipe.ops.table import moment, number, size

    look = look_of(looking)
    records = counted(found.records, "record")
    scope = f"the newest {records}, of {counted(total, 'offset')}" if sampled else f"all {records}"
    lines = [f"{name}: {scope}"]
    bars, first, last = (
        found.times.bars(min(COLUMNS, (look.width or COLUMNS + 10) - 10)),
        found.times.first,
        found.times.last,
    )
    if bars:
        rate = f", {found.records * 1000 / (last - first):,.1f} records/s" if last - first >= MEASURED else ""
        lines += [f"times     {moment(first)} to {moment(last)}{rate}", f"          {bars.rstrip()}"]
    lines += [
        f"values    {_sizes(found.values)}; {counted(found.tombstones, 'tombstone')}, {found.empty_values:,} empty",
        f"keys      {_sizes(found.keys)}; {number(found.null_keys)} null, {number(found.distinct.count())} different",
    ]
    if found.keys.count:
        shares = ", ".join(
            f"{_named(key.decode(errors='backslashreplace'))[:40]} {count / found.records:.1%}"
            for key, count in found.heavy.top()
        )
        lines.append(f"          most often: {shares}")
    lines.append(f"size      {size(found.size)} uncompressed, {size(found.size / max(1, found.records))} a record")
    if found.headers:
        names = ", ".join(
            f"{_named(header)} {count / found.records:.0%}" for header, count in found.headers.most_common(20)
        )
        lines.append(f"headers   {names}")
    if found.schemas:
        names = ", ".join(
            f"{visible(schema)} {count / found.records:.0%}" for schema, count in found.schemas.most_common(20)
        )
        lines.append(f"schemas   {names}")
    lines += _json_lines(found, looking)
    return "".join(f"{line}\n" for line in lines)


def _named(text: str) -> str:
    """A key or a name for people; what is empty or ends in blanks is seen to be there."""
    shown = visible(text)
    return shown if shown and shown == shown.strip() else f'"{shown}"'


def _json_lines(found: Statistics, looking: LookingOptions) -> list[str]:
    from kpipe.ops.table import Table

    if not found.json:
        return []
    table = Table(("PATH", "TYPES", ">ABSENT"))
    for path, kinds in sorted(found.paths.items()):
        present = max(kinds.values()) if "[]" in path else sum(kinds.values())
        absent = "" if "[]" in path else f"{max(0, found.json - present) / found.json:.1%}"
        table.add(path, ", ".join(kind for kind, _ in kinds.most_common()), absent)
    more = ["(more paths were left out)"] if found.paths_left_out else []
    return [f"JSON      {counted(found.json, 'object')}", *table.text(look_of(looking)).splitlines(), *more]


def _sizes(sizes: Sizes) -> str:
    from kpipe.ops.table import size

    if not sizes.count:
        return "none"
    middle = f"median {size(sizes.quantile(0.5))}, 95 % to {size(sizes.quantile(0.95))}"
    return f"{size(sizes.least)} to {size(sizes.most)}, {middle}"


def _as_json(found: Statistics, total: int, *, sampled: bool) -> dict[str, Any]:
    def sizes(each: Sizes) -> dict[str, Any]:
        known = bool(each.count)
        return {
            "count": each.count,
            "bytes": each.total,
            "least": each.least if known else None,
            "most": each.most if known else None,
            "median": each.quantile(0.5) if known else None,
            "p95": each.quantile(0.95) if known else None,
        }

    return {
        "records": found.records,
        "sampled": sampled,
        "offsets": total,
        "first_ms": found.times.first if found.times else None,
        "last_ms": found.times.last if found.times else None,
        "values": sizes(found.values),
        "keys": sizes(found.keys),
        "tombstones": found.tombstones,
        "empty_values": found.empty_values,
        "null_keys": found.null_keys,
        "distinct_keys": found.distinct.count(),
        "top_keys": [[key.decode(errors="backslashreplace"), count] for key, count in found.heavy.top()],
        "bytes": found.size,
        "headers": dict(found.headers),
        "schemas": dict(found.schemas),
        "json_objects": found.json,
        "json_paths": {path: dict(kinds) for path, kinds in sorted(found.paths.items())},
        "partitions": [[topic, number, count] for (topic, number), count in sorted(found.partitions.items())],
    }


app = build_command(
    stat,
    name="stat",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, StatOptions, ViewOptions, LookingOptions),
    transforms=False,
)

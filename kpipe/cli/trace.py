"""`kpipe trace SOURCE[PARTITION]@OFFSET`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.cli.command import build_command
from kpipe.cli.looking import json_line, look_of, write
from kpipe.errors import Exit, UsageError
from kpipe.ops.options import LookingOptions, TraceBackOptions
from kpipe.options import PLACE, ConnectionOptions, Operand
from kpipe.units import counted

if TYPE_CHECKING:
    from kpipe.ops.history import Visit

HELP = (
    "Show the way of one record back over the configured clusters, newest place first: what it was made from, when, by "
    "which group, and what each hop changed. A hop that is gone, unreachable or unknown is said to be so. "
    "--onward finds its copies instead. Positions are written as kpipe prints them, in quotes, or as two words. "
    "Nothing is changed."
)
EXAMPLES = (
    ("where does this record come from?", "kpipe trace 'dr:orders[3]@42'"),
    ("the same without quotes", "kpipe trace dr:orders 3@42"),
    ("where did it go?", "kpipe trace --onward orders 3@42"),
)
ARGUMENTS = {
    "place": Operand("SOURCE[PARTITION]@OFFSET", "The record, or its topic alone.", completion=PLACE),
    "number": Operand("[PARTITION@OFFSET]", "The record, where its topic stands alone.", required=False),
}
QUOTED = re.compile(r"(?P<topic>.+)\[(?P<partition>\d+)\]@(?P<offset>\d+)")
PLAIN = re.compile(r"(?P<partition>\d+)@(?P<offset>\d+)")


def trace(
    place: str, number: str, connection: ConnectionOptions, options: TraceBackOptions, looking: LookingOptions
) -> int:
    """Follow the headers back, or look for copies."""
    from kpipe.ops.history import Atlas, back
    from kpipe.ops.places import Clusters, choose

    match = QUOTED.fullmatch(place) if not number else PLAIN.fullmatch(number)
    if match is None:
        raise UsageError(f"{place!r} {number!r}: write 'TOPIC[PARTITION]@OFFSET', or TOPIC PARTITION@OFFSET")
    clusters = Clusters(connection, tell)
    (entry,) = clusters.asked([place if number else match["topic"]])
    cluster = entry.connection
    choose(entry.patterns, cluster.metadata().topics, cluster.label, "topic")
    others = [each for each in clusters.every() if each is not cluster]
    atlas = Atlas([cluster, *others])
    hops = back(cluster, entry.patterns[0], int(match["partition"]), int(match["offset"]), atlas, options.trace_prefix)
    if options.onward:
        return _onward(next(hops), atlas, options, looking)
    shown = []
    for hop in hops:
        shown.append(hop)
        if looking.json:
            write(json_line(_as_json(hop)))
    if not looking.json:
        write(_table(shown, looking))
    return int(Exit.UNDELIVERED if any(hop.kind == "unreachable" for hop in shown) else Exit.OK)


def _onward(record: Visit, atlas: Any, options: TraceBackOptions, looking: LookingOptions) -> int:
    from kpipe.ops.history import onward
    from kpipe.ops.places import matches
    from kpipe.units import parse_duration

    window = int(parse_duration(options.window, "--window") * 1000)

    def wanted(cluster: Any, topic: str) -> bool:
        names = (topic, f"{cluster.name}:{topic}")
        return not options.to or any(matches(pattern, name) for pattern in options.to for name in names)

    found = onward(record, atlas, wanted, window, options.trace_prefix)
    if looking.json:
        write("".join(json_line(_as_json(hop)) for hop in found.copies))
    elif found.copies:
        write(_table(found.copies, looking))
    for problem in found.problems:
        tell(f"not searched: {problem}")
    tell(
        f"searched {counted(found.scanned, 'record')} of {counted(found.topics, 'topic')}, "
        f"written up to {options.window} after it; found {len(found.copies):,}"
    )
    if found.problems:
        return int(Exit.UNDELIVERED)
    return int(Exit.OK if found.copies else Exit.DIFFERENCE)


def _table(hops: list[Visit], looking: LookingOptions) -> str:
    from kpipe.ops.table import Table, moment

    table = Table(("RECORD", "TIME", "COPIED BY?", "CHANGED ON THE WAY?", "NOTE?"))
    for hop in hops:
        changed = "" if hop.changed is None else ", ".join(hop.changed) or "nothing"
        table.add(hop.where, moment(hop.timestamp), hop.group, changed, hop.problem, styles={4: "bad"})
    return table.text(look_of(looking))


def _as_json(hop: Visit) -> dict[str, Any]:
    return {
        "cluster": hop.cluster or None,
        "cluster_id": hop.cluster_id or None,
        "topic": hop.topic,
        "partition": hop.partition,
        "offset": hop.offset,
        "timestamp": hop.timestamp,
        "group": hop.group or None,
        "changed": hop.changed,
        "read": hop.record is not None,
        "problem": hop.problem or None,
    }


app = build_command(
    trace,
    name="trace",
    help=HELP,
    examples=EXAMPLES,
    arguments=ARGUMENTS,
    groups=(ConnectionOptions, TraceBackOptions, LookingOptions),
    transforms=False,
)

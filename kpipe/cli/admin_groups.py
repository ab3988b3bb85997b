"""`kpipe admin reset-offsets` and `delete-group`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from kpipe.cli import tell
from kpipe.cli.change import conclude_change, confirmed, keep_way_back, open_cluster, print_plan
from kpipe.cli.looking import write
from kpipe.cli.moves import progress, show_moves
from kpipe.errors import UsageError
from kpipe.units import counted

if TYPE_CHECKING:
    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection
    from kpipe.ops.options import ChangeOptions, ResetOptions
    from kpipe.ops.placement import Spot
    from kpipe.ops.places import Clusters
    from kpipe.ops.reset import Positions, Reset
    from kpipe.options import ConnectionOptions


# --- reset-offsets -------------------------------------------------------------------------------------------------


def reset_offsets(connection: ConnectionOptions, options: ResetOptions, change: ChangeOptions) -> int:
    """Plan, show, confirm, keep the way back, write, read back."""
    from kpipe.ops.positions import as_csv, default_undo
    from kpipe.ops.reset import Reset, Scope, check_target

    if not options.group or not options.to:
        raise UsageError("reset-offsets needs a group and a position; write -G GROUP --to POSITION")
    target = check_target(options.to)
    clusters, cluster, group = open_cluster(connection, options.group, free_names=True)
    cluster.metadata()
    traced = target.startswith("trace:")  # a group that is to go on here has committed nothing here, as a rule
    reset = Reset(cluster, group, Scope(options.topic, new=options.new_topics or traced))
    reset.refuse_members()
    positions, texts, spots = _positions(clusters, cluster, reset, target, options)
    reset.plan(target, positions, spots)
    if spots is not None:
        _tell_bound(target, reset)
    for move in reset.moves:
        move.metadata = texts.get(move.place) or move.metadata
    if options.csv:
        write(as_csv(reset.moves))
    elif reset.moves:
        show_moves([reset], change)
    for problem in reset.problems:
        tell(f"not moved: {problem}")
    if not reset.moves or not confirmed(group, change):
        return 1 if reset.problems else 0
    undo = options.undo or default_undo(os.environ, group, time.strftime("%Y%m%dT%H%M%S"))
    keep_way_back(cluster, undo, [(group, reset.moves)])
    failed = reset.execute()
    return conclude_change(
        [*failed, *reset.problems],
        f"{cluster.where(group)}: {counted(len(reset.moves), 'partition')} moved, and read back",
    )


def _positions(
    clusters: Clusters, cluster: Connection, reset: Reset, target: str, options: ResetOptions
) -> tuple[Positions | None, dict[TopicPartition, str], dict[TopicPartition, Spot] | None]:
    """Offsets that a file, another group or a trace gives, and the texts and counts that belong to them."""
    from kpipe.ops.positions import read_positions
    from kpipe.ops.translate import committed_on

    word, _, rest = target.partition(":")
    if word == "file":
        return *read_positions(rest, reset.group), None
    if word == "group":
        return dict(committed_on(cluster, rest)), {}, None
    if word == "trace":
        spots = _from_trace(clusters, cluster, rest, options)
        return {place: spot.position for place, spot in spots.items()}, {}, spots
    return None, {}, None


def _from_trace(
    clusters: Clusters, cluster: Connection, text: str, options: ResetOptions
) -> dict[TopicPartition, Spot]:
    """`trace:CLUSTER:GROUP`: positions computed from the headers of the copies; says how exact they are."""
    from kpipe.ops.places import choose
    from kpipe.ops.translate import Copies, committed_on, translate

    name, colon, group = text.partition(":")
    if not (name and colon and group):
        raise UsageError(f"--to trace:{text}: write trace:CLUSTER:GROUP, the group there that is to go on here")
    source = clusters.open(name)
    committed = committed_on(source, group)
    names = {topic for topic, _ in committed}
    present = cluster.metadata(fresh=True).topics
    bare = [
        pattern.rpartition(":")[0] if pattern.rpartition(":")[2].isdigit() else pattern for pattern in options.topic
    ]
    topics = choose(bare, present, cluster.label, "topic") if bare else sorted(names & set(present))
    if not topics:
        raise UsageError("none of its topics is here by the same name; say which topics hold the copies with --topic")
    places = [(topic, number) for topic in topics for number in sorted(present[topic].partitions)]
    copies = Copies(source.cluster_id, names, options.trace_prefix)
    with progress("read {:,} copies") as tick:
        found, scanned = translate(cluster, places, {group: committed}, copies, tick)
    read = f"{counted(scanned, 'record')} of {counted(len(topics), 'topic')}"
    tell(f"searched {read} for copies of what {source.where(group)} read")
    return found[group]


def _tell_bound(target: str, reset: Reset) -> None:
    """What the plan promises, of the partitions that are moved."""
    repeated = sum(move.repeated for move in reset.moves)
    foreign = sum(move.spot.foreign for move in reset.moves if move.spot is not None)
    others = counted(foreign, "record that is no copy is", "records that are no copies are")
    passed = f"; {others} passed" if foreign else ""
    tell(
        f"nothing that {target.removeprefix('trace:')} has not read is skipped; "
        f"at most {counted(repeated, 'record is', 'records are')} repeated{passed}"
    )


def delete_group(text: str, connection: ConnectionOptions, change: ChangeOptions) -> int:
    """Delete a group without members; its positions go to an undo file."""
    from kpipe.kafka import changes
    from kpipe.ops.groups import one
    from kpipe.ops.positions import default_undo
    from kpipe.ops.reset import Move, Reset, Scope

    _, cluster, name = open_cluster(connection, text, free_names=True)
    group = one(cluster, name)
    Reset(cluster, name, Scope()).refuse_members()
    moves = [
        Move(row.topic, row.partition, row.committed, row.committed, 0, 0, row.metadata)
        for row in group.rows
        if row.committed is not None
    ]
    topics = sorted({row.topic for row in group.rows})
    print_plan(
        change,
        f"delete group {cluster.where(name)}: {counted(len(moves), 'committed offset')} "
        f"of {', '.join(topics) or 'no topic'}",
        action="delete-group", cluster=cluster.label, group=name, offsets=len(moves), topics=topics,
    )  # fmt: skip
    if not confirmed(name, change):
        return 0
    if moves:
        undo = default_undo(os.environ, name, time.strftime("%Y%m%dT%H%M%S"))
        keep_way_back(cluster, undo, [(name, moves)], "--new-topics")
    changes.delete_group(cluster, name)
    tell(f"{cluster.where(name)}: deleted")
    return 0

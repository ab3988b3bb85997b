"""What the verbs of `kpipe admin` share: a cluster that may be changed, a plan that is shown, a word to go on."""

from __future__ import annotations

import shlex
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from kpipe.cli import tell
from kpipe.cli.looking import json_line, look_of, write
from kpipe.errors import KpipeError, Stage, UsageError, visible
from kpipe.ops.options import LookingOptions
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.kafka.connection import Connection
    from kpipe.ops.options import ChangeOptions
    from kpipe.ops.places import Clusters
    from kpipe.ops.reset import Move
    from kpipe.options import ConnectionOptions


def open_cluster(
    connection: ConnectionOptions, text: str, *, free_names: bool = False
) -> tuple[Clusters, Connection, str]:
    """The cluster of one name, which must let itself be changed, and the name there."""
    from kpipe.kafka.changes import refuse_read_only
    from kpipe.ops.places import Clusters

    clusters = Clusters(connection, tell)
    cluster, name = clusters.one(text, free_names=free_names)
    refuse_read_only(cluster)
    return clusters, cluster, name


def confirmed(name: str, change: ChangeOptions, nothing: str = "nothing was changed") -> bool:
    """Whether to go on: the plan was printed. UsageError where nobody can be asked."""
    if not change.execute:
        tell(f"{nothing}; add --execute to do it")
        return False
    if change.yes:
        return True
    refuse_silence(change, nothing)
    sys.stderr.write(f"type {visible(name)} to go on: ")
    sys.stderr.flush()
    if sys.stdin.readline().rstrip("\n") != name:
        raise KpipeError(f"not confirmed; {nothing}", where=name, stage=Stage.CONFIG)
    return True


def keep_way_back(cluster: Connection, path: str, groups: Sequence[tuple[str, Sequence[Move]]], *more: str) -> None:
    """Write where groups stand, and tell the command that brings each back, as a shell takes it.

    A group that stands nowhere has no way back but to be deleted; no file is written where that is so of all.
    """
    from kpipe.ops.positions import write_undo

    standing = [(group, moves) for group, moves in groups if any(move.current is not None for move in moves)]
    if standing:
        write_undo(path, cluster.label, standing)
    for group, moves in groups:
        place = [f"{cluster.name}:{group}"] if cluster.name else [group, "-b", cluster.label]
        nowhere = sum(move.current is None for move in moves)
        if nowhere == len(moves):
            words = ["kpipe", "admin", "delete-group", *place, "--execute"]
            tell(f"undo: nothing was committed before, so: {shlex.join(words)}")
            continue
        words = ["kpipe", "admin", "reset-offsets", "-G", *place, "--to", f"file:{path}", *more, "--execute"]
        tell(f"undo: {shlex.join(words)}")
        if nowhere:
            tell(f"undo: that leaves {counted(nowhere, 'partition')} alone, which had no position before")


def refuse_silence(change: ChangeOptions, nothing: str = "nothing was changed") -> None:
    """UsageError where a change is asked for and nobody can confirm it."""
    if change.execute and not change.yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{nothing}: no terminal to confirm on; add --yes")


def print_plan(change: ChangeOptions, text: str, **fields: Any) -> None:
    """One line of a plan, for people or programs; a terminal gets it folded between words."""
    if change.json:
        write(json_line({**fields, "execute": change.execute}))
        return
    width = look_of(LookingOptions()).width
    lines = [visible(text)] if width is None else textwrap.wrap(visible(text), width, subsequent_indent="  ")
    write("".join(f"{line}\n" for line in lines))


def conclude_change(problems: Sequence[str], done: str) -> int:
    """Tell what failed, or what was done; the exit code."""
    for problem in problems:
        tell(problem)
    if not problems:
        tell(done)
    return 1 if problems else 0

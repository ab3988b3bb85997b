"""Positions of a group as files: Kafka's CSV (`topic,partition,offset`) and kpipe's JSON lines, in and out.

The undo file is the latter. It is written, and on the disk, before anything is changed.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from kpipe.errors import KpipeError, Stage, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kpipe.flight import TopicPartition
    from kpipe.ops.reset import Move, Positions

VERSION = 1


def read_positions(path: str, group: str) -> tuple[Positions, dict[TopicPartition, str]]:
    """The offsets of a file, and the texts that belong to them (JSON only). UsageError says which line is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot open: {error.strerror}", where=path) from None
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8 text; write Kafka's CSV or kpipe's JSON lines", where=path) from None
    positions: Positions = {}
    texts: dict[TopicPartition, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        place, offset, metadata = (_from_json if line.lstrip().startswith("{") else _from_csv)(line, where, group)
        if place is None:
            continue
        if place in positions:
            raise UsageError(f"{place[0]}[{place[1]}] is there twice; drop one", where=where)
        positions[place] = offset
        texts[place] = metadata
    if not positions:
        raise UsageError(f"holds no positions of group {group}", where=path)
    return positions, texts


Line = tuple["TopicPartition | None", "int | None", str]


def _from_csv(line: str, where: str, group: str) -> Line:
    """`topic,partition,offset`, or with the group before them where Kafka exported several."""
    fields = next(csv.reader([line]))
    if len(fields) == 4:
        own, *fields = fields
        if own != group:
            return None, None, ""
    if len(fields) != 3 or not (fields[1].strip().isdigit() and fields[2].strip().isdigit()):
        raise UsageError("not a position; write topic,partition,offset", where=where)
    return (fields[0], int(fields[1])), int(fields[2]), ""


def _from_json(line: str, where: str, group: str) -> Line:
    try:
        fields: Any = orjson.loads(line)
        own = fields.get("group", group)
        place, offset = (str(fields["topic"]), fields["partition"]), fields["offset"]
        valid = (
            isinstance(place[1], int)
            and place[1] >= 0
            and (offset is None or (isinstance(offset, int) and offset >= 0))
        )
    except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
        valid = False
    if not valid:
        raise UsageError('not a position; write {"topic":"t","partition":0,"offset":42}', where=where)
    if own != group:
        return None, None, ""
    return place, offset, str(fields.get("metadata") or "")


def as_csv(moves: Iterable[Move]) -> str:
    """The new offsets as Kafka's tool exports and reads them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for move in moves:
        writer.writerow((move.topic, move.partition, move.new))
    return out.getvalue()


def write_undo(path: str, cluster: str, groups: Iterable[tuple[str, Iterable[Move]]]) -> None:
    """Where groups stood: synced to the disk. KpipeError when that cannot be done, or the file is there."""
    lines = b"".join(
        orjson.dumps(
            {
                "version": VERSION,
                "cluster": cluster,
                "group": group,
                "topic": move.topic,
                "partition": move.partition,
                "offset": move.current,
                "metadata": move.metadata,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for group, moves in groups
        for move in moves
    )
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("xb") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        what = f"cannot write the undo file: {error.strerror}; nothing was changed; name another with --undo FILE"
        raise KpipeError(what, where=path, stage=Stage.CONFIG) from None


def default_undo(environ: Mapping[str, str], group: str, stamp: str) -> str:
    """A file of its own for each reset, below XDG_STATE_HOME."""
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "."), ".local", "state"))
    name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in group)
    return str(Path(state, "kpipe", "undo", f"{name}-{stamp}.jsonl"))

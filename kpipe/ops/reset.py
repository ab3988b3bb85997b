"""`kpipe admin reset-offsets`: where a group goes on reading, planned per partition before anything is written.

Offsets are clamped to what the log holds, the text that a group left with its offset is kept, and a group with members
is refused: they would write their own positions over it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.kafka import changes, questions
from kpipe.kafka.groups import Commit, committed_offsets, describe_groups
from kpipe.kafka.questions import Failure
from kpipe.kafka.ranges import RangeReader
from kpipe.ops.places import unknown
from kpipe.units import counted, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection
    from kpipe.ops.placement import Spot

Positions = dict["TopicPartition", "int | None"]
"""Wanted offsets; None where a partition had none, which cannot be brought back."""

WORDS = ("beginning", "earliest", "start", "end", "latest", "current")
_NUMBER = re.compile(r"[+-]?\d{1,19}")
PEEK = 3.0


@dataclass(slots=True)
class Move:
    """One partition: where the group stands (None: nowhere), where it is put, and what that means for it."""

    topic: str
    partition: int
    current: int | None
    new: int
    start: int
    end: int
    metadata: str = ""
    notes: list[str] = field(default_factory=list)
    next_ms: int | None = None
    """The timestamp of the record that is read next."""
    spot: Spot | None = None
    """What the trace tells of `new`: how much is passed and repeated of what the group read elsewhere."""

    @property
    def place(self) -> TopicPartition:
        """Topic and number."""
        return self.topic, self.partition

    @property
    def skipped(self) -> int:
        """Records (offsets) that the group would have read, and will not; all before, where it stands nowhere.

        Copies of what it has read elsewhere do not count.
        """
        base = self.start if self.current is None else max(self.current, self.start)
        passed = max(0, self.new - base)
        return passed if self.spot is None else min(passed, self.spot.foreign)

    @property
    def repeated(self) -> int:
        """Records (offsets) that the group has read, and will read again."""
        here = 0 if self.current is None else max(0, min(self.current, self.end) - self.new)
        elsewhere = 0 if self.spot is None else self.spot.repeats
        return min(here + elsewhere, self.end - self.new)


@dataclass(slots=True)
class Scope:
    """Which partitions: `--topic GLOB[:P]`, `new` also those that the group never committed."""

    patterns: Sequence[str] = ()
    new: bool = False

    def admits(self, topic: str, partition: int) -> bool:
        """Whether a partition is meant; without a pattern all are."""
        return not self.patterns or any(_matches(pattern, topic, partition) for pattern in self.patterns)


def _matches(pattern: str, topic: str, partition: int) -> bool:
    name, colon, numbers = pattern.rpartition(":")
    if not colon:
        return fnmatchcase(topic, pattern)
    from kpipe.clusters.address import parse_partitions

    return fnmatchcase(topic, name) and partition in parse_partitions([numbers])


def times_of_first(
    connection: Connection, ranges: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, int]:
    """The timestamp in ms of the first record of each range, where there is one and it was read in time."""
    ranges = {place: bounds for place, bounds in ranges.items() if bounds[0] < bounds[1]}
    if not ranges:
        return {}
    reader = RangeReader(connection, committed=False, peeking=True)
    try:
        found = reader.first(ranges, time.monotonic() + PEEK)
    finally:
        reader.close()
    return {
        place: message.timestamp()[1]
        for place, message in found.items()
        if message is not None and not isinstance(message, Failure) and message.timestamp()[0]
    }


def refuse_members(connection: Connection, groups: Iterable[str]) -> None:
    """KpipeError for the first group that has members, and names them."""
    for group, answer in describe_groups(connection, groups):
        where = connection.where(group)
        if isinstance(answer, Failure):
            raise answer.error(where, Stage.CONFIG)
        if answer.members:
            shown = ", ".join(f"{member.client_id} on {member.host}" for member in answer.members[:5])
            more = f" and {len(answer.members) - 5} more" if len(answer.members) > 5 else ""
            what = f"the group has members ({shown}{more}), which would write over it; stop them first"
            raise KpipeError(what, where=where, stage=Stage.CONFIG)


class Reset:
    """A plan for one group. `target` is the text of --to."""

    def __init__(self, connection: Connection, group: str, scope: Scope) -> None:
        changes.refuse_read_only(connection)
        self._connection = connection
        self.group = group
        self._scope = scope
        self.moves: list[Move] = []
        self.problems: list[str] = []

    def refuse_members(self) -> None:
        """KpipeError that names the members; a member that joins later is refused by the broker itself."""
        refuse_members(self._connection, [self.group])

    def commits(self) -> dict[TopicPartition, Commit]:
        """What the group has committed now; KpipeError where that may not be known."""
        (_, answer), *_ = committed_offsets(self._connection, [self.group])
        if isinstance(answer, Failure):
            raise answer.error(self._connection.where(self.group), Stage.CONFIG)
        for (topic, partition), commit in answer.items():
            if isinstance(commit, Failure):
                raise commit.error(self._connection.where(topic, partition), Stage.CONFIG)
        return {place: commit for place, commit in answer.items() if not isinstance(commit, Failure)}

    # --- the plan ------------------------------------------------------------------------------------------------

    def plan(
        self, target: str, positions: Positions | None = None, spots: Mapping[TopicPartition, Spot] | None = None
    ) -> None:
        """Fill `moves`; `positions` are wanted offsets that somebody else found (a file, a group, a trace: `spots`)."""
        current = self.commits()
        places = self._places(current, positions)
        starts = self._offsets(questions.earliest(self._connection, places))
        ends = self._offsets(questions.latest(self._connection, places))
        at = self._at_time(target, places)
        for place in sorted(places):
            if place not in starts or place not in ends:
                continue
            commit = current.get(place)
            move = Move(*place, commit.offset if commit else None, 0, starts[place], ends[place])
            move.metadata = commit.metadata if commit else ""
            move.spot = (spots or {}).get(place)
            wanted = self._wanted(target, move, at, positions)
            if wanted is None:
                continue
            move.new = min(max(wanted, move.start), move.end)
            if move.new != wanted:
                move.notes.append(f"clamped from {wanted}")
            self.moves.append(move)
        if not self.moves and not self.problems:
            what = "nothing to move: the group has committed nothing there; --new-topics with --topic puts it there"
            raise KpipeError(what, where=self._connection.where(self.group), stage=Stage.CONFIG)
        self._add_times()

    def _places(self, current: Mapping[TopicPartition, Commit], positions: Positions | None) -> set[TopicPartition]:
        """The partitions that exist and are meant: those with a commit, and others only when they were asked for."""
        topics = self._connection.metadata(fresh=True).topics
        wanted = set(current) if positions is None else set(positions)
        if self._scope.new and positions is None:
            if not self._scope.patterns:
                raise UsageError("--new-topics puts the group on topics that it never read; name them with --topic")
            wanted |= {(name, number) for name, entry in topics.items() for number in entry.partitions}
        elif (
            not self._scope.new
            and positions is not None
            and (strange := sorted(place for place in set(positions) - set(current) if self._scope.admits(*place)))
        ):
            topic, number = strange[0]
            self.problems.append(
                f"the group has no committed offset in {counted(len(strange), 'partition')}, as {topic}[{number}]: "
                "left alone; --new-topics puts it there, too"
            )
            wanted &= set(current)
        chosen = {place for place in wanted if self._scope.admits(*place)}
        for name in self._scope.patterns:
            bare = name.rpartition(":")[0] or name
            if not any(letter in bare for letter in "*?[") and bare not in topics:
                raise unknown(bare, sorted(topics), self._connection.label, "topic")
        gone = sorted(
            place for place in chosen if place[0] not in topics or place[1] not in topics[place[0]].partitions
        )
        self.problems += [f"{topic}[{number}]: the partition is gone, and left alone" for topic, number in gone]
        return chosen - set(gone)

    def _offsets(self, answers: Mapping[TopicPartition, questions.Listed | Failure]) -> dict[TopicPartition, int]:
        found = {}
        for (topic, number), answer in answers.items():
            if isinstance(answer, Failure):
                problem = f"{topic}[{number}]: {answer.text}"
                self.problems += [problem] if problem not in self.problems else []
            else:
                found[topic, number] = answer.offset
        return found

    def _at_time(self, target: str, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        if not target.startswith("@"):
            return {}
        ms = parse_time(target[1:], int(time.time() * 1000), name="--to")
        return self._offsets(questions.at_time(self._connection, places, ms))

    def _wanted(
        self, target: str, move: Move, at: Mapping[TopicPartition, int], positions: Positions | None
    ) -> int | None:
        """The offset that is asked for, not yet clamped; None leaves the partition alone."""
        if positions is not None:
            wanted = positions.get(move.place)
            if wanted is None and move.place in positions:
                self.problems.append(
                    f"{move.topic}[{move.partition}]: it had no offset before, which cannot be restored"
                )
            return wanted
        if target.startswith("@"):
            return self._by_time(move, at)
        if target == "current" and move.current is None:
            move.notes.append("nothing was committed; goes to the end")
        words = {
            **dict.fromkeys(("beginning", "earliest", "start"), move.start),
            **dict.fromkeys(("end", "latest"), move.end),
            "current": move.end if move.current is None else move.current,
        }
        return words[target] if target in words else self._by_number(move, target)

    @staticmethod
    def _by_time(move: Move, at: Mapping[TopicPartition, int]) -> int | None:
        found = at.get(move.place)
        if found is not None and found < 0:
            move.notes.append("no record since then; goes to the end")
            return move.end
        return found

    def _by_number(self, move: Move, target: str) -> int | None:
        if target[0] not in "+-":
            return int(target)
        if move.current is None:
            self.problems.append(f"{move.topic}[{move.partition}]: nothing was committed that {target} could move")
            return None
        return move.current + int(target)

    def _add_times(self) -> None:
        """The time of the record that is read next, where there is one."""
        found = times_of_first(self._connection, {move.place: (move.new, move.end) for move in self.moves})
        for move in self.moves:
            move.next_ms = found.get(move.place)

    # --- the deed ------------------------------------------------------------------------------------------------

    def execute(self) -> list[str]:
        """Write it, read it back; what failed, in words. KpipeError when the group moved since it was planned."""
        if not self.moves:  # what is asked for is elsewhere, or gone: the client takes no empty list
            return []
        now = self.commits()
        moved = [
            move
            for move in self.moves
            if ((commit := now.get(move.place)) is not None and commit.offset != move.current)
            or (commit is None) != (move.current is None)
        ]
        if moved:
            what = (
                f"somebody committed for it meanwhile ({moved[0].topic}[{moved[0].partition}]): a reader without "
                "membership? Stop it, and plan again"
            )
            raise KpipeError(what, where=self._connection.where(self.group), stage=Stage.CONFIG)
        self.refuse_members()
        wanted = {move.place: Commit(move.new, move.metadata) for move in self.moves}
        failures = changes.commit(self._connection, self.group, wanted)
        found = self.commits()
        problems = [f"{topic}[{number}]: {failure.text}" for (topic, number), failure in failures.items()]
        for (topic, number), commit in wanted.items():
            if (topic, number) not in failures and found.get((topic, number)) != commit:
                problems.append(f"{topic}[{number}]: read back, it is not at {commit.offset}")
        return problems


def check_target(target: str) -> str:
    """The text of --to if it means something here; UsageError for what does not."""
    if target in WORDS or target.startswith(("group:", "file:", "trace:")) or _NUMBER.fullmatch(target):
        return target
    if target.startswith("@"):
        parse_time(target[1:], int(time.time() * 1000), name="--to")
        return target
    forms = "beginning, end, current, N, +N, -N, @TIME, group:GROUP, file:FILE or trace:CLUSTER:GROUP"
    raise UsageError(f"--to {target!r}: not a position; write {forms}")

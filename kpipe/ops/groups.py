"""`kpipe groups`: how far groups are behind, in records and in time, and what they lose.

The lag is counted to the end of the log; the time is that of the record at the committed offset, which is read: nothing
is interpolated. Groups are asked before ends, or a lag could be negative. Null, never 0, where nothing was committed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError
from kpipe.kafka import questions
from kpipe.kafka.groups import Commit, Description, Listing, committed_offsets, describe_groups, list_groups
from kpipe.kafka.questions import Failure, Listed
from kpipe.kafka.ranges import RangeReader
from kpipe.ops.places import choose, is_pattern, unknown
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection
    from kpipe.kafka.groups import Member

AT_ONCE = 250
"""Groups whose ends and times are asked for together; their rows come together, too."""
TIMES = 500
"""Partitions of one group whose records at the committed offset are read; of more, those that lag most."""
PEEK = 3.0
"""Seconds without any record that is looked up at a committed offset, after which no more is waited for."""
NO_OFFSET, LOST, BEYOND, BLOCKED, GONE = (
    "no offset",
    "data lost",
    "beyond the end",
    "open transaction",
    "topic deleted, or not visible",
)
NO_GROUP = "no such group; check the name, the cluster, and whether you may see it"


@dataclass(slots=True)
class PartitionLag:
    """One partition of a group. None is what nobody knows; `note` says what is special, `problem` what failed.

    `lag` is counted to the high mark `end`; `stable_end` is what a `read_committed` reader can reach. `behind_ms` is
    the age of the first record that was not read, `behind_newest_ms` how much older it is than the newest one.
    """

    topic: str
    partition: int
    committed: int | None = None
    start: int | None = None
    end: int | None = None
    stable_end: int | None = None
    lost: int = 0
    behind_ms: int | None = None
    behind_newest_ms: int | None = None
    waiting_ms: int | None = None
    """The timestamp of that first record."""
    only_markers: bool = False
    member: Member | None = None
    metadata: str = ""
    notes: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def place(self) -> TopicPartition:
        """Topic and number."""
        return self.topic, self.partition

    @property
    def lag(self) -> int | None:
        """Records (offsets) between what was committed, or what is left of it, and the end."""
        if self.committed is None or self.end is None:
            return None
        return max(0, self.end - max(self.committed, self.start or 0))


@dataclass(slots=True)
class Group:
    """One group. Its sums leave out partitions that are not known; how many is said beside them."""

    group: str
    state: str = ""
    kind: str = ""
    protocol: str = ""
    assignor: str = ""
    members: list[Member] | None = None
    rows: list[PartitionLag] = field(default_factory=list)
    problem: str = ""
    sampled: bool = False
    """Whether the time was looked up for the worst partitions only."""

    @property
    def lag(self) -> int | None:
        """The sum over partitions; None where none is known."""
        known = [row.lag for row in self.rows if row.lag is not None]
        return sum(known) if known else None

    @property
    def lost(self) -> int:
        """Records that were deleted before the group read them."""
        return sum(row.lost for row in self.rows)

    @property
    def behind_ms(self) -> int | None:
        """That of the partition that is furthest behind; None while one that lags has no time."""
        known = [row.behind_ms for row in self.rows if row.behind_ms is not None]
        return max(known) if known else None

    @property
    def without_offset(self) -> int:
        """Partitions that belong to the group and have no committed offset."""
        return sum(row.committed is None for row in self.rows)

    @property
    def problems(self) -> list[str]:
        """What could not be asked."""
        return [self.problem] if self.problem else sorted({row.problem for row in self.rows if row.problem})

    @property
    def worst(self) -> tuple[int, int, int, str]:
        """A key that sorts the worst first: what is not known, then time, then records."""
        return -bool(self.problems), -(self.behind_ms or 0), -(self.lag or 0), self.group


Waiting = dict["TopicPartition", dict[int, list[PartitionLag]]]
"""By partition and offset: the rows that wait for the record there."""


class Survey:
    """The groups of one cluster, row by row as the answers come."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.troubles: list[str] = []
        """What the list of groups lacks."""
        self.total = 0
        """How many groups were found."""
        self._readers: dict[bool, RangeReader] = {}
        self._looked = False
        self._gone: set[TopicPartition] = set()

    def find(self, patterns: Sequence[str]) -> list[Listing]:
        """The groups that are meant. Names without a pattern need no list, which may be long or denied."""
        if self._connection.is_embedded:  # an unreachable cluster is told of here, in its words
            raise KpipeError(
                "the embedded broker does not tell of groups; ask a real one", where=self._connection.label
            )
        if not any(map(is_pattern, patterns)):
            listed = [Listing(name, "", "", "") for name in dict.fromkeys(patterns)]
        else:
            everything, self.troubles = list_groups(self._connection)
            by_name = {each.group: each for each in everything}
            wanted = choose(patterns, by_name, self._connection.label, "group")
            listed = [by_name[name] for name in wanted]
        self.total = len(listed)
        return listed

    def run(
        self, listed: Sequence[Listing], *, topic: str = "", times: bool = True, widen: bool = False
    ) -> Iterator[Group]:
        """The groups, as soon as their answers are there; `topic`: only those that have to do with it.

        `widen` adds the partitions of their topics that they neither hold nor have committed.
        """
        for start in range(0, len(listed), AT_ONCE):
            groups = self._describe(listed[start : start + AT_ONCE])
            self._add_commits(groups)
            for group in groups:
                if not (group.kind or group.rows or group.problem):
                    group.problem = NO_GROUP
            if widen:
                self._widen(groups)
            if topic:
                for group in groups:
                    group.rows = [row for row in group.rows if row.topic == topic]
                groups = [group for group in groups if group.rows or group.problem]
            rows = [row for group in groups for row in group.rows]
            self._add_ends(rows)
            if times:
                self._add_times(groups)
            yield from groups

    def _describe(self, listed: Sequence[Listing]) -> list[Group]:
        """Members and states; an empty group has none, and need not be asked."""
        groups = {
            each.group: Group(
                each.group, each.state, each.kind, each.protocol, members=[] if each.state == "Empty" else None
            )
            for each in listed
        }
        asked = [each.group for each in listed if each.state != "Empty" and each.kind in ("", "consumer", "simple")]
        for name, answer in describe_groups(self._connection, asked):
            group = groups[name]
            if isinstance(answer, Failure):
                group.problem = answer.text
                continue
            self._take(group, answer)
        for each in listed:
            if each.kind not in ("", "consumer", "simple"):
                groups[each.group].problem = _other_kind(each)
        return list(groups.values())

    @staticmethod
    def _take(group: Group, answer: Description) -> None:
        # The client has no name for two states of KIP-848, Assigning and Reconciling, in which members take partitions.
        moving = "Reconciling" if answer.protocol == "consumer" and answer.members else "Unknown"
        group.state, group.assignor = answer.state or group.state or moving, answer.assignor
        group.protocol = answer.protocol or group.protocol
        group.kind = group.kind or ("consumer" if answer.exists else "")
        group.members = list(answer.members)
        owners = {place: member for member in answer.members for place in member.partitions}
        group.rows = [PartitionLag(*place, member=member) for place, member in owners.items()]

    def _add_commits(self, groups: Sequence[Group]) -> None:
        asked = {group.group: group for group in groups if not group.problem}
        for name, answer in committed_offsets(self._connection, asked):
            group = asked[name]
            if isinstance(answer, Failure):
                group.problem = answer.text
                continue
            rows = {row.place: row for row in group.rows}
            for place, commit in answer.items():
                row = rows.setdefault(place, PartitionLag(*place))
                if isinstance(commit, Failure):
                    row.problem = commit.text
                else:
                    row.committed, row.metadata = commit.offset, commit.metadata
            group.rows = sorted(rows.values(), key=lambda row: row.place)
            for row in group.rows:
                if row.committed is None and not row.problem:
                    row.notes.append(NO_OFFSET)

    def _widen(self, groups: Sequence[Group]) -> None:
        topics = self._connection.metadata().topics
        for group in groups:
            known = {row.place for row in group.rows}
            own = readers_of(group.rows)
            places = {(topic, number) for topic in own if topic in topics for number in topics[topic].partitions}
            group.rows += [PartitionLag(*place, notes=[NO_OFFSET]) for place in sorted(places - known)]
            group.rows.sort(key=lambda row: row.place)

    def _add_ends(self, rows: Sequence[PartitionLag]) -> None:
        """Where the partitions start and end, asked after what was committed."""
        connection = self._connection
        metadata = self._metadata({row.place for row in rows})
        places = set()
        for row in rows:
            partition = _known(metadata, row.place)
            if partition is None:
                row.notes.append(GONE)
            elif partition.leader not in metadata.brokers:
                row.problem = row.problem or "no leader"
            else:
                places.add(row.place)
        found = questions.extents(connection, places)
        for row in rows:
            extent = found.get(row.place)
            if isinstance(extent, Failure):
                row.problem = row.problem or extent.text
            elif extent is not None:
                row.start, row.end, row.stable_end = extent
                self._judge(row)

    def _metadata(self, places: set[TopicPartition]) -> Any:
        """As it was at the first look, and anew where partitions are not in it: they may have come since.

        That of 2,000 topics takes 0.15 s, so it is not asked for again with each AT_ONCE groups.
        """
        metadata = self._connection.metadata(fresh=not self._looked)
        self._looked = True
        missing = {place for place in places if _known(metadata, place) is None} - self._gone
        if missing:
            metadata = self._connection.metadata(fresh=True)
            self._gone |= {place for place in missing if _known(metadata, place) is None}
        return metadata

    @staticmethod
    def _judge(row: PartitionLag) -> None:
        if row.committed is None or row.start is None or row.end is None:
            return
        if row.committed < row.start:
            row.lost = row.start - row.committed
            row.notes.append(LOST)
        if row.committed > row.end:
            row.notes.append(BEYOND)

    def _add_times(self, groups: Sequence[Group]) -> None:
        """Read the first record that waits in each lagging partition; where several groups wait for one, once."""
        now = int(time.time() * 1000)
        readable: Waiting = {}
        blocked: Waiting = {}
        for group in groups:
            lagging = [row for row in group.rows if row.lag]
            if len(lagging) > TIMES:
                group.sampled = True
                lagging = sorted(lagging, key=lambda row: -(row.lag or 0))[:TIMES]
            for row in group.rows:
                if row.lag == 0:
                    row.behind_ms = 0
            for row in lagging:
                at = max(row.committed or 0, row.start or 0)
                held = row.stable_end is not None and at >= row.stable_end
                if held:
                    row.notes.append(BLOCKED)
                (blocked if held else readable).setdefault(row.place, {}).setdefault(at, []).append(row)
        for waiting, committed in ((readable, True), (blocked, False)):
            self._peek(waiting, now, committed=committed)
        self._add_newest([row for group in groups for row in group.rows if row.behind_ms])

    def _peek(self, waiting: Waiting, now: int, *, committed: bool) -> None:
        """Read what waits at each offset; groups that wait at several offsets of one partition share its reading."""
        if not waiting:
            return
        if committed not in self._readers:
            self._readers[committed] = RangeReader(self._connection, committed=committed, peeking=True)
        wanted = {}
        for place, rows in waiting.items():
            row = next(iter(rows.values()))[0]
            wanted[place] = (sorted(rows), (row.stable_end if committed else row.end) or 0)
        found = self._readers[committed].first_from(wanted, silence=min(PEEK, self._connection.patience))
        for (place, at), answer in found.items():
            for row in waiting[place][at]:
                self._date(row, answer, now)

    @staticmethod
    def _date(row: PartitionLag, found: Any, now: int) -> None:
        if isinstance(found, Failure):
            row.problem = row.problem or f"time behind: {found.text}"
        elif found is None:
            row.behind_ms, row.only_markers = 0, True
        else:
            kind, ms = found.timestamp()
            if kind:
                row.waiting_ms, row.behind_ms = ms, max(0, now - ms)

    def _add_newest(self, rows: Sequence[PartitionLag]) -> None:
        found = questions.newest(self._connection, {row.place for row in rows})
        for row in rows:
            newest = found[row.place]
            if isinstance(newest, Listed) and newest.offset >= 0 and row.waiting_ms is not None:
                row.behind_newest_ms = max(0, newest.timestamp - row.waiting_ms)


def _known(metadata: Any, place: TopicPartition) -> Any:
    """A partition as the metadata has it; None where it is not there."""
    entry = metadata.topics.get(place[0])
    return entry.partitions.get(place[1]) if entry is not None and entry.error is None else None


def _other_kind(listed: Listing) -> str:
    if listed.kind == "connect":
        return "workers of Kafka Connect: they share tasks, not partitions"
    return "no consumer group (a share or streams group?): librdkafka cannot describe it; kafka-share-groups.sh can"


def one(connection: Connection, name: str, *, topic: str = "", times: bool = True, widen: bool = False) -> Group:
    """One group by its name; KpipeError when there is none, naming the nearest, or saying what it is instead."""
    survey = Survey(connection)
    group = next(survey.run(survey.find([name]), times=times, widen=widen))
    if group.problem == NO_GROUP:
        group.problem = ""
        everything, _ = list_groups(connection)
        for each in everything:
            if each.group == name and each.kind not in ("consumer", "simple"):
                return Group(name, each.state, each.kind, problem=_other_kind(each))
        if name not in [each.group for each in everything]:
            raise unknown(name, [each.group for each in everything], connection.label, "group")
    if group.problem:
        return group
    if topic:
        group.rows = [row for row in group.rows if row.topic == topic]
    return group


def breaks(group: Group, max_lag: int | None, max_behind_ms: float | None) -> list[str]:
    """Which thresholds a group breaks, in words."""
    found = []
    if max_lag is not None and (lag := group.lag or 0) > max_lag:
        found.append(f"{counted(lag, 'record')} behind")
    if max_behind_ms is not None and (group.behind_ms or 0) > max_behind_ms:
        found.append("too long behind")
    return found


def readers_of(rows: Iterable[PartitionLag]) -> set[str]:
    """The topics that rows are about."""
    return {row.topic for row in rows}


__all__ = ["Commit", "Group", "PartitionLag", "Survey", "breaks", "one", "readers_of"]

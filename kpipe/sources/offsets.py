"""Where a topic source starts and ends in each partition: its offset specs, or where the group's last commit left it.

Ends are fixed at the start, so that `-e` means "as it was when I called". It commits nothing and reads no record, and
never passes a gap between a committed offset and the log silently.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError, Stage, UnreachableError
from kpipe.kafka.diagnosis import denied
from kpipe.kafka.errors import is_unauthorised
from kpipe.kafka.lookups import find_bounds, find_committed, find_offsets
from kpipe.kafka.offsets import Offset, OffsetKind
from kpipe.sources.selection import BEGINNING, where
from kpipe.units import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from confluent_kafka import Consumer, Message

    from kpipe.flight import TopicPartition
    from kpipe.kafka.lookups import Bounds, Committed
    from kpipe.kafka.topic_ids import TopicIds
    from kpipe.sources.gaps import Gaps
    from kpipe.sources.selection import Selection


ANSWER = 10.0
"""Seconds for the coordinator's answer when partitions are taken over."""
PARTITIONS = "partitions="
"""Beside a commit: how many partitions the topic had when the member that made it began. One with a higher number and
without a commit was added since, maybe while nobody read."""


class OffsetResolver:
    """Answers offset specs for partitions of one cluster. Raises UnreachableError when the cluster does not answer."""

    def __init__(
        self,
        consumer: Consumer,
        cluster: str,
        timeout: float,
        open_reader: Callable[[], Consumer] | None = None,
    ) -> None:
        self.open_reader = open_reader
        """Opens a consumer that sees open transactions; None where this one sees them, too."""
        self._consumer = consumer
        self._cluster = cluster
        self._timeout = timeout
        self.find_time: Callable[[dict[TopicPartition, Bounds], int], dict[TopicPartition, int]] = self.for_times
        """How an offset is found by its time; the embedded broker needs another way."""

    def bounds(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Low and high (last stable) offset of each partition."""
        return find_bounds(self._consumer, places, self._timeout, self._cluster)

    def for_times(self, places: Iterable[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        """The first offset at or after a time, per partition; -1 where every record is older."""
        return find_offsets(self._consumer, places, timestamp_ms, self._timeout, self._cluster)

    def starts(self, spec: Offset, bounds: dict[TopicPartition, Bounds]) -> dict[TopicPartition, int]:
        """The offset to start from in each partition, never below the first one that exists."""
        return {place: max(offset, bounds[place].low) for place, offset in self._resolve(spec, bounds).items()}

    def ends(self, spec: Offset, bounds: dict[TopicPartition, Bounds]) -> dict[TopicPartition, int]:
        """The offset to stop before in each partition, never beyond the end as it was at the start."""
        return {place: min(offset, bounds[place].high) for place, offset in self._resolve(spec, bounds).items()}

    def _resolve(self, spec: Offset, bounds: dict[TopicPartition, Bounds]) -> dict[TopicPartition, int]:
        if spec.kind is OffsetKind.TIME:
            found = self.find_time(bounds, spec.value)
            return {place: bounds[place].high if offset < 0 else offset for place, offset in found.items()}
        if spec.kind is OffsetKind.END:
            return {place: bound.high for place, bound in bounds.items()}
        if spec.kind is OffsetKind.TAIL:
            return {place: bound.high - spec.value for place, bound in bounds.items()}
        if spec.kind is OffsetKind.ABSOLUTE:
            return dict.fromkeys(bounds, spec.value)
        return {place: bound.low for place, bound in bounds.items()}


def find_ends(
    selection: Selection, resolver: OffsetResolver, bounds: dict[TopicPartition, Bounds], now_ms: float
) -> tuple[dict[TopicPartition, int], int | None]:
    """Where each partition ends, as far as that is fixed; else the moment (ms) at which it is to be fixed, or None."""
    until, at_end = selection.until, selection.at_end
    if until is None:
        return ({place: bound.high for place, bound in bounds.items()} if at_end else {}), None
    if until.kind is OffsetKind.TIME and until.value > now_ms and not at_end:
        return {}, until.value
    if until.kind is OffsetKind.ABSOLUTE and not at_end:
        return dict.fromkeys(bounds, until.value), None
    return resolver.ends(until, bounds), None


class NoAnswer(UnreachableError):
    """The group's coordinator did not say what is committed."""


class StartOffsets:
    """Starts of the partitions of one source."""

    def __init__(
        self,
        consumer: Consumer,
        selection: Selection,
        resolver: OffsetResolver,
        ids: TopicIds,
        gaps: Gaps,
        say: Callable[[str], None],
    ) -> None:
        self.known: set[TopicPartition] = set()
        """The partitions that were there at the start; any other is read from its beginning, whatever -o says."""
        self.not_before: dict[TopicPartition, int] = {}
        """Offsets that were asked for and lay past the end at the start."""
        self._consumer = consumer
        self._selection = selection
        self._resolver = resolver
        self._ids = ids
        self._gaps = gaps
        self._say = say
        self._judged: set[str] = set()
        self._said = False

    def find(self, bounds: dict[TopicPartition, Bounds], again: Collection[str] = ()) -> dict[TopicPartition, int]:
        """The first offset to read in each partition.

        Topics in `again` were created again since this run read them: the coordinator takes them away and forgets their
        commits before it gives the new ones out, and a group without a commit would begin there without a word.
        """
        if self._selection.group is not None and self._selection.start.kind is not OffsetKind.BEGINNING:
            self._find_added({topic for topic, _ in bounds} - self._judged)
        starts = self._resolver.starts(self._selection.start, bounds)
        self._say_past_end(starts, bounds)
        added = {place: bound for place, bound in bounds.items() if place not in self.known}
        starts.update(self._resolver.starts(BEGINNING, added))  # nothing that was written to them may be missed
        if self._selection.group is not None:
            undecided = self._gaps.undecided
            undecided.difference_update(bounds)
            left_off = self._left_off(bounds, again)
            if left_off and self._selection.given_start and not self._said:
                self._said = True
                what = "goes on where it left off; -o is only for partitions without a committed offset"
                self._say(f"read: {self._selection.group_place}: {what} (another -G starts anew)")
            starts.update(left_off)
            if self._selection.start.kind is not OffsetKind.BEGINNING:
                undecided.update(bounds.keys() - left_off.keys())
        return starts

    def _say_past_end(self, starts: dict[TopicPartition, int], bounds: dict[TopicPartition, Bounds]) -> None:
        """An offset that was typed and does not exist yet: what is read there is what comes when the log has grown."""
        selection, now_ms = self._selection, time.time() * 1000
        if selection.start.kind is OffsetKind.TIME and selection.start.value > now_ms and not self._said:
            self._said = True
            when = format_time(selection.start.value)
            self._say(f"read: -o: {when} is in the future; reading starts at the end of now")
        if selection.start.kind is not OffsetKind.ABSOLUTE:
            return
        for place, offset in sorted(starts.items()):
            if offset > bounds[place].high:
                at = where(self._selection.cluster, *place)
                what = f"-o {offset} is past the end ({bounds[place].high})"
                self._say(f"read: {at}: {what}; nothing is read before it comes")
                self.not_before[place] = offset
                starts[place] = bounds[place].high

    def _find_added(self, topics: set[str]) -> None:
        """Partitions that were added since the group last read these topics are not among those known at the start."""
        self._judged |= topics
        known = self.known
        commits = self.find_committed([place for place in known if place[0] in topics])
        counts: dict[str, int] = {}
        for (topic, _), (offset, metadata) in commits.items():
            if offset >= 0:
                counts[topic] = max(counts.get(topic, 0), _partitions_in(metadata))
        known.difference_update(
            place for place, (offset, _) in commits.items() if offset < 0 and 0 < counts.get(place[0], 0) <= place[1]
        )

    def _left_off(self, bounds: dict[TopicPartition, Bounds], again: Collection[str]) -> dict[TopicPartition, int]:
        """Committed offsets of the group that still exist; `--on-gap` decides about the others."""
        ids, gaps = self._ids, self._gaps
        topics = {topic for topic, _ in bounds}
        ids.accept(topics.intersection(again))
        ids.learn(topics)
        found: dict[TopicPartition, int] = {}
        for place, (offset, metadata) in self.find_committed(bounds).items():
            bound = bounds[place]
            created_again = ids.contradicts(place[0], metadata) or (place[0] in again and not metadata)
            if not created_again and (offset < 0 or bound.low <= offset <= bound.high):
                found[place] = offset
            else:
                found[place] = gaps.cross(place, offset, bound, created_again=created_again)
        return {place: offset for place, offset in found.items() if offset >= 0}

    def note(self, topic: str) -> str:
        """What to commit beside a topic's offsets: which topic of that name it is, and how many partitions it had."""
        which, every = self._ids.metadata(topic), self._selection.partitions is None
        count = sum(place[0] == topic for place in self.known) if every else 0  # with -p nobody counts the others
        return f"{which} {PARTITIONS}{count}".strip() if count else which

    def skip(self, messages: list[Message]) -> list[Message]:
        """Leave out what lies before an offset that was asked for and did not exist at the start."""
        first = self.not_before
        return [
            message
            for message in messages
            if message.error() is not None
            or int(message.offset() or 0) >= first.get((str(message.topic()), int(message.partition() or 0)), 0)
        ]

    def find_committed(
        self, places: Iterable[TopicPartition], timeout: float = ANSWER
    ) -> dict[TopicPartition, Committed]:
        """Per partition the committed offset (negative: none) and what was committed beside it."""
        from confluent_kafka import KafkaException

        try:
            return find_committed(self._consumer, places, timeout)
        except KafkaException as error:
            raise self._explain(error.args[0]) from None

    def _explain(self, error: Any) -> KpipeError:
        if is_unauthorised(error):
            return denied(f"group {self._selection.group}", "READ").error(self._selection.group_place, Stage.READ)
        return NoAnswer(f"cannot read the group's offsets: {error.str()}; try again", where=self._selection.group_place)


def _partitions_in(metadata: str) -> int:
    """The topic's number of partitions that was noted beside a commit; 0 where it was not."""
    noted = next((word for word in metadata.split(" ") if word.startswith(PARTITIONS)), "")
    number = noted.removeprefix(PARTITIONS)
    return int(number) if number.isdigit() else 0

"""Reads records between offsets of partitions, without a group: the first one of each, or all of a range.

It commits nothing and never waits at an open transaction: a `read_committed` reader ends at the last stable offset.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from math import inf
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from kpipe.formats.header_names import read_headers
from kpipe.kafka.errors import Cause, Kind, cause_of
from kpipe.kafka.questions import LATE, Failure, fail
from kpipe.record import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from kpipe.flight import TopicPartition
    from kpipe.kafka.connection import Connection

Range = tuple[int, int]
"""First offset, and the offset to stop before."""

BATCH = 500
_HEADERS, _ERROR = methodcaller("headers"), methodcaller("error")
_TOPIC, _PARTITION = methodcaller("topic"), methodcaller("partition")
JUMP, RECORD = 256_000, 60
"""Bytes that are read over to come to the next offset that is wanted: what they cost is about what a jump costs (3 ms);
and the bytes that a record has beside its value."""
PEEKING = {"fetch_message_max_bytes": 65_536, "queued_min_messages": 1, "fetch_wait_max_ms": 10}
"""For one record of many partitions: a partition's next batch comes in full however large, one in each fetch."""
WHOLE = {"queued_max_messages_kbytes": 16_384, "fetch_wait_max_ms": 10}
"""A range begins when the last fetch of the one before has been answered: with 100 ms each took 0.13 s, so 0.04."""


class RangeReader:
    """One consumer that is assigned what is read at the moment. `committed`: aborted records are left out."""

    def __init__(self, connection: Connection, *, committed: bool = True, peeking: bool = False) -> None:
        isolation = "read_committed" if committed else "read_uncommitted"
        own: dict[str, Any] = {"isolation_level": isolation, **(PEEKING if peeking else WHOLE)}
        if "isolation.level" in connection.cluster.properties and not peeking:
            del own["isolation_level"]  # the user's word about which records count
        self._consumer = connection.consumer(**own)
        self._patience = connection.patience

    def first(
        self, ranges: Mapping[TopicPartition, Range], deadline: float
    ) -> dict[TopicPartition, Message | Failure | None]:
        """The first record of each range; None where a range holds none. What does not come in time is a Failure."""
        found = self.first_from({place: ([start], end) for place, (start, end) in ranges.items()}, deadline=deadline)
        return {place: found[place, start] for place, (start, _) in ranges.items()}

    def first_from(
        self, wanted: Mapping[TopicPartition, tuple[Sequence[int], int]], *, deadline: float = inf, silence: float = inf
    ) -> dict[tuple[TopicPartition, int], Message | Failure | None]:
        """The first record at or behind each of several offsets of partitions (rising), before the end of each.

        Every partition is read once, forwards, and far offsets are jumped to, side by side: 800 offsets of 8 partitions
        took 1.0 s, and 16 s one assignment after the other. None where there is no record before the end; a Failure
        what has not come at the deadline, or after `silence` seconds without any.
        """
        found: dict[tuple[TopicPartition, int], Message | Failure | None] = {}
        waiting = {place: deque(offsets) for place, (offsets, _) in wanted.items() if offsets}
        self._assign({place: (offsets[0], 0) for place, offsets in waiting.items()})
        heard = time.monotonic()
        while waiting and (now := time.monotonic()) < deadline and now - heard < silence:
            before = len(found)
            jumps: dict[TopicPartition, int] = {}
            for message in self._fetch():
                place: Any = (message.topic(), message.partition())
                offsets = waiting.get(place)
                at: Any = message.offset()
                if not offsets or (at < offsets[0] and message.error() is None):
                    continue  # on the way to the next one, most often
                verdict = self._look(message, wanted[place][1])
                if isinstance(verdict, str):
                    continue
                reached = at if verdict is message else offsets[-1]  # the end, or a failure, answers all that is left
                while offsets and offsets[0] <= reached:
                    found[place, offsets.popleft()] = verdict
                if offsets and (offsets[0] - reached) * (len(message) + RECORD) > JUMP:
                    jumps[place] = offsets[0]
            ended = [place for place, offsets in waiting.items() if not offsets]
            for place in ended:
                del waiting[place]
            if len(found) > before:
                heard = time.monotonic()
            self._let_go(ended if waiting else ())
            self._jump({place: offset for place, offset in jumps.items() if waiting.get(place, [-1])[0] == offset})
        self._consumer.unassign()
        late = Failure(Kind.AWAY, LATE)
        found.update(dict.fromkeys(((place, at) for place, offsets in waiting.items() for at in offsets), late))
        return found

    def records(
        self, ranges: Mapping[TopicPartition, Range], failed: dict[TopicPartition, Failure] | None = None
    ) -> Iterator[list[Message]]:
        """All records of the ranges; an empty list is a moment without one (0.1 s). Ends when all ranges are read.

        Raises KpipeError for what the client reports of a partition, or, with `failed`, notes it there and goes on with
        the others: that range was not read to its end.
        """
        open_places = {place for place, (start, end) in ranges.items() if start < end}
        if not open_places:
            return
        self._assign({place: ranges[place] for place in open_places})
        heard = time.monotonic()
        while open_places:
            kept, ended = self._take(ranges, open_places, failed)
            open_places -= ended
            if open_places:
                self._let_go(ended)
            if kept or ended:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._patience:
                silence = Failure(Kind.AWAY, f"nothing was read for {self._patience:g} s; kpipe check says why")
                if failed is None:
                    topic, partition = min(open_places)
                    raise silence.error(f"{topic}[{partition}]")
                failed.update(dict.fromkeys(open_places, silence))
                break
            yield kept
        self._consumer.unassign()

    def _take(
        self,
        ranges: Mapping[TopicPartition, Range],
        open_places: set[TopicPartition],
        failed: dict[TopicPartition, Failure] | None,
    ) -> tuple[list[Message], set[TopicPartition]]:
        """What has come of the open partitions, and those of them that are read to their end, or not to be read."""
        kept: list[Message] = []
        ended: set[TopicPartition] = set()
        fetched = self._fetch()
        if self._within(fetched, ranges, open_places):
            return list(fetched), ended
        for message in fetched:
            place = (str(message.topic()), int(message.partition() or 0))
            if place not in open_places or place in ended:
                continue
            end = ranges[place][1]
            verdict = self._look(message, end)
            if isinstance(verdict, Failure):
                if failed is None:
                    raise verdict.error(f"{place[0]}[{place[1]}]")
                failed[place] = verdict
                ended.add(place)
            if verdict is message:
                kept.append(message)
            if verdict is None or (verdict is message and int(message.offset() or 0) >= end - 1):
                ended.add(place)
        return kept, ended

    @staticmethod
    def _within(
        fetched: Sequence[Message], ranges: Mapping[TopicPartition, Range], open_places: set[TopicPartition]
    ) -> bool:
        """Whether these are all records of open ranges, and of none the last: nobody looks at each (-1.4 us a record).

        A partition's records come in the order of their offsets, so its last one tells for all.
        """
        if not fetched or any(map(_ERROR, fetched)):
            return False
        topics = {topic for topic, _ in open_places}
        if len(topics) == 1 and fetched[0].topic() in topics:
            (topic,) = topics
            last = {
                (topic, number): each
                for number, each in dict(zip(map(_PARTITION, fetched), fetched, strict=True)).items()
            }
        else:
            last = dict(zip(zip(map(_TOPIC, fetched), map(_PARTITION, fetched), strict=True), fetched, strict=True))
        return last.keys() <= open_places and all(each.offset() < ranges[at][1] - 1 for at, each in last.items())

    @staticmethod
    def _look(message: Message, end: int) -> Message | Failure | str | None:
        """The message itself, None behind the end of its range, what is wrong, or "" for what passes by itself."""
        error = message.error()
        if error is None:
            return message if int(message.offset() or 0) < end else None
        if cause_of(error) is Cause.PARTITION_END:
            return None
        if error.retriable() and not error.fatal():
            return ""
        return fail(error, f"topic {message.topic()}", "READ")

    def _fetch(self) -> Sequence[Message]:
        return self._consumer.consume(BATCH, 0) or self._consumer.consume(1, 0.1)

    def _assign(self, ranges: Mapping[TopicPartition, Range]) -> None:
        from confluent_kafka import TopicPartition as Asked

        self._consumer.assign([Asked(*place, start) for place, (start, _) in sorted(ranges.items())])

    def _jump(self, offsets: Mapping[TopicPartition, int]) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka import TopicPartition as Asked

        for place, offset in offsets.items():
            with suppress(KafkaException):  # it is read over, then
                self._consumer.seek(Asked(*place, offset))

    def _let_go(self, places: Iterable[TopicPartition]) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka import TopicPartition as Asked

        gone = [Asked(*place) for place in sorted(places)]
        if gone:
            with suppress(KafkaException):
                self._consumer.incremental_unassign(gone)

    def close(self) -> None:
        """Close the consumer, which has nothing to leave."""
        with suppress(Exception):
            self._consumer.close()


def headers_of(messages: Sequence[Message]) -> list[Any]:
    """The headers of messages, in one call into C: `read_headers` swaps the decoder of names around it."""
    return list(map(_HEADERS, messages))


def to_batch(messages: Sequence[Message], cluster: str) -> Batch:
    """Messages as columns, all fields."""
    headers = read_headers(lambda: headers_of(messages))
    return Batch(
        [message.value() for message in messages],
        keys=[message.key() for message in messages],
        headers=[each or None for each in headers],
        timestamps=[message.timestamp() for message in messages],
        topics=[message.topic() for message in messages],
        partitions=[message.partition() for message in messages],
        offsets=[message.offset() for message in messages],
        cluster=cluster,
    )

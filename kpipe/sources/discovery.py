"""Looks, now and then, which topics and partitions a selection means by now: some are added, others go.

It reads no record and assigns nothing: it tells those who do. kpipe asks itself because the client looks at topics it
reads only every 5 min, and because no engine but kpipe's own may decide what a pattern means.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kpipe.errors import KpipeError
from kpipe.kafka.metadata import try_metadata
from kpipe.sources.selection import find_places, where

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from confluent_kafka import Consumer

    from kpipe.ledger import TopicPartition
    from kpipe.sources.extents import Extents
    from kpipe.sources.selection import Selection

ANSWER = 1.0
"""Seconds for the answer; without one the next look asks again."""


class Discovery:
    """Asks every `selection.refresh` seconds, with or without records to read. `known` are the places at the start."""

    def __init__(
        self,
        selection: Selection,
        consumer: Consumer,
        extents: Extents,
        known: Collection[TopicPartition],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._selection = selection
        self._consumer = consumer
        self._extents = extents
        self._known = known
        self._say = say
        self._clock = clock
        self._next = clock() + selection.refresh
        self._topics: set[str] | None = None

    def look(self, found: Callable[[list[TopicPartition]], None]) -> None:
        """Tell `found` all places there are, if it is time to ask.

        Unless the ends were fixed at the start: what is added later lies behind them.
        """
        now, selection = self._clock(), self._selection
        if now < self._next:
            return
        self._next = now + selection.refresh
        if self._extents.ends or self._extents.bounded:
            return
        named = len(selection.topics) == 1 and not selection.has_patterns
        metadata = try_metadata(self._consumer, ANSWER, selection.topics[0] if named else "")
        if metadata is None:
            return  # looked at again; what is assigned goes on
        with suppress(KpipeError):
            places = find_places(selection, metadata)
            self._say_change({topic for topic, _ in places})
            found(places)

    def hasten(self) -> None:
        """Look at the next occasion."""
        self._next = self._clock()

    def _say_change(self, topics: set[str]) -> None:
        if self._topics is None:
            self._topics = {topic for topic, _ in self._known}
        for topic in sorted(topics - self._topics):
            what = "a new topic that matches; read from its beginning"
            self._say(f"read: {where(self._selection.cluster, topic)}: {what}")
        for topic in sorted(self._topics - topics):
            what = "the topic was deleted; the others that match are read on"
            self._say(f"read: {where(self._selection.cluster, topic)}: {what}")
        self._topics = topics

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
from kpipe.sources.selection import find_places, is_pattern, where

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.ledger import TopicPartition
    from kpipe.sources.state import SourceState

ANSWER = 1.0
"""Seconds for the answer; without one the next look asks again."""


class Discovery:
    """Asks every `selection.refresh` seconds, with or without records to read; `found` gets all places there are."""

    def __init__(
        self,
        state: SourceState,
        found: Callable[[list[TopicPartition]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._found = found
        self._clock = clock
        self._next = clock() + state.selection.refresh
        self._topics: set[str] | None = None

    def look(self) -> None:
        """Ask if it is time to, unless the ends were fixed at the start: what is added later lies behind them."""
        now = self._clock()
        if now < self._next:
            return
        state, selection = self._state, self._state.selection
        self._next = now + selection.refresh
        if state.extents.ends or state.extents.bounded:
            return
        named = len(selection.topics) == 1 and not is_pattern(selection.topics[0])
        metadata = try_metadata(state.consumer, ANSWER, selection.topics[0] if named else "")
        if metadata is None:
            return  # looked at again; what is assigned goes on
        with suppress(KpipeError):
            places = find_places(selection, metadata, state.cluster, state.left_out)
            self._say_change({topic for topic, _ in places})
            self._found(places)

    def hasten(self) -> None:
        """Look at the next occasion."""
        self._next = self._clock()

    def _say_change(self, topics: set[str]) -> None:
        state = self._state
        if self._topics is None:
            self._topics = {topic for topic, _ in state.known}
        for topic in sorted(topics - self._topics):
            what = "a new topic that matches; read from its beginning"
            state.hooks.say(f"read: {where(state.cluster, topic)}: {what}")
        for topic in sorted(self._topics - topics):
            what = "the topic was deleted; the others that match are read on"
            state.hooks.say(f"read: {where(state.cluster, topic)}: {what}")
        self._topics = topics

"""`forward DLQ --to-origin`: the topics that letters came from, each looked up when the first letter for it comes.

It makes no topic.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from kpipe.errors import Exit, KpipeError
from kpipe.sinks.opening import Opening, add_topic
from kpipe.sinks.partitions import keep_partitions
from kpipe.sinks.to_origin import HomesSink, ToOrigin
from kpipe.trace import Destination

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.pipeline import PipelineStage
    from kpipe.sinks.outlet import Outlet
    from kpipe.sinks.target import Target
    from kpipe.sinks.topic import TopicSink


class Homes:
    """The topics that letters came from, each looked up when the first letter for it comes; none is created."""

    AGAIN = 10.0
    """Seconds after which a topic that was not there is looked for again."""

    def __init__(self, outlet: Outlet, clock: Callable[[], float] = time.monotonic) -> None:
        self._outlet = outlet
        self._clock = clock
        self._found: dict[str, Target] = {}
        self._gone: dict[str, tuple[float, KpipeError]] = {}

    def find(self, topic: str) -> Target:
        """The topic. KpipeError: it is not there; UnreachableError: nobody waits for its cluster any more."""
        if topic in self._found:
            return self._found[topic]
        until, gone = self._gone.get(topic, (0.0, None))
        if gone is not None and self._clock() < until:
            raise gone
        outlet = self._outlet
        try:
            found = outlet.away.wait_for(outlet.ready, topic, lambda: self._look_up(topic))
        except KpipeError as error:
            if error.exit_code is not Exit.UNREACHABLE:
                self._gone[topic] = (self._clock() + self.AGAIN, error)
            raise
        if not found.keeps_time:  # without a cluster: that a record was there before is what home means
            outlet.destinations[topic] = Destination("", topic, keeps_time=False)
        self._found[topic] = found
        return found

    def _look_up(self, topic: str) -> Target:
        outlet = self._outlet
        return add_topic(outlet.ready, topic, Opening(outlet.opening.timeout, outlet.away.given_up))

    def stage(
        self, letters: list[str], stamp: PipelineStage | None, cluster_id: str, max_attempts: int, prefix: str
    ) -> PipelineStage:
        """Finds each record's home and counts its attempts, before it writes the trace.

        `letters` are the topics of dead letters, on the cluster with that id.
        """
        home = self._outlet.ready.cluster_id
        return ToOrigin(
            home,
            letters,
            stamp or (lambda _batch: None),
            max_attempts=max_attempts,
            same_cluster=cluster_id == home,
            prefix=prefix,
            look_up=self.find,
        )

    def sink(self) -> HomesSink:
        """Sends to each record's own topic and partition, with the producer of this moment."""
        ready = self._outlet.ready

        def open_topic(topic: str) -> TopicSink:
            return replace(self.find(topic), producing=ready.producing).sink(keep_partitions)

        return HomesSink(ready.sink(None), open_topic)

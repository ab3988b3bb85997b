"""What a topic that forward writes to has to do with those it reads: none of them, and if it is made, made like them.

It reads and sends no record.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from kpipe.errors import KpipeError, Stage, UsageError
from kpipe.kafka.blueprints import Blueprint
from kpipe.sinks.opening import open_cluster, prepare_target
from kpipe.sinks.partitions import by_key_as_it_was, choose_partition
from kpipe.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpipe.clusters.address import Place
    from kpipe.clusters.profiles import Cluster
    from kpipe.plan.wiring import Wiring
    from kpipe.sinks.outlet import Outlet
    from kpipe.sinks.partitions import Choice
    from kpipe.sinks.target import Target
    from kpipe.sources.opening import OpenSource


class Copying:
    """The topics that are read, as the targets see them; `word` is what --to-partition says.

    With `old_keys` a key that is translated goes to the partition where it went before.
    """

    def __init__(
        self, opened: OpenSource, topics: Sequence[str], wiring: Wiring, word: str = "", *, old_keys: bool = False
    ) -> None:
        self._opened, self._topics, self._wiring = opened, topics, wiring
        self._word, self._old_keys = word, old_keys

    def open_target(self, place: Place, cluster: Cluster, own: dict[str, Any]) -> Target:
        """The topic to write to; for a mirror, which names none, that of its first source."""
        topic, topics = place.topic, self._topics
        if not topic:
            topic = self._first()
            topics = [topic]
        properties = self._wiring.properties(cluster, own)
        model = self._wiring.blueprint() or partial(self._like, topics)
        ready = prepare_target(topic, cluster, properties, self._wiring.opening, model)
        self.keep_apart(ready, topics)
        self.choose_partition(ready)  # one that is not there is found before anything is read
        return ready

    def open_home(self, _place: Place, cluster: Cluster, own: dict[str, Any]) -> Target:
        """With --to-origin: the cluster that the records came from; each has its own topic there."""
        return open_cluster(cluster, self._wiring.properties(cluster, own), self._wiring.opening, topic="its home")

    def namesake(self, cluster_id: str, topic: str) -> Blueprint:
        """What a topic that a mirror makes is like: the source of that name, or what --like names."""
        model = self._wiring.blueprint()
        return self._like([topic], cluster_id) if model is None else model(cluster_id)

    def make_namesakes(self, outlet: Outlet) -> None:
        """With --create a mirror is whole from the start: empty topics are made, too, or verify misses them."""
        if outlet.model is not None and self._wiring.sending.create:
            outlet.make(self._opened.names(self._topics))

    def keep_apart(self, ready: Target, topics: Sequence[str] | None = None) -> None:
        """A target is no source: named as both it is refused, and a pattern does not mean it."""
        opened, topics = self._opened, topics or self._topics
        if ready.topic in opened.names(topics):
            opened.tell_apart(ready)
        if opened.cluster_id and opened.cluster_id == ready.cluster_id and ready.topic in topics:
            raise UsageError("source and target are the same topic; forward to another one", where=ready.where)
        self._wiring.leave_out(opened, topics, ready)

    def choose_partition(self, ready: Target) -> Choice | None:
        """As for any target, but `same` needs as many partitions as the source has."""
        word = self._word
        if word == "same" and ready.partitions < (wanted := self._opened.partitions(self._topics)):
            what = f"has {counted(ready.partitions, 'partition')}, the source has {wanted}; add some or drop `same`"
            raise UsageError(what, where=ready.where)
        choice = choose_partition(word, self._wiring.sending.keyless, ready)
        if self._old_keys and not word:
            return by_key_as_it_was(choice, ready.partitions, ready.partitioner)
        return choice

    def _first(self) -> str:
        """The topic that a mirror begins with; others that are there are looked up when their first record comes."""
        names = self._opened.names(self._topics)
        if not names:
            where = f"{self._opened.cluster.name}:{' '.join(self._topics)}"
            raise KpipeError("no topic matches", where=where, stage=Stage.CONFIG)
        return names[0]

    def _like(self, topics: Sequence[str], cluster_id: str) -> Blueprint:
        """A target that is made has as many partitions as its source, on another cluster its settings, too."""
        from kpipe.kafka.blueprints import like
        from kpipe.kafka.connection import Connection

        opened, wiring = self._opened, self._wiring
        names = opened.names(topics)
        partitions = opened.partitions(topics)
        source = Connection(opened.cluster, wiring.connection.timeout, wiring.stopped)
        if cluster_id == opened.cluster_id or len(names) != 1 or source.is_embedded:
            return Blueprint(partitions, {})
        try:
            return like(source, names[0])
        except KpipeError as error:
            what = f"its settings cannot be copied: {error.what}; the new topic has the defaults"
            wiring.say(f"config: {names[0]}: {what}")
            return Blueprint(partitions, {})

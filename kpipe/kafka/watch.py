"""The clusters of a run, looked after while it goes on: it is told when one goes, is still away, and is back.

It asks a cluster only when a client complains of it, when records wait and none is acknowledged, and once a minute when
nothing moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpipe.kafka.client import label, open_admin
from kpipe.kafka.metadata import is_answered
from kpipe.kafka.presence import Presence

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.clusters.profiles import Cluster
    from kpipe.kafka.troubles import Troubles
    from kpipe.ledger import Ledger


NEW_CLIENT = 1.0
"""Seconds in which a new client connects and gets an answer; asked once a minute at most."""


class Watch:
    """Called once a turn. A cluster that several clients are connected to is one cluster."""

    def __init__(self, say: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        self._say, self._stopped = say, stopped
        self._presences: dict[str, Presence] = {}
        self._senders: dict[str, Callable[[Ledger], int]] = {}

    def add_source(
        self, cluster: Cluster, troubles: Troubles, client: Callable[[], Any], topic: str, read: Callable[[], int]
    ) -> Callable[[], bool]:
        """A cluster that is read: that the number of records `read` grows says that it is there.

        Returns what tells whether it seems not to answer.
        """
        presence = self._presence(cluster, troubles, client, topic)
        presence.moved = read
        return lambda: presence.is_doubted

    def add_target(
        self, cluster: Cluster, troubles: Troubles, client: Callable[[], Any], topic: str, *, letters: bool = False
    ) -> None:
        """A cluster that is written to, of records or of dead letters: what it acknowledges says that it is there.

        `topic` is one to ask for, empty where each record has its own.
        """
        self._presence(cluster, troubles, client, topic)
        self._senders.setdefault(label(cluster), lambda ledger: ledger.dead_lettered if letters else ledger.delivered)

    def start(self, ledger: Ledger) -> None:
        """From here on records are counted in `ledger`."""
        for name, count in self._senders.items():
            presence, read = self._presences[name], self._presences[name].moved
            presence.moved = lambda count=count, read=read: count(ledger) + read()  # type: ignore[misc]
            presence.waiting = lambda: ledger.waiting

    def __call__(self) -> None:
        """Look after all of them; not in a drain, whose time is counted and which says itself for what it waits."""
        if not self._stopped():
            for presence in self._presences.values():
                presence()

    def check(self) -> None:
        """UnreachableError when a client of this run does not find back to a cluster that is there."""
        for presence in self._presences.values():
            presence.check()

    def away(self) -> str:
        """Which clusters do not answer, for the live line; empty when all do."""
        return ", ".join(text for presence in self._presences.values() if (text := presence.away))

    def _presence(self, cluster: Cluster, troubles: Troubles, client: Callable[[], Any], topic: str) -> Presence:
        name = label(cluster)
        if name not in self._presences:
            advice = f"kpipe check {cluster.name}" if cluster.name else f"kpipe check -b {name}"
            self._presences[name] = Presence(
                name, lambda timeout: is_answered(client(), timeout, topic), self._say, advice, asking_anew(cluster)
            )
        troubles.listener = self._presences[name].hear
        return self._presences[name]


def asking_anew(cluster: Cluster) -> Callable[[], bool]:
    """What asks a cluster through a client that knows nothing but its bootstrap addresses."""

    def ask() -> bool:
        admin, _ = open_admin(cluster)
        return is_answered(admin, NEW_CLIENT)

    return ask

"""Waits for a cluster that a record is to go to and that cannot be asked for the topic.

It judges no record: one for such a cluster is neither skipped nor refused.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kpipe.clusters.address import place_name
from kpipe.errors import UnreachableError
from kpipe.kafka.client import label
from kpipe.kafka.diagnosis import ClusterFaultError
from kpipe.kafka.metadata import fetch_metadata
from kpipe.sinks.target import LOOK

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.sinks.target import Target
    from kpipe.transform.patterns import Patience

    Found = TypeVar("Found")


@dataclass(slots=True)
class Away:
    """Waits for a cluster that cannot be asked about a topic: a record for it is neither skipped nor refused.

    `patience` keeps the place in the group and says whether waiting still makes sense; `given_up` whether nobody waits
    any more; `limit` is in seconds (None: as long as it takes).
    """

    say: Callable[[str], None]
    patience: Patience
    given_up: Callable[[], bool]
    limit: float | None = None
    clock: Callable[[], float] = time.monotonic

    def wait_for(self, base: Target, topic: str, look_up: Callable[[], Found]) -> Found:
        """What `look_up` finds, once the cluster answers; UnreachableError when nobody waits for it any longer."""
        began, said = self.clock(), False
        while True:
            try:
                fetch_metadata(base.producer, base.troubles, LOOK, topic, self.given_up)
                return look_up()
            except UnreachableError as error:
                if isinstance(error, ClusterFaultError) and error.finding.is_definite:
                    raise
                over = self.limit is not None and self.clock() - began >= self.limit
                if over or not self.patience.go_on():
                    raise
                if not said:
                    said = True
                    where = place_name(label(base.cluster), topic)
                    self.say(f"send: {where}: records go there, and {error.what}; still trying")

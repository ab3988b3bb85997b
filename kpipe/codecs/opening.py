"""The schema registry that a run uses: its client, which waits for it, and the schemas it has.

Nothing heavy is imported where a cluster names no registry; nothing is asked of one yet.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kpipe.kafka.client import label

if TYPE_CHECKING:
    from collections.abc import Callable

    from kpipe.clusters.profiles import Cluster
    from kpipe.codecs.library import Library
    from kpipe.codecs.registry import Registry
    from kpipe.codecs.schema import ValueStyle

BETWEEN_LOOKS = 0.05
"""Seconds between two looks at the group and at signals while a registry is waited for."""


def open_library(
    cluster: Cluster,
    view: ValueStyle,
    stopped: Callable[[], bool],
    say: Callable[[str], None],
    keep_alive: Callable[[], None],
    *,
    keeps: bool,
) -> Library | None:
    """The schemas of a cluster's registry, None where it names none; `keeps` them on disk for the next run.

    A registry that is away is waited for as long as nobody stops the run; `keep_alive` is called meanwhile.
    """
    if not (cluster.registry or cluster.registry_references):
        return None
    from kpipe.codecs.connect import cache_folder
    from kpipe.codecs.library import Library

    registry = open_registry_of(cluster, stopped, say, keep_alive)
    return None if registry is None else Library(registry, view, cache_folder() if keeps else None)


def open_registry_of(
    cluster: Cluster, stopped: Callable[[], bool], say: Callable[[str], None], keep_alive: Callable[[], None]
) -> Registry | None:
    """The client of a cluster's registry, which waits for it as long as nobody stops the run."""
    from kpipe.codecs.connect import open_registry

    return open_registry(
        cluster,
        where=label(cluster),
        patience=None,
        stopped=stopped,
        waiting=_once_a_minute(say),
        sleep=lambda seconds: _sleep(seconds, stopped, keep_alive),
    )


def _sleep(seconds: float, stopped: Callable[[], bool], keep_alive: Callable[[], None]) -> None:
    end = time.monotonic() + seconds
    while not stopped() and time.monotonic() < end:
        keep_alive()
        time.sleep(min(BETWEEN_LOOKS, seconds))


def _once_a_minute(say: Callable[[str], None]) -> Callable[[str], None]:
    told: list[float] = []

    def tell(line: str) -> None:
        if not told or time.monotonic() - told[0] >= 60:
            told[:] = [time.monotonic()]
            say(line)

    return tell

"""`kpipe forward -G` while its broker dies or stands still.

While it runs it gives nothing up: it waits for its target without limit; after a signal it has a deadline.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.faults.conftest import FREEZE, RECORDS, Note
from tests.faults.course import BOTH, QUICK, Course, Way, stop, stop_frozen

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster, Rec
    from tests.conftest import Kpipe
    from tests.faults.proxy import Proxy


@BOTH
def test_broker_killed_and_restarted(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, way: Way, note: Note
) -> None:
    """kill -9 of the broker: the idempotent producer goes on where it was when the broker is back."""
    cluster, _ = lab
    course = Course(kpipe, cluster, stock, way)
    running = course.start()
    course.under_way(running)
    cluster.broker.kill()
    time.sleep(1)  # the time that it is away is the fault
    cluster.broker.start()
    course.to_the_end(running)
    stop(running)
    verdict = course.check(duplicates=way.allowed(RECORDS))
    note(way.command, "broker kill -9 and restart", verdict, way.promise())


@BOTH
def test_broker_frozen(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, way: Way, note: Note
) -> None:
    """A broker that stands still for a while costs time, nothing else."""
    cluster, _ = lab
    course = Course(kpipe, cluster, stock, way)
    running = course.start()
    course.under_way(running)
    cluster.broker.pause()
    time.sleep(FREEZE)
    cluster.broker.resume()
    course.to_the_end(running)
    stop(running)
    note(way.command, f"broker SIGSTOP for {FREEZE:.0f} s", course.check(duplicates=0), "0 lost, 0 twice, order kept")


@BOTH
def test_frozen_broker_does_not_hold_the_end_up(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, way: Way, note: Note
) -> None:
    """SIGTERM with a frozen broker: the drain deadline holds, unknown records are counted, the next run brings them."""
    cluster, _ = lab
    course = Course(kpipe, cluster, stock, way, options=(*QUICK, "--drain-timeout", "2"))
    running = course.start()
    course.under_way(running)
    took = stop_frozen(cluster, running)
    assert took < 2 + 4, took
    course.finish()
    verdict = course.check(duplicates=way.allowed(RECORDS))
    happened = f"{verdict}; ended after {took:.1f} s"
    promise = f"{way.promise()}; ends within the deadline of 2 s and 2 s more"
    note(way.command, "SIGTERM while the broker is frozen", happened, promise, records=verdict.records)

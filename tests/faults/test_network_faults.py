"""`kpipe forward -G` behind a network that resets, cuts, delays and swallows.

While it runs it gives nothing up: it waits for its target without limit.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.faults.conftest import FREEZE, LONG, RECORDS, RUNS, Note, fill
from tests.faults.course import AT_LEAST_ONCE, BOTH, Course, Way, stop

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster, Rec
    from tests.conftest import Kpipe
    from tests.faults.proxy import Proxy

HITS = max(4, RUNS)
FENCED = RECORDS // 2 + 10_000
"""Repeats allowed where the broken connection may be the group's: a member that lost its place reads on from the last
commit, and a second of this machine's speed is about 30,000 records. What the producer sends again is never written twice."""


@BOTH
def test_connections_reset_under_load(
    lab: tuple[Cluster, Proxy],
    stock: tuple[str, list[Rec]],
    kpipe: Kpipe,
    chance: random.Random,
    way: Way,
    note: Note,
) -> None:
    """RST at random moments: idempotence lets the broker drop what it has already."""
    cluster, proxy = lab
    course = Course(kpipe, cluster, stock, way, HITS * 0.8, address=proxy.address)
    running = course.start()
    course.under_way(running)
    for _ in range(HITS):
        proxy.reset_all()
        time.sleep(chance.uniform(0.1, 0.9))
    course.to_the_end(running)
    stop(running)
    verdict = course.check(duplicates=way.allowed(FENCED))
    note(way.command, "connections reset under load", verdict, way.promise(), runs=HITS)


@BOTH
def test_answers_cut_after_the_request(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, way: Way, note: Note
) -> None:
    """The broker did what was asked, and the answer never came: the hardest case for duplicates."""
    cluster, proxy = lab
    course = Course(kpipe, cluster, stock, way, HITS * 0.5, address=proxy.address)
    running = course.start()
    course.under_way(running)
    before = proxy.cuts
    for _ in range(3 * HITS):  # a run that has just lost its connections asks for nothing that could be cut
        if proxy.cuts - before >= HITS:
            break
        proxy.cut_answers(1)
        time.sleep(0.3)
    proxy.heal()
    course.to_the_end(running)
    stop(running)
    cuts = proxy.cuts - before
    assert cuts > HITS // 2
    verdict = course.check(duplicates=way.allowed(FENCED))
    note(way.command, "answer cut after the request was done", verdict, way.promise(), runs=cuts)


@BOTH
def test_silent_network(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, way: Way, note: Note
) -> None:
    """A black hole for a while: nothing is given up while forward runs."""
    cluster, proxy = lab
    course = Course(kpipe, cluster, stock, way, address=proxy.address)
    running = course.start()
    course.under_way(running)
    proxy.silent = True
    time.sleep(FREEZE)
    proxy.silent = False
    course.to_the_end(running)
    stop(running)
    note(way.command, f"black hole for {FREEZE:.0f} s", course.check(duplicates=0), "0 lost, 0 twice, order kept")


def test_slow_and_thin_network(lab: tuple[Cluster, Proxy], kpipe: Kpipe, note: Note) -> None:
    """Latency and little bandwidth: slower, and still a member of the group."""
    cluster, proxy = lab
    stock = fill(cluster, 10_000 if LONG else 2_000)
    course = Course(kpipe, cluster, stock, AT_LEAST_ONCE, address=proxy.address)
    proxy.latency_s, proxy.bytes_per_s = 0.05, 400_000
    course.finish()
    proxy.heal()
    note("forward", "50 ms latency, 400 kB/s", course.check(duplicates=0), "0 lost, 0 twice, order kept")

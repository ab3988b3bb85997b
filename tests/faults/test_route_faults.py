"""`kpipe forward -G` whose records are routed to two clusters, while one of the two stands still or dies."""

from __future__ import annotations

import signal
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.conftest import kafka_b  # noqa: F401 - a fixture
from tests.broker.lab.cluster import until
from tests.faults.conftest import RUNS, Note
from tests.faults.course import QUICK, slowly
from tests.faults.oracle import judge
from tests.faults.watch import watching

if TYPE_CHECKING:
    import random

    from tests.broker.lab.cluster import Cluster, Rec
    from tests.conftest import Kpipe
    from tests.faults.proxy import Proxy

WAIT = 60.0


def goes_far(record: Rec) -> bool:
    """Whether the route below sends a record to the other cluster."""
    return record.key is not None and record.key[-1:] in b"13579"


@pytest.mark.long
def test_a_routed_cluster_stands_still_while_forward_is_killed(
    lab: tuple[Cluster, Proxy],
    kafka_b: Cluster,  # noqa: F811
    stock: tuple[str, list[Rec]],
    kpipe: Kpipe,
    chance: random.Random,
    note: Note,
) -> None:
    """Frozen, thawed, killed and started again, with kpipe killed in between: what was read is on one of the two."""
    near, (source, records) = lab[0], stock
    group, target = f"g-{uuid.uuid4().hex[:8]}", near.topic(2)
    far = kafka_b.topic(2)
    config = "".join(
        f'[clusters.{name}]\n"bootstrap.servers" = "{cluster.bootstrap}"\n'
        for name, cluster in (("near", near), ("far", kafka_b))
    )
    route = f'if $meta.key and ($meta.key | test("[13579]$")) then "far:{far}" else null end'
    command = ("forward", "-G", group, *QUICK, "--route", route, "--route-allow", f"far:{far}")
    places = (f"near:{source}", f"near:{target}")
    pace = ("--rate", f"{len(records) // 4}/s")

    def committed() -> int:
        with watching(near.bootstrap, group) as watch:
            return watch.committed(source, 3) or 0

    for _ in range(RUNS):
        before = committed()
        running = kpipe.start(*command, *pace, *places, stdin=None, config=config)
        until(slowly(lambda: committed() > before or committed() == len(records)), "it moves", WAIT)  # noqa: B023
        if chance.random() < 0.5:
            kafka_b.broker.pause()
            time.sleep(chance.uniform(0.2, 1.5))
            running.signal(signal.SIGKILL)
            kafka_b.broker.resume()
        else:
            kafka_b.broker.kill()
            time.sleep(chance.uniform(0.2, 1.0))
            kafka_b.broker.start()
            time.sleep(chance.uniform(0.0, 0.5))
            running.signal(signal.SIGKILL)
        running.wait()
    done = kpipe(*command, "-e", *places, config=config, timeout=150)
    assert done.code == 0, done.err

    assert committed() == len(records)
    for what, cluster, topic, expected in (
        ("near", near, target, [record for record in records if not goes_far(record)]),
        ("far", kafka_b, far, [record for record in records if goes_far(record)]),
    ):
        verdict = judge(expected, cluster.read(topic))
        assert (verdict.lost, verdict.disorder, verdict.altered) == (0, 0, 0), f"{what}: {verdict}"
        fault = f"a routed cluster frozen or killed, forward kill -9 ({what} cluster)"
        note("forward --route", fault, verdict, "0 lost, repeats only of what was not committed, order kept", runs=RUNS)

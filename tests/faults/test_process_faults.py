"""`kpipe forward -G` killed, stopped, fenced and rebalanced, and under a clock that jumps.

At least once: what comes twice was delivered and not yet committed, and commits come once a second. Exactly once: nothing.
"""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import RECORDS, RUNS, Note, fill
from tests.faults.course import AT_LEAST_ONCE, BOTH, EXACTLY_ONCE, QUICK, WAIT, Course, Way, slowly, stop, stop_frozen

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster, Rec
    from tests.conftest import Kpipe
    from tests.faults.proxy import Proxy

A_SECOND = 2_000
"""Records a second in the runs that are killed."""
STEPPING = '''
import os, time
began, real = time.monotonic(), time.time
def stepping():
    """Every 0.2 s the clock of the wall is set, by hours or days, forth and back."""
    step = int((time.monotonic() - began) / 0.2)
    with open(os.environ["CLOCK_MARK"], "a") as mark:
        mark.write(f"{step}\\n")
    return real() + 3600 * (0, 7, -7, 50)[step % 4]
time.time, time.time_ns = stepping, lambda: int(stepping() * 1e9)
time.time()
'''


@BOTH
def test_kill_9_loses_nothing(
    lab: tuple[Cluster, Proxy],
    stock: tuple[str, list[Rec]],
    kpipe: Kpipe,
    chance: random.Random,
    way: Way,
    note: Note,
) -> None:
    """After kill -9 at random points a restart goes on where the commits were."""
    cluster, _ = lab
    count = RUNS * 2_000
    used = stock if count <= RECORDS else fill(cluster, count)
    # A static member gets its partitions back at once.
    course = Course(kpipe, cluster, used, way, len(used[1]) / A_SECOND, ("--instance", "lab"))
    hits = 0
    for number in range(RUNS):
        before = course.arrived()
        running = course.start()
        if number % 4 == 3:  # anywhere in its start
            time.sleep(chance.uniform(0, 0.8))
        else:
            running.wait_for(slowly(lambda before=before: course.arrived() > before), WAIT, "a run in mid-stream")
            time.sleep(chance.uniform(0, 1.2))
        assert running.process.poll() is None, running.err
        running.signal(signal.SIGKILL)
        running.wait(10)
        hits += course.committed() < len(used[1])
    assert hits == RUNS, "the source was too short"
    course.finish()
    # Per kill: what was settled since the last commit, and what was in flight.
    verdict = course.check(duplicates=way.allowed(RUNS * 2 * A_SECOND))
    note(way.command, "kill -9 at random points", verdict, way.promise(), runs=RUNS)


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_mid_stream_neither_loses_nor_repeats(
    lab: tuple[Cluster, Proxy],
    stock: tuple[str, list[Rec]],
    kpipe: Kpipe,
    number: signal.Signals,
    way: Way,
    note: Note,
) -> None:
    """A signal drains: what was read is delivered and committed, so the next run repeats nothing."""
    cluster, _ = lab
    course = Course(kpipe, cluster, stock, way)
    running = course.start()
    course.under_way(running)
    running.signal(number)
    assert running.wait(20).code == -number, running.err
    course.finish()
    note(way.command, f"{number.name} in mid-stream", course.check(duplicates=0), "0 lost, 0 twice, dies by the signal")


@BOTH
def test_members_come_and_go_under_load(
    lab: tuple[Cluster, Proxy],
    stock: tuple[str, list[Rec]],
    kpipe: Kpipe,
    chance: random.Random,
    way: Way,
    note: Note,
) -> None:
    """Two members; one is killed or stopped at random and another comes: partitions move, nothing is lost."""
    cluster, _ = lab
    rounds = max(3, min(RUNS, 20))
    # A part of the time nobody has the partitions, and two members are twice as fast.
    course = Course(kpipe, cluster, stock, way, 2.0 * rounds, QUICK)
    members = [(slot, course.start(env={"KPIPE_SLOT": slot})) for slot in ("a", "b")]
    course.under_way(members[0][1])
    for _ in range(rounds):
        time.sleep(chance.uniform(0.5, 1.5))
        slot, leaving = members.pop(chance.randrange(2))
        assert leaving.process.poll() is None, leaving.err
        leaving.signal(chance.choice([signal.SIGTERM, signal.SIGKILL]))
        leaving.wait(20)
        members.append((slot, course.start(env={"KPIPE_SLOT": slot})))
    for _, member in members:
        member.signal(signal.SIGTERM)
    for _, member in members:
        member.wait(30)
    for slot in ("a", "b"):  # each aborts what was left open under its transactional id
        course.finish(env={"KPIPE_SLOT": slot})
    verdict = course.check(duplicates=way.allowed(rounds * 10_000))
    note(way.command, "members join, leave and die under load", verdict, way.promise(), runs=rounds)


def test_a_second_process_with_the_same_transactional_id(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, note: Note
) -> None:
    """The younger one fences the older, which ends and says so; the younger one goes on."""
    cluster, _ = lab
    course = Course(kpipe, cluster, stock, EXACTLY_ONCE, 5, QUICK, env={"KPIPE_SLOT": "7"})
    first = course.start()
    course.under_way(first)
    second = course.start()
    fenced = first.wait(30)
    assert fenced.code == 1, fenced.err
    assert "another process uses this transactional id" in fenced.err
    course.to_the_end(second)
    stop(second)
    note(
        "forward --exactly-once",
        "fenced by a second process",
        course.check(duplicates=0),
        "the older ends with 1; 0 twice",
    )


def test_steps_of_the_clock(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, tmp_path: Path, note: Note
) -> None:
    """The wall clock jumps by days: all arrives with its own times, and the drain keeps its deadline."""
    cluster, _ = lab
    mark = tmp_path / "mark"
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(STEPPING)
    env = {"PYTHONPATH": str(tmp_path / "clock"), "CLOCK_MARK": str(mark)}
    # --min-age asks for the wall clock all the time.
    options = ("--instance", "lab", "--drain-timeout", "2", "--min-age", "1ms", "--rate", "3000/s")
    course = Course(kpipe, cluster, stock, AT_LEAST_ONCE, 4, options, env=env)
    running = course.start()
    course.under_way(running)
    time.sleep(0.5)
    took = stop_frozen(cluster, running)
    assert took < 2 + 4, took
    following = course.start()
    course.to_the_end(following)
    stop(following)
    steps = len(set(mark.read_text().split()))
    assert steps > 3, "nobody looked at the clock"
    verdict = course.check(duplicates=RECORDS)
    note("forward", f"{steps} steps of the wall clock, by up to 57 h", verdict, "0 lost, times kept, deadlines hold")

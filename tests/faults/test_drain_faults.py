"""The drain of a run whose client fails or hangs, whose dead letters freeze, whose filters and patterns never end."""

from __future__ import annotations

import os
import signal
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.runs import balance
from tests.faults.conftest import LONG, Note
from tests.faults.watch import watching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster, Rec
    from tests.conftest import Kpipe, Running
    from tests.faults.proxy import Proxy

DRAIN = 1.5
IN_TIME = DRAIN + 1.0 + (0.75 if (os.cpu_count() or 1) > 1 else 1.5)
FAILING = '''
"""The client with one call that raises what the client raises, once a file is there."""
import os
import confluent_kafka

kind, name = os.environ["BAD_CALL"].split(".")
base = getattr(confluent_kafka, kind)
real = getattr(base, name)

class Failing(base):
    pass

def fail(self, *arguments, **named):
    if os.path.exists(os.environ["BAD_MARK"]):
        raise confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._STATE, "scripted"))
    return real(self, *arguments, **named)

setattr(Failing, name, fail)
setattr(confluent_kafka, kind, Failing)
'''
CALLS = [
    "Producer.flush", "Producer.poll", "Producer.purge", "Producer.close", "Producer.produce", "Consumer.consume",
    "Consumer.commit", "Consumer.close", "Consumer.unsubscribe", "Consumer.assignment", "Consumer.pause",
]  # fmt: skip
TRANSACTION = [
    "Producer.send_offsets_to_transaction", "Producer.commit_transaction", "Producer.abort_transaction",
    "Consumer.consumer_group_metadata",
]  # fmt: skip


def ended_in_time(running: Running) -> int:
    began = time.monotonic()
    running.signal(signal.SIGTERM)
    code = running.wait(30).code
    assert time.monotonic() - began < IN_TIME, running.err
    for raw in ("Traceback", "KafkaError{", "internal error"):
        assert raw not in running.err, running.err
    return code


@pytest.mark.timeout(600)
def test_an_exception_in_each_step_of_the_drain(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, tmp_path: Path, note: Note
) -> None:
    """Whatever raises, the balance is drawn and nothing is committed that is not in the target."""
    cluster, _ = lab
    source, _ = stock
    home = tmp_path / "bad"
    home.mkdir()
    (home / "sitecustomize.py").write_text(FAILING)
    calls = [((), call) for call in CALLS] + [(("--exactly-once",), call) for call in TRANSACTION]
    for number, (way, call) in enumerate(calls):
        target, name, mark = cluster.topic(), f"g-{uuid.uuid4().hex[:8]}", tmp_path / f"mark-{number}"
        summary = tmp_path / f"{number}.json"
        running = kpipe.at(cluster.bootstrap).start(
            "forward", "-G", name, *way, "--drain-timeout", str(DRAIN), "--summary", summary,
            "-X", "target.queue.buffering.max.messages=50", "-X", "target.linger.ms=50", source, target,
            env={"PYTHONPATH": str(home), "BAD_CALL": call, "BAD_MARK": str(mark)},
        )  # fmt: skip
        with watching(cluster.bootstrap) as watch:
            running.wait_for(lambda: watch.arrived(target, 1) or 0, 30, "the first record in the target")  # noqa: B023
        mark.touch()
        code = ended_in_time(running)
        found = balance(summary)
        # 4: a coordinator that did not answer before the deadline, on a busy machine
        assert code in (0, 1, 4, -signal.SIGTERM), (call, running.err)
        committed = sum(max(0, offset) for offset in cluster.committed(name, source).values())
        assert committed <= len(cluster.read(target)), call
        assert committed <= found["delivered"] + found["unknown"], (call, found)
        running.end()
    what = "the balance drawn each time, nothing committed that is not in the target"
    note("forward", "an exception in each step of the drain", what, "the same", runs=len(calls))


def test_dead_letters_whose_cluster_freezes(
    lab: tuple[Cluster, Proxy], kpipe: Kpipe, tmp_path: Path, note: Note
) -> None:
    """They fill their queue; the run answers a signal all the same, and what was no letter yet is not committed."""
    cluster, proxy = lab
    source, target, letters = cluster.topic(), cluster.topic(), cluster.topic()
    count = 20_000 if LONG else 3_000
    cluster.write(source, [b"bad %d" % number for number in range(count)])
    far = cluster.broker.address("PROXIED")
    config = f'[clusters.far]\n"bootstrap.servers" = "{far}"\n"queue.buffering.max.messages" = "10"\n'
    summary, name = tmp_path / "summary.json", f"g-{uuid.uuid4().hex[:8]}"
    running = kpipe.start(
        "forward", "-b", cluster.bootstrap, "-G", name, "--key-field", ".a", "--on-error", f"dlq:far:{letters}",
        "--drain-timeout", str(DRAIN), "--summary", summary, source, target, config=config,
    )  # fmt: skip
    with watching(cluster.bootstrap) as watch:
        running.wait_for(lambda: watch.arrived(letters, 1) or 0, 30, "the first letter")
    proxy.silent = True
    time.sleep(0.5)  # letters must wait for an answer; longer only makes them more
    code = ended_in_time(running)
    proxy.heal()
    found = balance(summary)
    committed = cluster.committed(name, source).get(0, 0)
    assert code == 1, running.err
    assert committed <= found["dead_lettered"]
    done = kpipe(
        "forward", "-b", cluster.bootstrap, "-G", name, "-e", "--key-field", ".a", "--on-error", f"dlq:far:{letters}",
        source, target, config=config, timeout=120,
    )  # fmt: skip
    assert done.code == 0, done.err
    kept = {record.value for record in cluster.read(letters)}
    assert len(kept) == count
    note("forward", "a dead-letter cluster that freezes", f"0 of {count:,} lost, the drain in time", "the same")


@pytest.mark.parametrize("filtering", ["--through", "--through-json"])
def test_a_filter_that_never_ends_a_line(
    lab: tuple[Cluster, Proxy], stock: tuple[str, list[Rec]], kpipe: Kpipe, filtering: str, note: Note
) -> None:
    cluster, _ = lab
    target, name = cluster.topic(), f"g-{uuid.uuid4().hex[:8]}"
    done = kpipe.at(cluster.bootstrap)(
        "forward", "-G", name, "-e", filtering, "exec cat /dev/zero", stock[0], target, timeout=60
    )
    assert done.code != 0
    assert "without the end of a line" in done.err
    assert sum(cluster.committed(name, stock[0]).values() or [0]) <= 0
    note("forward", f"{filtering} with a line that never ends", "ended, nothing committed", "bounded memory, told")


def test_a_pattern_that_backtracks(lab: tuple[Cluster, Proxy], kpipe: Kpipe, tmp_path: Path, note: Note) -> None:
    cluster, _ = lab
    source, target, name = cluster.topic(), cluster.topic(), f"g-{uuid.uuid4().hex[:8]}"
    cluster.write(source, [b"aaa", *[b"a" * 60 + b"!"] * 100])
    summary = tmp_path / "summary.json"
    running = kpipe.at(cluster.bootstrap).start(
        "forward", "-G", name, "--grep", "(a+)+$", "--on-error", "skip", "--drain-timeout", str(DRAIN),
        "--summary", summary, source, target,
    )  # fmt: skip
    running.wait_until_busy(2)
    ended_in_time(running)
    found = balance(summary)
    assert cluster.committed(name, source).get(0, 0) <= found["delivered"] + found["failed"]
    note("forward", "a pattern that backtracks", "the signal answered in time", "drain timeout and a second")

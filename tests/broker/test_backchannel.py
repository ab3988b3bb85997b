"""A shell pipeline whose far end acknowledges: killed anywhere, nothing is lost, because nothing else is committed."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Cluster, Rec, until
from tests.broker.lab.runs import group

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Kpipe, Running

COUNT = 600


class Pipe:
    """consume | filter | produce, as a shell would start them."""

    def __init__(self, kpipe: Kpipe, kafka: Cluster, home: Path, source: str, target: str, name: str) -> None:
        self.kpipe, self.path = kpipe.at(kafka.bootstrap), home / "acks"
        self._source, self._target, self._name = source, target, name

    def start(self, command: list[str], *arguments: str) -> tuple[Running, subprocess.Popen[bytes], Running]:
        first_read, first_write = os.pipe()
        second_read, second_write = os.pipe()
        consume = self.kpipe.start(
            "consume", "-G", self._name, "-J", "--commit-acked", self.path, *arguments, self._source, stdout=first_write
        )
        filtering = subprocess.Popen(command, stdin=first_read, stdout=second_write)
        produce = self.kpipe.start("produce", "--input", "json", "--ack", self.path, self._target, stdin=second_read)
        for end in (first_read, first_write, second_read, second_write):
            os.close(end)
        return consume, filtering, produce

    def run(self, command: list[str], *arguments: str) -> tuple[int, int, int, str]:
        consume, filtering, produce = self.start(command, *arguments)
        return consume.wait().code, filtering.wait(20), produce.wait().code, consume.err


@pytest.fixture
def pipe(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> Pipe:
    source = kafka.topic(2)
    kafka.write(source, [Rec(b"%d" % n, partition=n % 2) for n in range(COUNT)])
    return Pipe(kpipe, kafka, tmp_path, source, kafka.topic(), group())


def delivered(kafka: Cluster, pipe: Pipe) -> list[int]:
    return [int(each.value or b"") for each in kafka.read(pipe._target)]


def committed(kafka: Cluster, pipe: Pipe) -> dict[int, int]:
    return kafka.committed(pipe._name, pipe._source)


@pytest.mark.parametrize("arguments", [["--acks", "in-order"], ["--acks", "each"]], ids=["in-order", "each"])
def test_all_that_came_through_is_committed(kafka: Cluster, pipe: Pipe, arguments: list[str]) -> None:
    assert pipe.run(["cat"], "-e", *arguments)[:3] == (0, 0, 0)
    assert sorted(delivered(kafka, pipe)) == list(range(COUNT))
    assert committed(kafka, pipe) == {0: COUNT // 2, 1: COUNT // 2}
    assert not pipe.path.exists()


def test_a_filter_that_drops_leaves_only_the_tail_uncommitted(kafka: Cluster, pipe: Pipe) -> None:
    *codes, said = pipe.run(["grep", "-v", '"value":"59[0-9]"'], "-e")
    assert codes == [0, 0, 0]
    assert sorted(delivered(kafka, pipe)) == list(range(590))
    assert committed(kafka, pipe) == {0: 295, 1: 295}
    assert "come again at the next start" in said


def test_trust_end_commits_the_tail(kafka: Cluster, pipe: Pipe) -> None:
    assert pipe.run(["grep", "-v", '"value":"59[0-9]"'], "-e", "--trust-end") == (0, 0, 0, "")
    assert committed(kafka, pipe) == {0: 300, 1: 300}


def test_a_filter_that_reorders_is_waited_for_record_by_record(kafka: Cluster, pipe: Pipe) -> None:
    assert pipe.run(["tac"], "-e", "--acks", "each")[:3] == (0, 0, 0)
    assert delivered(kafka, pipe)[0] in (COUNT - 2, COUNT - 1), "the last of one partition or the other"
    assert committed(kafka, pipe) == {0: 300, 1: 300}


def held_back(passing: int) -> list[str]:
    """A filter that passes the first lines at once and keeps all others to itself."""
    return [
        "python3",
        "-uc",
        f"import sys, time\nfor n, line in enumerate(sys.stdin):\n    n < {passing} and print(line, end='')",
    ]


@pytest.mark.parametrize("victim", ["consume", "filter", "produce"])
def test_killed_anywhere_nothing_is_lost(kafka: Cluster, pipe: Pipe, victim: str) -> None:
    """The filter holds 500 records when one of the three is killed; the next run brings all that is missing."""
    consume, filtering, produce = pipe.start(held_back(100))
    until(lambda: len(kafka.read(pipe._target)) == 100, "100 records at the target")
    until(lambda: sum(committed(kafka, pipe).values()) >= 100, "they are committed")
    before = committed(kafka, pipe)
    pids = {"consume": consume.process, "filter": filtering, "produce": produce.process}
    pids[victim].send_signal(signal.SIGKILL)
    if victim != "consume":
        kafka.write(pipe._source, [Rec(b"%d" % n, partition=n % 2) for n in range(COUNT, COUNT + 10)])
    filtering.wait(20) if victim == "filter" else None
    if victim != "consume":
        assert consume.wait().code != 0
    assert produce.wait().code in (0, -signal.SIGKILL)
    filtering.wait(20)
    assert committed(kafka, pipe) == before
    assert sum(before.values()) == 100, "a record that is not at the target was committed"

    # A killed member keeps its partitions until its session is over; another group shows the same offsets.
    again = Pipe(pipe.kpipe, kafka, pipe.path.parent, pipe._source, pipe._target, group())
    copy_offsets(kafka, pipe, again)
    assert again.run(["cat"], "-e")[:3] == (0, 0, 0)
    total = COUNT + (0 if victim == "consume" else 10)
    assert sorted(delivered(kafka, pipe)) == list(range(total))
    assert sum(committed(kafka, again).values()) == total


def copy_offsets(kafka: Cluster, pipe: Pipe, again: Pipe) -> None:
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

    offsets = [TopicPartition(pipe._source, partition, offset) for partition, offset in committed(kafka, pipe).items()]
    asked = kafka.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(again._name, offsets)])
    asked[again._name].result(10)


def test_the_socket_is_private_and_a_stale_one_is_replaced(kafka: Cluster, pipe: Pipe) -> None:
    consume, filtering, produce = pipe.start(["cat"])
    until(lambda: len(kafka.read(pipe._target)) == COUNT, "all records at the target")
    mode = pipe.path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    taken = pipe.kpipe("consume", "-G", "other", "-e", "-J", "--commit-acked", pipe.path, pipe._source)
    assert taken.code == 2
    assert "another kpipe listens there" in taken.err
    consume.signal(signal.SIGKILL)
    consume.process.wait(10)
    produce.wait()
    filtering.wait(10)
    assert pipe.path.exists()
    again = Pipe(pipe.kpipe, kafka, pipe.path.parent, pipe._source, kafka.topic(), group())
    assert again.run(["cat"], "-e")[:3] == (0, 0, 0)


def test_nobody_at_the_far_end_commits_nothing(kafka: Cluster, pipe: Pipe) -> None:
    run = pipe.kpipe("consume", "-G", pipe._name, "-e", "-J", "--commit-acked", pipe.path, pipe._source)
    assert run.code == 1
    assert "nobody acknowledged anything" in run.err
    assert set(committed(kafka, pipe).values()) <= {0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["consume", "-J", "--commit-acked", "p", "t"], "add -G"),
        (["consume", "-G", "g", "--commit-acked", "p", "t"], "add -J"),
        (["consume", "-G", "g", "--trust-end", "t"], "add it"),
        (["consume", "-G", "g", "-J", "--acks", "some", "--commit-acked", "p", "t"], "--acks"),
        (["produce", "--ack", "p", "t"], "--input json"),
    ],
)
def test_options_that_do_not_fit(kpipe: Kpipe, arguments: list[str], said: str) -> None:
    run = kpipe(*arguments)
    assert run.code == 2
    assert said in run.err


def test_who_waits_at_the_end_of_a_pipe_says_for_what(kafka: Cluster, pipe: Pipe) -> None:
    """awk holds its last block until its input ends, and timeout(1) around consume keeps that from ending."""
    running, filtering, produce = pipe.start(["sh", "-c", "cat >/dev/null; sleep 30"], "-e")
    running.wait_for_stderr("commit: waiting for the far end of the pipe to acknowledge")
    assert "timeout 30 sh -c" in running.err
    assert running.err.count("commit: waiting") == 1
    filtering.kill()
    filtering.wait(10)
    produce.signal(signal.SIGTERM)
    running.signal(signal.SIGTERM)
    assert running.wait(20).code in (-signal.SIGTERM, 1)


@pytest.mark.parametrize("noise", [b"x" * (1 << 20), b"[" * 100_000 + b"\n", b'{"acks":[["t",0,[' + b"1," * 200_000])
def test_what_no_kpipe_wrote_is_neither_kept_nor_an_internal_error(kafka: Cluster, pipe: Pipe, noise: bytes) -> None:
    """A line of any length was read into memory, and one that is deep enough was an internal error."""
    running = pipe.kpipe.start("consume", "-G", pipe._name, "-J", "--commit-acked", pipe.path, pipe._source)
    with socket.socket(socket.AF_UNIX) as far:
        # The path is there before anybody listens.
        running.wait_for(lambda: far.connect_ex(str(pipe.path)) == 0, 20, "the socket")
        far.settimeout(10)
        try:
            far.sendall(noise)
            far.recv(1)  # until it hangs up
        except OSError:
            pass
        done = running.wait(20)
    assert done.code == 1, done.err
    assert "the far end went away" in done.err
    assert "internal error" not in done.err
    assert set(kafka.committed(pipe._name, pipe._source).values()) <= {0}

"""`kpipe tail`: the last records, then what comes; merged by time, and nothing left out."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pexpect

from tests.broker.lab.cluster import Rec
from tests.conftest import COMMAND

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

T0 = int(time.time() * 1000) - 3_600_000


def values(out: bytes) -> list[str]:
    return [json.loads(line)["value"] for line in out.decode().splitlines()]


def test_the_last_of_each_partition_in_the_order_of_time(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, other = kafka.topic(2), kafka.topic()
    kafka.write(topic, [Rec(b"%d" % n, partition=n % 2, timestamp=T0 + n) for n in range(10)])
    kafka.write(other, [Rec(b"between", timestamp=T0 + 7)])
    at = kpipe.at(kafka.bootstrap)
    assert values(at("tail", "-J", "--no-follow", "-n", "2", topic, other).out) == ["6", "7", "between", "8", "9"]
    assert values(at("tail", "-J", "--no-follow", "-n", "0", topic).out) == []
    assert values(at("tail", "-J", "--no-follow", "--since", f"{T0 + 8}ms", topic).out) == ["8", "9"]
    assert values(at("tail", "-J", "--no-follow", "-p", "1", "-n", "1", topic).out) == ["9"]


def test_markers_do_not_count_as_records(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    for n in range(6):
        kafka.write(topic, [b"%d" % n], transaction="abort" if n == 4 else "commit")
    assert values(kpipe.at(kafka.bootstrap)("tail", "-J", "--no-follow", "-n", "3", topic).out) == ["2", "3", "5"]


def test_two_clusters_are_followed_and_nothing_is_left_out(kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe) -> None:
    here, there = kafka.topic(2), kafka_b.topic()
    config = f'[clusters.a]\n"bootstrap.servers" = "{kafka.bootstrap}"\n[clusters.b]\n"bootstrap.servers" = "{kafka_b.bootstrap}"\n'
    kafka.write(here, [b"first"])
    running = kpipe.start("tail", f"a:{here}", f"b:{there}", config=config)
    running.wait_for_stdout(b"first")
    kafka.write(here, [b"here-%d" % n for n in range(500)])
    kafka_b.write(there, [b"there-%d" % n for n in range(500)])
    running.wait_for(lambda: running.out.count(b"\n") == 1001, what="every record")
    lines = running.out.decode().splitlines()
    assert {line.split()[2].split("[")[0] for line in lines} == {f"a:{here}", f"b:{there}"}
    assert {line.split()[-1] for line in lines[1:]} == {
        f"{place}-{n}" for place in ("here", "there") for n in range(500)
    }
    running.signal(signal.SIGINT)
    assert running.wait().code == -signal.SIGINT
    groups = kafka.admin.list_consumer_groups(request_timeout=10).result(15).valid
    assert "kpipe-without-group" not in {each.group_id for each in groups}


def test_a_reader_that_goes_away_ends_it_silently(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, [b"x" * 1000] * 100)
    read, write = os.pipe()
    running = kpipe.at(kafka.bootstrap).start("tail", topic, "-n", "100", stdout=write)
    os.close(write)
    os.read(read, 10)
    os.close(read)
    kafka.write(topic, [b"more"])
    assert running.process.wait(20) == -signal.SIGPIPE
    assert running.err == ""


def test_a_terminal_gets_colours_and_folds(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, [Rec(b'{"text":"' + b"x" * 200 + b'"}', b"\x1b[31mkey")])
    for env, colored in (({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
        child = pexpect.spawn(
            str(COMMAND),
            ["tail", "-b", kafka.bootstrap, "--no-follow", topic],
            env={**kpipe.environment(), **env},
            dimensions=(40, 80),
            timeout=30,
        )
        child.expect(pexpect.EOF)
        shown = child.before.decode()
        child.close()
        assert ("\x1b[38;5;" in shown) is colored
        assert "\x1b[31mkey" not in shown
        assert "\\x1b[31mkey" in shown


def test_consume_can_print_for_people_too(kafka: Cluster, kpipe: Kpipe) -> None:
    topic = kafka.topic()
    kafka.write(topic, [Rec(b"v", b"k", (("h", b"1"),))])
    line = kpipe.at(kafka.bootstrap)("consume", "-e", "--output", "pretty", topic).out.decode()
    assert line.endswith(f"  {topic}[0]@0  key=k  h=1  v\n")
    assert kpipe.at(kafka.bootstrap)("consume", "-e", "--output", "pretty", "-J", topic).code == 2

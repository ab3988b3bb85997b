"""The whole chain on real clusters: transforms, routes, splits, filters, further targets, dry runs and throttles."""

from __future__ import annotations

import json
import signal
import sys
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec, dense
from tests.broker.lab.runs import group
from tests.conftest import Result

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

QUIET = Result(0, b"", "")


@pytest.fixture
def config(kafka: Cluster, kafka_b: Cluster) -> str:
    return f"""
        [clusters.a]
        "bootstrap.servers" = "{kafka.bootstrap}"
        [clusters.b]
        "bootstrap.servers" = "{kafka_b.bootstrap}"
    """


def values(cluster: Cluster, topic: str) -> list[bytes | None]:
    return [record.value for record in cluster.read(topic)]


def count(cluster: Cluster, topic: str) -> int:
    """Records that can be read now."""
    return len(cluster.read(topic))


def committed(cluster: Cluster, name: str, topic: str) -> int:
    return sum(max(0, offset) for offset in cluster.committed(name, topic).values())


# --- the chain, routes and splits --------------------------------------------------------------------------------


def test_the_chain_runs_in_the_order_of_the_command_line_and_of_a_file(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path
) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, [b'{"n":1}', b'{"n":2}', b'{"n":3}'])
    chain = tmp_path / "chain.toml"
    chain.write_text('[[transform]]\nmap = ".n * 10"\n[[transform]]\nregex-replace = "s/0/x/"\n')
    run = kpipe.at(kafka.bootstrap)

    result = run("forward", "-e", "--filter", ".n > 1", "--transforms", chain, "--set-key", "{value}", source, target)

    assert result == QUIET
    assert [(r.key, r.value) for r in kafka.read(target)] == [(b"2x", b"2x"), (b"3x", b"3x")]
    assert run("consume", "-e", "--transforms", chain, source).out == b"1x\n2x\n3x\n"
    assert "chain.toml" in run("consume", "-e", "--transforms", tmp_path / "no-chain.toml", source).err


def test_routes_go_to_allowed_topics_and_refuse_the_others_with_their_position(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(retention_ms=-1), kafka.topic()
    home = f"r-{uuid.uuid4().hex[:8]}"
    kafka.topic(3, name=f"{home}-de")
    kafka.write(source, [b'{"c":"de"}', b'{"c":"fr"}', b'{"c":"secret"}', b"{}", b'{"c":"de"}'])
    route = ["--route", f'if .c then "{home}-" + .c else null end', "--route-allow", f"{home}-??"]
    run = kpipe.at(kafka.bootstrap)

    stopped = run("forward", "-e", *route, source, target)
    assert stopped.code == 3
    assert f"{source}[0]@1" in stopped.err
    assert f"{home}-fr: no such topic" in stopped.err

    skipped = run("forward", "-e", "--on-error", "skip", *route, source, target)
    assert skipped.code == 1
    assert f"{source}[0]@2" in skipped.err
    assert "not allowed" in skipped.err
    assert values(kafka, f"{home}-de") == [b'{"c":"de"}'] * 3  # one of them from the run that stopped
    assert values(kafka, target) == [b"{}"]

    created = run("forward", "-e", "--on-error", "skip", "--create", *route, source, target)
    assert created.code == 1
    assert values(kafka, f"{home}-fr") == [b'{"c":"fr"}']


def test_a_route_back_to_the_source_is_a_loop(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic()
    kafka.write(source, [b"x"])
    result = kpipe.at(kafka.bootstrap)("forward", "-e", "--rename-topic", "^(.*)$=\\1", source, target)
    assert result.code == 1
    assert "would loop" in result.err
    assert len(kafka.read(source)) == 1


def test_a_split_with_a_bad_child_sends_nothing_of_its_record(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    kafka.write(source, [b'["1","2"]', b'["3","x"]', b'["4"]'])
    chain = ["--split", ".[]", "--map", "tonumber"]
    run = kpipe.at(kafka.bootstrap)

    assert run("forward", "-e", "-G", name, *chain, source, target).code == 3
    assert values(kafka, target) == [b"1", b"2"]
    assert committed(kafka, name, source) == 1

    done = run("forward", "-e", "-G", name, "--on-error", "skip", "-v", *chain, source, target)
    assert "2 read, 1 delivered, 1 failed" in done.err
    assert values(kafka, target) == [b"1", b"2", b"4"]
    assert committed(kafka, name, source) == 3


# --- further targets -----------------------------------------------------------------------------------------------


def test_fan_out_waits_for_a_frozen_cluster_and_loses_nothing(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str
) -> None:
    source, near, far, also = kafka.topic(2), kafka.topic(2), kafka_b.topic(2), kafka.topic()
    name = group()
    kafka.write(source, [Rec(b"%d" % n, b"k%d" % n) for n in range(1000)])
    run = kpipe.start(
        "forward", "-G", name, "--tee", f"b:{far}", "--also", f"a:{also}", f"a:{source}", f"a:{near}", config=config
    )
    run.wait_for(lambda: committed(kafka, name, source) == 1000, what="all committed")

    kafka_b.broker.pause()
    kafka.write(source, [Rec(b"%d" % n, b"k%d" % n) for n in range(1000, 1500)])
    run.wait_for(lambda: count(kafka, near) == 1500 and count(kafka, also) == 1500, what="the near ones have all")
    assert committed(kafka, name, source) == 1000  # what one target has not acknowledged is not settled
    kafka_b.broker.resume()
    run.wait_for(lambda: committed(kafka, name, source) == 1500, 40, what="all committed after the thaw")

    run.signal(signal.SIGTERM)
    assert run.wait().code == -signal.SIGTERM
    for cluster, topic in ((kafka, near), (kafka_b, far), (kafka, also)):
        assert sorted(int(v or b"") for v in values(cluster, topic)) == list(range(1500))
    traced = dict(kafka_b.read(far)[0].headers)
    assert traced["source_topic"] == source.encode()
    assert "trace_hops" not in traced


def test_a_failure_at_a_further_target_names_its_cluster(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str
) -> None:
    source, near, far, name = kafka.topic(), kafka.topic(), kafka_b.topic(max_message_bytes=2000), group()
    kafka.write(source, [b"small", dense(5000), b"small"])
    result = kpipe("forward", "-e", "-G", name, "--tee", f"b:{far}", f"a:{source}", f"a:{near}", config=config)
    assert result.code == 1
    assert f"{source}[0]@1 -> b:{far}: the record is larger" in result.err
    assert committed(kafka, name, source) == 1


def test_produce_fans_out_and_still_passes_its_input_on(
    kafka: Cluster, kafka_b: Cluster, kpipe: Kpipe, config: str
) -> None:
    one, two = kafka.topic(), kafka_b.topic()
    result = kpipe("produce", "--tee", "--also", f"b:{two}", f"a:{one}", stdin=b"x\ny\n", config=config)
    assert result == Result(0, b"x\ny\n", "")
    assert values(kafka, one) == values(kafka_b, two) == [b"x", b"y"]


def test_a_further_target_that_is_the_source_is_refused(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(), kafka.topic()
    for also in (source, target):
        result = kpipe.at(kafka.bootstrap)("forward", "-e", "--also", also, source, target)
        assert result.code == 2


# --- filters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "sed -u 's/^/>/'",
        "jq -Rr --unbuffered '\">\" + .'",
        f'{sys.executable} -uc \'import sys\nfor x in sys.stdin: print(">" + x, end="")\'',
    ],
)
def test_values_go_through_a_filter_with_a_group(kafka: Cluster, kpipe: Kpipe, command: str) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    kafka.write(source, [b"%d" % n for n in range(3000)])
    assert kpipe.at(kafka.bootstrap)("forward", "-e", "-G", name, "--through", command, source, target) == QUIET
    assert values(kafka, target) == [b">%d" % n for n in range(3000)]
    assert committed(kafka, name, source) == 3000


@pytest.mark.parametrize("option", ["--through", "--through-json"])
def test_values_of_a_megabyte_go_through(kafka: Cluster, kpipe: Kpipe, option: str) -> None:
    source, target = kafka.topic(), kafka.topic()
    large = [bytes([97 + n]) * 1_000_000 for n in range(8)]
    kafka.write(source, large)
    assert kpipe.at(kafka.bootstrap)("forward", "-e", option, "cat", source, target) == QUIET
    assert values(kafka, target) == large


def test_an_envelope_filter_changes_drops_and_adds(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, name = kafka.topic(3), kafka.topic(), group()
    kafka.write(source, [Rec(b"%d" % n, b"k%d" % (n % 9), (("h", b"\xff"),)) for n in range(900)])
    jq = "jq -c --unbuffered '(.value|tonumber) as $n | if $n % 3 == 0 then empty elif $n % 3 == 1 then . else .,(.value += \"!\") end'"
    result = kpipe.at(kafka.bootstrap)(
        "forward", "-e", "-v", "-G", name, "--through-json", jq, "--through-jobs", "2", source, target
    )
    assert "900 read, 600 delivered, 300 filtered, 0 failed" in result.err
    assert committed(kafka, name, source) == 900
    read = kafka.read(target)
    assert all(("h", b"\xff") in record.headers for record in read)
    for key in range(9):
        mine = [record.value for record in read if record.key == b"k%d" % key]
        wanted = [[], [b"%d"], [b"%d", b"%d!"]]
        assert mine == [text % n for n in range(key, 900, 9) for text in wanted[n % 3]]


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (
            f"{sys.executable} -uc 'import sys\nfor n, x in enumerate(sys.stdin):\n if n == 700: sys.exit(9)\n print(x, end=\"\")'",
            1,
            "exit code 9",
        ),
        (
            f"{sys.executable} -uc 'import sys, time\nfor n, x in enumerate(sys.stdin):\n if n == 700: time.sleep(60)\n print(x, end=\"\")'",
            1,
            "no answer for 1 s",
        ),
        (
            f"{sys.executable} -uc 'import sys\nfor n, x in enumerate(sys.stdin):\n if n == 700: print(1)\n print(x, end=\"\")'",
            3,
            "more lines",
        ),
        (
            f"{sys.executable} -uc 'import sys\nfor n, x in enumerate(sys.stdin):\n if n != 700: print(x, end=\"\")'",
            1,
            "no answer for 1 s",
        ),
    ],
    ids=["dies", "hangs", "too much", "too little"],
)
def test_a_filter_that_fails_stops_the_run_and_a_restart_loses_nothing(
    kafka: Cluster, kpipe: Kpipe, command: str, code: int, text: str
) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    kafka.write(source, [b"%d" % n for n in range(2000)])
    run = kpipe.at(kafka.bootstrap)

    failed = run("forward", "-e", "-G", name, "--through-timeout", "1", "--through", command, source, target)

    assert failed.code == code
    assert text in failed.err
    before = values(kafka, target)
    assert committed(kafka, name, source) == len(before) <= 700
    assert run("forward", "-e", "-G", name, "--through", "cat", source, target) == QUIET
    assert values(kafka, target) == [b"%d" % n for n in range(2000)]


def test_a_filter_that_ends_while_nothing_comes_ends_a_follow(kafka: Cluster, kpipe: Kpipe) -> None:
    """Nothing was written to it any more, so nobody noticed, and the run followed for ever."""
    source, target, name = kafka.topic(), kafka.topic(), group()
    kafka.write(source, [b"1", b"2", b"3"])
    ended = kpipe.at(kafka.bootstrap).start("forward", "-G", name, "--through", "sed -u 3q", source, target).wait(20)
    assert ended.code == 1
    assert ended.err.startswith("kpipe: transform: --through sed -u 3q: the filter ended before its input did;")
    assert values(kafka, target) == [b"1", b"2", b"3"]
    assert committed(kafka, name, source) == 3


@pytest.mark.parametrize("option", ["--through", "--through-json"])
def test_a_signal_while_a_filter_runs_loses_nothing(kafka: Cluster, kpipe: Kpipe, option: str) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    kafka.write(source, [b"%d" % n for n in range(20_000)])
    args = ["forward", "-b", kafka.bootstrap, "-G", name, option, "sed -u s/x/y/", source, target]
    run = kpipe.start(*args)
    run.wait_for(lambda: count(kafka, target) > 500, what="some were sent")
    run.signal(signal.SIGTERM)
    ended = run.wait()
    assert ended.code == -signal.SIGTERM
    assert "not delivered" not in ended.err
    assert committed(kafka, name, source) == count(kafka, target)
    assert kpipe(*args[:1], "-e", *args[1:]) == QUIET
    assert values(kafka, target) == [b"%d" % n for n in range(20_000)]


# --- dry runs, throttles, ages -------------------------------------------------------------------------------------


def test_a_dry_run_produces_commits_and_joins_nothing(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    kafka.write(source, [b"%d" % n for n in range(10)])
    run = kpipe.at(kafka.bootstrap)
    assert run("forward", "-G", name, "-c", "4", source, target) == QUIET
    assert committed(kafka, name, source) == 4

    dry = run(
        "forward",
        "-n",
        "-c",
        "2",
        "-G",
        name,
        "--filter",
        ". != 5",
        "--map",
        ".*2",
        "--on-error",
        "skip",
        source,
        target,
    )

    assert dry.code == 0
    lines = [json.loads(line) for line in dry.out.splitlines()]
    assert [(line["before"]["offset"], line["outcome"]) for line in lines] == [
        (4, "sent"),
        (5, "filtered"),
        (6, "sent"),
    ]
    assert lines[2]["after"]["value"] == "12"
    assert count(kafka, target) == 4
    assert committed(kafka, name, source) == 4
    assert "dry run" in dry.err

    produced = run("produce", "-n", "-c", "1", "--map", ".+1", target, stdin=b"1\n2\n")
    assert json.loads(produced.out)["after"]["value"] == "2"
    assert count(kafka, target) == 4


def test_a_rate_holds_and_a_signal_ends_it(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, name = kafka.topic(), kafka.topic(), group()
    kafka.write(source, [b"%d" % n for n in range(400)])
    run = kpipe.start("forward", "-b", kafka.bootstrap, "-G", name, "--rate", "50/s", source, target)
    run.wait_for(lambda: count(kafka, target) >= 20, what="some were sent")
    began, first = time.monotonic(), count(kafka, target)
    run.wait_for(lambda: count(kafka, target) >= first + 50, what="more were sent")
    assert time.monotonic() - began > 0.6
    assert count(kafka, target) < 400
    run.signal(signal.SIGTERM)
    assert run.wait(10).code == -signal.SIGTERM
    assert committed(kafka, name, source) == count(kafka, target)


def test_young_records_are_held_back_and_old_ones_left_out(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target, name = kafka.topic(2, retention_ms=-1), kafka.topic(), group()
    now = int(time.time() * 1000)
    kafka.write(
        source,
        [Rec(b"old", timestamp=now - 7_200_000, partition=0), Rec(b"ready", timestamp=now - 60_000, partition=1)],
    )
    kafka.write(
        source,
        [Rec(b"young", timestamp=now + 500, partition=1), Rec(b"ready too", timestamp=now - 60_000, partition=0)],
    )
    run = kpipe.start(
        "forward", "-b", kafka.bootstrap, "-e", "-G", name, "--min-age", "4s", "--max-age", "1h", source, target
    )
    run.wait_for(lambda: count(kafka, target) == 2, what="the old enough ones")
    assert sorted(v or b"" for v in values(kafka, target)) == [b"ready", b"ready too"]
    ended = run.wait()
    assert time.time() * 1000 >= now + 4500
    assert ended.code == 0
    assert values(kafka, target)[2] == b"young"
    assert committed(kafka, name, source) == 4

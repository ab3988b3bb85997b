"""A run that is watched: what a scrape says is true, also of workers, of outages, and of a file."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.broker.lab.cluster import Cluster, Rec
from tests.broker.lab.runs import ask, group

if TYPE_CHECKING:
    from tests.broker.conftest import NewKafka
    from tests.conftest import Kpipe, Running

ROOT = Path(__file__).parents[2]
PER_RECORD = ("--rate", "200/s")


def records(count: int, partitions: int = 2) -> list[Rec]:
    return [Rec(b"%d" % number, partition=number % partitions) for number in range(count)]


def families(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    return {
        sample.name: [(each.labels, each.value) for each in family.samples if each.name == sample.name]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def number(run: Running, name: str, **labels: str) -> float | None:
    for found, value in families(ask(run, "/metrics")[1]).get(name, []):
        if labels.items() <= found.items():
            return value
    return None


def test_a_scrape_says_how_far_behind_a_forwarder_is(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(2), kafka.topic(2)
    kafka.write(source, records(2000))
    run = kpipe.at(kafka.bootstrap).start("forward", "-G", group(), *PER_RECORD, "--metrics", "0", source, target)

    run.wait_for(lambda: ask(run, "/readyz")[0] == 200, what="readiness")
    run.wait_for(lambda: (number(run, "kpipe_records_total", outcome="delivered") or 0) >= 300, what="records")
    found = families(ask(run, "/metrics")[1])
    (labels, lag), *others = found["kpipe_lag_records"]
    assert labels["topic"] == source
    assert not others
    assert 0 < lag <= 1800
    assert 0 < found["kpipe_lag_seconds"][0][1] < 60
    assert found["kpipe_partitions"][0][1] == 2
    where, place = found["kpipe_records_total"][0][0], kafka.bootstrap
    assert (where["source"], where["target"]) == (f"{place}/{source}", f"{place}/{target}")
    run.wait_for(lambda: number(run, "kpipe_commits_total", result="taken"), what="a commit")
    run.wait_for(lambda: number(run, "kpipe_bytes_total", direction="sent"), what="the client's statistics")
    assert ask(run, "/healthz") == (200, "alive\n")
    status = json.loads(ask(run, "/status")[1])
    assert status["state"] == "running"
    assert status["read"] >= 300
    assert ask(run, "/other")[0] == 404
    run.signal(signal.SIGTERM)
    assert run.wait().code == -signal.SIGTERM


def test_nothing_is_behind_when_all_is_settled(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(2), kafka.topic(2)
    kafka.write(source, records(100))
    run = kpipe.at(kafka.bootstrap).start("forward", "-G", group(), "--metrics", "0", source, target)
    run.wait_for(lambda: number(run, "kpipe_records_total", outcome="delivered") == 100, what="records")
    run.wait_for(lambda: number(run, "kpipe_lag_records") == 0, what="no lag")
    assert number(run, "kpipe_lag_seconds") == 0


@pytest.mark.parametrize("how", [[], ["--exactly-once"]], ids=["at least once", "exactly once"])
def test_commits_are_counted_in_every_way_of_delivery(kafka: Cluster, kpipe: Kpipe, how: list[str]) -> None:
    source, target = kafka.topic(2), kafka.topic(2)
    kafka.write(source, records(100))
    run = kpipe.at(kafka.bootstrap).start("forward", "-G", group(), *how, "--metrics", "0", source, target)
    run.wait_for(lambda: number(run, "kpipe_commits_total", result="taken"), what="a commit")
    assert number(run, "kpipe_last_commit_timestamp_seconds")


def test_consume_without_a_group_says_where_it_is(kafka: Cluster, kpipe: Kpipe) -> None:
    source = kafka.topic(1)
    kafka.write(source, records(50, 1))
    run = kpipe.at(kafka.bootstrap).start("consume", "--metrics", "0", source)
    run.wait_for_stdout(b"49\n")
    run.wait_for(lambda: number(run, "kpipe_lag_records", topic=source) == 0, what="no lag")
    assert ask(run, "/readyz") == (200, "ready\n")


def test_an_outage_of_the_target_is_no_reason_to_be_restarted(
    new_kafka: NewKafka, kafka: Cluster, kpipe: Kpipe
) -> None:
    other = new_kafka()
    source, target = kafka.topic(1), other.topic(1)
    kafka.write(source, records(10, 1))
    run = kpipe.start(
        "forward", "-G", group(), "--metrics", "0", f"{kafka.bootstrap}/{source}", f"{other.bootstrap}/{target}"
    )
    run.wait_for(lambda: number(run, "kpipe_records_total", outcome="delivered") == 10, what="records")
    other.broker.kill()
    kafka.write(source, records(10, 1))
    run.wait_for(
        lambda: ask(run, "/readyz") == (503, f"{other.bootstrap}: no broker is connected\n"), what="unreadiness"
    )
    assert ask(run, "/healthz") == (200, "alive\n")
    run.wait_for(lambda: number(run, "kpipe_lag_records", topic=source) == 10, what="lag while the target is away")


def test_with_workers_the_supervisor_speaks_for_all(kafka: Cluster, kpipe: Kpipe) -> None:
    source, target = kafka.topic(4), kafka.topic(4)
    kafka.write(source, records(2000, 4))
    run = kpipe.at(kafka.bootstrap).start(
        "forward",
        "-G",
        group(),
        "--workers",
        "2",
        *PER_RECORD,
        "--metrics",
        "0",
        "--log-format",
        "json",
        source,
        target,
    )
    run.wait_for(lambda: ask(run, "/readyz")[0] == 200, what="readiness")
    run.wait_for(lambda: number(run, "kpipe_partitions", topic=source) == 4, what="all partitions")
    run.wait_for(lambda: number(run, "kpipe_lag_records", topic=source), what="a lag", timeout=30)
    assert number(run, "kpipe_workers") == 2
    assert number(run, "kpipe_worker_restarts_total") == 0
    run.signal(signal.SIGTERM)
    run.wait()
    assert all(json.loads(line)["program"] == "kpipe" for line in run.err.splitlines())
    assert "worker_1" not in run.err


def test_a_port_that_is_taken_ends_the_run_before_the_first_record(kafka: Cluster, kpipe: Kpipe) -> None:
    source = kafka.topic(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = kpipe.at(kafka.bootstrap)("produce", "--metrics", port, source, stdin=b"a\n")
    assert (run.code, run.err) == (
        2,
        f"kpipe: --metrics {port}: the port is taken; name another one, or 0 for a free one\n",
    )
    assert kafka.read(source) == []


@pytest.mark.parametrize(("stdin", "options", "code"), [(b"a\nb\n", [], 0), (b"{}\nx\n", ["--input", "json"], 3)])
def test_a_batch_run_leaves_its_numbers_in_a_file(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path, stdin: bytes, options: list[str], code: int
) -> None:
    path = tmp_path / "run.prom"
    path.write_text("old")
    run = kpipe.at(kafka.bootstrap)("produce", "--metrics-file", path, *options, kafka.topic(1), stdin=stdin)
    assert run.code == code, run.err
    found = families(path.read_text())
    assert found["kpipe_exit_code"] == [({}, code)]
    delivered = [count for labels, count in found["kpipe_records_total"] if labels["outcome"] == "delivered"]
    assert delivered == [2 if code == 0 else 0] or code
    assert [each.name for each in tmp_path.glob("*.prom*")] == ["run.prom"]


def test_a_run_that_cannot_start_leaves_its_exit_code(kafka: Cluster, kpipe: Kpipe, tmp_path: Path) -> None:
    path = tmp_path / "run.prom"
    run = kpipe.at(kafka.bootstrap)("consume", "-e", "--metrics-file", path, "no-such-topic-at-all")
    assert run.code == 1
    assert families(path.read_text())["kpipe_exit_code"] == [({}, 1)]


def test_a_file_that_cannot_be_written_is_told_before_the_first_record(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path
) -> None:
    run = kpipe.at(kafka.bootstrap)(
        "produce", "--metrics-file", tmp_path / "no" / "f.prom", kafka.topic(1), stdin=b"a\n"
    )
    assert run.code == 2
    assert "--metrics-file" in run.err


def test_groups_are_exported_under_the_names_that_dashboards_know(kafka: Cluster, kpipe: Kpipe) -> None:
    source, name = kafka.topic(1), group()
    kafka.write(source, records(10, 1))
    assert kpipe.at(kafka.bootstrap)("consume", "-G", name, "-c", "4", source).code == 0
    run = kpipe.at(kafka.bootstrap).start("groups", name, "--metrics", "0", "--watch", "1")
    run.wait_for(lambda: number(run, "kafka_consumergroup_group_sum_lag", group=name) == 6, what="the lag")
    assert number(run, "kafka_consumergroup_group_lag", topic=source, partition="0") == 6
    assert number(run, "kafka_consumergroup_group_offset", topic=source) == 4
    assert number(run, "kafka_partition_latest_offset", topic=source) == 10
    assert (number(run, "kafka_consumergroup_group_lag_seconds", topic=source) or 0) > 0
    assert (number(run, "kafka_consumergroup_group_retention_margin", topic=source) or 0) > 3600
    kafka.write(source, records(5, 1))
    run.wait_for(lambda: number(run, "kafka_consumergroup_group_sum_lag", group=name) == 11, what="the next look")


def test_every_metric_that_a_dashboard_an_alert_or_the_docs_name_is_in_a_scrape(
    kafka: Cluster, kpipe: Kpipe, tmp_path: Path
) -> None:
    source, target, name, path = kafka.topic(2), kafka.topic(2), group(), tmp_path / "end.prom"
    kafka.write(source, records(100))
    run = kpipe.at(kafka.bootstrap).start("forward", "-G", name, "--workers", "1", "--metrics", "0", source, target)
    seen: set[str] = set()
    wanted = {"kpipe_last_commit_timestamp_seconds", "kpipe_produce_latency_seconds", "kpipe_lag_records"}

    def all_seen() -> bool:
        seen.update(families(ask(run, "/metrics")[1]))  # a latency is there while something is sent
        return wanted <= seen

    run.wait_for(all_seen, what="commits, statistics and lag")
    exporter = kpipe.at(kafka.bootstrap).start("groups", name, "--metrics", "0")
    exporter.wait_for(lambda: number(exporter, "kafka_consumergroup_group_sum_lag") is not None, what="a look")
    seen |= set(families(ask(exporter, "/metrics")[1]))
    assert kpipe.at(kafka.bootstrap)("consume", "-e", "--metrics-file", path, source).code == 0
    seen |= set(families(path.read_text()))
    files = ("examples/grafana/kpipe.json", "examples/prometheus-rules.yml", "docs/watching.md")
    for text in ((ROOT / file).read_text() for file in files):
        named = set(re.findall(r"\b(?:kpipe|kafka)_[a-z_]+[a-z]\b", text)) - {"kpipe_cluster_records_total"}
        assert len(named) >= 5
        assert named <= seen, named - seen

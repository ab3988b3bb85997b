"""What a run shows of itself: addresses, sums over workers, counters that never go back, messages as JSON."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kpipe.cli import _log_format, as_json
from kpipe.errors import UsageError
from kpipe.ledger import Ledger
from kpipe.ops.exporter import Exporter
from kpipe.ops.groups import Group, PartitionLag
from kpipe.run.lag import Lag
from kpipe.run.metrics import TOPICS, Families
from kpipe.run.seen import Seen, look, merge
from kpipe.run.serve import parse_address
from kpipe.run.summary import Summary


def scrape(collector: Any) -> dict[str, float]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {name: float(number) for name, _, number in (line.rpartition(" ") for line in lines)}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("9400", ("127.0.0.1", 9400)),
        ("0.0.0.0:9400", ("0.0.0.0", 9400)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9400", ("::1", 9400)),
    ],
)
def test_an_address_is_on_loopback_unless_a_host_is_named(text: str, where: tuple[str, int]) -> None:
    assert parse_address(text) == where


@pytest.mark.parametrize("text", ["", "http", "9400:", "70000", "::1:9400", "a b:1", ":9400", "-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="HOST"):
        parse_address(text)


def test_a_counter_never_goes_back_when_a_transaction_is_read_again() -> None:
    ledger = Ledger(read=100, delivered=80)
    families = Families(Summary(ledger), Seen, lambda: ("a:x", "b:y"))
    name = 'kpipe_records_total{outcome="delivered",source="a:x",target="b:y"}'
    assert scrape(families)[name] == 80
    ledger.delivered = 50
    assert scrape(families)[name] == 80
    ledger.delivered = 90
    assert scrape(families)[name] == 90


def test_workers_add_up_and_one_that_ended_keeps_its_counters_but_no_gauge() -> None:
    one = Seen(
        {"a": 10}, {"b": 5}, {"b": [1, 100]}, {"b": {"queue 0.99": 0.5}}, {"b": 1}, {"t": [2, 30, 4.0]}, [3, 0, 7]
    )
    two = Seen({"a": 1}, {"b": 2}, {"b": [2, 50]}, {"b": {"queue 0.99": 0.7}}, {"b": 3}, {"t": [1, 5, 9.0]}, [1, 1, 6])
    total = merge([one, two], [one.counters()])
    assert total.read_bytes == {"a": 21}
    assert total.sent_bytes == {"b": 12}
    assert total.queue == {"b": [3, 150]}
    assert total.latency == {"b": {"queue 0.99": 0.7}}
    assert total.brokers == {"b": 3}
    assert total.lag == {"t": [3, 35, 9.0]}
    assert total.commits == [7, 1, 7]


def test_a_lag_that_one_process_does_not_know_nobody_knows() -> None:
    total = merge([Seen(lag={"t": [1, 5, 2.0]}), Seen(lag={"t": [1, None, None]})])
    families = Families(Summary(Ledger()), lambda: total, lambda: ("a:t", "b:t"))
    found = scrape(families)
    assert found['kpipe_partitions{source="a:t",topic="t"}'] == 2
    assert not [name for name in found if name.startswith("kpipe_lag")]


def test_thousands_of_topics_are_as_many_series_as_a_scrape_can_bear() -> None:
    lag: dict[str, list[float | None]] = {f"t{number}": [1, number, 0.0] for number in range(TOPICS + 300)}
    found = scrape(Families(Summary(Ledger()), lambda: Seen(lag=lag), lambda: ("a", "b")))
    records = {name: count for name, count in found.items() if name.startswith("kpipe_lag_records")}
    assert len(records) == TOPICS + 1
    assert sum(records.values()) == sum(range(TOPICS + 300))
    assert records['kpipe_lag_records{source="a",topic="(others)"}'] == sum(range(300))


def test_a_client_that_has_not_said_how_it_is_has_no_numbers() -> None:
    silent = SimpleNamespace(cluster="b", statistics="", fatal=None)
    seen = look(SimpleNamespace(opened=None, writers=lambda: [silent]), Ledger(), None, 7.0)
    assert seen == Seen(read_bytes={"stdin": 7})


def test_a_clients_statistics_are_read() -> None:
    told = {
        "txmsg_bytes": 500,
        "msg_cnt": 3,
        "msg_size": 60,
        "brokers": {
            "b:1/1": {
                "nodeid": 1,
                "state": "UP",
                "int_latency": {"cnt": 4, "p50": 1000, "p99": 9000},
                "rtt": {"cnt": 0},
            },
            "b:2/2": {
                "nodeid": 2,
                "state": "DOWN",
                "int_latency": {"cnt": 1, "p50": 3000, "p99": 4000},
                "rtt": {"cnt": 0},
            },
        },
    }
    writer = SimpleNamespace(cluster="b", statistics=json.dumps(told), fatal=None)
    seen = look(SimpleNamespace(opened=None, writers=lambda: [writer]), Ledger(), None, 0.0)
    assert seen.sent_bytes == {"b": 500}
    assert seen.queue == {"b": [3, 60]}
    assert seen.brokers == {"b": 1}
    assert seen.latency == {"b": {"queue 0.5": 0.003, "queue 0.99": 0.009}}


def test_a_partition_that_went_away_has_no_lag_and_one_that_was_not_asked_hides_no_other() -> None:
    lag = Lag(SimpleNamespace(properties={}), dict)  # type: ignore[arg-type]
    lag._found = {("t", 0): (15, 1.0), ("t", 1): (17, 3.0), ("gone", 0): (9, 9.0)}
    lag._at = float("inf")
    starts = dict.fromkeys((("t", 0), ("t", 1), ("u", 0)), 10)
    assert lag.by_topic({("t", 0), ("t", 1)}, starts) == {"t": [2, 12, 3.0]}
    assert lag.by_topic({("t", 0), ("u", 0)}, starts) == {"t": [1, 5, 1.0], "u": [1, None, None]}
    assert lag.by_topic({("t", 0), ("t", 1)}, starts | {("t", 1): 17}) == {"t": [2, 5, 1.0]}, "settled since the look"


def test_an_old_look_says_nothing() -> None:
    lag = Lag(SimpleNamespace(properties={}), dict)  # type: ignore[arg-type]
    lag._found = {("t", 0): (5, 1.0)}
    assert lag.by_topic({("t", 0)}, {("t", 0): 1}) == {"t": [1, None, None]}


def test_the_exporter_shows_what_is_known_and_leaves_out_what_is_not() -> None:
    exporter = Exporter()
    known = PartitionLag("orders", 0, committed=5, start=0, end=15, behind_ms=2500)
    exporter.show(
        [("prod", Group("g", rows=[known, PartitionLag("orders", 1, end=9)]))],
        {("prod", "orders", 0): 60_000},
        {"prod": (0.2, 1)},
    )
    found = scrape(exporter)
    labels = 'client_id="",cluster_name="prod",consumer_id="",group="g",member_host="",partition="0",topic="orders"'
    assert found[f"kafka_consumergroup_group_lag{{{labels}}}"] == 10
    assert found[f"kafka_consumergroup_group_lag_seconds{{{labels}}}"] == 2.5
    assert found[f"kafka_consumergroup_group_retention_margin{{{labels}}}"] == 60
    assert found['kafka_consumergroup_group_sum_lag{cluster_name="prod",group="g"}'] == 10
    assert found['kafka_partition_latest_offset{cluster_name="prod",partition="1",topic="orders"}'] == 9
    assert found['kafka_consumergroup_problems{cluster_name="prod"}'] == 1
    assert not [name for name in found if 'partition="1"' in name and "group_lag" in name]
    exporter.show([], {}, {})
    assert scrape(exporter) == {}


@pytest.mark.parametrize(
    ("text", "id", "stage", "message"),
    [
        ("send: prod:orders: the topic is gone", "topic-gone", "send", "prod:orders: the topic is gone"),
        ("5 read, 5 delivered, 0 failed in 1 s", "balance", None, "5 read, 5 delivered, 0 failed in 1 s"),
        (
            "worker 1: died by SIGKILL; starting it again in 1 s",
            "worker",
            None,
            "worker 1: died by SIGKILL; starting it again in 1 s",
        ),
        ('odd "quotes" and \\n', "note", None, 'odd "quotes" and \\n'),
    ],
)
def test_a_message_as_json_is_one_object_on_one_line(text: str, id: str, stage: str | None, message: str) -> None:
    line = as_json(text, 1_763_884_800.25, "note")
    assert "\n" not in line
    entry = json.loads(line)
    assert entry.pop("pid") > 0
    expected = {
        "time": "2025-11-23T08:00:00.250+00:00",
        "program": "kpipe",
        "id": id,
        "stage": stage,
        "message": message,
    }
    assert entry == {name: value for name, value in expected.items() if value is not None}


def test_what_a_worker_says_names_it_and_its_stage() -> None:
    entry = json.loads(as_json("worker 2: read: orders[3]: the topic was deleted", 0.0, "note"))
    assert (entry["id"], entry["worker"], entry["stage"]) == ("topic-gone", 2, "read")
    assert entry["message"] == "orders[3]: the topic was deleted"


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ([], "text"),
        (["consume", "--log-format", "json", "t"], "json"),
        (["consume", "--log-format=json", "t"], "json"),
        (["consume", "t", "--", "--log-format=json"], "text"),
        (["consume", "--log-format"], ""),
    ],
)
def test_the_form_of_messages_is_known_before_the_command_line_is_understood(arguments: list[str], chosen: str) -> None:
    assert _log_format(arguments) == chosen

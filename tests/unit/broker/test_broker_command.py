"""What people and commands are told about an embedded broker, and which arguments it refuses before it starts."""

from __future__ import annotations

import pytest

from kpipe.broker import BrokerError, EmbeddedBroker, mock
from kpipe.broker.command import announcement, environment
from kpipe.errors import UsageError


def test_announcement_names_address_nature_and_topics():
    line = announcement("127.0.0.1:9092", {"orders": 3, "audit": 4})
    assert line == "broker: 127.0.0.1:9092 (in memory: gone when it stops), topics: orders:3,audit:4"
    assert announcement("127.0.0.1:1", {}).endswith("topics: none yet")


def test_environment_leaves_one_cluster_to_be_seen():
    inherited = {
        "PATH": "/bin",
        "KPIPE_BROKERS": "prod:9092",
        "KAFKA_BOOTSTRAP_SERVERS": "prod:9092",
        "KPIPE_CLUSTER": "prod",
        "KPIPE_CONFIG": "/etc/kpipe.toml",
        "KPIPE_SECURITY_PROTOCOL": "SASL_SSL",
        "KPIPE_SSL_CA_LOCATION": "/ca.pem",
        "KPIPE_SASL_PASSWORD": "secret",
        "KPIPE_DEBUG": "1",
    }
    assert environment(inherited, "127.0.0.1:5") == {
        "PATH": "/bin",
        "KPIPE_BROKERS": "127.0.0.1:5",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:5",
        "KPIPE_CONFIG": "",
        "KPIPE_DEBUG": "1",
    }
    assert inherited["KPIPE_CLUSTER"] == "prod"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"port": -1}, "--port: -1 is no port"),
        ({"port": 65536}, "--port: 65536 is no port"),
        ({"brokers": 0}, "--brokers: 0 brokers cannot be served"),
        ({"brokers": 101}, "--brokers: 101 brokers cannot be served"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(UsageError) as refused:
        EmbeddedBroker(**arguments)
    assert str(refused.value).startswith(message)


def test_a_library_without_the_mock_cluster_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(mock.SIGNATURES, "rd_kafka_mock_of_the_future", (None,))
    with pytest.raises(BrokerError) as refused:
        mock.load_library()
    line = str(refused.value)
    assert line.startswith("broker: the librdkafka of confluent-kafka 2.")
    assert "offers no mock cluster (rd_kafka_mock_of_the_future cannot be loaded)" in line
    assert "\n" not in line

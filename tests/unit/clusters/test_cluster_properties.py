from __future__ import annotations

import confluent_kafka
import pytest

from kpipe.clusters.properties import (
    ALL,
    CANONICAL,
    CONSUMER_ONLY,
    PRODUCER_ONLY,
    SHARED,
    TOPIC_LEVEL,
    canonical,
    did_you_mean,
    for_admin,
    for_consumer,
    for_producer,
    known_to_client,
)
from kpipe.errors import UsageError

TYPED = {"delivery.report.only.error": False}
"""The Python client reads this one itself and takes no text."""


def test_librdkafka_knows_every_name_of_the_list():
    for name in sorted(ALL):
        with pytest.raises(confluent_kafka.KafkaException) as caught:
            confluent_kafka.Producer({name: TYPED.get(name, ""), "kpipe.no.such.property": ""})
        assert f'No such configuration property: "{name}"' not in str(caught.value)


def test_the_lists_do_not_overlap_and_canonical_names_are_names():
    assert not SHARED & CONSUMER_ONLY
    assert not SHARED & PRODUCER_ONLY
    assert not CONSUMER_ONLY & PRODUCER_ONLY
    assert TOPIC_LEVEL < ALL
    assert set(CANONICAL) | set(CANONICAL.values()) < ALL
    assert not set(CANONICAL) & set(CANONICAL.values())


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("acks", "acks"),
        ("request.required.acks", "acks"),
        ("topic.request.required.acks", "acks"),
        ("topic.metadata.refresh.sparse", "topic.metadata.refresh.sparse"),
        ("metadata.broker.list", "bootstrap.servers"),
        ("sasl.mechanisms", "sasl.mechanism"),
        ("test.mock.num.brokers", "test.mock.num.brokers"),
    ],
)
def test_one_property_has_one_name(name, one):
    assert canonical(name, where="x") == one


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ack", "acks"),
        ("boostrap.servers", "bootstrap.servers"),
        ("SASL.Username", "sasl.username"),
        ("security.protocl", "security.protocol"),
        ("read_olny", "read_only"),
        ("brokers", "bootstrap.servers"),
        ("bootstrap_servers", "bootstrap.servers"),
        ("username", "sasl.username"),
        ("compression", "compression.type"),
    ],
)
def test_a_typing_error_names_the_nearest_match(name, meant):
    with pytest.raises(UsageError) as caught:
        canonical(name, where="config.toml:7", also=["read_only"])
    assert str(caught.value) == f"config.toml:7: no such property {name!r}; did you mean {meant!r}?"


def test_what_only_python_knows_is_no_property():
    assert not known_to_client("error_cb")
    assert not known_to_client("kpipe.bogus")
    assert not known_to_client('a"b')


def test_each_client_gets_what_it_understands():
    properties = {"bootstrap.servers": "x", "acks": "all", "fetch.min.bytes": "1"}
    assert for_consumer(properties) == {"bootstrap.servers": "x", "fetch.min.bytes": "1"}
    assert for_producer(properties) == {"bootstrap.servers": "x", "acks": "all"}
    assert for_admin(properties) == {"bootstrap.servers": "x"}


def test_advice_without_a_near_match_lists_the_few_or_points_to_the_list():
    assert did_you_mean("zzz", ["dev", "prod"]) == "there is dev, prod"
    assert did_you_mean("zzz", []) == "there are none"
    assert "CONFIGURATION.md" in did_you_mean("zzz", ALL)

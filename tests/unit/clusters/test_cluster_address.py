from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpipe.clusters.address import (
    MAX_PARTITIONS,
    Place,
    parse_partitions,
    parse_place,
    parse_target,
    place_name,
    plain_addresses,
)
from kpipe.errors import UsageError

NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,40}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("orders", Place(None, "orders")),
        ("prod:orders", Place("prod", "orders")),
        ("eu.prod-1:a.b_c-D", Place("eu.prod-1", "a.b_c-D")),
        ("-", Place(None, "-")),
        ("-dash", Place(None, "-dash")),
        ("__consumer_offsets", Place(None, "__consumer_offsets")),
        ("^orders:eu", Place(None, "^orders:eu")),
        (r"prod:^orders\..*:x", Place("prod", r"^orders\..*:x")),
        ("...", Place(None, "...")),
        ("a" * 249, Place(None, "a" * 249)),
    ],
)
def test_a_place_is_read_and_written_alike(text, place):
    assert parse_place(text) == place
    assert str(place) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("prod:", "topic's name is empty"),
        (":orders", "before ':' is empty"),
        ("prod:-", "no cluster"),
        (".", "cannot be topics"),
        ("prod:..", "cannot be topics"),
        ("a" * 250, "250 characters"),
        ("a:b:c", "':' cannot be"),
        ("a b", "' ' cannot be"),
        ("orders*", "a pattern starts with '^'"),
        ("größe", "'ö' cannot be"),
        ("orders\n", r"'\n' cannot be"),
        ("pr od:x", "cannot name a cluster"),
        ("-x:orders", "cannot name a cluster"),
        ("^(", "not a regular expression"),
        ("^[[:alpha:]]+", "not a regular expression"),
    ],
)
def test_what_is_no_place_says_why(text, says):
    with pytest.raises(UsageError) as caught:
        parse_place(text)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_target_is_not_a_pattern():
    assert parse_target("prod:orders") == Place("prod", "orders")
    with pytest.raises(UsageError, match="not a pattern"):
        parse_target("prod:^orders")


def test_what_a_place_is():
    assert parse_place("-").is_stdio
    assert not parse_place("orders").is_stdio
    assert parse_place("p:^o").is_pattern
    assert not parse_place("p:o").is_pattern


@given(NAMES, NAMES)
def test_every_cluster_and_topic_can_be_addressed(cluster, topic):
    assert parse_place(f"{cluster}:{topic}") == Place(cluster, topic)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:9092/orders", Place("127.0.0.1:9092", "orders")),
        ("a.example:9092,b.example:9093/orders", Place("a.example:9092,b.example:9093", "orders")),
        ("[::1]:9092/orders", Place("[::1]:9092", "orders")),
        ("[fe80::1%eth0]:9092,a:1/orders", Place("[fe80::1%eth0]:9092,a:1", "orders")),
        ("a:9092/^logs/.*", Place("a:9092", "^logs/.*")),
        ("prod:^a/b", Place("prod", "^a/b")),
        ("^a/b:c", Place(None, "^a/b:c")),
    ],
)
def test_a_place_may_name_its_brokers(text, place):
    assert parse_place(text) == place
    assert str(place) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("127.0.0.1:9092:orders", "HOST:PORT/TOPIC"),
        ("::1:9092/orders", "[IPV6]:PORT/TOPIC"),
        ("orders/eu", "HOST:PORT/TOPIC"),
        ("a:9092,/orders", "'' is no address"),
        ("a:0/orders", "is no address"),
        ("a:65536/orders", "is no address"),
        ("/orders", "is no address"),
        ("a:9092/", "the topic's name is empty"),
        ("a:9092/b/c", "'/' cannot be in a topic's name"),
        ("PLAINTEXT://a:9092/orders", "is no address"),
    ],
)
def test_what_is_no_place(text, says):
    with pytest.raises(UsageError) as caught:
        parse_place(text)
    assert says in str(caught.value)


@pytest.mark.parametrize("brokers", ["localhost", " a:1, b ", "[::1]", "PLAINTEXT://a:1,SSL://b", "a:9092"])
def test_what_messages_call_brokers_is_a_place(brokers):
    assert parse_place(place_name(plain_addresses(brokers), "orders")).topic == "orders"


@given(st.text())
def test_any_text_is_a_place_or_a_usage_error(text):
    with suppress(UsageError):
        assert str(parse_place(text)) == text


@pytest.mark.parametrize(
    ("texts", "partitions"),
    [
        ([], []),
        (["0"], [0]),
        (["0", "2-5,7"], [0, 2, 3, 4, 5, 7]),
        (["3,1", "1-2"], [3, 1, 2]),
        (["007, 8"], [7, 8]),
        (["4-4"], [4]),
        (["2147483647"], [2147483647]),
    ],
)
def test_partitions(texts, partitions):
    assert parse_partitions(texts) == partitions


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a partition"),
        ("-1", "not a partition"),
        ("1,,2", "not a partition"),
        ("1-", "not a partition"),
        ("a", "not a partition"),
        ("٣", "not a partition"),
        ("5-2", "write 2-5"),
        ("2147483648", "at most 2147483647"),
        ("9" * 5000, "at most 2147483647"),
        ("0-2147483647", f"more than {MAX_PARTITIONS}"),
    ],
)
def test_what_is_no_partition_says_why(text, says):
    with pytest.raises(UsageError, match=says):
        parse_partitions([text])

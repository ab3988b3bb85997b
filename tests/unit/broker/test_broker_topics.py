"""`--topics name:partitions,...`: what is taken, and what is refused in which words."""

from __future__ import annotations

import pytest

from kpipe.broker import parse_topics
from kpipe.errors import Exit, UsageError


@pytest.mark.parametrize(
    ("text", "topics"),
    [
        ("", {}),
        ("  ", {}),
        ("orders:3", {"orders": 3}),
        ("orders", {"orders": 4}),
        ("orders:3,audit,a.b_c-d:10000", {"orders": 3, "audit": 4, "a.b_c-d": 10_000}),
        (" orders:1 , audit:2 ", {"orders": 1, "audit": 2}),
        ("orders:007", {"orders": 7}),
        ("x" * 249 + ":1", {"x" * 249: 1}),
    ],
)
def test_taken(text, topics):
    assert parse_topics(text) == topics
    assert list(parse_topics(text)) == list(topics)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("orders:3,", "--topics: an entry of 'orders:3,' is empty; write NAME:PARTITIONS,NAME:PARTITIONS"),
        (",", "--topics: an entry of ',' is empty; write NAME:PARTITIONS,NAME:PARTITIONS"),
        ("orders:3,orders:4", "--topics: topic orders is named twice; name each topic once"),
    ],
)
def test_refused_in_these_words(text, message):
    with pytest.raises(UsageError) as refused:
        parse_topics(text)
    assert str(refused.value) == message
    assert refused.value.exit_code == Exit.USAGE


@pytest.mark.parametrize("name", [":3", ".", "..", "a b", "größe", "a/b", "x" * 250, "a\n"])
def test_illegal_name(name):
    with pytest.raises(UsageError, match="is no topic name"):
        parse_topics(f"fine:1,{name}:1" if name != ":3" else name)


@pytest.mark.parametrize("count", ["", "0", "-1", "+1", "1.5", "three", "1:2", "10001", "9" * 5000, "1_0", "٣"])
def test_illegal_number_of_partitions(count):
    with pytest.raises(UsageError, match="needs a number of partitions from 1 to 10000"):
        parse_topics(f"orders:{count}")

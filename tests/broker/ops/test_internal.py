"""Kafka's own topics, as a broker of today writes them: who moved my offsets?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.broker.ops.scenes import commit, name

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe


def test_who_committed_what_and_which_transaction_ended(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group = kafka.topic(), name()
    kafka.write(topic, [b"1", b"2"], transaction="commit")
    for offset in (1, 2):
        commit(kafka, group, {(topic, 0): offset}, f"by-{offset}")
    at = kpipe.at(kafka.bootstrap)
    done = at(
        "find",
        "--all",
        "-J",
        "--decode",
        "internal",
        "--where",
        f'.group == "{group}" and .offset != null',
        "__consumer_offsets",
    )
    # The binding (confluent-kafka 2.16) sends a text with the NUL that ends it in C.
    found = [json.loads(json.loads(line)["value"]) for line in done.out.splitlines()]
    assert [(each["topic"], each["partition"], each["offset"], each["metadata"].rstrip("\0")) for each in found] == [
        (topic, 0, 2, "by-2"), (topic, 0, 1, "by-1"),
    ]  # fmt: skip
    assert all(each["committed_ms"] > 1_700_000_000_000 for each in found)
    raw = at("find", "--all", "-J", "--grep", group, "__consumer_offsets")
    assert b'"value_base64"' in at("tail", "-J", "--no-follow", "-n", "5", "__consumer_offsets").out or raw.code in (
        0,
        5,
    )
    shown = at("tail", "--no-follow", "-n", "3", "__transaction_state").out.decode()
    assert '"state":"CompleteCommit"' in shown
    assert f'"group":"{group}"' in at("tail", "--no-follow", "-n", "30", "__consumer_offsets").out.decode()


def test_consume_shows_them_too_and_only_them(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group = kafka.topic(), name()
    kafka.write(topic, [b"1", b"2"])
    commit(kafka, group, {(topic, 0): 2}, "mine")
    at = kpipe.at(kafka.bootstrap)
    lines = at("consume", "-e", "--decode", "internal", "__consumer_offsets").out.splitlines()
    # A record of a kind that nobody knows yet is shown as it is, and other tests leave such.
    decoded = [json.loads(line) for line in lines if line.startswith(b"{")]
    (found,) = [each for each in decoded if each.get("group") == group and "offset" in each]
    assert (found["topic"], found["partition"], found["offset"]) == (topic, 0, 2)
    mine = ("--on-error", "skip", "--filter", f'.group == "{group}"')  # what other tests left may not be readable
    done = at("consume", "-e", "-J", "--decode", "internal", *mine, "__consumer_offsets")
    envelope = json.loads(done.out.splitlines()[-1])
    assert envelope["topic"] == "__consumer_offsets"
    assert json.loads(envelope["key"])["group"] == group
    for words, told in (
        ((topic,), "is neither"),
        (("^__.*",), "is neither"),
        (("--decode-key", "auto", "__consumer_offsets"), "drop --decode-key"),
    ):
        refused = at("consume", "-e", "--decode", "internal", *words)
        assert (refused.code, told in refused.err) == (2, True), refused.err
    refused = at("forward", "-e", "--decode", "internal", "__consumer_offsets", topic)
    assert (refused.code, "kpipe consume" in refused.err) == (2, True), refused.err

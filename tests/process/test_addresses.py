"""`HOST:PORT/topic`: two clusters need no configuration, and what messages call a place can be typed again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kpipe.broker import EmbeddedBroker

if TYPE_CHECKING:
    from tests.conftest import Kpipe


def test_two_clusters_without_a_configuration(kpipe: Kpipe) -> None:
    with EmbeddedBroker(topics={"s": 1}) as here, EmbeddedBroker(topics={"t": 1}) as there:
        source, target = f"{here.bootstrap}/s", f"{there.bootstrap}/t"
        assert kpipe("produce", source, stdin=b"one\ntwo\n").code == 0
        copied = kpipe("forward", "-e", "--trace", "none", source, target)
        assert copied.code == 0, copied.err
        assert kpipe("consume", "-e", target).out == b"one\ntwo\n"
        assert kpipe("consume", "-e", f"{there.bootstrap}/^t$").out == b"one\ntwo\n"
        assert kpipe("consume", "-e", f"127.0.0.1:1,{there.bootstrap}/t").out == b"one\ntwo\n"


def test_a_place_of_a_message_is_a_place_on_the_command_line(kpipe: Kpipe) -> None:
    with EmbeddedBroker(topics={"orders": 1}) as broker:
        told = kpipe("consume", "-e", "-b", broker.bootstrap, "ordesr")
        (place,) = re.findall(r"config: (\S+): no such topic", told.err)
        assert place == f"{broker.bootstrap}/ordesr"
        assert kpipe("consume", "-e", place).err == told.err
        assert kpipe("consume", "-e", "-b", broker.bootstrap, place).err == told.err


def test_an_address_and_the_current_cluster_stand_side_by_side(kpipe: Kpipe) -> None:
    with EmbeddedBroker(topics={"s": 1}) as here, EmbeddedBroker(topics={"t": 1}) as there:
        assert kpipe("produce", "-b", here.bootstrap, "s", stdin=b"one\n").code == 0
        done = kpipe("forward", "-e", "-b", here.bootstrap, "--on-error", f"dlq:{there.bootstrap}/t",
                     "--key-field", ".x", "s", f"{there.bootstrap}/u", "--create")  # fmt: skip
        assert done.code == 0, done.err
        assert kpipe("consume", "-e", f"{there.bootstrap}/t").out == b"one\n"


def test_minus_b_that_no_place_uses_is_refused(kpipe: Kpipe) -> None:
    done = kpipe("consume", "-e", "-b", "a:1", "b:1/t")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "drop one of them" in done.err


def test_a_file_of_properties_is_for_the_one_address(kpipe: Kpipe) -> None:
    (kpipe.home / "k.conf").write_text("client.id=me\n")
    with EmbeddedBroker(topics={"s": 1}) as here:
        assert kpipe("consume", "-e", "-F", "k.conf", f"{here.bootstrap}/s").code == 0
        two = kpipe("forward", "-e", "-F", "k.conf", f"{here.bootstrap}/s", "a:1/t")
    assert (two.code, two.err.count("\n")) == (2, 1), two.err
    assert "no place is on the current cluster" in two.err


def test_a_slash_without_an_address_says_how_to_write_one(kpipe: Kpipe) -> None:
    for text in ("orders/eu", "127.0.0.1:9092:orders", "::1:9092/orders"):
        done = kpipe("consume", text)
        assert done.code == 2
        assert "HOST:PORT/TOPIC" in done.err, done.err

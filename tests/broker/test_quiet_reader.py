"""The reader of stdout goes away and nothing more comes: the run notices by itself and dies by SIGPIPE, as tail -f does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec

if TYPE_CHECKING:
    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe

READERS = {
    "plain": ["consume", "{t}"],
    "group": ["consume", "-G", "{g}", "{t}"],
    "pattern": ["consume", "^{t}$"],
    "pattern and group": ["consume", "-G", "{g}", "^{t}$"],
    "envelopes": ["consume", "-J", "{t}"],
    "all later ones dropped": ["consume", "--grep", "one", "{t}"],
    "filter": ["consume", "--through", "cat", "{t}"],
    "dry run": ["forward", "-n", "{t}", "{u}"],
    "tail": ["tail", "{t}"],
    "groups": ["groups", "--watch", "1h", "{known}"],
}


@pytest.mark.parametrize("case", READERS)
def test_a_consumer_of_a_quiet_topic_ends_with_its_reader(kafka: Cluster, kpipe: Kpipe, case: str) -> None:
    topic, other = kafka.topic(1), kafka.topic(1)
    kafka.write(topic, [b"one"])
    known = f"one-{uuid.uuid4().hex[:8]}"
    if case == "groups":
        assert kpipe("consume", "-b", kafka.bootstrap, "-e", "-G", known, topic).code == 0
    words = [word.format(t=topic, u=other, g=f"g-{uuid.uuid4().hex[:8]}", known=known) for word in READERS[case]]
    read, write = os.pipe()
    running = kpipe.start(words[0], "-b", kafka.bootstrap, *words[1:], stdout=write)
    os.close(write)
    assert b"one" in os.read(read, 4096)
    os.close(read)
    if case == "all later ones dropped":
        kafka.write(topic, [Rec(b"two")])
    began = time.monotonic()
    assert running.wait(10).code == -signal.SIGPIPE, running.err
    assert running.err == ("kpipe: dry run: nothing is produced, committed or joined\n" if case == "dry run" else "")
    assert time.monotonic() - began < (5 if "group" in case else 3)  # a look is due every 0.2 s; a member also leaves


@pytest.mark.parametrize("words", [["--tee"], ["--report"], ["--tee", "--rate", "1000/s"]])
def test_a_producer_with_nothing_to_read_ends_with_its_reader(kafka: Cluster, kpipe: Kpipe, words: list[str]) -> None:
    """What it had read is delivered."""
    topic = kafka.topic(1)
    read, write = os.pipe()
    running = kpipe.start("produce", "-b", kafka.bootstrap, *words, topic, stdin=subprocess.PIPE, stdout=write)
    os.close(write)
    running.write(b"one\n")
    assert os.read(read, 4096)
    os.close(read)
    assert running.wait(10).code == -signal.SIGPIPE, running.err
    assert running.err == ""
    assert [record.value for record in kafka.read(topic)] == [b"one"]


def test_what_a_reader_that_left_had_taken_is_committed(kafka: Cluster, kpipe: Kpipe) -> None:
    topic, group = kafka.topic(1), f"g-{uuid.uuid4().hex[:8]}"
    kafka.write(topic, [b"one", b"two"])
    read, write = os.pipe()
    running = kpipe.start("consume", "-b", kafka.bootstrap, "-G", group, topic, stdout=write)
    os.close(write)
    while b"two" not in os.read(read, 4096):
        pass
    os.close(read)
    assert running.wait(10).code == -signal.SIGPIPE, running.err
    assert kafka.committed(group, topic) == {0: 2}

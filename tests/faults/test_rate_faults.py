"""`--rate` holds its rate, and what waits for it is fetched once."""

from __future__ import annotations

import json
import signal
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import dense

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe
    from tests.faults.conftest import Note
    from tests.faults.proxy import Proxy

QUEUE = 8 << 20
"""Bytes that the client may fetch ahead (queued.max.messages.kbytes)."""
SECONDS = 8


@pytest.mark.parametrize(
    ("rate", "size", "count", "grouped"),
    [
        ("200/s", 1000, 20_000, True),
        ("200/s", 1000, 20_000, False),
        ("5000/s", 100, 60_000, False),
        ("1MB/s", 1000, 30_000, True),
        ("2MB/s", 50_000, 1000, False),
    ],
)
def test_a_rate_is_kept_and_nothing_is_fetched_twice(
    lab: tuple[Cluster, Proxy],
    kpipe: Kpipe,
    tmp_path: Path,
    note: Note,
    rate: str,
    size: int,
    count: int,
    grouped: bool,
) -> None:
    cluster, proxy = lab
    source, target = cluster.topic(2), cluster.topic(2)
    cluster.write(source, [dense(size)] * count)
    summary = tmp_path / "summary.json"
    config = f'[clusters.a]\nbootstrap.servers = "{proxy.address}"\n[clusters.b]\nbootstrap.servers = "{cluster.bootstrap}"\n'
    config += 'security.protocol = "PLAINTEXT"\n'
    member = ["-G", f"g-{uuid.uuid4().hex[:8]}"] if grouped else []
    before = proxy.answered
    words = ["forward", *member, "--rate", rate, "--summary", summary, f"a:{source}", f"b:{target}"]
    running = kpipe.start(*words, config=config)
    running.wait_for(lambda: cluster.read(target), 30, "the first record")
    for _ in range(SECONDS):
        time.sleep(1)  # the measurement itself
        print(f"{proxy.answered - before:,} bytes fetched")
    running.signal(signal.SIGTERM)
    assert running.wait(30).code == -signal.SIGTERM, running.err
    told = json.loads(summary.read_bytes())
    amount = told["delivered"] * (size if "B" in rate else 1)
    wanted = {"200/s": 200, "5000/s": 5000, "1MB/s": 1_000_000, "2MB/s": 2_000_000}[rate]
    reached = amount / (told["seconds"] - told.get("starting", 0.0))
    assert 0.85 * wanted < reached < 1.1 * wanted  # the summary's seconds hold the start, too
    fetched = proxy.answered - before
    assert fetched <= 1.2 * told["delivered"] * size + QUEUE + 2_000_000, f"{fetched:,} bytes for {told['delivered']:,}"
    note("forward", f"--rate {rate}", f"{reached:,.0f} a second", "within 10 %, fetched once")

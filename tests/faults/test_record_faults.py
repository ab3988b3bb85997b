"""Records that a broker refuses with their batch, and records at the edges of what one can be, among good ones."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.broker.lab.cluster import Rec
from tests.broker.lab.raw import write_batch
from tests.faults.conftest import RUNS, Note
from tests.faults.oracle import judge

if TYPE_CHECKING:
    import random

    from tests.broker.lab.cluster import Cluster
    from tests.conftest import Kpipe
    from tests.faults.proxy import Proxy

ANY_TIME = {"message_timestamp_after_max_ms": 9223372036854775807}
COUNT = 3000
SOON = 3_600_000 + 55_000
"""Milliseconds ahead: a default topic refuses it, and kpipe, which allows for other clocks, leaves it to the broker."""
WAYS: dict[str, tuple[str, ...]] = {
    "group": (),
    "exactly-once": ("--exactly-once",),
    "resume": ("--resume-by-trace",),
    "workers": ("--workers", "2"),
    "route by jq": ("--route", "ROUTE", "--route-allow", "ALLOWED"),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("policy", ["skip", "dlq"])
@pytest.mark.parametrize("way", WAYS)
def test_a_batch_is_refused_for_one_record(
    lab: tuple[Cluster, Proxy], kpipe: Kpipe, chance: random.Random, note: Note, way: str, policy: str
) -> None:
    """Whichever record it is: its neighbours arrive, once and in order, it alone is set aside, and all is committed."""
    cluster, _ = lab
    runs = max(1, RUNS // 10)
    for _ in range(runs):
        source, target, other = cluster.topic(3, **ANY_TIME), cluster.topic(3), cluster.topic(3)
        letters, name = cluster.topic(), f"g-{uuid.uuid4().hex[:8]}"
        culprits = set(chance.sample(range(COUNT), 3))
        late = int(time.time() * 1000) + SOON
        records = cluster.write(
            source,
            [
                Rec(b"%07d" % n, b"k%d" % (n % 30), timestamp=late if n in culprits else -1, partition=n % 3)
                for n in range(COUNT)
            ],
        )
        route = f'if ($meta.key | endswith("7")) then {json.dumps(other)} else null end'
        words = [{"ROUTE": route, "ALLOWED": other}.get(word, word) for word in WAYS[way]]
        what = f"dlq:{letters}" if policy == "dlq" else policy

        done = kpipe.at(cluster.bootstrap)(
            "forward", "-e", "-G", name, "-v", *words, "--on-error", what, source, target, timeout=120
        )

        good = [record for number, record in enumerate(records) if number not in culprits]
        routed = {record.key for record in good if way == "route by jq" and (record.key or b"").endswith(b"7")}
        for topic, wanted in (target, [each for each in good if each.key not in routed]), (
            other, [each for each in good if each.key in routed],
        ):  # fmt: skip
            verdict = judge(wanted, cluster.read(topic, at_least=len(wanted)))
            found = (verdict.lost, verdict.duplicates, verdict.disorder, verdict.altered)
            assert found == (0, 0, 0, 0), (verdict, done)
        assert done.code == (0 if policy == "dlq" else 1), done.err
        aside = sorted(int(record.value or b"") for record in cluster.read(letters))
        assert aside == (sorted(culprits) if policy == "dlq" else [])
        if policy == "skip":
            assert done.err.count("skipped (--on-error skip)") == len(culprits), done.err
        assert sum(cluster.committed(name, source).values()) >= COUNT
    note(
        "forward", f"a batch refused for one record, {way}, {policy}", "0 lost, twice, out of order or altered",
        "the record alone is set aside, its neighbours arrive in order", runs=runs,
    )  # fmt: skip


NAMES = [b"caf\xe9", b"", b"a=b", b"x\n", "ü".encode() * 300, b"\xff\xfe", b"source_topic"]
"""Of headers: not UTF-8, empty, with what formats use, long, an application's own trace."""


@pytest.mark.parametrize("way", [("-G", "GROUP"), ("-G", "GROUP", "--exactly-once"), ("--grep", ".")], ids=" ".join)
def test_header_names_at_their_edges(
    lab: tuple[Cluster, Proxy], kpipe: Kpipe, note: Note, way: tuple[str, ...]
) -> None:
    """Each name goes byte for byte."""
    cluster, _ = lab
    source, target = cluster.topic(), cluster.topic()
    rows: list[tuple[bytes, int, tuple[tuple[bytes, bytes], ...]]] = []
    now = int(time.time() * 1000)
    for number, name in enumerate(NAMES):
        rows.append((b"%07d" % number, now, ((b"first", b"1"), (name, b"v"), (b"last", b"2"))))
    write_batch(cluster.bootstrap, source, rows)
    words = [word.replace("GROUP", f"g-{target}") for word in way]

    done = kpipe.at(cluster.bootstrap)("forward", "-e", *words, "--trace", "none", "--on-error", "skip", source, target)

    copies = {int(record.value or b""): record for record in cluster.read(target, at_least=len(NAMES))}
    originals = {int(record.value or b""): record for record in cluster.read(source)}
    assert (done.code, set(copies)) == (0, set(range(len(NAMES)))), done.err
    for number, copy in copies.items():
        assert copy.headers == originals[number].headers
        assert copy.headers[1][0].encode("utf-8", "surrogateescape") == NAMES[number]
    note("forward", f"header names at their edges ({' '.join(way)})", f"{len(copies)} names byte for byte", "the same")


EDGES = [1, -1, -5, 2**62, -(2**62), 0]
"""Milliseconds; 0, which the client takes for now, last."""


@pytest.mark.parametrize("way", [(), ("-G", "GROUP"), ("-G", "GROUP", "--exactly-once")], ids=" ".join)
def test_times_at_their_edges(lab: tuple[Cluster, Proxy], kpipe: Kpipe, note: Note, way: tuple[str, ...]) -> None:
    """Every time is kept but 0, which becomes now: told, and the run does not end with 0."""
    cluster, _ = lab
    source, target = cluster.topic(**ANY_TIME, retention_ms=-1), cluster.topic(**ANY_TIME, retention_ms=-1)
    write_batch(cluster.bootstrap, source, [(b"%d" % ms, ms) for ms in EDGES])
    words = [word.replace("GROUP", f"g-{target}") for word in way]
    here = kpipe.at(cluster.bootstrap)

    done = here("forward", "-e", *words, source, target)

    shown = here("consume", "-e", "-f", "%s %T\\n", target).out.split(b"\n")[:-1]
    assert shown[:-1] == [b"%d %d" % (ms, ms) for ms in EDGES[:-1]], done.err
    value, stamp = shown[-1].split()
    assert (value, int(stamp) > 1_600_000_000_000) == (b"0", True)
    assert done.code == 1
    assert done.err.count("the time 0 (1970-01-01T00:00:00Z) becomes the time of sending") == 1
    what = f"{len(EDGES) - 1} times kept, 0 told, exit 1"
    note(
        "forward",
        f"times at their edges ({' '.join(way[2:]) or (way[:1] and 'group') or 'no group'})",
        what,
        "the same",
    )

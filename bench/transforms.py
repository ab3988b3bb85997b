"""What each transform costs: µs per record, pure, without a broker; `python -m bench.transforms --write` renews the docs."""

from __future__ import annotations

import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path

from kpipe.record import Batch, Record
from kpipe.through.envelopes import Envelopes
from kpipe.through.filtering import Filter
from kpipe.through.lines import Lines
from kpipe.transform.chain import build
from kpipe.transform.registry import TRANSFORMS, Transform
from kpipe.transform.step import Step

DOCS = Path(__file__).parent.parent / "docs" / "transforms.md"
BATCH, BATCHES, RUNS = 500, 20, 5
VALUE = (
    b'{"id":%d,"created_at":1763884800000,"user":{"id":"u-%d","mail":"u@example.org","password":"x"},'
    b'"amount":"%d","price":3,"count":2,"country":"de","cards":[{"number":"4111111111111111"}],"items":[1,2],"event":{"id":%d},'
    b'"message":"lorem ipsum dolor sit amet consetetur sadipscing"}'
)
ARGUMENTS = {
    "set-key": "{header[type]}-{json[.user.id]}",
    "set-header": "tenant={json[.country]}",
    "value-null": "x",
    "call": "bench.transforms:same",
    "hash": ".user.mail",
}
"""Instead of the example, where that would make every record of the bench bad."""

PLUGIN = b"def transform(record):\n    return record\n"


def same(record: Record) -> Record:
    """What --call is given here."""
    return record


def fresh_batches() -> list[Batch]:
    """Records of about 300 B with a key and two headers, as forward reads them."""
    batches = []
    for first in range(0, BATCH * BATCHES, BATCH):
        numbers = range(first, first + BATCH)
        batches.append(
            Batch(
                [VALUE % (n, n % 997, n, n) for n in numbers],
                keys=[b"user-%d" % (n % 997) for n in numbers],
                headers=[[("type", b"order"), ("x-id", b"%d" % n), ("id", b"1"), ("op", b"create")] for n in numbers],
                timestamps=[(1, 1763884800000)] * BATCH,
                topics=["orders"] * BATCH,
                partitions=[0] * BATCH,
                offsets=list(numbers),
            )
        )
    return batches


def cost(row: Transform, salt: Path) -> float:
    """Median µs per record of one transform."""
    if row.name.startswith("through"):
        return through_cost(row.name)
    (argument,) = shlex.split(row.example) or [None]
    steps = [
        Step(row.name, ARGUMENTS.get(row.name, argument)),
        Step("hash-salt", f"file:{salt}"),
        Step("route-allow", "*"),
    ]
    times = []
    for _ in range(RUNS):
        stages = build(steps, read_file=_read)
        batches = fresh_batches()
        began = time.perf_counter()
        for batch in batches:
            for stage in stages:
                stage(batch)
        times.append(time.perf_counter() - began)
        bad = next((batch.bad[0].error for batch in batches if batch.bad), None)
        if bad is not None:
            raise SystemExit(f"bench: --{row.name}: {bad}")
    return statistics.median(times) / (BATCH * BATCHES) * 1e6


def _read(path: str) -> bytes:
    return PLUGIN if path.endswith(".py") else Path(path).read_bytes()


def through_cost(name: str) -> float:
    """The way to `cat` and back: what kpipe itself adds."""
    from kpipe.ledger import Ledger

    class Nowhere:
        def send(self, batch, flight, idle):
            flight.settle_sent(batch)

        def flush(self, timeout):
            return True

    detour = (Envelopes if name == "through-json" else Lines)(Filter("exec cat", name), Nowhere(), [], print)
    ledger, batches = Ledger(), fresh_batches()
    began = time.perf_counter()
    for batch in batches:
        detour.send(batch, ledger.track(batch, batch.snapshot()), lambda: True)
    detour.ending = lambda: True
    while not detour.flush(0.1):
        pass
    return (time.perf_counter() - began) / (BATCH * BATCHES) * 1e6


def measure() -> dict[str, float]:
    """µs per record of every transform, in the order of the table."""
    with tempfile.TemporaryDirectory() as folder:
        salt = Path(folder) / "salt"
        salt.write_text("pepper and salt")
        return {row.name: cost(row, salt) for row in TRANSFORMS if row.category != "setting"}


def markdown(costs: dict[str, float]) -> str:
    """The table of costs."""
    rows = [f"| `--{name}` | {each:.2f} |" for name, each in costs.items()]
    return "\n".join(["| option | µs/record |", "| --- | ---: |", *rows])


def renew(page: str, costs: dict[str, float]) -> str:
    """The page with its measured table made anew."""
    begin, end = "<!-- measured: costs -->\n", "\n<!-- end -->"
    before, rest = page.split(begin)
    return before + begin + markdown(costs) + end + rest.split(end, 1)[1]


def show() -> dict[str, float]:
    """Print the costs as a table."""
    costs = measure()
    for name, each in costs.items():
        print(f"  --{name:<16} {each:8.2f} µs/record")
    return costs


def main() -> int:
    costs = show()
    if "--write" in sys.argv[1:]:
        DOCS.write_text(renew(DOCS.read_text(), costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: interleaved runs, medians, ratios; `ARGS="--runs 3 --records 100000 --gate"` and so on.

A whole run writes docs/speed.md with its pictures, and results/; with `--baseline` also what `--gate` compares with.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import idle, transforms
from bench.cases import Case, cases
from bench.inputs import Absent, Inputs
from bench.measure import Cost, run
from bench.report import show, write_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.broker.lab.cluster import Cluster
    from tests.faults.proxy import Proxy

RESULTS = Path(__file__).parent / "results"
BASELINE = RESULTS / "baseline.json"
PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
SLOW_BYTES = 300_000
"""Bytes a second of a connection to the slow target."""
SLACK = 1.25
"""The gate fails when a ratio to another tool, measured in the same run, is this much worse than in the baseline."""
LEAST_RUNS, CASE_S = 3, 25.0
"""A case that takes longer has no more than so many runs."""
HURRY_S = 660.0
"""After so long each command is run once, so that a slow machine comes to an end, too."""


def main() -> int:
    options = _parse()
    began = time.monotonic()
    if options.page:
        write_page(json.loads((RESULTS / "latest.json").read_text()), PAGE)
        return 0
    if options.only in ("", "transforms"):
        transforms.show()
    if options.only == "transforms":
        return 0
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
        "runs": options.runs,
        "lines": options.lines,
        "records": options.records,
        "few": options.few,
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with _kafka(home / "kafka") as (cluster, slow):
            results |= _measure_all(cluster, slow, home, options, began)
    show(results)
    RESULTS.mkdir(exist_ok=True)
    texts = {RESULTS / "latest.json": json.dumps(results, indent=1) + "\n"}
    if options.baseline:
        texts[BASELINE] = texts[RESULTS / "latest.json"]
    worse = _gate(results) if options.gate else []
    for path, text in texts.items():
        path.write_text(text)
    if not (options.only or options.no_java):
        write_page(results, PAGE)
    failed = [f"{case['name']}: {tool}: {why}" for case in results["cases"] for tool, why in case["failed"].items()]
    print("\n".join([*worse, *failed, f"took {time.monotonic() - began:.0f} s"]), file=sys.stderr)
    return 1 if worse or failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…")
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs of each command")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--few", type=int, default=100_000, help="records of the cases with many rows")
    parser.add_argument("--only", default="", help="only the cases with this in their name (idle: what waiting costs)")
    parser.add_argument("--no-java", action="store_true")
    parser.add_argument("--gate", action="store_true", help="compare the ratios with results/baseline.json")
    parser.add_argument("--baseline", action="store_true", help="what --gate compares with from now on")
    parser.add_argument(
        "--page", action="store_true", help="measure nothing, write docs/speed.md from results/latest.json"
    )
    return parser.parse_args()


@contextmanager
def _kafka(home: Path) -> Iterator[tuple[Cluster, Proxy]]:
    from tests.broker.lab.broker import Broker, Listener
    from tests.broker.lab.cluster import Cluster as LabCluster
    from tests.faults.proxy import Proxy

    home.mkdir()
    slow = Proxy()
    slow.bytes_per_s = SLOW_BYTES
    listener = Listener("SLOW", advertised_port=slow.port)
    broker = Broker(home, listeners=[listener], java_flags=("-Xmx1g", "-XX:TieredStopAtLevel=4"))
    broker.start()
    slow.upstream = int(broker.address("SLOW").rpartition(":")[2])
    try:
        yield LabCluster(broker), slow
    finally:
        broker.stop()
        with suppress(RuntimeError):  # closed already, as what takes a cluster away
            slow.close()


def _measure_all(
    cluster: Cluster, slow: Proxy, home: Path, options: argparse.Namespace, began: float
) -> dict[str, list[dict[str, Any]]]:
    wanted = [case for case in cases(options.lines, options.records, options.few) if options.only in case.name]
    inputs = Inputs(cluster, home, options.lines, options.records, options.few, java=not options.no_java)
    inputs["slow"] = slow.address
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode; without it a start takes 50 ms more
    measured = []
    try:
        for case in wanted:
            print(f"  {time.monotonic() - began:4.0f} s  {case.name}", file=sys.stderr)
            runs = options.runs if time.monotonic() - began < HURRY_S else 1
            measured.append(_measure(case, cluster, inputs, env, runs))
        waiting = []
        if options.only in ("", "idle"):
            print(f"  {time.monotonic() - began:4.0f} s  waiting", file=sys.stderr)
            waiting = idle.measure(inputs, env, slow.close)
    finally:
        inputs.close()
    return {"cases": measured, "waiting": waiting}


def _measure(case: Case, cluster: Cluster, inputs: Inputs, env: dict[str, str], runs: int) -> dict[str, Any]:
    """Every tool of the case in turn; one that cannot be had is left out, one that fails is told."""
    costs: dict[str, list[Cost]] = {}
    failed: dict[str, str] = {}
    for tool, command in case.commands.items():
        try:
            command.format_map(inputs)
        except Absent as why:
            print(f"          without {tool}: {why}", file=sys.stderr)
        except Exception as error:  # noqa: BLE001 - one input that cannot be made costs one row, not the whole run
            failed[tool] = f"its input cannot be made: {error}"
        else:
            costs[tool] = []
    began = time.monotonic()
    for number in range(runs):
        if number >= LEAST_RUNS and time.monotonic() - began > CASE_S:
            break
        for tool, taken in costs.items():
            if tool in failed or (number and tool in case.once):
                continue
            if case.fresh:
                inputs["target"] = cluster.topic(case.fresh)
            try:
                taken.append(run(case.commands[tool].format_map(inputs), env))
            except RuntimeError as error:
                failed[tool] = str(error)
            if case.fresh:
                cluster.admin.delete_topics([inputs["target"]])
    return _summarise(case, {tool: taken for tool, taken in costs.items() if taken}, failed)


def _summarise(case: Case, costs: dict[str, list[Cost]], failed: dict[str, str]) -> dict[str, Any]:
    tools = {
        tool: {
            "wall": statistics.median(cost.wall for cost in taken),
            "cpu": statistics.median(cost.cpu for cost in taken),
            "peak_mib": statistics.median(cost.peak_mib for cost in taken),
            "raw": [[cost.wall, cost.cpu, cost.peak_mib] for cost in taken],
        }
        for tool, taken in costs.items()
    }
    return {"name": case.name, "records": case.records, "tools": tools, "failed": failed}


def _gate(results: dict[str, Any]) -> list[str]:
    """Compare ratios only: the machine is shared, absolute times mean nothing from one day to the next."""
    known = {case["name"]: case["tools"] for case in json.loads(BASELINE.read_text())["cases"]}
    worse = []
    for case in results["cases"]:
        before, now = known.get(case["name"], {}), case["tools"]
        if "kpipe" not in before or "kpipe" not in now:
            continue
        for tool in set(before) & set(now) - {"kpipe"}:
            old = before["kpipe"]["cpu"] / before[tool]["cpu"]
            new = now["kpipe"]["cpu"] / now[tool]["cpu"]
            if new > old * SLACK:
                worse.append(f"{case['name']}: CPU ratio to {tool} went from {old:.2f} to {new:.2f}")
    print("\n".join(worse) or "gate: no ratio got worse", file=sys.stderr)
    return worse


if __name__ == "__main__":
    sys.exit(main())
